"""Fakes that remember what they were told."""

from __future__ import annotations

from typing import Any


class RecordingLog:
    """A log whose events are kept as ``(level, event, keys)``."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def debug(self, event: str, **keys: Any) -> None:
        self.lines.append(("debug", event, keys))

    def info(self, event: str, **keys: Any) -> None:
        self.lines.append(("info", event, keys))

    def warning(self, event: str, **keys: Any) -> None:
        self.lines.append(("warning", event, keys))

    def error(self, event: str, **keys: Any) -> None:
        self.lines.append(("error", event, keys))

    def named(self, event: str) -> list[dict[str, Any]]:
        """The keys of every event of this name."""
        return [keys for _, name, keys in self.lines if name == event]

    @property
    def events(self) -> list[str]:
        return [event for _, event, _ in self.lines]
