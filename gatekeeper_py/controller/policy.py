"""Follow the policy, to know whether it can rewrite images.

The mutating webhook does nothing outside mutate mode, so it is registered only while the policy can rewrite
something. A missing or refused policy does not change the result, because replicas also keep the last good
policy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from gatekeeper_py.core.policy.document import MODES, PolicyError
from gatekeeper_py.core.policy.policy import Policy, Rewriting
from gatekeeper_py.live.feed import Feed
from gatekeeper_py.live.parser.process import Fetch, Parser, ParserError
from gatekeeper_py.live.sources import Delivery
from gatekeeper_py.process.logs import Log
from gatekeeper_py.process.waiting import wait_until

KEEP_SECONDS: Final = 10.0
"""How long the mutating webhook stays registered after the policy stopped rewriting images. Toggling the mode
back within this time does not change the configuration. Afterwards every replica has the new policy."""

UNSEEN_SECONDS: Final = 300.0
"""A policy that was not confirmed by the API server for this long raises an alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPolicy:
    """A delivery and its policy. If ``policy`` is ``None``, ``problem`` gives the reason."""

    delivery: Delivery
    policy: Policy | None = None
    problem: str = ""


class PolicyFollower:
    """Keeps ``mutates`` up to date with a source.

    ``mutates`` is whether the policy can rewrite images, ``None`` until the first good policy. ``on_changed``
    is called after each delivery, and when ``mutates`` changes later. ``judge`` is called with every good
    policy and the current time; the follower does not keep the policy. ``judgement`` is the last result of
    ``judge``, and ``True`` before the first call. ``on_arrived`` is called when a delivery arrives, and
    ``on_known`` with its policy once it is parsed.
    """

    def __init__(
        self,
        parser: Parser,
        *,
        on_changed: Callable[[], object],
        log: Log,
        judge: Callable[[Policy, datetime], bool] = lambda _policy, _now: True,
        on_arrived: Callable[[], None] = lambda: None,
        on_known: Callable[[KnownPolicy], None] = lambda _known: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.mutates: bool | None = None
        self.judgement = True
        self._judge = judge
        self._parser = parser
        self._on_changed = on_changed
        self._on_arrived = on_arrived
        self._on_known = on_known
        self._log = log
        self._now = now
        self._monotonic = monotonic
        self.refused = ""
        """The problem of the document in the source; empty when it was accepted."""
        self._problem = ""
        self._synced_at = monotonic()
        self._timer: asyncio.Task[None] | None = None
        self._feed = Feed(self.take)

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
        """Follow a source until cancelled. A delivery replaces earlier ones that are not processed yet."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._feed.run())
                async for delivery in deliveries:
                    self._on_arrived()
                    self._feed.put(delivery)
        finally:
            self._stop_timer()

    async def take(self, delivery: Delivery) -> bool:
        """Process one delivery. Return false if it could not be parsed for a reason that may be temporary."""
        known, is_final = KnownPolicy(delivery=delivery, problem=delivery.problem), True
        if delivery.text is None:
            self._problem = delivery.problem
        else:
            try:
                policy = await self._parse(delivery.text, delivery.mode)
                self.judgement = await asyncio.to_thread(self._judge, policy, self._now())
            except PolicyError as problem:
                self.refused = str(problem.findings[0])
                self._problem = f"the policy is refused: {self.refused}"
                known = replace(known, problem=f"the document is refused: {self.refused}")
            except ParserError as problem:
                self._problem = f"the policy cannot be parsed: {problem}"
                known, is_final = replace(known, problem=self._problem), problem.permanent
            except Exception:  # noqa: BLE001 - a bug of ours must not end the controller
                self._log.error("policy_not_parsed", exc_info=True)
                self._problem = "the policy cannot be parsed: internal error"
                known = replace(known, problem="internal error")
            else:
                self._problem = self.refused = ""
                self._stop_timer()
                self._apply(policy.rewriting(self._now()))
                if not delivery.problem:
                    known = replace(known, policy=policy)
        self._on_known(known)
        self._on_changed()
        return is_final

    async def _parse(self, text: str, mode: str | None) -> Policy:
        """Parse a policy in the parser process. Raises ``PolicyError`` and ``ParserError``."""
        found: list[Policy] = []

        async def load(fetch: Fetch) -> None:
            document = await fetch()
            found.append(Policy(document=document, text=text, mode=MODES[mode] if mode else document.mode))

        async with self._parser.turn():
            report = await self._parser.judge(text, mode, None, on_accepted=load)
        if not found:
            raise PolicyError(report.findings)
        return found[0]

    def _apply(self, found: Rewriting) -> None:
        ends = found.until if found.possible else self._now()
        if found.possible or self.mutates is None:
            self.mutates = found.possible
        if self.mutates and ends is not None:
            self._timer = asyncio.create_task(self._stop_after(ends))

    async def _stop_after(self, instant: datetime) -> None:
        """Set ``mutates`` to false ``KEEP_SECONDS`` after the policy stops rewriting images.

        The source does not deliver a policy when the last rule or override for that expires.
        """
        await wait_until(instant + timedelta(seconds=KEEP_SECONDS), self._now, asyncio.Event())
        self.mutates = False
        self._on_changed()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
