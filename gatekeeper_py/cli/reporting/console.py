"""Write text and JSON to stdout and stderr, without wrapping, and with all values escaped.

It does not use rich, because importing rich slows every command.

A stranger may have chosen a value. In a terminal, control characters and characters that change the direction
of text could hide or forge lines. A CI runner executes lines of a job's output that look like a command.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from gatekeeper_py.core.images.reference import escape, printable

if TYPE_CHECKING:
    from gatekeeper_py.cli.inventory.provenance import Provenance

MAX_LINE: Final = 2000
"""Maximum number of characters of a line about the origin of a report."""

_COMMAND: Final = re.compile(r"\A *:(?=:)")
"""The beginning of a line that GitHub Actions executes."""

_LOGGING_COMMAND: Final = re.compile(r"##(?=\w{0,20}\[)")
"""What GitHub Actions, Azure Pipelines and TeamCity execute anywhere in a line."""


Part = str | tuple[str, str]
"""A part of a line: a text, or a text and its style, such as ``bold red``."""


class Console:
    """Prints escaped lines on stdout or stderr. A terminal shows their styles."""

    __slots__ = ("_has_styles", "_stderr")

    def __init__(self, *, stderr: bool) -> None:
        stream = sys.stderr if stderr else sys.stdout
        is_terminal = bool(os.environ.get("FORCE_COLOR")) or (stream is not None and stream.isatty())
        is_dumb = os.environ.get("TERM") in {"dumb", "unknown"}
        self._has_styles = is_terminal and not is_dumb and not os.environ.get("NO_COLOR")
        self._stderr = stderr

    @property
    def width(self) -> int:
        """The width of the terminal."""
        return shutil.get_terminal_size().columns

    def print(self, *parts: Part) -> None:
        """Print the parts on one line."""
        styled = [(part, "") if isinstance(part, str) else part for part in parts]
        shown = [(printable(text), style) for text, style in styled]
        line = "".join(text for text, _ in shown)
        escaped = harmless(line)
        # The styles of an escaped line would be in the wrong places.
        if self._has_styles and escaped == line:
            escaped = "".join(_in_style(text, style) for text, style in shown)
        click.echo(escaped, err=self._stderr, color=True)


def _in_style(text: str, style: str) -> str:
    words = set(style.split())
    if not text or not words:
        return text
    colour = next(iter(words - {"bold", "dim"}), None)
    return click.style(text, colour, bold="bold" in words or None, dim="dim" in words or None)


def harmless(text: str) -> str:
    """Return a text on one line that neither controls a terminal nor is a command for a CI runner."""
    return without_logging_commands(_COMMAND.sub(r"\\x3a", printable(text)))


def without_logging_commands(text: str) -> str:
    """Return a text without commands that a CI runner would execute anywhere in a line."""
    return _LOGGING_COMMAND.sub(r"\\x23#", text)


def console(*, stderr: bool = False) -> Console:
    """Return a console that wraps nothing, and honours NO_COLOR and pipes."""
    return Console(stderr=stderr)


def note(text: str) -> None:
    """Print a line on stderr."""
    console(stderr=True).print(text)


def print_provenance(out: Console, meta: Provenance) -> None:
    """Print a line for each report from which this one was made, then one for this report, and warnings."""
    for each in (*meta.audits, meta):
        out.print((escape(str(each), MAX_LINE), "dim"))
    for warning in meta.warnings:
        out.print((f"Warning: {escape(warning, MAX_LINE)}", "bold yellow"))


def json_text(value: Any, indent: int | None = 2) -> str:
    """Return a value as JSON in printable ASCII, in which no CI runner finds a command."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f").replace("##", "\\u0023\\u0023")


Format = Callable[[Callable[[], None], Callable[[], Any]], None]
"""Prints what the first function prints for people, or what the second one returns for programs."""

TEXT_OR_JSON: Final[Mapping[str, Format]] = {
    "text": lambda print_text, _: print_text(),
    "json": lambda _, value: click.echo(json_text(value())),
}


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, e.g. ``1 error`` or ``2 errors``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
