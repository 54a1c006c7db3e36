"""The scenarios S1 to S9, S11, S14 and S15. S10 is ``benchmarks.soak``, and S12 is ``benchmarks.cluster``."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping
from typing import Any, Final

from benchmarks.load import lookups, steps
from benchmarks.load.bench import WrongAnswer
from benchmarks.load.cases import (
    ALLOWED,
    CONNECTIONS,
    DENIED,
    GATEKEEPER_PY,
    MODES,
    Case,
    Figures,
    Images,
    Load,
    Part,
    Scenario,
    ServerSpec,
    Verdict,
    idle_for,
    median,
    one,
)
from benchmarks.load.server import Server
from benchmarks.peers import corpus
from benchmarks.peers.roster import contestants
from benchmarks.policies import FIRST, LAST, UNLISTED

MANY_RULES: Final = 100_000
SIZES: Final = ("pod-2k", "pod-7k", "pod-33k", "pod-1m")
OTHER_SHAPES: Final = ("deployment-7k", "ephemeral-7k", "update-7k", "image-update-7k")
QUICK_RATES: Final = (1000, 2000, 4000, 6000, 8000, 10_000)
FULL_RATES: Final = (500, 1000, 2000, 4000, 6000, 8000, 9000, 10_000, 11_000, 12_000)


def _curves(quick: bool) -> list[Case]:  # noqa: FBT001 - the one argument of all of these
    cases = []
    for mode, (server, images, verdict, path) in MODES.items():
        cases.append(Case(f"S1/{mode}/closed", one("pod-7k", verdict, images=images, path=path), server))
        for rate in QUICK_RATES if quick else FULL_RATES:
            load = one("pod-7k", verdict, images=images, path=path, rate=rate, max_idle=idle_for(rate))
            cases.append(Case(f"S1/{mode}/{rate}", load, server, rounds=1 if quick else 3, curve=mode))
    mixed = Load(parts=(Part("pod-7k", weight=9.0), Part("pod-33k", weight=1.0)), rate=2000)
    cases.append(Case("S1/mixed/2000", mixed))
    return cases


def knee(figures: Mapping[str, Figures], mode: str, most_p99_ms: float = 5.0) -> float | None:
    """Return the highest rate up to which every rate has a p99 under the limit and loses no reviews.

    No reviews are lost if the goodput is at least 99 % of the rate. Return ``None`` if even the lowest rate
    misses, or if no rate was measured.
    """
    rates = sorted(
        (int(name.rpartition("/")[2]), name)
        for name in figures
        if name.startswith(f"S1/{mode}/") and name.rpartition("/")[2].isdigit()
    )
    highest = None
    for rate, name in rates:
        p99, goodput = median(figures, name, "p99_ms"), median(figures, name, "goodput")
        if p99 is None or goodput is None or p99 >= most_p99_ms or goodput < 0.99 * rate:
            break
        highest = float(rate)
    return highest


def _curve_figures(figures: Mapping[str, Figures]) -> dict[str, Any]:
    allow = median(figures, "S1/allow/closed")
    derived: dict[str, Any] = {f"knee_{mode}": knee(figures, mode) for mode in MODES}
    for mode in ("deny", "warn", "mutate"):
        cost = median(figures, f"S1/{mode}/closed")
        derived[f"{mode}_over_allow"] = cost / allow if cost and allow else None
    return derived


def _layers(_quick: bool) -> list[Case]:  # noqa: FBT001
    # Compares only answers of 200 and the cheapest 404, because other refusals have costs of their own.
    nothing = one("empty", Verdict(status=404), images=None, path="/nothing")
    plain = ServerSpec(plain=True)
    return [
        Case("S2/7 KB", one("pod-7k")),
        Case("S2/7 KB, no TLS", one("pod-7k"), plain),
        Case("S2/33 KB", one("pod-33k")),
        Case("S2/33 KB, no TLS", one("pod-33k"), plain),
        Case("S2/nothing", nothing),
        Case("S2/nothing, no TLS", nothing, plain),
        Case("S2/update, no image new", one("update-7k")),
        Case("S2/update, three images new", one("image-update-7k")),
    ]


def _layer_figures(figures: Mapping[str, Figures]) -> dict[str, Any]:
    """Return the microseconds that each layer spends on a 7 KB review; together they are the whole."""
    cost = {name: median(figures, f"S2/{name}") for name in (case.name[3:] for case in _layers(True))}
    if any(value is None for value in cost.values()):
        return {}
    us = {name: value or 0.0 for name, value in cost.items()}
    small, large = (figures[f"S2/{size}"]["body_bytes"] / 1000 for size in ("7 KB", "33 KB"))
    per_kb = (us["33 KB, no TLS"] - us["7 KB, no TLS"]) / (large - small)
    policy = us["update, three images new"] - us["update, no image new"]
    known = us["nothing, no TLS"] + per_kb * small + policy
    return {
        "tls_us": us["7 KB"] - us["7 KB, no TLS"],
        "http_us": us["nothing, no TLS"],
        "reading_and_decoding_us": per_kb * small,
        "policy_of_three_images_us": policy,
        "review_answer_metrics_us": us["7 KB, no TLS"] - known,
        "whole_us": us["7 KB"],
    }


def _cache(_quick: bool) -> list[Case]:  # noqa: FBT001
    def images(fresh_share: float) -> Images:
        return Images(FIRST, count=1000, zipf=0.0, fresh_share=fresh_share)

    return [
        Case("S3/hit 100 %", one("pod-7k", images=images(0.0))),
        Case("S3/hit 95 %", one("pod-7k", images=images(0.05))),
        Case("S3/hit 50 %", one("pod-7k", images=images(0.5))),
        Case("S3/hit 0 %", one("pod-7k", images=images(1.0))),
        Case("S3/off", one("pod-7k", images=images(0.0)), ServerSpec(options=("--cache-size", "0"))),
    ]


def _storms(quick: bool) -> list[Case]:  # noqa: FBT001
    roomy = ("--max-connections", "2000")
    rounds = 1 if quick else 3
    established = one("pod-7k", rate=1000, seconds=6.0)
    stalled = one("pod-7k", rate=2000, max_dials=0, seconds=6.0)
    rsa = ServerSpec(options=roomy, key="rsa")
    return [
        Case("S4/storm p256", established, ServerSpec(options=roomy), rounds, meanwhile=steps.storm),
        Case("S4/storm rsa", established, rsa, rounds, meanwhile=steps.storm),
        Case("S4/stall", stalled, rounds=rounds, meanwhile=steps.stall),
    ]


def _connections(start: Callable[[ServerSpec], Server]) -> dict[str, Any]:
    server = start(ServerSpec())
    try:
        return steps.memory_of_connections(server, 200)
    finally:
        server.end()


def _sizes(_quick: bool) -> list[Case]:  # noqa: FBT001
    bodies = (*SIZES, *OTHER_SHAPES)
    return [
        Case(f"S5/{body}", one(body, connections=4 if body == "pod-1m" else CONNECTIONS)) for body in bodies
    ]


def _size_figures(figures: Mapping[str, Figures]) -> dict[str, Any]:
    points = [
        (figures[f"S5/{body}"]["body_bytes"] / 1000, cost)
        for body in SIZES
        if (cost := median(figures, f"S5/{body}")) is not None
    ]
    if len(points) < 2:
        return {}
    slopes = {
        f"us_per_kb_{int(a[0])}_to_{int(b[0])}": (b[1] - a[1]) / (b[0] - a[0])
        for a, b in itertools.pairwise(points)
    }
    us_per_kb = (points[-1][1] - points[0][1]) / (points[-1][0] - points[0][0])
    return {**slopes, **_over_pod(figures), "us_per_kb": us_per_kb}


def _over_pod(figures: Mapping[str, Figures]) -> dict[str, float]:
    """Return the cost of each other shape over that of a Pod of the same size, and the highest ratio."""
    pod = median(figures, "S5/pod-7k")
    costs = {body: median(figures, f"S5/{body}") for body in OTHER_SHAPES}
    ratios = {f"{body}_over_pod": cost / pod for body, cost in costs.items() if pod and cost is not None}
    return {**ratios, "shape_over_pod": max(ratios.values())} if len(ratios) == len(OTHER_SHAPES) else ratios


def _rules(quick: bool) -> list[Case]:  # noqa: FBT001
    counts = (10, MANY_RULES) if quick else (10, 100, 1000, 10_000, MANY_RULES)
    places = (("first", FIRST, ALLOWED), ("last", LAST, ALLOWED), ("miss", UNLISTED, DENIED))
    return [
        # The images are always new, so that each one is decided and no decision comes from the cache.
        Case(
            f"S6/{count}/{place}",
            one("pod-7k", verdict, images=Images(form, fresh_share=1.0)),
            ServerSpec(rules=count),
        )
        for count in counts
        for place, form, verdict in places
    ]


def _rule_figures(figures: Mapping[str, Figures]) -> dict[str, Any]:
    derived = {}
    for place in ("first", "last", "miss"):
        few, many = median(figures, f"S6/10/{place}"), median(figures, f"S6/{MANY_RULES}/{place}")
        derived[f"{place}_{MANY_RULES}_over_10"] = many / few if many and few else None
    return derived


def _images(quick: bool) -> list[Case]:  # noqa: FBT001
    rate = 5000
    reviews = (100_000 if quick else 1_000_000) / 3
    load = one(
        "pod-2k", images=Images(fresh_share=1.0), rate=rate, seconds=reviews / rate, max_idle=idle_for(rate)
    )
    return [Case(f"S7/{'100,000' if quick else '1,000,000'} images", load, rounds=1)]


def _image_figures(figures: Mapping[str, Figures]) -> dict[str, Any]:
    derived: dict[str, Any] = {}
    for case in figures.values():
        samples = case["last"]["rss_samples"]
        third = samples[-len(samples) // 3 :]
        derived = {
            "rss_plateau_mib": max(rss for _, rss in third),
            "rss_growth_in_last_third_mib": third[-1][1] - third[0][1],
            "longest_pause_ms": case["figures"]["max_ms"]["median"],
        }
    return derived


def _reloads(quick: bool) -> list[Case]:  # noqa: FBT001
    every_two = one("pod-7k", share=0.7, max_idle=125, check_revisions=True, seconds=10.0 if quick else 30.0)
    many = one("pod-7k", rate=1000, seconds=14.0)
    loading = steps.compile_many(MANY_RULES)
    return [
        Case("S8/each 2 s", every_two, rounds=1, meanwhile=steps.rewrite),
        Case(f"S8/{MANY_RULES} rules", many, rounds=1, meanwhile=loading),
    ]


def _overload(quick: bool) -> list[Case]:  # noqa: FBT001
    # With smaller bodies, the generator would be overloaded instead of the server.
    load = one(
        "pod-33k", share=1.5, max_idle=125, max_dials=16, max_in_flight=2000,
        seconds=8.0 if quick else 30.0,
    )  # fmt: skip
    after = one("pod-33k", share=0.5, max_idle=125, seconds=4.0, warmup=0.0)
    denials = Load(
        parts=(Part("approved-7k", ALLOWED, 1.0), Part("refused-7k", DENIED, 10.0)),
        images=None, share=0.6, max_idle=125,
    )  # fmt: skip
    approvals = Load(parts=(Part("approved-7k", ALLOWED),), images=None, share=0.6, max_idle=125)
    return [
        Case("S9/150 %", load, rounds=1, after=after),
        Case("S9/approved only", approvals),
        Case("S9/ten denials to one", denials),
    ]


def _overload_figures(figures: Mapping[str, Figures]) -> dict[str, Any]:
    case = figures.get("S9/150 %")
    if case is None:
        return {}
    last = case["last"]
    slow = [at["second"] for at in last["after"]["timeline"] if at["failed"] or at["p99_ms"] > 25.0]
    return {
        "goodput_over_capacity": last["goodput"] / last["capacity"],
        "recovered_after_seconds": max(slow) + 1 if slow else 0,
    }


def _peers(_quick: bool) -> list[Case]:  # noqa: FBT001
    # Build the peers only for S11, because it takes minutes and needs Go and a second Python environment.
    servers = [ServerSpec()] + [ServerSpec(contestant=each, name=each.name) for each in contestants()]
    return [Case(f"S11/{server.name}/{body}", one(body), server) for body in SIZES[:3] for server in servers]


def _check_peer(server: Server) -> None:
    """Compare the answers of another server with the corpus of reviews. Raises ``WrongAnswer``."""
    if server.contestant.name == GATEKEEPER_PY:
        return  # a test compares the answers of its core with the corpus
    with contextlib.closing(server.connect()) as connection:
        wrong = corpus.problems(lambda body: server.ask(connection, body))
    if wrong:
        raise WrongAnswer(f"{server.contestant.name}: {'; '.join(wrong)}")


def _peer_figures(figures: Mapping[str, Figures]) -> dict[str, Any]:
    derived: dict[str, Any] = {}
    for name in figures:
        _, server, body = name.split("/", 1)[0], *name[len("S11/") :].rsplit("/", 1)
        mine, theirs = median(figures, f"S11/{GATEKEEPER_PY}/{body}"), median(figures, name)
        if server != GATEKEEPER_PY and mine and theirs:
            derived[f"{server}/{body}"] = theirs / mine
    return derived


SCENARIOS: Final = {
    scenario.key: scenario
    for scenario in (
        Scenario("S1", "latency over offered rate, by mode", _curves, _curve_figures),
        Scenario("S2", "where the CPU goes", _layers, _layer_figures),
        Scenario("S3", "decisions remembered", _cache),
        Scenario("S4", "handshake storms, a stall, connections", _storms, extra=_connections),
        Scenario("S5", "size of the body", _sizes, _size_figures),
        Scenario("S6", "number of rules", _rules, _rule_figures),
        Scenario("S7", "images never seen before", _images, _image_figures),
        Scenario("S8", "policies replaced under load", _reloads),
        Scenario("S9", "overload and denials", _overload, _overload_figures),
        Scenario("S11", "other servers with the same decision", _peers, _peer_figures, check=_check_peer),
        Scenario("S14", "look-ups in registries", lookups.cases, lookups.figures),
        Scenario("S15", "signatures", lookups.signed_cases),
    )
}
