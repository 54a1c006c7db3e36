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
    "case",
    "rate over none",
    "per second",
    "API server, ms more",
    "webhook, ms",
    "others, cores",
)


@dataclass(frozen=True, slots=True)
class Turn:
    """The figures of one turn of a case: creates or Pods per second, and CPU in milliseconds for each."""

    per_second: float
    apiserver_cpu_ms: float
    webhook_cpu_ms: float
    others_cores: float

    @classmethod
    def of(
        cls,
        count: int,
        seconds: float,
        before: Mapping[str, float],
        after: Mapping[str, float],
        *,
        cpu_seconds: float | None = None,
        clients_cpu: float = 0.0,
    ) -> Turn:
        """Return the figures of ``count`` creates or Pods in ``seconds``.

        ``before`` and ``after`` are CPU seconds by group, measured ``cpu_seconds`` apart (default:
        ``seconds``).
        """
        used = {group: after[group] - before[group] for group in after}
        others = used["machine"] - used["all_ours"] - clients_cpu
        return cls(
            per_second=count / seconds,
            apiserver_cpu_ms=used["apiserver"] / count * 1000,
            webhook_cpu_ms=used["webhook"] / count * 1000,
            others_cores=others / (cpu_seconds or seconds),
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
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


def ratio(case: str, base: str) -> Callable[[Round], float]:
    """Return a function that divides the rate of ``case`` by that of ``base`` in the same round."""
    return lambda turns: turns[case].per_second / turns[base].per_second


def added_ms(case: str) -> Callable[[Round], float]:
    """Return a function for the API server CPU per create or Pod, in ms, that a case adds to ``none``."""
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
        "one call: creates/s over two calls",
        1.4,
        frozenset({"enforce", "enforce-two-calls"}),
        ratio("enforce", "enforce-two-calls"),
    ),
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
    Target("fast path: creates/s over none", 0.93, frozenset({"fast-path"}), ratio("fast-path", BASE)),
    Target(
        "fast path less the native policy, both over none",
        -0.01,
        frozenset({"fast-path", "native"}),
        lambda turns: ratio("fast-path", BASE)(turns) - ratio("native", BASE)(turns),
    ),
)
"""The targets for creates. Scaling has no targets."""


def is_void(turns: Round) -> bool:
    """Return whether other programs were busy in one of the turns."""
    return any(turn.others_cores > BUSY_CORES for turn in turns.values())


def counted(rounds: Sequence[Round]) -> list[Round]:
    """Return the rounds that are not void."""
    return [turns for turns in rounds if not is_void(turns)]


def judged(rounds: Sequence[Round], targets: Sequence[Target] = TARGETS) -> list[dict[str, Any]]:
    """Return each target with the measured value and the verdict.

    The verdict is ``met``, ``missed``, ``void`` when fewer than ``LEAST`` rounds count, or ``not measured``.
    If the run is void, the values are from all of its rounds.
    """
    good = counted(rounds)
    return [_judged(target, rounds, good) for target in targets]


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


def as_json(rounds: Sequence[Round], targets: Sequence[Target] = TARGETS) -> dict[str, Any]:
    """Return the verdicts and every turn."""
    return {
        "targets": judged(rounds, targets),
        "rounds": [
            {
                "void": is_void(turns),
                "turns": {name: dataclasses.asdict(turn) for name, turn in turns.items()},
            }
            for turns in rounds
        ],
    }


def tables(rounds: Sequence[Round], targets: Sequence[Target] = TARGETS) -> list[str]:
    """Return lines of Markdown: how many rounds count, a row for each case, a row for each target."""
    good = counted(rounds)
    void = f"{len(rounds) - len(good)} of {len(rounds)} rounds are void, because other programs used the CPU."
    if len(good) < LEAST:
        good, void = list(rounds), f"**{void} The run is void. The figures are of all rounds.**"
    lines = [void, *table(COLUMNS, (_case(name, good) for name in good[0]))]
    if targets:
        rows = [
            (each["what"], each["bound"], each["text"], each["verdict"]) for each in judged(rounds, targets)
        ]
        lines += table(("target", "bound", "measured", ""), rows)
    return lines


def _case(name: str, rounds: Sequence[Round]) -> tuple[str, ...]:
    """Return a row of the table of cases."""
    turns = [each[name] for each in rounds]
    rates = [turn.per_second for turn in turns]
    over, more = "1", "0"
    if name != BASE:
        over = str(Comparison.of([ratio(name, BASE)(each) for each in rounds]))
        more = str(Comparison.of([added_ms(name)(each) for each in rounds]))
    webhook = statistics.median(turn.webhook_cpu_ms for turn in turns)
    busy = statistics.median(turn.others_cores for turn in turns)
    rate = f"{statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})"
    return name, over, rate, more, f"{webhook:.3f}", f"{busy:.2f}"
