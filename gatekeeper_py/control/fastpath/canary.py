"""An image that tells an API server with a new expression from one that still has the old.

It was plainly approved before and is not now, and it shows whether the webhook was asked: on the
validating endpoint because the policy refuses it, on the mutating one because a mirror takes it up.
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
from gatekeeper_py.core.policy.policy import Policy

MAX_PLACES: Final = 100
MAX_DENIES: Final = 100
MAX_MIRRORS: Final = 100
"""Of each so many are tried; a policy can have a hundred thousand."""

REPOSITORY: Final = "gatekeeper-py-probe"
DIGEST: Final = f"sha256:{'0' * 64}"


@dataclass(frozen=True, slots=True)
class Canary:
    endpoint: Endpoint
    image: str


def choose(
    previous: FastPath, current: FastPath, policy: Policy, namespace: str, now: datetime
) -> tuple[Canary, ...]:
    """At most one for each endpoint, judged for a namespace.

    There is none when nothing can be seen of it: when everything that is not plain any more is still
    approved, as after a rule was given an end, or when nothing is rewritten in this mode.
    """
    tells = _telling(current, policy, namespace, now)
    found = (
        next(
            (each for each in candidates if previous.approves(each.image, each.endpoint) and tells(each)),
            None,
        )
        for candidates in (_refused(previous, current, policy), _rewritten(previous, current, policy))
    )
    return tuple(each for each in found if each is not None)


def still_telling(
    canaries: Iterable[Canary], current: FastPath, policy: Policy, namespace: str, now: datetime
) -> tuple[Canary, ...]:
    """Those that were chosen before and are of use under this policy, too."""
    return tuple(filter(_telling(current, policy, namespace, now), canaries))


def _telling(current: FastPath, policy: Policy, namespace: str, now: datetime) -> Callable[[Canary], bool]:
    compiled = policy.at(now)
    mutates = compiled.mode(namespace) == "mutate"

    def tells(canary: Canary) -> bool:
        if current.approves(canary.image, canary.endpoint):
            return False
        plan = compiled.plan(namespace, canary.image) if mutates else None
        if canary.endpoint == "mutating":
            return plan is not None and plan.image is not None
        # What a mirror takes up comes to the validating webhook under another name.
        return plan is None and not compiled.decide(namespace, canary.image).approved

    return tells


def _refused(previous: FastPath, current: FastPath, policy: Policy) -> Iterator[Canary]:
    removed = _removed(previous, current, "validating")
    for place in removed:
        yield Canary("validating", _in_place(place))
    for rule in islice(policy.deny, MAX_DENIES):
        yield from (Canary("validating", _under(rule.pattern, place)) for place in removed)


def _rewritten(previous: FastPath, current: FastPath, policy: Policy) -> Iterator[Canary]:
    for place in _removed(previous, current, "mutating"):
        yield Canary("mutating", _in_place(place))
    for mirror in islice(policy.document.mirrors, MAX_MIRRORS):
        name = "/".join((mirror.source.host, *mirror.source.segments, REPOSITORY))
        yield from (Canary("mutating", image) for image in (name, f"{name}@{DIGEST}"))


def _removed(previous: FastPath, current: FastPath, endpoint: Endpoint) -> list[Place]:
    # Everything is no place that an image could be made of.
    removed = previous.places[endpoint] - current.places[endpoint] - EVERYTHING
    return sorted(removed)[:MAX_PLACES]


def _in_place(place: Place) -> str:
    return f"{_name(place)}@{DIGEST}" if place.pinned else _name(place)


def _name(place: Place) -> str:
    return f"{place.text}{REPOSITORY}" if place.text.endswith("/") else place.text


def _under(pattern: Pattern, place: Place) -> str:
    """An image that a deny rule refuses, in a place if they have one in common."""
    if is_glob(pattern.host):
        name = _name(place)
    else:
        last = (REPOSITORY,) if pattern.subtree else ()
        name = "/".join((pattern.host, *(_filled(each) for each in pattern.segments), *last))
    tag = "" if pattern.tag is None else f":{_filled(pattern.tag)}"
    wanted = DIGEST if pattern.digest == ANY or (place.pinned and pattern.digest is None) else pattern.digest
    return f"{name}{tag}" + ("" if wanted is None else f"@{wanted}")


def _filled(glob: str) -> str:
    """A text that a glob matches."""
    return glob.replace("*", "x")
