"""Findings for people: the line at fault, a caret under it, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.text import Text

from gatekeeper_py.commands.policyinput import PolicyInput
from gatekeeper_py.core.policy.finding import Finding

STYLES: Final = {"error": "bold red", "warning": "bold yellow", "information": "bold blue"}
MAX_LINE: Final = 160

_WORD: Final = re.compile(r"""(?:"[^"]*"|'[^']*'|[^\s,\]}#]+)""")


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the command line: rich would exit with 1, which here means rejected."""
        raise BrokenPipeError


def console(*, stderr: bool = False) -> Console:
    """A console that wraps nothing and honours NO_COLOR and pipes."""
    return _Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False, emoji=False)


def print_findings(given: PolicyInput, findings: Iterable[Finding], *, stderr: bool = False) -> None:
    """Print each finding with its line and a caret."""
    out = console(stderr=stderr)
    for finding in findings:
        _print_finding(out, given, finding)


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def plain(text: str) -> str:
    """Text that cannot drive a terminal: what is not printable is escaped."""
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)


def _print_finding(out: Console, given: PolicyInput, finding: Finding) -> None:
    style = STYLES[finding.severity]
    head = Text()
    head.append(f"{finding.severity}[{finding.code}]", style)
    head.append(f" {given.name}:{finding.line}:{finding.column}", "bold")
    if finding.path:
        head.append(f" {plain(finding.path)}")
    out.print(head)
    if finding.line <= len(given.lines):
        line = plain(given.lines[finding.line - 1]).replace("\t", " ")[:MAX_LINE]
        number = str(finding.line)
        start = min(finding.column - 1, len(line))
        word = _WORD.match(line, start)
        width = max(len(word.group()) if word else 1, 1)
        out.print(Text.assemble((f"  {number} | ", "dim"), line))
        out.print(Text.assemble((f"  {' ' * len(number)} | ", "dim"), " " * start, ("^" * width, style)))
    out.print(f"  {plain(finding.message)}")
    if finding.proposal:
        out.print(Text.assemble(("  try: ", "green"), plain(finding.proposal)))
    out.print()
