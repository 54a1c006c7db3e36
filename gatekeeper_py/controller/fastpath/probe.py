"""Probe images that were removed from the fast path, until an API server calls the webhook for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from gatekeeper_py.cluster.session import Session
from gatekeeper_py.controller import probe_pod
from gatekeeper_py.controller.fastpath import probe_image
from gatekeeper_py.controller.fastpath.policy_view import PolicyView, unknown
from gatekeeper_py.controller.fastpath.probe_image import ProbeImage
from gatekeeper_py.controller.probe_pod import IMAGE_PATH, ProbeAnswer
from gatekeeper_py.core.compile.fastpath import FastPath, WebhookKind
from gatekeeper_py.process.backoff import backed_off
from gatekeeper_py.process.logs import Log

FIRST_PAUSE_SECONDS: Final = 0.02
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Pause between two attempts. An API server usually uses the new expression at the first attempt."""

SUSPICIOUS_SECONDS: Final = 5.0
"""An API server that does not use the new expression after this long is logged as an error."""


MUTATING: Final = (" was rewritten", " is left as written")
"""Each warning of the mutating webhook about an image contains one of these, and no other warning does.

The second text appears if a mirror looks up its images, because no registry has the probe's image.
"""

_MAX_PROBLEM: Final = 300


async def dry_run(
    connect: Callable[[], Awaitable[Session]], namespace: str, probe: ProbeImage, webhook: str
) -> str:
    """Create one Pod in dry run, to see whether the API server calls the webhook for it.

    Return an empty text if the API server calls the webhook, and otherwise the API server's answer. Does not
    raise an exception if the API server fails.
    """
    answer = await probe_pod.send(connect, namespace, probe.image)
    return answer.problem[:_MAX_PROBLEM] or why_not_called(answer, probe.endpoint, webhook)


def why_not_called(answer: ProbeAnswer, endpoint: WebhookKind, webhook: str) -> str:
    """Return an empty text if the API server called the webhook, else its answer.

    The API server called the webhook if the answer names it (the webhook refused the Pod or was unreachable),
    or if the answer contains a warning of this endpoint about the image.
    """
    from_endpoint = [
        warning
        for warning in answer.warnings
        if f"{IMAGE_PATH}: " in warning
        and any(each in warning for each in MUTATING) is (endpoint == "mutating")
    ]
    if f'"{webhook}"' in answer.message or from_endpoint:
        return ""
    return f"{answer.status} {answer.message}"[:_MAX_PROBLEM].strip()


class RemovalProbe:
    """Verifies a removal: call ``begin`` after a write, then ``attempt`` until it returns ``None``.

    ``run`` creates a Pod in dry run, and returns an empty text if the API server called the webhook. If
    ``run`` is ``None``, the probe does not verify anything.
    """

    def __init__(
        self,
        run: Callable[[ProbeImage], Awaitable[str]] | None,
        namespace: str,
        *,
        log: Log,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.verified: tuple[ProbeImage, ...] = ()
        """The images for which the webhook was called since ``begin``."""
        self._run = run
        self._namespace = namespace
        self._log = log
        self._now = now
        self._monotonic = monotonic
        self._view = unknown("")
        self._waiting: tuple[ProbeImage, ...] = ()
        self._attempts = 0
        self._since = 0.0

    async def begin(self, previous: FastPath, view: PolicyView) -> None:
        """Choose images that are not skipped any more, and keep the pending images that are still useful."""
        kept, self._waiting, self.verified = self._waiting, (), ()
        self._view, self._attempts, self._since = view, 0, self._monotonic()
        if self._run is None or view.policy is None:
            return
        chosen: tuple[ProbeImage, ...] = ()
        if view.fast_path.tightens(previous):
            chosen = await asyncio.to_thread(
                probe_image.choose, previous, view.fast_path, view.policy, self._namespace, self._now()
            )
        newer = {each.endpoint for each in chosen}
        kept = await self._still_useful(tuple(each for each in kept if each.endpoint not in newer))
        self._waiting = (*chosen, *kept)

    async def attempt(self) -> float | None:
        """Run the pending probes. Return the seconds until the next attempt; ``None`` when none is needed."""
        while self._waiting and self._run is not None:
            probe, *others = self._waiting
            problem = await self._run(probe)
            if problem:
                return await self._retry(probe, problem)
            self._waiting, self.verified = tuple(others), (*self.verified, probe)
        return None

    async def _retry(self, probe: ProbeImage, problem: str) -> float:
        pause = backed_off(FIRST_PAUSE_SECONDS, self._attempts, LONGEST_PAUSE_SECONDS)
        self._attempts += 1
        if self._monotonic() - self._since > SUSPICIOUS_SECONDS:
            self._log.error(
                "fastpath_not_verified",
                endpoint=probe.endpoint,
                image=probe.image,
                problem=problem,
                retry_seconds=round(pause, 2),
            )
            # A deny rule that refused the image may have expired meanwhile.
            self._waiting = await self._still_useful(self._waiting)
        return pause

    async def _still_useful(self, probes: tuple[ProbeImage, ...]) -> tuple[ProbeImage, ...]:
        policy = self._view.policy
        if not probes or policy is None:
            return ()
        return await asyncio.to_thread(
            probe_image.still_useful, probes, self._view.fast_path, policy, self._namespace, self._now()
        )
