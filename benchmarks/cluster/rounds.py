"""Measure the cases in rounds on one control plane; each round gives every case one turn.

A machine's speed drifts within minutes. Therefore a case is compared with the others of its round, the turns
are short, and their order changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from benchmarks.cluster.cases import Case, Stage, native_documents, native_path
from benchmarks.cluster.comparison import Round, Turn
from benchmarks.cluster.creating import Creators, Reconnected
from benchmarks.cluster.gatekeeper import WEBHOOK
from benchmarks.cluster.pods import pod, unlisted
from benchmarks.cluster.scaling import scale
from benchmarks.cluster.site import Administrator, Site, Spoiled
from benchmarks.load.running import say
from tools.installation.product import MUTATING, VALIDATING

MOST_LEFT_OUT: Final = 5

_EFFECT_SECONDS: Final = 20.0
_PROBES: Final = 6

# The controller sends reviews of its own, and the replicas are not scraped at the same instant.
_REVIEWS_SPARE: Final = 30
_REVIEWS_SLACK: Final = 0.02

_SERVERS_OWN: Final = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")


@dataclass(frozen=True, slots=True)
class Registration:
    """A case, the objects that it creates on the API server by their path, and the mode of the policy.

    ``processes`` are the names of the processes that answer its reviews.
    """

    case: Case
    objects: Mapping[str, Mapping[str, Any]]
    mode: str
    processes: Sequence[str]


Load = Callable[[Stage, Registration], Turn]
"""Measures a case that is in effect."""


def registrations(stage: Stage, cases: Sequence[Case]) -> list[Registration]:
    """Register each case as shipped, and store what it registers once it is in effect."""
    paths = [VALIDATING, MUTATING, WEBHOOK, *map(native_path, native_documents())]
    return [_registration(stage, case, paths) for case in cases]


def _registration(stage: Stage, case: Case, paths: Sequence[str]) -> Registration:
    with case.registered(stage) as processes:
        await_effect(stage, case)
        objects = {path: found for path in paths if (found := stage.site.product.get(path)) is not None}
        mode = stage.site.mode()
    for document in objects.values():
        for key in _SERVERS_OWN:
            document["metadata"].pop(key, None)
    return Registration(case, objects, mode, processes)


def play(
    stage: Stage, registered: Sequence[Registration], load: Load, more: Callable[[int], bool]
) -> tuple[list[Round], int]:
    """Measure rounds while ``more(number of rounds)`` is true; return them and the number left out.

    Raises Spoiled, which names the round and the case, at the first unexpected answer or missed deadline. A
    round in which a client had to connect again is left out. Raises Reconnected if more than
    ``MOST_LEFT_OUT`` rounds are left out.
    """
    rounds: list[Round] = []
    left_out = 0
    with stage.site.kubelet.looking_away():
        while more(len(rounds)):
            try:
                rounds.append(_round(stage, registered, load, len(rounds) + left_out))
            except Reconnected as problem:
                left_out += 1
                say(f"a round is left out: {problem}")
                if left_out > MOST_LEFT_OUT:
                    raise
    return rounds, left_out


def _round(stage: Stage, registered: Sequence[Registration], load: Load, number: int) -> Round:
    """Return one turn of each case, in an order that depends on the number of the round."""
    began = time.monotonic()
    order = Random(number).sample(registered, len(registered))
    found: dict[str, Turn] = {}
    for registration in order:
        try:
            _register(stage.site, registration, registered)
            await_effect(stage, registration.case)
            found[registration.case.name] = load(stage, registration)
        except Reconnected:
            raise
        except (Spoiled, TimeoutError) as problem:
            raise Spoiled(f"round {number + 1}, {registration.case.name}: {problem}") from problem
    rates = ", ".join(f"{name} {turn.per_second:.0f}/s" for name, turn in found.items())
    say(f"round {number + 1}: {rates}, {time.monotonic() - began:.0f} s")
    return {each.case.name: found[each.case.name] for each in registered}


def _register(place: Site, chosen: Registration, registered: Sequence[Registration]) -> None:
    """Delete the objects of all cases, and create those of the chosen case."""
    for path in {path for each in registered for path in each.objects}:
        place.delete(path)
    if place.mode() != chosen.mode:
        place.set_mode(chosen.mode)
    for path, document in chosen.objects.items():
        place.plane.api("POST", path.rpartition("/")[0], document)


def creates(creators: Creators) -> Load:
    """Return the load of dry-run creates. It compares the number of reviews with the expected one."""

    def load(stage: Stage, registration: Registration) -> Turn:
        reviews = stage.site.reviews()
        turn, sent = creators.run(registration.case, lambda: stage.site.cpu(registration.processes))
        expect_reviews(stage.site.reviews() - reviews, sent, registration.case.reviews)
        return turn

    return load


def scaling(stage: Stage, registration: Registration) -> Turn:
    """Scale Deployments up and down."""
    return scale(stage.site.plane, lambda: stage.site.cpu(registration.processes))


def expect_reviews(reviews: float, creates: int, each: float) -> None:
    """Raise Spoiled unless the creates led to about ``each`` reviews of our replicas per create."""
    expected = creates * each
    if abs(reviews - expected) > _REVIEWS_SPARE + _REVIEWS_SLACK * expected:
        raise Spoiled(
            f"{creates} creates led to {reviews:.0f} reviews of our replicas; expected were {expected:.0f}"
        )


def await_effect(stage: Stage, case: Case) -> None:
    """Wait until probe Pods get the answers, and lead to the number of reviews, that the case expects.

    The API server applies configurations some time after they were written. It can apply the deletion of one
    even later than the creation of the next one. Raises Spoiled when the case is not in effect after 20 s.
    """
    administrator = Administrator(stage.site.plane)
    deadline = time.monotonic() + _EFFECT_SECONDS
    try:
        while problem := _problem(stage, case, administrator):
            if time.monotonic() > deadline:
                raise Spoiled(f"not in effect after {_EFFECT_SECONDS:g} s: {problem}")
    finally:
        administrator.close()


def _problem(stage: Stage, case: Case, administrator: Administrator) -> str | None:
    """Return how the answers to a few probe Pods differ from the case, or ``None`` if they do not.

    Most cases differ from one another in an answer or in the number of reviews.
    """
    every = range(_PROBES)
    kinds = (
        ("unlisted", [unlisted()] * _PROBES, {403, 422} if case.denies else {201}, case.calls),
        (case.sidecar, [pod(index, case.sidecar) for index in every], {201}, case.reviews),
        ("with-port", [pod(index, "with-port") for index in every], {201}, case.calls),
    )
    for kind, pods, statuses, each in kinds:
        before = stage.site.reviews()
        for body in pods:
            status = administrator.create(body)
            if status not in statuses:
                return f"a Pod with an image that is {kind} is answered {status}"
        found = stage.site.reviews() - before
        # The controller's own reviews may add to the count, but no review of a probe can be missing.
        if not 0 <= found - each * _PROBES < _PROBES:
            return f"{_PROBES} Pods with an image that is {kind} led to {found:.0f} reviews"
    return None
