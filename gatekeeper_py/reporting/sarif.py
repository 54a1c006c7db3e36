"""SARIF 2.1.0, for code scanning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from gatekeeper_py import __version__
from gatekeeper_py.reporting.reviewed import ReviewedImage, ReviewedObject

SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"

RULES: Final = {
    "image-denied": "The image matches a deny rule.",
    "image-unlisted": "The image matches no allow rule.",
    "image-invalid": "The image cannot be approved under any policy.",
}


def sarif(reviewed: Sequence[ReviewedObject]) -> dict[str, Any]:
    """Return one result for each rejected image, a warning when the mode only warns."""
    driver = {
        "name": "gatekeeper-py",
        "version": __version__,
        "rules": [{"id": rule, "shortDescription": {"text": text}} for rule, text in RULES.items()],
    }
    results = [_result(each, image) for each in reviewed for image in each.rejected]
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }


def _result(each: ReviewedObject, image: ReviewedImage) -> dict[str, Any]:
    return {
        "ruleId": f"image-{image.reason}",
        "level": "warning" if each.verdict == "warned" else "error",
        "message": {"text": image.message},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": quote(each.source)}},
                "logicalLocations": [{"fullyQualifiedName": f"{each.title}: {image.path}", "kind": "object"}],
            }
        ],
    }
