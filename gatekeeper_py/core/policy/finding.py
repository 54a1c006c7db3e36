"""A finding: a problem of a policy document, or information about it, with its position and a proposal.

The number and the length of findings are limited, because a refused document may contain a megabyte of
mistakes, and its findings are stored, logged and shown until another document replaces it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["error", "warning", "information"]

Path = tuple[str | int, ...]
"""Keys and indices from the top of a document."""

MAX_FINDINGS: Final = 100
"""Maximum number of findings in a report. One more finding counts the rest."""

MAX_MESSAGE: Final = 240
MAX_PATH: Final = 100
MAX_PROPOSAL: Final = 200
"""Maximum lengths in characters. All findings of the loaded and of the refused document, at most 202, must
fit into 256 KiB of JSON, where a backslash or a quotation mark takes two bytes: 202 * (2 * 540 + 130) bytes
are 239 KiB."""

MORE_FINDINGS: Final = "more-findings"
"""The code of the finding that counts the findings that are not listed."""

NOTHING_APPROVED: Final = "nothing-approved"
"""The code of the warning that is listed first, because it may explain all the others."""

MODE_OVERRIDDEN: Final = "mode-overridden"
NOTHING_TO_REWRITE: Final = "mutate-without-mirrors"
MODE_CODES: Final = frozenset({MODE_OVERRIDDEN, NOTHING_TO_REWRITE})
"""The codes of warnings that a change of the ConfigMap's key ``mode`` alone can make untrue."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A position in the text; both numbers count from 1.

    ``literal`` is set where a ``|`` block scalar starts.
    """

    line: int
    column: int
    literal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem, or one thing to know.

    ``path`` is the path in the document (``allow[2].image``; empty for the whole document);
    ``line`` and ``column`` count from 1. ``code`` is stable, ``proposal`` may be empty. A message or a
    path that is too long is cut; a proposal that is too long is left out, because half of it would
    propose something else.
    """

    severity: Severity
    code: str
    path: str
    line: int
    column: int = 1
    message: str
    proposal: str = ""

    def __post_init__(self) -> None:
        if len(self.message) > MAX_MESSAGE:
            object.__setattr__(self, "message", _cut(self.message, MAX_MESSAGE))
        if len(self.path) > MAX_PATH:
            object.__setattr__(self, "path", _cut(self.path, MAX_PATH))
        if len(self.proposal) > MAX_PROPOSAL:
            object.__setattr__(self, "proposal", "")

    def as_json(self) -> dict[str, str | int]:
        """Return the finding in the stable form that ``check --format json`` and ``/policy`` show."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """A finding whose position is not known yet, unless ``mark`` is set.

    With ``at_key``, its position is that of the last key in ``path``, not that of the key's value.
    """

    severity: Severity = "error"
    code: str
    path: Path
    message: str
    proposal: str = ""
    at_key: bool = False
    mark: Mark | None = None


class Remarks:
    """A collection of remarks and findings that keeps the first hundred and counts the rest."""

    __slots__ = ("_kept", "more")

    def __init__(self) -> None:
        self._kept: list[Remark | Finding] = []
        self.more = 0

    def __iter__(self) -> Iterator[Remark | Finding]:
        return iter(self._kept)

    def __bool__(self) -> bool:
        return bool(self._kept)

    @property
    def total(self) -> int:
        """Number of added remarks.

        This is not ``__len__``, because ``tuple(remarks)`` would reserve memory for all of them, even for
        those that are only counted.
        """
        return len(self._kept) + self.more

    @property
    def full(self) -> bool:
        """Whether further remarks are only counted, so that callers need not format them."""
        return len(self._kept) >= MAX_FINDINGS

    def add(self, remark: Remark | Finding) -> None:
        if self.full:
            self.more += 1
        else:
            self._kept.append(remark)

    def extend(self, remarks: Iterable[Remark | Finding]) -> None:
        for remark in remarks:
            self.add(remark)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort findings by line, column, path and code.

    The finding that nothing is approved comes first, and the count of unlisted findings last.
    """
    return tuple(
        sorted(
            findings,
            key=lambda f: (
                f.code != NOTHING_APPROVED,
                f.code == MORE_FINDINGS,
                f.line,
                f.column,
                f.path,
                f.code,
            ),
        )
    )


def more_findings(number: int, last: Finding) -> Finding:
    """Return the finding that counts the findings after the ``last`` one that is listed."""
    return Finding(
        severity=last.severity,
        code=MORE_FINDINGS,
        path="",
        line=last.line,
        message=f"{number:,} more {'finding is' if number == 1 else 'findings are'} not listed",
        proposal="correct these first",
    )


def _cut(text: str, length: int) -> str:
    return f"{text[: length - 3]}..."
