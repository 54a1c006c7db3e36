"""The targets of the load scenarios, and whether a run met them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.load.lookups import ASKING_RATE, BESIDE, RATE

Scenarios = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on one figure: of ``case`` if one is named, otherwise a derived figure of the scenario."""

    what: str
    scenario: str
    figure: str
    bound: float
    case: str = ""
    at_least: bool = False
    unit: str = ""
    rests_on: str = ""
    """The prefix of the names of the cases from which a figure is derived. Empty for all cases."""

    def verdict(self, scenarios: Scenarios) -> dict[str, Any]:
        """Return the target, the measured value, and the verdict: met, missed, void or not run."""
        value, void = self._measured(scenarios)
        sign = "≥" if self.at_least else "≤"
        if value is None:
            verdict = "not run"
        else:
            met = value >= self.bound if self.at_least else value <= self.bound
            verdict = "met" if met else "missed"
            upper = not self.at_least or self.unit == "/s"  # latencies, failures, the knee
            if void and not (met and upper and all(map(only_adds, void))):
                verdict = "void"
        return {
            "what": self.what,
            "target": f"{sign} {self.bound:g} {self.unit}".strip(),
            "measured": "-" if value is None else f"{value:.4g} {self.unit}".strip(),
            "value": value,
            "verdict": verdict,
            "why": void,
        }

    def _measured(self, scenarios: Scenarios) -> tuple[float | None, list[str]]:
        scenario = scenarios.get(self.scenario)
        if scenario is None:
            return None, []
        if self.case:
            case = scenario["cases"].get(self.case)
            found = None if case is None else case["figures"].get(self.figure)
            return (None, []) if found is None else (found["median"], case["void"])
        cases = [case for name, case in scenario["cases"].items() if name.startswith(self.rests_on)]
        void = sorted({reason for case in cases for reason in case["void"]})
        if self.figure in scenario["direct"]:
            return scenario["direct"][self.figure], []
        return scenario["derived"].get(self.figure), void


def only_adds(reason: str) -> bool:
    """Return whether the reason why a round is void can only have made its latencies longer.

    Latencies count from the scheduled time, so they include the delay of a late generator. If a latency or
    the knee meets its bound even then, the bound is met.
    """
    return reason.startswith("the generator was")


def _case(what: str, case: str, figure: str, bound: float, unit: str = "", **options: Any) -> Target:
    return Target(what, case.partition("/")[0], figure, bound, case=case, unit=unit, **options)


_MANY: Final = "S8/100000 rules"
_BESIDE: Final = f"S14/{RATE:,}/s beside {BESIDE}/s"

TARGETS: Final = (
    _case("CPU per review at saturation, 2 KB", "S5/pod-2k", "cpu_us", 55, "µs"),
    _case("CPU per review at saturation, 7 KB", "S5/pod-7k", "cpu_us", 70, "µs"),
    _case("CPU per review at saturation, 33 KB", "S5/pod-33k", "cpu_us", 130, "µs"),
    Target("workloads, updates and ephemeral containers over a Pod of 7 KB", "S5", "shape_over_pod", 1.3),
    Target("CPU per KB of the body, up to 1 MB", "S5", "us_per_kb", 3.5, unit="µs"),
    Target(
        "times cheaper than controller-runtime, 7 KB", "S11", "controller-runtime/pod-7k", 5, at_least=True
    ),
    Target("times cheaper than OPA, 7 KB", "S11", "OPA/pod-7k", 8, at_least=True),
    Target("times cheaper than hand-tuned Go, 7 KB", "S11", "net/http/pod-7k", 1.35, at_least=True),
    _case("p99 at 2,000/s, 7 KB", "S1/allow/2000", "p99_ms", 1.5, "ms"),
    _case("p99.9 at 2,000/s, 7 KB", "S1/allow/2000", "p999_ms", 10, "ms"),
    _case("dials at 2,000/s", "S1/allow/2000", "dials", 25),
    _case("p99 at 2,000/s, 33 KB mixed in", "S1/mixed/2000", "p99_ms", 5, "ms"),
    Target(
        "knee: rate with p99 < 5 ms",
        "S1",
        "knee_allow",
        10_000,
        at_least=True,
        unit="/s",
        rests_on="S1/allow/",
    ),
    Target("deny over allow", "S1", "deny_over_allow", 1.5, rests_on="S1/deny/closed"),
    Target("warn over allow", "S1", "warn_over_allow", 1.5, rests_on="S1/warn/closed"),
    Target("mutate over allow", "S1", "mutate_over_allow", 1.5, rests_on="S1/mutate/closed"),
    Target("100,000 rules over 10, first rule", "S6", "first_100000_over_10", 1.1),
    Target("100,000 rules over 10, last rule", "S6", "last_100000_over_10", 1.1),
    Target("100,000 rules over 10, no rule", "S6", "miss_100000_over_10", 1.1),
    _case("100,000 rules live after", _MANY, "live_seconds", 5, "s"),
    _case("longest review meanwhile", _MANY, "max_ms", 25, "ms"),
    Target("RSS plateau with images never seen", "S7", "rss_plateau_mib", 150, unit="MiB"),
    Target("longest pause with images never seen", "S7", "longest_pause_ms", 25, unit="ms"),
    _case("failed reviews, a policy each 2 s", "S8/each 2 s", "failed", 0),
    _case("p99.9, a policy each 2 s", "S8/each 2 s", "p999_ms", 25, "ms"),
    _case("answers of a superseded policy", "S8/each 2 s", "stale", 0),
    _case("1,000 new connections served in", "S4/storm p256", "storm_served_seconds", 2, "s"),
    _case("1,000 new connections not served", "S4/storm p256", "storm_failed", 0),
    _case("p99 of the established meanwhile", "S4/storm p256", "p99_ms", 50, "ms"),
    _case("failed reviews, 300 ms stall", "S4/stall", "failed", 0),
    _case("longest review, 300 ms stall", "S4/stall", "max_ms", 2300, "ms"),
    Target(
        "goodput at 150 %, over the closed loop's",
        "S9",
        "goodput_over_capacity",
        0.9,
        at_least=True,
        rests_on="S9/150 %",
    ),
    Target("recovered after", "S9", "recovered_after_seconds", 1, unit="s", rests_on="S9/150 %"),
    Target("worst probe beside hostile bodies", "S13", "worst_probe_ms", 250, unit="ms"),
    Target("probes that failed beside hostile bodies", "S13", "probes_failed", 0),
    Target("RSS growth by hostile bodies", "S13", "rss_growth_mib", 100, unit="MiB"),
    Target(
        "policy with look-ups over none, where no image needs one",
        "S14",
        "never_matching_rule_over_none",
        1.02,
        rests_on="S14/saturated",
    ),
    Target(
        "CPU of a look-up in the server itself",
        "S14",
        "lookup_cpu_ms",
        0.35,
        unit="ms",
        rests_on=f"S14/{ASKING_RATE}/s of new",
    ),
    _case("p99 at 2,000/s, registry hangs", f"{_BESIDE}, registry hangs", "p99_without_ms", 1.5, "ms"),
    *(
        Target(
            f"p99 of reviews without look-ups moves by, registry {name}",
            "S14",
            f"p99_moved_by_ms_registry_{name}",
            0.5,
            unit="ms",
            rests_on=_BESIDE,
        )
        for name in ("slow", "down", "hangs")
    ),
    _case(
        "p99 of reviews with look-ups, registry hangs",
        f"{_BESIDE}, registry hangs",
        "p99_with_ms",
        1050,
        "ms",
    ),
    Target("failed reviews with look-ups", "S14", "reviews_failed", 0, rests_on=f"S14/{RATE:,}/s"),
    Target("RSS idle, policy from a file", "S4", "idle_rss_mib", 60, unit="MiB"),
    Target("RSS per TLS connection", "S4", "connection_mib", 0.35, unit="MiB"),
)


def verdicts(scenarios: Scenarios) -> list[dict[str, Any]]:
    """Return the verdict on every target whose scenario was run."""
    return [target.verdict(scenarios) for target in TARGETS if target.scenario in scenarios]
