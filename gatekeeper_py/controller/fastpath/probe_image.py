"""Choose an image that shows whether an API server uses the new expression or still the old one.

With the old expression the API server skips the webhook for such an image; with the new one it calls the
webhook. The answer shows the call: the validating webhook refuses the image, or the mutating webhook warns
that it rewrote the image or left it as written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Final

from gatekeeper_py.core.compile.fastpath import FastPath, WebhookKind
from gatekeeper_py.core.images.entry import Entry
from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.images.pattern import ANY, Pattern
from gatekeeper_py.core.policy.document import rewrites
from gatekeeper_py.core.policy.mirror import Rewrite
from gatekeeper_py.core.policy.policy import Policy

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
    mutates = rewrites(compiled.mode(namespace))

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


def _first(entries: set[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (not entry.images.subtree, str(entry)))[:MAX_ENTRIES]


def _in_both(excluded: Pattern, included: Pattern) -> str:
    """Return an image that is in both sets, if one is easy to find; the caller must check it."""
    narrower = included if is_glob(excluded.host) else excluded
    digests = (excluded.digest, included.digest)
    digest = next((each for each in digests if each not in {None, ANY}), ANY if ANY in digests else None)
    tag = None if digest else excluded.tag or included.tag
    return replace(narrower, tag=tag, digest=digest).example(REPOSITORY)
