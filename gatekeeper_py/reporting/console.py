"""Write to a terminal without wrapping, and without letting text control it."""

from __future__ import annotations

from rich.console import Console


class _Console(Console):
    """A console that lets the command line handle a closed pipe."""

    def on_broken_pipe(self) -> None:
        """Raise, so that the command line chooses the exit code; rich's own, 1, means rejected here."""
        raise BrokenPipeError


def console(*, stderr: bool = False) -> Console:
    """Return a console that wraps nothing and honours NO_COLOR and pipes."""
    return _Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False, emoji=False)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, e.g. ``1 error`` or ``2 errors``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def printable(text: str) -> str:
    """Escape unprintable characters, so that the text cannot control a terminal."""
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)
