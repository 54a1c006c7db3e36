"""Events about exceptions: invalid documents, exceptions that end soon, and live ones of break-glass.

Tenants write the documents, so they decide how much there is to report. The controller records at most one
Event in ``APART_SECONDS``, and at most one about each document in ``AGAIN_SECONDS``. Documents of the
installation go first, then those without an Event so far, then those whose last Event is the oldest.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Final

from gatekeeper_py.controller.events import CONFIGMAP, Events, ExceptionReason
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Noted
from gatekeeper_py.core.exceptions.grants import SOURCES, Grant, Source
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.document import PolicyDocument
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.live.exceptions.counting import described
from gatekeeper_py.live.exceptions.keeper import ExceptionsKeeper, Read
from gatekeeper_py.live.parser.process import Parser
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.live.sources.exceptions import ENABLE
from gatekeeper_py.process.logs import Log
from gatekeeper_py.process.slices import Steps, in_slices

APART_SECONDS: Final = 1.0
AGAIN_SECONDS: Final = 60.0

MAX_TEXT: Final = 300
"""Maximum number of characters of one error, and of an owner with a reason."""

_Subject = tuple[ExceptionReason, DocumentKey, object, Callable[[], str]]
"""What an Event reports: its reason, the document, the cause, and a function that returns the message. An
Event is due once for each cause."""


class ExceptionEvents:
    """Follows the documents with exceptions in the cluster, and records Events about them.

    ``keeper`` takes the documents. ``enabled`` is whether the installation has the right to read them.
    """

    def __init__(
        self,
        parser: Parser,
        events: Events,
        *,
        enabled: bool,
        log: Log,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._live = LivePolicy()
        self.keeper = ExceptionsKeeper(
            self._live, parser, observer=self, log=log, now=now, monotonic=monotonic
        )
        self._events = events
        self._enabled = enabled
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._grants: tuple[Grant, ...] = ()
        self._recorded: dict[tuple[ExceptionReason, DocumentKey], tuple[float, object]] = {}
        """The time and the cause of the last Event about each document."""
        self._counted = asyncio.Event()

    def use_policy(self, policy: Policy) -> None:
        """Follow the documents of the sources that a policy grants. Keep nothing else of the policy."""
        if policy.document.exceptions != self._grants:
            self._grants = policy.document.exceptions
            document = PolicyDocument(mode=policy.mode, allow=(), exceptions=self._grants)
            compiled = Policy(document=document, text="", mode=policy.mode).at(self._now())
            self._live.install(compiled)
            self.keeper.use_policy(compiled)

    def problem(self) -> str:
        """Return why the grants of the policy have no effect; empty if they have an effect."""
        blind = self._grants and (self.keeper.unread or not self._enabled)
        return f"the policy has grants, but exceptions are not enabled: {ENABLE}" if blind else ""

    def exceptions_counted(self, _counts: Counter[tuple[Source, str]], _next_end: datetime | None) -> None:
        self._counted.set()

    def exceptions_readable(self, source: Source, *, readable: bool | None) -> None: ...

    async def run(self, read: Read) -> None:
        """Follow the documents, and record Events about them, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.keeper.run(read))
            while True:
                await self._counted.wait()
                await self.record()

    async def record(self) -> None:
        """Record the Events that are due, one after the other, until the documents are counted again."""
        self._counted.clear()
        for reason, key, cause, text in await in_slices(self._finding_due()):
            namespace, _, name = key.configmap.partition("/")
            recorded = await self._events.record(
                reason, text(), kind=CONFIGMAP, name=name, namespace=namespace, once=True
            )
            self._recorded[reason, key] = (self._monotonic(), cause if recorded else None)
            await self._sleep(APART_SECONDS)
            if self._counted.is_set():
                return

    def _finding_due(self) -> Steps[list[_Subject]]:
        """Find what no Event has reported yet, in the order in which to record the Events."""
        now, due = self._monotonic(), []
        before, self._recorded = self._recorded, {}
        for subject in self._subjects():
            reason, key, cause, _ = subject
            at, last = self._recorded[reason, key] = before.pop((reason, key), (float("-inf"), None))
            if cause != last and now - at >= AGAIN_SECONDS:
                due.append((key.of_tenant, at, subject))
            yield
        # A document that switches between good and bad must not cause more Events.
        for place, (at, _) in before.items():
            if now - at < AGAIN_SECONDS:
                self._recorded[place] = (at, None)
        return [subject for *_, subject in sorted(due, key=lambda each: each[:2])]

    def _subjects(self) -> Iterator[_Subject]:
        for key, findings in self.keeper.refused():
            yield "ExceptionsInvalid", key, findings, partial(_errors, findings)
        for key, noted in self.keeper.entries.ending.items():
            reason: ExceptionReason = "BreakGlass" if SOURCES[key.source].emergency else "ExceptionEnds"
            # An entry that ends does not change which entry ends last. One more that ends soon can change it.
            yield reason, key, (noted.held, noted.last), partial(_ending, key, noted)


def _errors(findings: Iterable[Finding]) -> str:
    errors = "; ".join(escape(str(each), MAX_TEXT) for each in findings)
    return f"none of its exceptions counts: {errors}"


def _ending(key: DocumentKey, noted: Noted) -> str:
    end = described(key, noted)
    by = escape(f"{end['owner'] or key.namespace}: {end['reason']}", MAX_TEXT)
    return f"approved until {end['at']}: {end['entry']} ({by})"
