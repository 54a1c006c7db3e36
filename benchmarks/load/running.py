"""Run a scenario: every case on its server, in interleaved rounds."""

from __future__ import annotations

import sys
import time
from typing import Any, Final

from benchmarks.load.bench import Bench, summary
from benchmarks.load.cases import Case, Figures, Scenario, ServerSpec
from benchmarks.load.server import Server

COLLAPSED_MS: Final = 100.0
"""If the p99 of a case exceeds this, higher rates of its curve are left out."""


def run(scenario: Scenario, bench: Bench) -> dict[str, Any]:
    """Run the scenario; return summaries by case, and the figures derived from them.

    Raises ``WrongAnswer``, ``NotReady`` and ``GeneratorFailed``.
    """
    cases = scenario.cases(bench.scale.quick)
    servers: dict[ServerSpec, Server] = {}
    measured: dict[str, list[Figures]] = {case.name: [] for case in cases}
    collapsed: dict[str, float] = {}
    begun = time.monotonic()
    try:
        for number in range(max(_rounds(case, bench) for case in cases)):
            for case in cases:
                if number >= _rounds(case, bench):
                    continue
                if case.curve and case.load.rate > collapsed.get(case.curve, float("inf")):
                    continue
                if case.server not in servers:
                    servers[case.server] = bench.start(case.server)
                    scenario.check(servers[case.server])
                figures = bench.measure(case, servers[case.server])
                if case.alone:
                    servers.pop(case.server).end()
                measured[case.name].append(figures)
                say(f"{case.name}, round {number + 1}: {shown(figures)}")
                if case.curve and (figures["p99_ms"] > COLLAPSED_MS or figures["failed"]):
                    collapsed[case.curve] = case.load.rate
    finally:
        for server in servers.values():
            server.end()
    results = {case.name: _result(case, measured[case.name], bench) for case in cases if measured[case.name]}
    derived = scenario.derive(results)
    return {
        "title": scenario.title,
        "command": f"python -m benchmarks.load {'' if bench.scale.quick else '--full '}{scenario.key}",
        "seconds": round(time.monotonic() - begun, 1),
        "cases": results,
        "derived": derived,
        "direct": {} if scenario.extra is None else scenario.extra(bench.start),
    }


def _rounds(case: Case, bench: Bench) -> int:
    return case.rounds or bench.scale.rounds


def _result(case: Case, rounds: list[Figures], bench: Bench) -> Figures:
    load = case.load
    weights = sum(part.weight for part in load.parts)
    sizes = {part.body: bench.bodies.sizes[part.body] for part in load.parts}
    return {
        **summary(rounds),
        "server": case.server.name,
        "version": None if case.server.contestant is None else case.server.contestant.version,
        "rules": case.server.rules,
        "policy_mode": case.server.mode,
        "loop": "open" if load.is_open else "closed",
        "bodies": {part.body: {"bytes": sizes[part.body], "weight": part.weight} for part in load.parts},
        "body_bytes": sum(sizes[part.body] * part.weight for part in load.parts) / weights,
        "last": {
            name: value
            for name, value in rounds[-1].items()
            if name in {"timeline", "rss_samples", "errors", "by_body", "after", "goodput", "capacity"}
        },
        "each": [
            {name: each.get(name) for name in ("cpu_us", "p50_ms", "p99_ms", "others_share", "void")}
            for each in rounds
        ],
    }


def shown(figures: Figures) -> str:
    """Return one round as a line."""
    cost = figures["cpu_us"]
    text = (
        f"{figures['goodput']:,.0f}/s, {'no answer' if cost is None else f'{cost:.1f} us'} a review, "
        f"p50 {figures['p50_ms']:.2f} p99 {figures['p99_ms']:.2f} max {figures['max_ms']:.1f} ms, "
        f"server {figures['server_share']:.0%}, generator {figures['generator_share']:.0%}"
    )
    if figures["failed"] or figures["shed"]:
        text += f", {figures['failed']} failed {figures['errors']}, {figures['shed']} shed"
    if figures["others_share"] > 0.1:
        text += f", others {figures['others_share']:.0%}"
    return text + "".join(f"; VOID: {reason}" for reason in figures["void"])


def say(line: str) -> None:
    """Print progress on standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
