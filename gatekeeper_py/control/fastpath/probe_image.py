"""Choose an image that shows whether an API server uses the new expression or still the old one.

The old expression skips the webhook for such an image, the new one calls it, and the answer shows that it
was called: the validating webhook refuses the image, or the mutating webhook rewrites it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final

from gatekeeper_py.core.compile.expression import EVERYTHING, Place
from gatekeeper_py.core.compile.preapproved import Endpoint, FastPath
from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.images.pattern import ANY, Pattern
from gatekeeper_py.core.policy.document import rewrites
from gatekeeper_py.core.policy.policy import Policy

MAX_PLACES: Final = 100
MAX_DENIES: Final = 100
MAX_MIRRORS: Final = 100
"""At most this many of each are tried, because a policy can have a hundred thousand."""

REPOSITORY: Final = "gatekeeper-py-probe"
DIGEST: Final = f"sha256:{'0' * 64}"


@dataclass(frozen=True, slots=True)
class ProbeImage:
    """An image for a probe Pod, and the endpoint whose webhook must be called for it."""

    endpoint: Endpoint
    image: str


def choose(
    previous: FastPath, current: FastPath, policy: Policy, namespace: str, now: datetime
) -> tuple[ProbeImage, ...]:
    """Return at most one image for each endpoint, for Pods in ``namespace``.

    There is none when the change cannot be observed: when other rules still approve every removed image,
    or when nothing is rewritten in this mode.
    """
    shows = _shows_call(current, policy, namespace, now)
    found = (
        next(
            (each for each in candidates if previous.approves(each.image, each.endpoint) and shows(each)),
            None,
        )
        for candidates in (_refused(previous, current, policy), _rewritten(previous, current, policy))
    )
    return tuple(each for each in found if each is not None)


def still_useful(
    probes: Iterable[ProbeImage], current: FastPath, policy: Policy, namespace: str, now: datetime
) -> tuple[ProbeImage, ...]:
    """Return those of the probes that still show a call under this policy."""
    return tuple(filter(_shows_call(current, policy, namespace, now), probes))


def _shows_call(
    current: FastPath, policy: Policy, namespace: str, now: datetime
) -> Callable[[ProbeImage], bool]:
    compiled = policy.at(now)
    mutates = rewrites(compiled.mode(namespace))

    def shows(probe: ProbeImage) -> bool:
        if current.approves(probe.image, probe.endpoint):
            return False
        plan = compiled.plan(namespace, probe.image) if mutates else None
        if probe.endpoint == "mutating":
            return plan is not None and plan.image is not None
        # The validating webhook sees a rewritten image under its new name.
        return plan is None and not compiled.decide(namespace, probe.image).approved

    return shows


def _refused(previous: FastPath, current: FastPath, policy: Policy) -> Iterator[ProbeImage]:
    removed = _removed(previous, current, "validating")
    for place in removed:
        yield ProbeImage("validating", _in_place(place))
    for rule in islice(policy.deny, MAX_DENIES):
        yield from (ProbeImage("validating", _denied_in(rule.pattern, place)) for place in removed)


def _rewritten(previous: FastPath, current: FastPath, policy: Policy) -> Iterator[ProbeImage]:
    for place in _removed(previous, current, "mutating"):
        yield ProbeImage("mutating", _in_place(place))
    for mirror in islice(policy.document.mirrors, MAX_MIRRORS):
        name = "/".join((mirror.source.host, *mirror.source.segments, REPOSITORY))
        yield from (ProbeImage("mutating", image) for image in (name, f"{name}@{DIGEST}"))


def _removed(previous: FastPath, current: FastPath, endpoint: Endpoint) -> list[Place]:
    # EVERYTHING is not a place for which an image can be made up.
    removed = previous.places[endpoint] - current.places[endpoint] - EVERYTHING
    return sorted(removed)[:MAX_PLACES]


def _in_place(place: Place) -> str:
    return f"{_name(place)}@{DIGEST}" if place.pinned else _name(place)


def _name(place: Place) -> str:
    return f"{place.text}{REPOSITORY}" if place.text.endswith("/") else place.text


def _denied_in(pattern: Pattern, place: Place) -> str:
    """Return an image that a deny pattern matches, inside the place if the two overlap."""
    if is_glob(pattern.host):
        name = _name(place)
    else:
        last = (REPOSITORY,) if pattern.subtree else ()
        name = "/".join((pattern.host, *(_filled(each) for each in pattern.segments), *last))
    tag = "" if pattern.tag is None else f":{_filled(pattern.tag)}"
    wanted = DIGEST if pattern.digest == ANY or (place.pinned and pattern.digest is None) else pattern.digest
    return f"{name}{tag}" + ("" if wanted is None else f"@{wanted}")


def _filled(glob: str) -> str:
    """Return a text that a glob matches."""
    return glob.replace("*", "x")
