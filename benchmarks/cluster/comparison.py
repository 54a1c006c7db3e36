"""Compare cases within rounds in which each case has a turn, and judge the targets."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.report import table

LEAST: Final = 6
"""The lowest number of rounds that gives a confidence interval."""

BUSY_CORES: Final = 0.1
"""A round is void when other programs keep more cores busy. A quiet machine stays below this number."""

BASE: Final = "none"

COLUMNS: Final = (
    "registered",
    "creates/s, no webhook = 1",
    "p50 ms",
    "p99 ms",
    "API server CPU added, ms",
    "webhook CPU, ms",
    "webhook MiB",
)


@dataclass(frozen=True, slots=True)
class Turn:
    """The figures of one turn of a case: CPU in milliseconds per create, memory of one process."""

    per_second: float
    p50_ms: float
    p99_ms: float
    apiserver_cpu_ms: float
    webhook_cpu_ms: float
    webhook_mib: float
    others_cores: float

    @classmethod
    def of(cls, result: Mapping[str, Any], before: Mapping[str, float], after: Mapping[str, float]) -> Turn:
        """Return the figures from the creator's result and the samples at its beginning and end."""
        count, seconds, latency = result["creates"], result["seconds"], result["latency_ms"]
        used = {group: after[group] - before[group] for group in after}
        return cls(
            per_second=count / seconds,
            p50_ms=latency["p50"],
            p99_ms=latency["p99"],
            apiserver_cpu_ms=used["apiserver"] / count * 1000,
            webhook_cpu_ms=used["webhook"] / count * 1000,
            webhook_mib=after["webhook_mib"],
            others_cores=(used["machine"] - used["all_ours"] - result["cpu_seconds"]) / seconds,
        )


Round = Mapping[str, Turn]
"""One turn of each case."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A figure over all rounds. In 95 of 100 such runs, the true median is between ``low`` and ``high``."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Comparison:
        """Return the comparison of one value per round. Raises ValueError for fewer than ``LEAST`` values."""
        if len(values) < LEAST:
            raise ValueError(f"{len(values)} rounds are too few")
        ordered = sorted(values)
        # The interval's ranks follow from a binomial distribution; this is its normal approximation.
        half = 1.96 * math.sqrt(len(ordered)) / 2
        low = max(math.floor(len(ordered) / 2 - half), 0)
        high = min(math.ceil(len(ordered) / 2 + half), len(ordered) - 1)
        return cls(statistics.median(ordered), ordered[low], ordered[high])

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}…{self.high:.2f})"


def ratio(case: str, base: str) -> Callable[[Round], float]:
    """Return a function that divides the rate of ``case`` by that of ``base`` in the same round."""
    return lambda turns: turns[case].per_second / turns[base].per_second


def added_ms(case: str) -> Callable[[Round], float]:
    """Return a function for the API server CPU per create, in ms, that a case adds to ``none``."""
    return lambda turns: turns[case].apiserver_cpu_ms - turns[BASE].apiserver_cpu_ms


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on the median of ``value``, which is computed from the turns of ``cases``."""

    what: str
    bound: float
    cases: frozenset[str]
    value: Callable[[Round], float]
    at_least: bool = True


TARGETS: Final = (
    Target("one call: creates/s over none", 0.75, frozenset({"enforce"}), ratio("enforce", BASE)),
    Target(
        "one call: webhook CPU per create, ms",
        0.30,
        frozenset({"enforce"}),
        lambda turns: turns["enforce"].webhook_cpu_ms,
        at_least=False,
    ),
    Target(
        "Gatekeeper's webhook CPU per create over ours",
        7,
        frozenset({"enforce", "gatekeeper"}),
        lambda turns: turns["gatekeeper"].webhook_cpu_ms / turns["enforce"].webhook_cpu_ms,
    ),
    Target(
        "a Kyverno ClusterPolicy's webhook CPU per create over ours",
        15,
        frozenset({"enforce", "kyverno-clusterpolicy"}),
        lambda turns: turns["kyverno-clusterpolicy"].webhook_cpu_ms / turns["enforce"].webhook_cpu_ms,
    ),
    Target("fast path: creates/s over none", 0.93, frozenset({"fast-path"}), ratio("fast-path", BASE)),
    Target(
        "fast path less the native policy, both over none",
        -0.01,
        frozenset({"fast-path", "native"}),
        lambda turns: ratio("fast-path", BASE)(turns) - ratio("native", BASE)(turns),
    ),
)


def is_void(turns: Round) -> bool:
    """Return whether other programs were busy in one of the turns."""
    return any(turn.others_cores > BUSY_CORES for turn in turns.values())


def counted(rounds: Sequence[Round]) -> list[Round]:
    """Return the rounds that are not void."""
    return [turns for turns in rounds if not is_void(turns)]


def judged(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """Return each target with the measured value and the verdict.

    The verdict is ``met``, ``missed``, ``void`` when fewer than ``LEAST`` rounds count, or ``not measured``.
    If the run is void, the values are from all of its rounds.
    """
    good = counted(rounds)
    return [_judged(target, rounds, good) for target in TARGETS]


def _judged(target: Target, rounds: Sequence[Round], good: Sequence[Round]) -> dict[str, Any]:
    found = None
    if not target.cases <= rounds[0].keys():
        verdict = "not measured"
    else:
        is_void_run = len(good) < LEAST
        found = Comparison.of([target.value(turns) for turns in (rounds if is_void_run else good)])
        is_met = found.median >= target.bound if target.at_least else found.median <= target.bound
        verdict = "void" if is_void_run else "met" if is_met else "missed"
    return {
        "what": target.what,
        "bound": f"{'≥' if target.at_least else '≤'} {target.bound:g}",
        "found": None if found is None else dataclasses.asdict(found),
        "text": "" if found is None else str(found),
        "verdict": verdict,
    }


def as_json(rounds: Sequence[Round]) -> dict[str, Any]:
    """Return the verdicts, the figures of each case, and every turn."""
    return {
        "targets": judged(rounds),
        "cases": {name: figures(name, usable(rounds)) for name in rounds[0]},
        "rounds": [
            {
                "void": is_void(turns),
                "turns": {name: dataclasses.asdict(turn) for name, turn in turns.items()},
            }
            for turns in rounds
        ],
    }


def usable(rounds: Sequence[Round]) -> Sequence[Round]:
    """Return the rounds that count; all of them if the run is void."""
    good = counted(rounds)
    return good if len(good) >= LEAST else rounds


def figures(name: str, rounds: Sequence[Round]) -> dict[str, Any]:
    """Return the share of ``none`` and the added CPU with their intervals, and medians of the rest."""
    turns = [each[name] for each in rounds]
    medians = {
        field.name: statistics.median(getattr(turn, field.name) for turn in turns)
        for field in dataclasses.fields(Turn)
    }
    over = Comparison.of([ratio(name, BASE)(each) for each in rounds])
    more = Comparison.of([added_ms(name)(each) for each in rounds])
    return medians | {"over_none": dataclasses.asdict(over), "added_ms": dataclasses.asdict(more)}


def tables(rounds: Sequence[Round], titles: Mapping[str, str]) -> list[str]:
    """Return lines of Markdown: how many rounds count, a row for each case, a row for each target."""
    good = usable(rounds)
    lost = len(rounds) - len(counted(rounds))
    lines = [f"{lost} of {len(rounds)} rounds are void, because other programs used the CPU."]
    if len(counted(rounds)) < LEAST:
        lines = [f"**{lines[0]} The run is void. The figures are of all rounds.**"]
    lines += table(COLUMNS, (_case(titles[name], figures(name, good)) for name in good[0]))
    judgements = judged(rounds)
    rows = [(each["what"], each["bound"], each["text"], each["verdict"]) for each in judgements]
    return [*lines, *table(("target", "bound", "measured", ""), rows)]


def _case(title: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a row of the table of cases."""
    rest = (
        f"{found['p50_ms']:.0f}",
        f"{found['p99_ms']:.0f}",
        str(Comparison(**found["added_ms"])),
        f"{found['webhook_cpu_ms']:.2f}",
        f"{found['webhook_mib']:.0f}",
    )
    return title, str(Comparison(**found["over_none"])), *rest
