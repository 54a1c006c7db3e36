"""JUnit XML, for test reports of CI systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from gatekeeper_py.cli.inventory.provenance import Provenance
from gatekeeper_py.cli.reporting.reviewed import ReviewedObject, unmet_line
from gatekeeper_py.core.admission.messages import exception_line, image_line
from gatekeeper_py.core.images.reference import escape


def junit(reviewed: Sequence[ReviewedObject], meta: Provenance) -> str:
    """Return one test case for each object: a failure if it is rejected, output if it is warned about."""
    failures = sum(each.verdict == "rejected" for each in reviewed)
    counts = {"tests": str(len(reviewed)), "failures": str(failures), "errors": "0"}
    suites = ET.Element("testsuites", counts)
    suite = ET.SubElement(suites, "testsuite", {"name": "gatekeeper-py review", **counts})
    _add_properties(suite, meta.properties())
    for each in reviewed:
        source = escape(each.manifest.source, 300)
        classname = f"{source}[{each.manifest.document}]"
        case = ET.SubElement(suite, "testcase", {"name": escape(each.title, 300), "classname": classname})
        if each.mode is not None:
            _add_properties(case, {"mode": each.mode.name})
        lines = "\n".join(map(image_line, each.rejected))
        if each.verdict == "rejected":
            failure = ET.SubElement(case, "failure", {"message": lines.splitlines()[0], "type": "rejected"})
            failure.text = lines
        unmet = (unmet_line(image, requirement) for image, requirement in each.unmet)
        notes = (each.note, *each.warnings, *unmet, *map(exception_line, each.excepted))
        lines_out = [escape(text, 500) for text in notes if text]
        if each.verdict != "rejected" and lines:
            lines_out.insert(0, lines)
        if lines_out:
            ET.SubElement(case, "system-out").text = "\n".join(lines_out)
    return as_document(suites)


def _add_properties(element: ET.Element, values: Mapping[str, str]) -> None:
    properties = ET.SubElement(element, "properties")
    for name, value in values.items():
        ET.SubElement(properties, "property", {"name": name, "value": escape(value, 500)})


def as_document(suites: ET.Element) -> str:
    """Return the report as an XML document."""
    ET.indent(suites)
    # A CI runner would execute ##[...] in the output of a job.
    text = ET.tostring(suites, encoding="unicode").replace("##", "&#35;&#35;")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'
