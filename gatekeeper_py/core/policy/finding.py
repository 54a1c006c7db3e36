"""A finding: one thing worth saying about a policy document, where it is and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "information"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem, or one thing to know.

    ``path`` names the place in the document (``allow[2].image``; empty for the whole document);
    ``line`` and ``column`` count from 1. ``code`` is stable, ``proposal`` may be empty.
    """

    severity: Severity
    code: str
    path: str
    line: int
    column: int = 1
    message: str
    proposal: str = ""

    def as_json(self) -> dict[str, str | int]:
        """The stable form that ``check --format json`` and ``/policy`` show."""
        return {
            "severity": self.severity,
            "code": self.code,
            "path": self.path,
            "line": self.line,
            "message": self.message,
            "proposal": self.proposal,
        }

    def __str__(self) -> str:
        place = f"line {self.line}" + (f", {self.path}" if self.path else "")
        return f"{place}: {self.message}" + (f" ({self.proposal})" if self.proposal else "")


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings as a reader meets them: by line, then path, then code."""
    return tuple(sorted(findings, key=lambda f: (f.line, f.column, f.path, f.code)))
