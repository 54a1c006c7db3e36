"""Probe images that were removed from the fast path, until an API server calls the webhook for them.

With the old expression, the API server skips the webhook for such an image; with the new one, it calls the
webhook. The answer shows the call: the validating webhook refuses the image, or the mutating webhook warns
that it rewrote the image or left it as written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from gatekeeper_py.cluster.session import Session
from gatekeeper_py.controller import probe_pod
from gatekeeper_py.controller.fastpath.policy_view import PolicyView, unknown
from gatekeeper_py.controller.probe_pod import IMAGE_PATH, ProbeAnswer
from gatekeeper_py.core.compile.fastpath import FastPath, WebhookKind
from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.images.pattern import ANY, Pattern
from gatekeeper_py.core.images.scope import Scope
from gatekeeper_py.core.policy.mirror import Rewrite
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.process.logs import Log
from gatekeeper_py.process.waiting import backed_off

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

MAX_ENTRIES: Final = 100
MAX_MIRRORS: Final = 100
"""Maximum number of entries, of deny rules and of mirrors that are tried. A policy can have 200,000 rules."""

REPOSITORY: Final = "gatekeeper-py-probe"
DIGEST: Final = f"sha256:{'0' * 64}"


@dataclass(frozen=True, slots=True)
class ProbeImage:
    """An image for a probe Pod, and the endpoint whose webhook must be called for it."""

    endpoint: WebhookKind
    image: str


def choose(
    previous: FastPath, current: FastPath, policy: Policy, namespace: str, now: datetime
) -> tuple[ProbeImage, ...]:
    """Return at most one image for each endpoint, for Pods in ``namespace``.

    An endpoint has no image if the change cannot be observed there: other rules still approve every removed
    image, or the policy rewrites nothing in this mode.
    """
    shows = _shows_call(current, policy, namespace, now)
    found = (
        next(
            (
                each
                for each in candidates
                if previous.approves(namespace, each.image, each.endpoint) and shows(each)
            ),
            None,
        )
        for candidates in (_refused(previous, current, policy), _rewritten(previous, current, policy))
    )
    return tuple(each for each in found if each is not None)


def still_useful(
    probes: Iterable[ProbeImage], current: FastPath, policy: Policy, namespace: str, now: datetime
) -> tuple[ProbeImage, ...]:
    """Return the probes whose answers still show, under this policy, whether the webhook was called."""
    return tuple(filter(_shows_call(current, policy, namespace, now), probes))


def _shows_call(
    current: FastPath, policy: Policy, namespace: str, now: datetime
) -> Callable[[ProbeImage], bool]:
    compiled = policy.at(now)
    mutates = compiled.mode(namespace).rewrites

    def warns(plan: Rewrite) -> bool:
        if not plan.mirror.verify:
            return plan.image is not None
        # No registry has the image, and the webhook warns about that, but only if a candidate is approved.
        return any(compiled.decide(namespace, each).approved for each in plan.candidates)

    def shows(probe: ProbeImage) -> bool:
        if current.approves(namespace, probe.image, probe.endpoint):
            return False
        plan = compiled.plan(namespace, probe.image) if mutates else None
        if probe.endpoint == "mutating":
            return plan is not None and warns(plan)
        # The validating webhook sees a rewritten image under its new name.
        return plan is None and not compiled.decide(namespace, probe.image).approved

    return shows


def _refused(previous: FastPath, current: FastPath, policy: Policy) -> Iterator[ProbeImage]:
    for image in _removed(previous, current, "validating"):
        yield ProbeImage("validating", image)
    # If a deny rule covers an allow rule completely, the entry is gone, and no exclusion shows the overlap.
    # So combine the deny rules with the old entries.
    included = previous.approved["validating"].included[:MAX_ENTRIES]
    for rule in islice(policy.deny, MAX_ENTRIES):
        for entry in included:
            yield ProbeImage("validating", _in_both(rule.pattern.unwritten(), entry.images))


def _rewritten(previous: FastPath, current: FastPath, policy: Policy) -> Iterator[ProbeImage]:
    for image in _removed(previous, current, "mutating"):
        yield ProbeImage("mutating", image)
    for mirror in islice(policy.document.mirrors, MAX_MIRRORS):
        name = "/".join((mirror.source.host, *mirror.source.segments, REPOSITORY))
        yield from (ProbeImage("mutating", image) for image in (name, f"{name}@{DIGEST}"))


def _removed(previous: FastPath, current: FastPath, endpoint: WebhookKind) -> Iterator[str]:
    """Yield images of the entries that were removed, and of the exclusions that were added."""
    old, new = previous.approved[endpoint], current.approved[endpoint]
    for entry in _first(set(old.included) - set(new.included)):
        yield entry.images.example(REPOSITORY)
    for excluded in _first(set(new.excluded) - set(old.excluded)):
        for entry in old.included[:MAX_ENTRIES]:
            yield _in_both(excluded.images, entry.images)


def _first(entries: set[Scope]) -> list[Scope]:
    return sorted(entries, key=lambda entry: (not entry.images.subtree, str(entry)))[:MAX_ENTRIES]


def _in_both(excluded: Pattern, included: Pattern) -> str:
    """Return an image that is in both sets, if one is easy to find; the caller must check it."""
    narrower = included if is_glob(excluded.host) else excluded
    digests = (excluded.digest, included.digest)
    digest = next((each for each in digests if each not in {None, ANY}), ANY if ANY in digests else None)
    tag = None if digest else excluded.tag or included.tag
    return replace(narrower, tag=tag, digest=digest).example(REPOSITORY)


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

    ``run`` creates a Pod in a namespace in dry run, and returns an empty text if the API server called the
    webhook. If ``namespace`` is ``None``, the probe does not verify anything.
    """

    def __init__(
        self,
        run: Callable[[str, ProbeImage], Awaitable[str]],
        namespace: str | None,
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
        if self._namespace is None or view.policy is None:
            return
        chosen: tuple[ProbeImage, ...] = ()
        if view.fast_path.tightens(previous):
            chosen = await asyncio.to_thread(
                choose, previous, view.fast_path, view.policy, self._namespace, self._now()
            )
        newer = {each.endpoint for each in chosen}
        kept = await self._still_useful(tuple(each for each in kept if each.endpoint not in newer))
        self._waiting = (*chosen, *kept)

    async def attempt(self) -> float | None:
        """Run the pending probes. Return the seconds until the next attempt; ``None`` when none is needed."""
        while self._waiting and self._namespace is not None:
            probe, *others = self._waiting
            problem = await self._run(self._namespace, probe)
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
        if not probes or policy is None or self._namespace is None:
            return ()
        return await asyncio.to_thread(
            still_useful, probes, self._view.fast_path, policy, self._namespace, self._now()
        )
