"""Measure the cases in rounds on one control plane; each round gives every case one turn.

A machine's speed drifts within minutes. Therefore a case is compared with the others of its round, the turns
are short, and their order changes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from benchmarks.cluster.cases import PEER_WEBHOOK, Case, native_documents, native_path, peer_of
from benchmarks.cluster.comparison import Round, Turn
from benchmarks.cluster.correctness import ADMITTED, REFUSED, answers, mistakes
from benchmarks.cluster.creating import Creators, Reconnected
from benchmarks.cluster.pods import pod, unlisted
from benchmarks.cluster.site import Administrator, Site, Spoiled
from benchmarks.load.running import say
from tools.installation.product import MUTATING, SETTLE_SECONDS, VALIDATING
from tools.polling import wait_until

MOST_LEFT_OUT: Final = 5

_EFFECT_SECONDS: Final = 20.0
_PROBES: Final = 6

# The controller sends reviews of its own, and the replicas are not scraped at the same instant.
_REVIEWS_SPARE: Final = 30
_REVIEWS_SLACK: Final = 0.02

_SERVERS_OWN: Final = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")


@dataclass(frozen=True, slots=True)
class Registration:
    """A case, the objects that it creates on the API server by their path, and which images it admits.

    ``processes`` are the ids of the processes that answer its reviews.
    """

    case: Case
    objects: Mapping[str, Mapping[str, Any]]
    processes: Sequence[int]
    admitted: list[bool]


def registrations(site: Site, cases: Sequence[Case]) -> list[Registration]:
    """Register each case as shipped; once it is in effect, store its objects and its answers to ``ROWS``."""
    paths = [VALIDATING, MUTATING, PEER_WEBHOOK, *map(native_path, native_documents())]
    return [_registration(site, case, paths) for case in cases]


def _registration(site: Site, case: Case, paths: Sequence[str]) -> Registration:
    with closing(Administrator(site.plane)) as administrator, case.registered(site) as processes:
        await_effect(site, case, administrator)
        objects = {path: found for path in paths if (found := site.product.get(path)) is not None}
        admitted = answers(administrator)
    _judge(case, admitted)
    for document in objects.values():
        for key in _SERVERS_OWN:
            document["metadata"].pop(key, None)
    return Registration(case, objects, processes, admitted)


def _judge(case: Case, admitted: list[bool]) -> None:
    """Raise Spoiled for a wrong answer of our policy, or of an API server without a policy."""
    wrongly_admitted, refused = mistakes(admitted)
    say(f"{case.name}: {len(wrongly_admitted)} images admitted wrongly, {len(refused)} refused wrongly")
    if case.ours and (wrongly_admitted or refused):
        raise Spoiled(f"{case.name} wrongly admits {wrongly_admitted} and wrongly refuses {refused}")
    if not case.denies and not all(admitted):
        raise Spoiled("the API server itself refuses some of the images")


def play(
    site: Site, registered: Sequence[Registration], creators: Creators, count: int
) -> tuple[list[Round], int]:
    """Measure ``count`` rounds; return them and the number left out.

    Raises Spoiled, which names the round and the case, at the first unexpected answer or missed deadline. A
    round in which a client had to connect again is left out. Raises Reconnected if more than
    ``MOST_LEFT_OUT`` rounds are left out.
    """
    rounds: list[Round] = []
    left_out = 0
    with site.kubelet.looking_away():
        while len(rounds) < count:
            try:
                rounds.append(_round(site, registered, creators, len(rounds) + left_out))
            except Reconnected as problem:
                left_out += 1
                say(f"a round is left out: {problem}")
                if left_out > MOST_LEFT_OUT:
                    raise
    return rounds, left_out


def _round(site: Site, registered: Sequence[Registration], creators: Creators, number: int) -> Round:
    """Return one turn of each case, in an order that depends on the number of the round."""
    began = time.monotonic()
    order = Random(number).sample(registered, len(registered))
    found: dict[str, Turn] = {}
    for registration in order:
        try:
            _register(site, registration, registered)
            found[registration.case.name] = _creates(site, registration, creators)
        except Reconnected:
            raise
        except (Spoiled, TimeoutError) as problem:
            raise Spoiled(f"round {number + 1}, {registration.case.name}: {problem}") from problem
    rates = ", ".join(f"{name} {turn.per_second:.0f}/s" for name, turn in found.items())
    say(f"round {number + 1}: {rates}, {time.monotonic() - began:.0f} s")
    return {each.case.name: found[each.case.name] for each in registered}


def _register(site: Site, chosen: Registration, registered: Sequence[Registration]) -> None:
    """Put the chosen case into effect.

    First wait until no case is in effect, because the answers of some cases do not differ.
    """
    (nothing, *_) = (each for each in registered if not each.case.denies)
    with closing(Administrator(site.plane)) as administrator:
        for path in {path for each in registered for path in each.objects}:
            site.delete(path)
        await_effect(site, nothing.case, administrator)
        for path, document in chosen.objects.items():
            site.plane.api("POST", path.rpartition("/")[0], document)
        await_effect(site, chosen.case, administrator)


def _creates(site: Site, registration: Registration, creators: Creators) -> Turn:
    """Return the figures of dry-run creates. Compares the number of reviews with the expected one."""
    reviews = site.reviews()
    turn, sent = creators.run(lambda: site.sample(registration.processes))
    expect_reviews(site.reviews() - reviews, sent, registration.case.reviews)
    return turn


def outages(site: Site, registered: Sequence[Registration]) -> dict[str, tuple[bool, bool]]:
    """Return whether each case with a webhook admits approved and unlisted Pods while its processes are down.

    The processes are killed while the case is in effect, and start again afterwards.
    """
    return {each.case.name: _outage(site, each, registered) for each in registered if each.processes}


def _outage(site: Site, chosen: Registration, registered: Sequence[Registration]) -> tuple[bool, bool]:
    with site.kubelet.looking_away():
        _register(site, chosen, registered)
        if chosen.case.needs:
            peer_of(site, chosen.case.name).end()
        else:
            for server in site.product.servers():
                site.kubelet.crash(server)
        with closing(Administrator(site.plane)) as administrator:
            approved, refused = (administrator.create(body) in ADMITTED for body in (pod(), unlisted()))
    if chosen.case.needs:
        peer_of(site, chosen.case.name).run()
    else:
        replicas = len(chosen.processes)
        wait_until(lambda: _answering(site, replicas), seconds=SETTLE_SECONDS, what="the replicas again")
    return approved, refused


def _answering(site: Site, replicas: int) -> bool:
    """Return whether this many of our replicas run and answer."""
    try:
        site.reviews()
    except OSError:
        return False
    return len(site.servers()) == replicas == site.product.ready_replicas()


def expect_reviews(reviews: float, creates: int, each: float) -> None:
    """Raise Spoiled unless the creates led to about ``each`` reviews of our replicas per create."""
    expected = creates * each
    if abs(reviews - expected) > _REVIEWS_SPARE + _REVIEWS_SLACK * expected:
        raise Spoiled(
            f"{creates} creates led to {reviews:.0f} reviews of our replicas; expected were {expected:.0f}"
        )


def await_effect(site: Site, case: Case, administrator: Administrator) -> None:
    """Wait until probe Pods get the answers, and lead to the number of reviews, that the case expects.

    The API server applies configurations some time after they were written. It can apply the deletion of one
    even later than the creation of the next one. Raises Spoiled when the case is not in effect after 20 s.
    """
    deadline = time.monotonic() + _EFFECT_SECONDS
    while problem := _problem(site, case, administrator):
        if time.monotonic() > deadline:
            raise Spoiled(f"not in effect after {_EFFECT_SECONDS:g} s: {problem}")


def _problem(site: Site, case: Case, administrator: Administrator) -> str | None:
    """Return how the answers to a few probe Pods differ from the case, or ``None`` if they do not."""
    every = range(_PROBES)
    kinds = [
        ("unlisted", [unlisted()] * _PROBES, REFUSED if case.denies else ADMITTED, case.calls),
        ("pre-approved", [pod(index) for index in every], ADMITTED, case.reviews),
    ]
    if case.calls:
        kinds.append(("with-port", [pod(index, "with-port") for index in every], ADMITTED, case.calls))
    for kind, pods, statuses, each in kinds:
        before = site.reviews()
        for body in pods:
            status = administrator.create(body)
            if status not in statuses:
                return f"a Pod with an image that is {kind} is answered {status}: {administrator.answer}"
        found = site.reviews() - before
        # The controller's own reviews may add to the count, but no review of a probe can be missing.
        if not 0 <= found - each * _PROBES < _PROBES:
            return f"{_PROBES} Pods with an image that is {kind} led to {found:.0f} reviews"
    return None
