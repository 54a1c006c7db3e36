"""Print findings for people: the line with the problem, a caret below it, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from gatekeeper_py.cli.reporting.console import Console, Part, console, without_logging_commands
from gatekeeper_py.core.images.reference import printable
from gatekeeper_py.core.policy.finding import Finding

STYLES: Final = {"error": "bold red", "warning": "bold yellow", "information": "bold blue"}
MAX_LINE: Final = 160

_KEY: Final = re.compile("[A-Za-z0-9+/]{32}")
_WORD: Final = re.compile(r"""(?:"[^"]*"|'[^']*'|[^\s,\]}#]+)""")


def print_findings(
    name: str, lines: Sequence[str], findings: Iterable[Finding], *, stderr: bool = False
) -> None:
    """Print each finding about the file ``name``, with its line and a caret.

    The output often goes to a log. So no line of a file with a private key is shown. A line of ``keys`` that
    could be a private key without its first and last line is not shown, either.
    """
    out = console(stderr=stderr)
    is_secret = any("PRIVATE KEY" in line.upper() for line in lines)
    for finding in findings:
        _print_finding(out, name, () if is_secret else lines, finding)


def concise(name: str, finding: Finding) -> str:
    """Return a finding on one line: ``file:line:column: severity code message``."""
    where = f"{name}:{finding.line}:{finding.column}"
    return f"{where}: {finding.severity} {finding.code} {finding.message}"


def github(name: str, finding: Finding) -> str:
    """Return a finding as a workflow command of GitHub Actions, which shows it beside the line."""
    command = {"error": "error", "warning": "warning", "information": "notice"}[finding.severity]
    fields = {"file": name, "line": finding.line, "col": finding.column, "title": finding.code}
    shown = ",".join(f"{key}={_escaped(str(value), ':,')}" for key, value in fields.items())
    message = f"{finding.message}; {finding.proposal}" if finding.proposal else finding.message
    return without_logging_commands(printable(f"::{command} {shown}::{_escaped(message)}"))


def _escaped(text: str, more: str = "") -> str:
    """Escape characters that would end a workflow command or one of its fields."""
    return re.sub(f"[%\r\n{more}]", lambda match: f"%{ord(match.group()):02X}", text)


def _print_finding(out: Console, name: str, lines: Sequence[str], finding: Finding) -> None:
    style = STYLES[finding.severity]
    head: list[Part] = [
        (f"{finding.severity}[{finding.code}]", style),
        (f" {name}:{finding.line}:{finding.column}", "bold"),
    ]
    if finding.path:
        head.append(f" {finding.path}")
    out.print(*head)
    if finding.line <= len(lines) and not (
        finding.path.startswith("keys") and _KEY.search(lines[finding.line - 1])
    ):
        line = printable(lines[finding.line - 1][:MAX_LINE].replace("\t", " "))[:MAX_LINE]
        number = str(finding.line)
        start = min(finding.column - 1, len(line))
        word = _WORD.match(line, start)
        width = max(len(word.group()) if word else 1, 1)
        out.print((f"  {number} | ", "dim"), line)
        out.print((f"  {' ' * len(number)} | ", "dim"), " " * start, ("^" * width, style))
    out.print(f"  {finding.message}")
    if finding.proposal:
        out.print(("  help: ", "green"), finding.proposal)
    out.print()
