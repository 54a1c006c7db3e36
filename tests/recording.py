"""A log that keeps its events for a test to read."""

from __future__ import annotations

from typing import Any

from documented import check_event


class RecordingLog:
    """Keeps events as ``(level, event, keys)``. An undocumented event fails the test."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def debug(self, event: str, **keys: Any) -> None:
        self._record("debug", event, keys)

    def info(self, event: str, **keys: Any) -> None:
        self._record("info", event, keys)

    def warning(self, event: str, **keys: Any) -> None:
        self._record("warning", event, keys)

    def error(self, event: str, **keys: Any) -> None:
        self._record("error", event, keys)

    def _record(self, level: str, event: str, keys: dict[str, Any]) -> None:
        check_event(event)
        self.lines.append((level, event, keys))

    def named(self, event: str) -> list[dict[str, Any]]:
        """Return the keys of every event of this name."""
        return [keys for _, name, keys in self.lines if name == event]

    @property
    def events(self) -> list[str]:
        return [event for _, event, _ in self.lines]
