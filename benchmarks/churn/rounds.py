"""Measure the cases in rounds on one control plane; each round measures every case once.

A machine's speed drifts within minutes. Therefore a case is compared with ``none`` of the same round, is
measured in several rounds, and each round begins with a different case.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.churn import scaling
from benchmarks.churn.approval import DENIED_IMAGE
from benchmarks.churn.cases import Case, Stage
from benchmarks.churn.creating import Creation, Creators, Spoiled, write_bodies
from benchmarks.churn.pods import Sidecar, bodies, pod
from benchmarks.churn.site import CreateProbe
from benchmarks.goprogram import BuildError
from tools.controlplane.build import BuildError as NoControlPlane
from tools.controlplane.plane import ControlPlaneError

_EFFECT_SECONDS = 20.0
_PROBES = 6

# The controller sends reviews of its own, and the replicas are not scraped at the same instant.
_REVIEWS_SPARE = 30
_REVIEWS_SLACK = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The number of rounds and the size of the loads; seconds are those of one load.

    With ``every_share``, a case is measured with all of its shares, otherwise only with the first and the
    last.
    """

    rounds: int
    seconds: float
    single_seconds: float
    warm_up: float
    replicas: int
    every_share: bool
    clients: int = 16

    def shares(self, case: Case) -> list[int]:
        """Return the shares to measure a case with, in their order."""
        if self.every_share:
            return list(case.shares)
        return list(dict.fromkeys((case.shares[0], case.shares[-1])))


Files = Mapping[tuple[int, Sidecar], Path]
"""The file of bodies for a load, by share of pre-approved Pods and kind of the other Pods' sidecar."""

QUICK = Plan(rounds=3, seconds=3, single_seconds=1.5, warm_up=0.7, replicas=40, every_share=False)
FULL = Plan(rounds=5, seconds=7, single_seconds=4, warm_up=1, replicas=75, every_share=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The figures of one case in one round, by name; units are in the names."""

    round: int
    case: str
    share: int
    figures: Mapping[str, float]

    @property
    def label(self) -> str:
        return f"{self.case} {self.share} %"


def play(stage: Stage, cases: Sequence[Case], plan: Plan, creators: Creators, folder: Path) -> list[Sample]:
    """Measure every case in every round, and return the figures. Each round begins with a different case.

    At the first unexpected answer or missed deadline, raises Spoiled with the round and the case.
    """
    files = {
        (share, other): write_bodies(folder / f"pods-{share}-{other}.jsonl", bodies(share, other))
        for share, other in {(share, case.other) for case in cases for share in plan.shares(case)}
    }
    scaling.prepare(stage.site.plane)
    samples = []
    for number in range(1, plan.rounds + 1):
        first = (number - 1) % len(cases)
        for case in (*cases[first:], *cases[:first]):
            began = time.monotonic()
            try:
                samples += _case(stage, case, number, plan, creators, files)
            except (Spoiled, TimeoutError) as problem:
                raise Spoiled(f"round {number}, {case.name}: {problem}") from problem
            say(f"round {number}/{plan.rounds}, {case.name}: {time.monotonic() - began:.0f} s")
    return samples


def _case(
    stage: Stage,
    case: Case,
    number: int,
    plan: Plan,
    creators: Creators,
    files: Files,
) -> list[Sample]:
    samples = []
    with case.registered(stage) as processes:
        await_effect(stage, case)

        def cpu() -> Mapping[str, float]:
            return stage.site.cpu(processes)

        with stage.site.kubelet.looking_away():
            for share in plan.shares(case):
                figures = _creates(stage, case, share, plan, creators, files[share, case.other], cpu)
                if share == case.shares[-1]:
                    figures |= _scaled(plan, stage, cpu)
                samples.append(Sample(round=number, case=case.name, share=share, figures=figures))
                say(
                    f"    {case.name} {share} %: {figures['creates_per_second']:.0f}/s, one creator "
                    f"{figures['single_mean_ms']:.2f} ms, webhook {figures['webhook_cpu_ms']:.3f} ms"
                )
        await_effect(stage, case)  # check that it was in effect until the end
    return samples


def _creates(
    stage: Stage,
    case: Case,
    share: int,
    plan: Plan,
    creators: Creators,
    file: Path,
    cpu: Callable[[], Mapping[str, float]],
) -> dict[str, float]:
    reviews = stage.site.reviews()
    run = partial(creators.run, file, warm_up=plan.warm_up, holds=case.holds, warnings=case.warnings, cpu=cpu)
    many = run(clients=plan.clients, seconds=plan.seconds)
    reviews = stage.site.reviews() - reviews
    expect_reviews(reviews, many.sent, case.reviews(share))
    one = run(clients=1, seconds=plan.single_seconds)
    return {
        "creates_per_second": many.per_second,
        "latency_p50_ms": many.latency_ms["p50"],
        "latency_p99_ms": many.latency_ms["p99"],
        "apiserver_cpu_ms": many.cpu_ms("apiserver"),
        "webhook_cpu_ms": many.cpu_ms("webhook"),
        "etcd_cpu_ms": many.cpu_ms("etcd"),
        "others_cores": others(many),
        "creator_cpu_ms": many.creator_cpu / many.creates * 1000,
        "reviews_per_create": reviews / many.sent,
        "single_mean_ms": one.latency_ms["mean"],
        "single_p50_ms": one.latency_ms["p50"],
        "single_p99_ms": one.latency_ms["p99"],
    }


def _scaled(plan: Plan, stage: Stage, cpu: Callable[[], Mapping[str, float]]) -> dict[str, float]:
    found = scaling.scale(stage.site.plane, replicas=plan.replicas, cpu=cpu)
    return {
        "pods_per_second_up": found.pods / found.up_seconds,
        "pods_per_second_down": found.pods / found.down_seconds,
        "pod_apiserver_cpu_ms": found.cpu_ms("apiserver"),
        "pod_webhook_cpu_ms": found.cpu_ms("webhook"),
    }


def others(load: Creation) -> float:
    """Return the number of cores that other programs kept busy. Such programs make the figures doubtful."""
    return (load.cpu["machine"] - load.cpu["all_ours"] - load.creator_cpu) / load.seconds


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
    probe = CreateProbe(stage.site.plane)
    deadline = time.monotonic() + _EFFECT_SECONDS
    try:
        while problem := _problem(stage, case, probe):
            if time.monotonic() > deadline:
                raise Spoiled(f"not in effect after {_EFFECT_SECONDS:g} s: {problem}")
    finally:
        probe.close()


def _unlisted() -> dict[str, Any]:
    """Return a Pod of which one image is unlisted."""
    denied = pod(0, "pre-approved")
    denied["spec"]["containers"][2]["image"] = DENIED_IMAGE
    return denied


def _problem(stage: Stage, case: Case, probe: CreateProbe) -> str | None:
    """Return how the answers to a few probe Pods differ from the case, or ``None`` if they do not.

    Most cases differ from one another in an answer or in the number of reviews.
    """
    kinds = (
        ("unlisted", [_unlisted()] * _PROBES, {403, 422} if case.denies else {201}, case.unlisted_reviews),
        (
            "pre-approved",
            [pod(index, "pre-approved") for index in range(_PROBES)],
            {201},
            case.preapproved_reviews,
        ),
        (case.other, [pod(index, case.other) for index in range(_PROBES)], {201}, case.other_reviews),
    )
    for kind, pods, statuses, each in kinds:
        before = stage.site.reviews()
        for body in pods:
            status = probe.create(body)
            if status not in statuses:
                return f"a Pod with an image that is {kind} is answered {status}"
        found = stage.site.reviews() - before
        # The controller's own reviews may add to the count, but no review of a probe can be missing.
        if not 0 <= found - each * _PROBES < _PROBES:
            return f"{_PROBES} Pods with an image that is {kind} led to {found:.0f} reviews"
    return None


def or_say_why(measure: Callable[[], int]) -> int:
    """Return the exit status of a run. If the run fails or is spoiled, print why in a line and return 1."""
    try:
        return measure()
    except (BuildError, NoControlPlane, ControlPlaneError, TimeoutError) as problem:
        say(f"error: {problem}")
    except Spoiled as problem:
        say(f"SPOILED, no results: {problem}")
    return 1


def say(line: str) -> None:
    """Print progress on standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
