"""S14: the cost of look-ups in registries, and the effect of a bad registry on reviews without look-ups."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any, Final

from benchmarks.load.bench import REGISTRY_CA, RUN
from benchmarks.load.cases import ALLOWED, DENIED, Case, Figures, Images, Load, Part, ServerSpec, median, one
from benchmarks.load.registry import DOWN, FAST, HANGING, SLOW
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

FLOOD: Final = 200
"""Used instead of ``BESIDE`` where more than 100 reviews are to wait for a registry that hangs."""

HANG_SECONDS: Final = 5.0
"""The first requests to a hanging registry are given up after 5 s, which opens the breaker. Reviews wait only
until then, so this is the length of the cases with a hanging registry."""

ALWAYS: Final = "rate: 1000, ttlFound: 30m"
"""Settings of a registry that do not limit the look-ups of these cases."""

NONE: Final = ServerSpec()
KEPT: Final = Images(FIRST, count=KNOWN, zipf=0.0)
NEW: Final = Images(f"registry.corp.example/shop/app-%d:{RUN}", fresh_share=1.0)


def _verified(service: str, settings: str = ALWAYS) -> ServerSpec:
    return ServerSpec(verified=service, registry=f"ca: {REGISTRY_CA}, {settings}")


def _known(service: str, count: int = KNOWN) -> Images:
    return Images(f"{service}/shop/app-%d:1.0", count=count, zipf=0.0)


def _new(service: str, folder: str = "shop") -> Images:
    return Images(f"{service}/{folder}/app-%d:{RUN}", fresh_share=1.0)


def _beside(images: Images, asking: int = BESIDE, seconds: float = 3.0) -> Load:
    """Return a load of ``RATE`` reviews a second without look-ups, and ``asking`` a second of new images."""
    parts = (
        Part("approved-7k", ALLOWED, float(RATE), label="without"),
        Part("pod-2k", ALLOWED, float(asking), label="with"),
    )
    return Load(parts, images=images, rate=RATE + asking, seconds=seconds)


def cases(quick: bool) -> list[Case]:  # noqa: FBT001 - the one argument of all scenarios
    """Return closed loops for the cost of the hot path, and open loops for look-ups and their effects."""
    fast = _verified(FAST)
    renewed = _verified(FAST, "rate: 1000, ttlFound: 1s")
    # 200 images expire each second, and only 100 can be renewed, so half of the facts are too old when used.
    stale = _verified(FAST, "rate: 100, ttlFound: 1s")
    pairs = 7 if quick else 11
    hangs = 2 if quick else 3
    return [
        Case("S14/saturated, no look-ups", one("pod-7k", images=KEPT), NONE, pairs),
        Case("S14/saturated, a rule that never matches", one("pod-7k", images=KEPT), fast, pairs),
        Case("S14/saturated, facts fresh", one("pod-7k", images=_known(FAST)), fast, pairs),
        Case(f"S14/{RATE:,}/s, no look-ups", one("pod-7k", images=KEPT, rate=RATE)),
        Case(f"S14/{RATE:,}/s, facts fresh", one("pod-7k", images=_known(FAST), rate=RATE), fast),
        Case(f"S14/{RATE:,}/s, facts renewed", one("pod-7k", images=_known(FAST), rate=RATE), renewed),
        Case(
            f"S14/{RATE:,}/s, half of the facts stale",
            one("pod-7k", images=_known(FAST, 200), rate=RATE, warmup=4.0),
            stale,
        ),
        Case(f"S14/{ASKING_RATE}/s of new images, no look-ups", one("pod-7k", images=NEW, rate=ASKING_RATE)),
        Case(
            f"S14/{ASKING_RATE}/s of new images, looked up",
            one("pod-7k", images=_new(FAST), rate=ASKING_RATE),
            fast,
        ),
        Case(
            f"S14/{ASKING_RATE}/s of new images, absent",
            one("pod-7k", DENIED, images=_new(FAST, "absent"), rate=ASKING_RATE),
            fast,
        ),
        Case(f"S14/{RATE:,}/s beside {BESIDE}/s, no look-ups", _beside(NEW)),
        Case(f"S14/{RATE:,}/s beside {BESIDE}/s, registry fast", _beside(_new(FAST)), fast),
        Case(f"S14/{RATE:,}/s beside {BESIDE}/s, registry slow", _beside(_new(SLOW)), _verified(SLOW)),
        Case(f"S14/{RATE:,}/s beside {BESIDE}/s, registry down", _beside(_new(DOWN)), _verified(DOWN)),
        Case(
            f"S14/{RATE:,}/s beside {BESIDE}/s, registry hangs", _beside(_new(HANGING), seconds=HANG_SECONDS),
            _verified(HANGING),
            hangs, alone=True, timeline=True,
        ),
        Case(
            f"S14/{RATE:,}/s beside {FLOOD}/s, registry hangs", _beside(_new(HANGING), FLOOD, HANG_SECONDS),
            _verified(HANGING), hangs, alone=True, timeline=True,
        ),
    ]  # fmt: skip


def figures(found: Mapping[str, Figures]) -> dict[str, Any]:
    """Return differences between cases; for the saturated ones, medians over pairs of adjacent rounds."""
    derived: dict[str, Any] = {}
    none = _rounds(found, "S14/saturated, no look-ups")
    unused = _rounds(found, "S14/saturated, a rule that never matches")
    fresh = _rounds(found, "S14/saturated, facts fresh")
    ratios = [after / before for before, after in _pairs(none, unused)]
    fresh_us = [(after - before) / IMAGES_OF_A_POD for before, after in _pairs(unused, fresh)]
    if ratios:
        derived["never_matching_rule_over_none"] = statistics.median(ratios)
    if fresh_us:
        derived["fresh_fact_us"] = statistics.median(fresh_us)
    asking = f"S14/{ASKING_RATE}/s of new images"
    for name, figure in (("lookup_cpu_ms", "own_cpu_us"), ("lookup_cpu_ms_with_registry_process", "cpu_us")):
        before, after = (median(found, f"{asking}, {how}", figure) for how in ("no look-ups", "looked up"))
        if before is not None and after is not None:
            derived[name] = (after - before) / IMAGES_OF_A_POD / 1000
    beside = f"S14/{RATE:,}/s beside {BESIDE}/s"
    base = median(found, f"{beside}, no look-ups", "p99_without_ms")
    for name, case in (
        ("slow", f"{beside}, registry slow"),
        ("down", f"{beside}, registry down"),
        ("hangs", f"{beside}, registry hangs"),
        ("hangs_flood", f"S14/{RATE:,}/s beside {FLOOD}/s, registry hangs"),
    ):
        p99 = median(found, case, "p99_without_ms")
        if p99 is not None and base is not None:
            derived[f"p99_moved_by_ms_registry_{name}"] = p99 - base
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
