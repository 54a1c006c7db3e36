"""Results of policy tests: text for people, JSON and JUnit for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.etree import ElementTree as ET

from gatekeeper_py.cli.reporting.console import console, counted
from gatekeeper_py.cli.reporting.junit import as_document
from gatekeeper_py.core.images.reference import escape

MAX_LINE: Final = 1000
"""Maximum number of characters in a line about a failure. An image may be much longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """A case with its verdict. ``number`` counts from 0; ``failures`` lists the deviations."""

    source: str
    line: int
    number: int
    name: str
    expected: str
    actual: str
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.failures


def print_results(results: Sequence[CaseResult]) -> None:
    """Print each failed case with the expected result and the difference, then the counts."""
    out = console()
    for each in results:
        if not each.passed:
            place = f"{each.source}:{each.line}"
            out.print(("failed", "bold red"), f" {place} ", (escape(each.name), "bold"))
            for failure in each.failures:
                out.print(f"  {escape(failure, MAX_LINE)}")
    failed = sum(not each.passed for each in results)
    out.print(f"{counted(len(results), 'case')}: {len(results) - failed} passed, {failed} failed")


def results_as_json(results: Sequence[CaseResult]) -> dict[str, Any]:
    """Return the stable JSON form."""
    failed = sum(not each.passed for each in results)
    return {
        "ok": not failed,
        "counts": {"passed": len(results) - failed, "failed": failed},
        "cases": [
            {
                "file": each.source,
                "line": each.line,
                "case": each.number,
                "name": each.name,
                "passed": each.passed,
                "expected": each.expected,
                "actual": each.actual,
                "failures": list(each.failures),
            }
            for each in results
        ],
    }


def results_as_junit(results: Sequence[CaseResult]) -> str:
    """Return a JUnit report with a suite for each file and a test case for each case."""
    counts = _counts(results)
    suites = ET.Element("testsuites", counts)
    for source in dict.fromkeys(each.source for each in results):
        mine = [each for each in results if each.source == source]
        suite = ET.SubElement(suites, "testsuite", {"name": escape(source, 300), **_counts(mine)})
        for each in mine:
            name = {"name": escape(each.name, 300), "classname": escape(source, 300)}
            case = ET.SubElement(suite, "testcase", {**name, "line": str(each.line)})
            if not each.passed:
                lines = [escape(failure, MAX_LINE) for failure in each.failures]
                failure = ET.SubElement(case, "failure", {"message": lines[0], "type": "failed"})
                failure.text = "\n".join(lines)
    return as_document(suites)


def _counts(results: Sequence[CaseResult]) -> dict[str, str]:
    failures = sum(not each.passed for each in results)
    return {"tests": str(len(results)), "failures": str(failures), "errors": "0"}
