"""Compute medians, ratios and verdicts of a run, and format them as JSON and as a table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import machine
from benchmarks.churn.rounds import Sample

RESULTS = machine.ROOT / "benchmarks" / "results" / "latest"
"""The folder of results that are not committed."""

BASE = "none"

DOUBTFUL_CORES = 0.1
"""Results are doubtful when other programs keep more cores busy. A quiet machine stays below this number."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, lowest and highest value of a figure over the rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def as_json(self) -> dict[str, float]:
        return {"median": self.median, "min": self.least, "max": self.most}


Figures = Mapping[str, Mapping[str, Spread]]
"""By label (case and share), then by name."""


def figures(samples: Sequence[Sample]) -> dict[str, dict[str, Spread]]:
    """Return every figure over its rounds, and three in comparison with ``none`` of the same round.

    ``creates_ratio`` and ``pods_ratio`` divide the creates/s and the Pods/s to Running by those of none.
    ``added_mean_ms`` is how much longer one creator waits on average.
    """
    base = {sample.round: sample for sample in samples if sample.case == BASE}
    gathered: dict[str, dict[str, list[float]]] = {}
    for sample in samples:
        of_case = gathered.setdefault(sample.label, {})
        values = dict(sample.figures)
        if none := base.get(sample.round):
            values["creates_ratio"] = values["creates_per_second"] / none.figures["creates_per_second"]
            values["added_mean_ms"] = values["single_mean_ms"] - none.figures["single_mean_ms"]
            if "pods_per_second_up" in values:
                values["pods_ratio"] = values["pods_per_second_up"] / none.figures["pods_per_second_up"]
        for name, value in values.items():
            of_case.setdefault(name, []).append(value)
    return {
        label: {name: Spread.of(values) for name, values in of_case.items()}
        for label, of_case in gathered.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A bound on a measured value; ``value`` returns None when its case was not measured."""

    what: str
    bound: float
    at_least: bool
    value: Callable[[Figures], float | None]

    def judged(self, found: Figures) -> dict[str, Any]:
        """Return the target, the measured value, and the verdict ``met``, ``missed`` or ``not measured``."""
        value = self.value(found)
        if value is None:
            verdict = "not measured"
        else:
            met = value >= self.bound if self.at_least else value <= self.bound
            verdict = "met" if met else "missed"
        return {
            "what": self.what,
            "bound": self.bound,
            "at_least": self.at_least,
            "value": value,
            "verdict": verdict,
        }


def _median(label: str, name: str) -> Callable[[Figures], float | None]:
    return lambda found: found[label][name].median if label in found else None


def _times(above: str, below: str, name: str) -> Callable[[Figures], float | None]:
    def value(found: Figures) -> float | None:
        if above not in found or below not in found:
            return None
        return found[above][name].median / found[below][name].median

    return value


ENFORCE, TWO_CALLS = "enforce 50 %", "enforce-two-calls 50 %"
GATEKEEPER, PREAPPROVED = "gatekeeper 50 %", "fast-path 100 %"

TARGETS = (
    Target(
        what="enforce: webhook CPU per create, ms",
        bound=0.30,
        at_least=False,
        value=_median(ENFORCE, "webhook_cpu_ms"),
    ),
    Target(
        what="enforce: creates/s against none",
        bound=0.75,
        at_least=True,
        value=_median(ENFORCE, "creates_ratio"),
    ),
    Target(
        what="enforce: creates/s against those with the mutating webhook registered too",
        bound=1.4,
        at_least=True,
        value=_times(ENFORCE, TWO_CALLS, "creates_per_second"),
    ),
    Target(
        what="enforce: added mean at one creator, ms",
        bound=1.2,
        at_least=False,
        value=_median(ENFORCE, "added_mean_ms"),
    ),
    Target(
        what="Gatekeeper's webhook CPU per create against ours",
        bound=7,
        at_least=True,
        value=_times(GATEKEEPER, ENFORCE, "webhook_cpu_ms"),
    ),
    Target(
        what="enforce: creates/s against Gatekeeper's",
        bound=1.7,
        at_least=True,
        value=_times(ENFORCE, GATEKEEPER, "creates_per_second"),
    ),
    Target(
        what="fast path, all pre-approved: creates/s against none",
        bound=0.93,
        at_least=True,
        value=_median(PREAPPROVED, "creates_ratio"),
    ),
    Target(
        # Three idle replicas still spend CPU on metrics, watches and the lag timer.
        what="fast path, all pre-approved: webhook CPU per create, ms (0 but for idling)",
        bound=0.02,
        at_least=False,
        value=_median(PREAPPROVED, "webhook_cpu_ms"),
    ),
)


def judged(found: Figures) -> list[dict[str, Any]]:
    """Return every target with its verdict."""
    return [target.judged(found) for target in TARGETS]


COLUMNS = (
    ("creates/s", "creates_per_second", 0),
    ("of none", "creates_ratio", 2),
    ("p50 ms", "latency_p50_ms", 1),
    ("p99 ms", "latency_p99_ms", 1),
    ("API server ms", "apiserver_cpu_ms", 2),
    ("webhook ms", "webhook_cpu_ms", 3),
    ("reviews", "reviews_per_create", 2),
    ("one creator ms", "single_mean_ms", 2),
    ("added ms", "added_mean_ms", 2),
)
POD_COLUMNS = (
    ("Pods/s to Running", "pods_per_second_up", 0),
    ("of none", "pods_ratio", 2),
    ("Pods/s gone", "pods_per_second_down", 0),
    ("API server ms per Pod", "pod_apiserver_cpu_ms", 2),
    ("webhook ms per Pod", "pod_webhook_cpu_ms", 3),
)


def markdown(document: Mapping[str, Any], found: Figures) -> str:
    """Return the results as Markdown: medians, with the lowest and highest of the rounds."""
    plan, machine = document["plan"], document["machine"]
    pods = plan["replicas"] * document["deployments"]
    introduction = (
        f"{plan['rounds']} rounds of {plan['seconds']:g} s, {plan['clients']} creators of dry-run Pods of "
        f"{document['body_bytes']} bytes; {machine['cores']} cores of {machine['cpu']} for all processes; "
        f"Kubernetes {document['versions']['kubernetes']}, commit {document['commit']}. CPU is per create or "
        "Pod. The per cent after a case: Pods that hold only pre-approved images. "
        "Medians (least to most of the rounds)."
    )
    busy = max(each["others_cores"].median for each in found.values())
    doubt = (
        f"**Doubtful: other programs kept up to {busy:.2f} cores busy meanwhile.**"
        if busy > DOUBTFUL_CORES
        else f"Other programs kept at most {busy:.2f} cores busy meanwhile."
    )
    scaled = f"{pods} Pods of {document['deployments']} Deployments scaled up until all ran, then to none:"
    lines = [
        "# Through a real API server",
        "",
        introduction,
        "",
        doubt,
        "",
        *_table(found, COLUMNS),
        "",
        scaled,
        "",
        *_table({label: each for label, each in found.items() if "pods_per_second_up" in each}, POD_COLUMNS),
        "",
        "| target | bound | found | |",
        "|---|---|---|---|",
    ]
    for target in document["targets"]:
        sign = "≥" if target["at_least"] else "≤"
        value = "" if target["value"] is None else f"{target['value']:.2f}"
        lines.append(f"| {target['what']} | {sign} {target['bound']:g} | {value} | {target['verdict']} |")
    lines += ["", *(f"* Left out: {case}: {reason}." for case, reason in document["left_out"].items())]
    return "\n".join(lines).rstrip() + "\n"


def _table(found: Figures, columns: Sequence[tuple[str, str, int]]) -> list[str]:
    heads = [head for head, _, _ in columns]
    lines = ["| case | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for label, of_case in found.items():
        cells = [_cell(of_case.get(name), digits) for _, name, digits in columns]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return lines


def _cell(spread: Spread | None, digits: int) -> str:
    if spread is None:
        return ""
    return f"{spread.median:.{digits}f} ({spread.least:.{digits}f} to {spread.most:.{digits}f})"
