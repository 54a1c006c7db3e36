"""SARIF 2.1.0, for code scanning."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from gatekeeper_py import __version__
from gatekeeper_py.cli.inventory.provenance import Provenance
from gatekeeper_py.cli.reporting.reviewed import ReviewedObject, unmet_line
from gatekeeper_py.core.admission.messages import exception_line, image_line
from gatekeeper_py.core.admission.slot import Parts, path_text
from gatekeeper_py.core.policy.decision import Reason
from gatekeeper_py.core.policy.finding import Finding

SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"

REASONS: Final[Mapping[Reason, str]] = {
    "denied": "The image matches a deny rule.",
    "unlisted": "The image matches no allow rule.",
    "invalid": "The image cannot be approved under any policy.",
    "absent": "The image does not exist in its registry.",
    "unpinned": "The image lacks a required digest.",
    "unsigned": "No key in signedBy signed the image.",
    "unverified": "The registry could not be queried.",
}
"""Why an image is rejected: every ``Reason`` but ``allowed`` and ``exception``."""

RULES: Final = {
    **{f"image-{reason}": text for reason, text in REASONS.items()},
    "image-exception": "Only an exception approves the image, until it ends.",
    "kind-unknown": "No image can be found in this kind. Declare its images under resources.",
}

LEVELS: Final = {"error": "error", "warning": "warning", "information": "note"}


def sarif(reviewed: Sequence[ReviewedObject], meta: Provenance) -> dict[str, Any]:
    """Return one result for each rejected, warned or excepted image, and for each unknown kind.

    The level is ``error`` for images that are refused, ``note`` for exceptions, and otherwise ``warning``.
    """
    document = _document(RULES, (result for each in reviewed for result in _results(each)))
    document["runs"][0]["properties"] = meta.as_json()
    return document


def findings_as_sarif(name: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return one result for each finding about the file ``name``."""
    codes = sorted({finding.code for finding in findings})
    rules = {code: f"{code.replace('-', ' ').capitalize()}." for code in codes}
    return _document(rules, (_finding(name, finding) for finding in findings))


def _finding(name: str, finding: Finding) -> dict[str, Any]:
    text = f"{finding.message}; {finding.proposal}" if finding.proposal else finding.message
    location: dict[str, Any] = {"physicalLocation": _physical(name, finding.line, finding.column)}
    if finding.path:
        location["logicalLocations"] = [{"fullyQualifiedName": finding.path, "kind": "member"}]
    return {
        "ruleId": finding.code,
        "level": LEVELS[finding.severity],
        "message": {"text": text},
        "locations": [location],
    }


def _document(rules: Mapping[str, str], results: Iterable[dict[str, Any]]) -> dict[str, Any]:
    driver = {
        "name": "gatekeeper-py",
        "version": __version__,
        "rules": [{"id": rule, "shortDescription": {"text": text}} for rule, text in rules.items()],
    }
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": list(results)}],
    }


def _results(each: ReviewedObject) -> Iterator[dict[str, Any]]:
    level = "error" if each.verdict == "rejected" else "warning"
    for image in each.rejected:
        yield _result(each, f"image-{image.decision.reason}", level, image_line(image), image.slot.parts)
    for image, unmet in each.unmet:
        text = unmet_line(image, unmet)
        yield _result(each, f"image-{unmet.reason}", "warning", text, image.slot.parts)
    for image in each.excepted:
        yield _result(each, "image-exception", "note", exception_line(image), image.slot.parts)
    if each.verdict == "unknown":
        yield _result(each, "kind-unknown", "warning", each.note, ())


def _result(each: ReviewedObject, rule: str, level: str, message: str, parts: Parts) -> dict[str, Any]:
    path = path_text(parts)
    name = f"{each.title}: {path}" if path else each.title
    return {
        "ruleId": rule,
        "level": level,
        "message": {"text": message},
        "properties": {"mode": each.mode and each.mode.name},
        "locations": [
            {
                "physicalLocation": _physical(each.manifest.source, each.manifest.line_of(parts)),
                "logicalLocations": [{"fullyQualifiedName": name, "kind": "object"}],
            }
        ],
    }


def _physical(source: str, line: int, column: int | None = None) -> dict[str, Any]:
    region = {"startLine": line} if column is None else {"startLine": line, "startColumn": column}
    return {"artifactLocation": {"uri": quote(os.fsencode(source))}, "region": region}
