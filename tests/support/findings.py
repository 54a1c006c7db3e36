"""Golden findings: documents with mistakes, and all that is reported about them.

A file of ``tests/data/findings`` maps the name of each case to a document and its findings: the position,
code, path, message and proposal of each. After an intended change, ``--update-golden`` writes the findings.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from gatekeeper_py.core import Finding

GOLDEN: Final = Path(__file__).parents[1] / "data" / "findings"


class _Dumper(yaml.CSafeDumper):
    """Writes text of several lines as a block."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _Dumper.represent_text)


@cache
def golden(document: str) -> dict[str, dict[str, Any]]:
    """Return the cases of a kind of document by their names."""
    cases: dict[str, dict[str, Any]] = yaml.load(
        (GOLDEN / f"{document}.yaml").read_text("utf-8"), yaml.CSafeLoader
    )
    return cases


def check_findings(document: str, name: str, findings: Iterable[Finding], *, update: bool) -> None:
    """Compare the findings of a case with those in its file, or write them there."""
    found = [f"{each.line}:{each.column} {each.code} {_words(each)}" for each in findings]
    cases = golden(document)
    if update:
        cases[name]["findings"] = found
        text = yaml.dump(cases, Dumper=_Dumper, sort_keys=False, allow_unicode=False, width=1000)
        (GOLDEN / f"{document}.yaml").write_text(text, "utf-8")
    assert found
    assert found == cases[name]["findings"]


def _words(finding: Finding) -> str:
    words = f"{finding.path}: {finding.message}" if finding.path else finding.message
    return f"{words} ({finding.proposal})" if finding.proposal else words
