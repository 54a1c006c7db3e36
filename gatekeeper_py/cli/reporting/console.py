"""Write text and JSON to stdout and stderr, without wrapping, and with all values escaped.

A stranger may have chosen a value. In a terminal, control characters and characters that change the direction
of text could hide or forge lines. A CI runner executes lines of a job's output that look like a command.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import click
from rich.console import Console
from rich.text import Text

from gatekeeper_py.cli.inventory.provenance import Provenance
from gatekeeper_py.core.images.reference import escape, printable

MAX_LINE: Final = 2000
"""Maximum number of characters of a line about the origin of a report."""

_COMMAND: Final = re.compile(r"\A *:(?=:)")
"""The beginning of a line that GitHub Actions executes."""

_LOGGING_COMMAND: Final = re.compile(r"##(?=\w{0,20}\[)")
"""What GitHub Actions, Azure Pipelines and TeamCity execute anywhere in a line."""


class _Console(Console):
    """A console that escapes what it prints, and lets the command line handle a closed pipe."""

    def print(self, *texts: Any, **options: Any) -> None:
        """Print each text or ``Text`` on one line."""
        super().print(*map(self._harmless, texts), **options)

    def on_broken_pipe(self) -> None:
        """Raise, so that the command line chooses the exit code; rich's own, 1, means rejected here."""
        raise BrokenPipeError

    def _harmless(self, given: str | Text) -> Text:
        text = Text(given) if isinstance(given, str) else given
        parts = [(printable(part.text), part.style or "") for part in text.render(self)]
        line = "".join(part for part, _ in parts)
        escaped = harmless(line)
        # The styles of an escaped line would be in the wrong places.
        return Text.assemble(*parts) if escaped == line else Text(escaped)


def harmless(text: str) -> str:
    """Return a text on one line that neither controls a terminal nor is a command for a CI runner."""
    return without_logging_commands(_COMMAND.sub(r"\\x3a", printable(text)))


def without_logging_commands(text: str) -> str:
    """Return a text without commands that a CI runner would execute anywhere in a line."""
    return _LOGGING_COMMAND.sub(r"\\x23#", text)


def console(*, stderr: bool = False) -> Console:
    """Return a console that wraps nothing and honours NO_COLOR and pipes."""
    return _Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False, emoji=False)


def note(text: str) -> None:
    """Print a line on stderr."""
    console(stderr=True).print(text)


def print_provenance(out: Console, meta: Provenance) -> None:
    """Print a line for each report from which this one was made, then one for this report, and warnings."""
    for each in (*meta.audits, meta):
        out.print(Text(escape(str(each), MAX_LINE), "dim"))
    for warning in meta.warnings:
        out.print(Text(f"Warning: {escape(warning, MAX_LINE)}", "bold yellow"))


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
