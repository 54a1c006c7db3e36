"""Golden findings: documents with mistakes, and all that is reported about them.

A table of ``tests/data/findings`` maps the name of each case to a document and its findings: the position,
code, path, message and proposal of each.
"""

from __future__ import annotations

from collections.abc import Iterable

from gatekeeper_py.core import Finding
from support.golden import golden, recorded


def check_findings(document: str, name: str, findings: Iterable[Finding], *, update: bool) -> None:
    """Compare the findings of a case with those in its table, or write them there."""
    found = [f"{each.line}:{each.column} {each.code} {_words(each)}" for each in findings]
    assert found
    table = f"findings/{document}"
    assert found == recorded(table, golden(table)[name], "findings", found, update=update)


def _words(finding: Finding) -> str:
    words = f"{finding.path}: {finding.message}" if finding.path else finding.message
    return f"{words} ({finding.proposal})" if finding.proposal else words
