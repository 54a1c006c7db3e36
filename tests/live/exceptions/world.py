"""A keeper of exceptions in a world that the test moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.core.exceptions.grants import Source
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.configmap import ExceptionsText
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.live.exceptions.keeper import ExceptionsKeeper
from gatekeeper_py.live.snapshot import LivePolicy
from support.builders import INSTANT, policy
from support.parsing import InProcessParser
from support.recording import RecordingLog

GRANTS = """
exceptions:
  - {source: namespace, images: [ghcr.io/**], longest: 14d}
  - {source: installation, images: ["quay.io/**"], longest: 14d}
"""
TEAM = DocumentKey("namespace", "team-a")
IMAGE = "ghcr.io/acme/tool:1"


def document(*images: str, until: str = "2026-03-05") -> str:
    """Return a document with an exception for each image."""
    entries = "".join(f"  - {{image: {image}, until: {until}, reason: x}}\n" for image in images)
    return f"apiVersion: gatekeeper-py/v1\nkind: ImageExceptions\nexceptions:\n{entries or '  []'}\n"


class World:
    """A keeper with a clock and timers that the test moves, and a parser in the test process."""

    def __init__(self, more: str = GRANTS) -> None:
        self.clock = 100.0
        self.now = INSTANT
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.live = LivePolicy()
        self.log = RecordingLog()
        self.parser = InProcessParser()
        self.parse_seconds = 0.0
        self.readable: dict[Source, bool | None] = {}
        self.keeper = ExceptionsKeeper(
            self.live,
            self.parser,
            observer=self,
            log=self.log,
            now=lambda: self.now,
            monotonic=self._monotonic,
            later=self._later,
        )
        self.use(more)

    def use(self, more: str) -> None:
        self.live.install(policy(more).serving(100, CacheCounts(), lambda: self.now))
        self.keeper.use_policy(policy(more))

    def exceptions_counted(self, counts: Counter[tuple[Source, str]], next_end: datetime | None) -> None: ...

    def exceptions_readable(self, source: Source, *, readable: bool | None) -> None:
        self.readable[source] = readable

    def approves(self, image: str = IMAGE, namespace: str = "team-a") -> bool:
        assert self.live.snapshot is not None
        return self.live.snapshot.decide(namespace, image).approved

    def advance(self, seconds: float) -> None:
        """Move the clock, and call the timers that are due."""
        self.clock += seconds
        due = [call for at, call in self.timers if at <= self.clock]
        self.timers = [each for each in self.timers if each[0] > self.clock]
        for call in due:
            call()

    async def deliver(self, text: str | None, key: DocumentKey = TEAM, *findings: Finding) -> None:
        await self.keeper.deliver(ExceptionsText(key=key, text=text, findings=findings))

    async def load(self, text: str | None, key: DocumentKey = TEAM, *findings: Finding) -> None:
        """Deliver a document, and let the keeper take a step."""
        await self.deliver(text, key, *findings)
        await self.keeper.step()

    async def step_after(self, seconds: float) -> None:
        """Move the clock, and let the keeper take a step."""
        self.advance(seconds)
        await self.keeper.step()

    async def settle(self) -> None:
        """Let the first list end, so that the shares apply from now on."""
        await self.settle_with()

    async def settle_with(self, *keys: DocumentKey) -> None:
        """End the first list, which had these documents."""
        self.keeper.listed(frozenset({"namespace", "installation"}), frozenset(keys))
        await self.keeper.step()
        assert self.keeper.problem() == ""

    def _monotonic(self) -> float:
        return self.clock

    def _later(self, seconds: float, call: Callable[[], None]) -> Any:
        timer = (self.clock + seconds, call)
        self.timers.append(timer)
        return _Cancelled(lambda: self.timers.remove(timer) if timer in self.timers else None)


class _Cancelled:
    def __init__(self, cancel: Callable[[], None]) -> None:
        self.cancel = cancel
