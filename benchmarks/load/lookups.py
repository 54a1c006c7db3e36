"""S14: the cost of look-ups in registries, and the effect of a bad registry on reviews without look-ups.

S15: the same for the signature of one new image that a thousand Pods use at once.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from benchmarks.load.bench import REGISTRY_CA, RUN
from benchmarks.load.cases import ALLOWED, Case, Figures, Images, Load, Part, ServerSpec, median, one
from benchmarks.load.registry import DOWN, FAST, HANGING, SERVICES, SIGNED, SLOW
from benchmarks.policies import FIRST

IMAGES_OF_A_POD: Final = 3
"""The number of images in the bodies ``pod-2k`` and ``pod-7k``."""

KNOWN: Final = 300
"""Different images, few enough that all of them are known after the warm-up."""

RATE: Final = 2000
ASKING_RATE: Final = 200
"""Reviews a second that each have three new images to look up."""

BESIDE: Final = 20
"""Reviews a second with look-ups, in addition to ``RATE`` without. Their look-ups have to fit into 20
connections even if each takes 200 ms."""

HANG_SECONDS: Final = 5.0
"""The first requests to a hanging registry are given up after 5 s, which opens the breaker. Reviews wait only
until then, so this is the length of the cases with a hanging registry."""

ALWAYS: Final = "rate: 1000, ttlFound: 30m"
"""Settings of a registry that do not limit the look-ups of these cases."""

UNUSED: Final = ("S14/saturated, no look-ups", "S14/saturated, a rule that never matches")
FRESH: Final = "S14/saturated, facts fresh"
ASKING: Final = ("S14/200/s of new images, no look-ups", "S14/200/s of new images, looked up")
REGISTRY: Final = "S14/2,000/s beside 20/s"
"""Names of cases. The names of four cases begin with ``REGISTRY`` and end with the state of the registry."""

PODS: Final = "S15/1,000 Pods of a signed image beside 1,000/s"
STATES: Final = dict(zip(("registry fast", "slow", "hanging", "down"), SERVICES, strict=True))
PODS_RATE: Final = 500

NONE: Final = ServerSpec()
KEPT: Final = Images(FIRST, count=KNOWN, zipf=0.0)
NEW: Final = Images(f"registry.corp.example/shop/app-%d:{RUN}", fresh_share=1.0)


def _verified(service: str, settings: str = ALWAYS) -> ServerSpec:
    return ServerSpec(verified=service, registry=f"ca: {REGISTRY_CA}, {settings}")


def _new(service: str) -> Images:
    return Images(f"{service}/shop/app-%d:{RUN}", fresh_share=1.0)


def _beside(images: Images, seconds: float = 3.0, rate: int = RATE, beside: int = BESIDE) -> Load:
    """Return a load of ``rate`` reviews a second without look-ups, and ``beside`` a second of new images."""
    parts = (
        Part("approved-7k", ALLOWED, float(rate), label="without"),
        Part("pod-2k", ALLOWED, float(beside), label="with"),
    )
    return Load(parts, images=images, rate=rate + beside, seconds=seconds)


def signed_cases(quick: bool) -> list[Case]:  # noqa: FBT001
    """Return a case for each state of the registry. Each round has a new server, which verified nothing."""
    servers = {state: replace(_verified(service), signed=True) for state, service in STATES.items()}
    images = {state: Images(service + SIGNED["image"], count=1) for state, service in STATES.items()}
    fast, after = "registry fast", "registry fast, after its Deployment"
    servers[after], images[after] = replace(servers[fast], announced=True), images[fast]
    return [
        Case(
            f"{PODS}, {state}",
            replace(_beside(images.get(state, NEW), 2.0, 2 * PODS_RATE, PODS_RATE), warmup=0.0),
            servers.get(state, NONE),
            rounds=2 if quick else 5,
            alone=True,
        )
        for state in ("no look-ups", *servers)
    ]


def cases(quick: bool) -> list[Case]:  # noqa: FBT001 - the one argument of all scenarios
    """Return closed loops for the cost of the hot path, and open loops for look-ups and their effects."""
    fast = _verified(FAST)
    pairs = 7 if quick else 11
    return [
        Case(UNUSED[0], one("pod-7k", images=KEPT), NONE, pairs),
        Case(UNUSED[1], one("pod-7k", images=KEPT), fast, pairs),
        Case(FRESH, one("pod-7k", images=Images(f"{FAST}/shop/app-%d:1.0", KNOWN, 0.0)), fast, pairs),
        Case(ASKING[0], one("pod-7k", images=NEW, rate=ASKING_RATE)),
        Case(ASKING[1], one("pod-7k", images=_new(FAST), rate=ASKING_RATE), fast),
        Case(f"{REGISTRY}, no look-ups", _beside(NEW)),
        Case(f"{REGISTRY}, registry slow", _beside(_new(SLOW)), _verified(SLOW)),
        Case(f"{REGISTRY}, registry down", _beside(_new(DOWN)), _verified(DOWN)),
        Case(
            f"{REGISTRY}, registry hangs",
            _beside(_new(HANGING), HANG_SECONDS),
            _verified(HANGING),
            rounds=2 if quick else 3,
            alone=True,
        ),
    ]


def figures(found: Mapping[str, Figures]) -> dict[str, Any]:
    """Return differences between cases; for the saturated ones, medians over pairs of adjacent rounds."""
    derived: dict[str, Any] = {}
    none, unused, fresh = (_rounds(found, name) for name in (*UNUSED, FRESH))
    ratios = [after / before for before, after in _pairs(none, unused)]
    fresh_us = [(after - before) / IMAGES_OF_A_POD for before, after in _pairs(unused, fresh)]
    if ratios:
        derived["never_matching_rule_over_none"] = statistics.median(ratios)
    if fresh_us:
        derived["fresh_fact_us"] = statistics.median(fresh_us)
    before, after = (median(found, name, "own_cpu_us") for name in ASKING)
    if before is not None and after is not None:
        derived["lookup_cpu_ms"] = (after - before) / IMAGES_OF_A_POD / 1000
    base = median(found, f"{REGISTRY}, no look-ups", "p99_without_ms")
    for state in ("slow", "down", "hangs"):
        p99 = median(found, f"{REGISTRY}, registry {state}", "p99_without_ms")
        if p99 is not None and base is not None:
            derived[f"p99_moved_by_ms_registry_{state}"] = p99 - base
    failed = [case["figures"]["failed"]["max"] for case in found.values() if "failed" in case["figures"]]
    return {**derived, "reviews_failed": sum(failed)}


def _rounds(found: Mapping[str, Figures], case: str) -> list[Figures]:
    rounds: list[Figures] = found.get(case, {}).get("each", [])
    return rounds


def _pairs(first: list[Figures], second: list[Figures]) -> list[tuple[float, float]]:
    """Return the costs in µs of rounds with the same number. Void pairs count only if all pairs are void."""
    pairs = list(zip(first, second, strict=False))
    valid = [(a, b) for a, b in pairs if not a["void"] and not b["void"]]
    return [(a["cpu_us"], b["cpu_us"]) for a, b in valid or pairs]
