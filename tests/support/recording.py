"""A log, an observer and a clock that keep what they receive for a test to read."""

from __future__ import annotations

import asyncio
from typing import Any

from gatekeeper_py.process.children.process import Cause
from support.documented import check_event


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


class Clock:
    """A clock that advances only on request, or when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class Counted:
    """An observer that keeps what it receives."""

    def __init__(self) -> None:
        self.results: list[tuple[str, str]] = []
        """The host and the result of each look-up."""
        self.timed = 0
        """Number of look-ups that took a registry's time."""
        self.signatures: list[str] = []
        """The result of each look-up of signatures."""
        self.breakers: list[tuple[str, bool]] = []
        self.over_shares: list[str] = []
        self.runs: list[bool] = []
        self.deaths: list[Cause] = []

    def lookup(self, host: str, result: str, seconds: float | None) -> None:
        assert seconds is None or (seconds >= 0 and result != "stale")
        self.results.append((host, result))
        self.timed += seconds is not None

    def signature(self, result: str, seconds: float | None) -> None:
        assert seconds is None or seconds >= 0
        self.signatures.append(result)

    def breaker(self, host: str, *, is_open: bool) -> None:
        self.breakers.append((host, is_open))

    def over_share(self, limit: str) -> None:
        self.over_shares.append(limit)

    def child_runs(self, _child: str, *, runs: bool) -> None:
        self.runs.append(runs)

    def child_died(self, _child: str, cause: Cause) -> None:
        self.deaths.append(cause)
