"""Reports for CI systems: SARIF 2.1.0 and JUnit XML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from xml.etree import ElementTree as ET

from gatekeeper_py import __version__
from gatekeeper_py.core.admission.messages import image_line
from gatekeeper_py.core.images.reference import escape

if TYPE_CHECKING:
    from gatekeeper_py.commands.review import Reviewed

SARIF_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"

RULES: Final = {
    "image-denied": "The image matches a deny rule.",
    "image-unlisted": "The image matches no allow rule.",
    "image-invalid": "The image cannot be approved under any policy.",
}


def sarif(reviewed: Sequence[Reviewed]) -> dict[str, Any]:
    """One result per rejected image; a warning when the mode only warns."""
    results = [
        {
            "ruleId": f"image-{judgement.decision.reason}",
            "level": "warning" if each.verdict == "warned" else "error",
            "message": {"text": image_line(judgement)},
            "locations": [
                {
                    "physicalLocation": {"artifactLocation": {"uri": quote(each.manifest.source)}},
                    "logicalLocations": [
                        {
                            "fullyQualifiedName": f"{each.title}: {judgement.slot.path}",
                            "kind": "object",
                        }
                    ],
                }
            ],
        }
        for each in reviewed
        for judgement in each.judgements
        if not judgement.approved
    ]
    driver = {
        "name": "gatekeeper-py",
        "version": __version__,
        "rules": [{"id": rule, "shortDescription": {"text": text}} for rule, text in RULES.items()],
    }
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }


def junit(reviewed: Sequence[Reviewed]) -> str:
    """One test case per object; a failure for a rejected one, output for a warned one."""
    failures = sum(each.verdict == "rejected" for each in reviewed)
    counts = {"tests": str(len(reviewed)), "failures": str(failures), "errors": "0"}
    suites = ET.Element("testsuites", counts)
    suite = ET.SubElement(suites, "testsuite", {"name": "gatekeeper-py review", **counts})
    for each in reviewed:
        case = ET.SubElement(
            suite,
            "testcase",
            {
                "name": escape(each.title, 300),
                "classname": f"{escape(each.manifest.source, 300)}[{each.manifest.document}]",
            },
        )
        lines = "\n".join(image_line(judgement) for judgement in each.judgements if not judgement.approved)
        if each.verdict == "rejected":
            failure = ET.SubElement(case, "failure", {"message": lines.splitlines()[0], "type": "rejected"})
            failure.text = lines
        elif lines:
            ET.SubElement(case, "system-out").text = lines
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode")
