"""The targets of the load scenarios, and whether a run met them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

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


def _target(row: dict[str, Any]) -> Target:
    """Return the target of a row in ``targets.yaml``."""
    at_least = "least" in row
    bound = row.pop("least") if at_least else row.pop("most")
    scenario = row.pop("scenario", "") or row["case"].partition("/")[0]
    return Target(bound=bound, at_least=at_least, scenario=scenario, **row)


TARGETS: Final = tuple(
    map(_target, yaml.safe_load(Path(__file__).with_name("targets.yaml").read_text(encoding="utf-8")))
)


def verdicts(scenarios: Scenarios) -> list[dict[str, Any]]:
    """Return the verdict on every target whose scenario was run."""
    return [target.verdict(scenarios) for target in TARGETS if target.scenario in scenarios]
