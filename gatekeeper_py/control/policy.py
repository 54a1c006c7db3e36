"""Follow the policy, to know whether it can rewrite images.

The mutating webhook does nothing outside mutate mode, so it is registered only while the policy can rewrite
something. A missing or refused policy does not change the result, because replicas also keep the last good
policy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from gatekeeper_py.core.policy.document import PolicyError
from gatekeeper_py.core.policy.policy import Policy, Rewriting, parse_policy
from gatekeeper_py.delivery import Delivery
from gatekeeper_py.runtime.logs import Log

KEEP_SECONDS: Final = 10.0
"""How long the mutating webhook stays registered after the policy stopped rewriting images. Toggling the mode
back within this time does not change the configuration. Afterwards every replica has the new policy."""

UNSEEN_SECONDS: Final = 300.0
"""A policy that was not confirmed by the API server for this long raises an alarm."""

LONGEST_WAIT_SECONDS: Final = 3600.0


class PolicyParser:
    """Parses policies in a thread.

    With ``keep``, it keeps the last policy, and a second caller with the same document gets the same object.
    """

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._last: tuple[str, str | None, Policy] | None = None
        self._lock = asyncio.Lock()

    async def parse(self, text: str, mode: str | None) -> Policy:
        """Return the policy. Raises ``PolicyError``."""
        async with self._lock:
            if self._last is not None and self._last[:2] == (text, mode):
                return self._last[2]
            policy = await asyncio.to_thread(parse_policy, text, mode)
            if self._keep:
                self._last = (text, mode, policy)
            return policy


class PolicyFollower:
    """Keeps ``mutates`` up to date with a source.

    ``mutates`` is whether the policy can rewrite images, ``None`` until the first good policy. ``on_changed``
    is called after each delivery, and when ``mutates`` changes later. ``judge`` is called with every good
    policy and the current time; the follower does not keep the policy. ``judgement`` is the last result of
    ``judge``, and ``True`` before the first call.
    """

    def __init__(
        self,
        parser: PolicyParser,
        *,
        on_changed: Callable[[], object],
        log: Log,
        judge: Callable[[Policy, datetime], bool] = lambda _policy, _now: True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.mutates: bool | None = None
        self.judgement = True
        self._judge = judge
        self._parser = parser
        self._on_changed = on_changed
        self._log = log
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self.refused = ""
        """The problem of the document in the source; empty when it was accepted."""
        self._problem = ""
        self._synced_at = monotonic()
        self._timer: asyncio.Task[None] | None = None

    def seen(self) -> None:
        """Note that the source is in step with the API server at this moment."""
        self._synced_at = self._monotonic()

    def problem(self) -> str:
        """Return why the policy is not known for certain; empty if it is known."""
        silence = self._monotonic() - self._synced_at
        if silence > UNSEEN_SECONDS:
            return f"the policy was not confirmed by the API server for {silence:.0f} s"
        return self._problem

    async def run(self, deliveries: AsyncIterator[Delivery]) -> None:
        """Follow a source until cancelled."""
        try:
            async for delivery in deliveries:
                await self.take(delivery)
        finally:
            self._stop_timer()

    async def take(self, delivery: Delivery) -> None:
        """Process one delivery."""
        if delivery.text is None:
            self._problem = delivery.problem
            self._on_changed()
            return
        try:
            policy = await self._parser.parse(delivery.text, delivery.mode)
            self.judgement = await asyncio.to_thread(self._judge, policy, self._now())
        except PolicyError as problem:
            self.refused = str(problem.findings[0])
            self._problem = f"the policy is refused: {self.refused}"
            self._on_changed()
            return
        except Exception:  # noqa: BLE001 - a bug of ours must not end the controller
            self._log.error("policy_not_parsed", exc_info=True)
            self._problem = "the policy cannot be parsed: internal error"
            self._on_changed()
            return
        self._problem = self.refused = ""
        self._stop_timer()
        self._apply(policy.rewriting(self._now()))
        self._on_changed()

    def _apply(self, found: Rewriting) -> None:
        if found.possible or self.mutates is None:
            self.mutates = found.possible
            if found.possible and found.until is not None:
                self._timer = asyncio.create_task(self._stop_at(found.until))
        elif self.mutates:
            self._timer = asyncio.create_task(self._stop_after(KEEP_SECONDS))

    async def _stop_at(self, instant: datetime) -> None:
        """Set ``mutates`` to false ``KEEP_SECONDS`` after ``instant``.

        At that instant the policy stops rewriting images, because its last rule or override for that expires.
        The source does not deliver a policy when something expires.
        """
        while (left := (instant - self._now()).total_seconds()) > 0:
            # Sleep in steps, so that a change of the clock is noticed.
            await self._sleep(min(left, LONGEST_WAIT_SECONDS))
        await self._stop_after(KEEP_SECONDS)

    async def _stop_after(self, seconds: float) -> None:
        await self._sleep(seconds)
        self.mutates = False
        self._on_changed()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def fan_out(
    deliveries: AsyncIterator[Delivery], *consumers: Callable[[AsyncIterator[Delivery]], Awaitable[None]]
) -> None:
    """Pass every delivery of one source to several consumers, each at its own pace.

    A busy consumer then gets only the newest of the deliveries that arrived meanwhile.
    """
    mailboxes = [_Mailbox() for _ in consumers]
    async with asyncio.TaskGroup() as group:
        for consumer, mailbox in zip(consumers, mailboxes, strict=True):
            group.create_task(_consume(consumer, mailbox))
        async for delivery in deliveries:
            for mailbox in mailboxes:
                mailbox.put(delivery)


async def _consume(consumer: Callable[[AsyncIterator[Delivery]], Awaitable[None]], mailbox: _Mailbox) -> None:
    await consumer(mailbox.deliveries())


class _Mailbox:
    """Holds the latest delivery until the consumer takes it."""

    def __init__(self) -> None:
        self._latest: Delivery | None = None
        self._filled = asyncio.Event()

    def put(self, delivery: Delivery) -> None:
        self._latest = delivery
        self._filled.set()

    async def deliveries(self) -> AsyncIterator[Delivery]:
        while True:
            await self._filled.wait()
            self._filled.clear()
            latest, self._latest = self._latest, None
            if latest is not None:
                yield latest
