"""What makes a soak fail: one line for each thing that must not have been."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.soak.process import Held
from benchmarks.soak.sampling import Sample
from benchmarks.soak.trend import Trend, medians, trend

STRETCH_SECONDS: Final = 20.0
"""A point of a trend is the middle of what was sampled in so long: no fault lasts for half of it, and most
leave nothing behind them."""

MOST_GROWTH: Final = {"rss_mib": 12.0, "files": 2.0, "tasks": 2.0, "threads": 2.0}
"""Over the second half of the run, whatever its length. Memory rises and falls by up to ten MiB: a cache of
decisions fills after each reload, and cycles gather until the collector looks for them, every two minutes.
Over 15 minutes at 300 reviews a second 12 MiB would be 47 bytes a review. Files and tasks are those beside
one for each connection, because clients open and close these. A connection has a task only once it carried a
request that was not answered where it was read."""

MOST_LEFT: Final = {"files": 3, "tasks": 3, "threads": 6}
"""What may stay when all clients are gone. Threads: the pool's, which is never made smaller. Files and tasks:
those of the last scrapes, whose connections may not be over yet."""

MOST_STILL_SECONDS: Final = 2.0
"""Clients wait for 5 s, and the load is light: who was themselves woken later than this saw the machine
stand still, and what failed then proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All that a run is judged by."""

    load: dict[str, Any]
    samples: Sequence[Sample]
    livez: Sequence[str]
    sampled_late: float
    """Seconds."""

    probe_asked: int
    probe_wrong: Sequence[str]
    probe_failed: Sequence[str]
    faults: Sequence[dict[str, Any]]
    before: Held
    after: Held
    reviews_logged: int
    reviews_told: float
    """Denied, warned or mutated, by the metrics: each has a line in the log."""

    lines_dropped: float
    errors_500: float
    bad_lines: Sequence[str]
    stderr: str
    exit_code: int | None


def steady(held: Held) -> dict[str, float]:
    """What must be flat, however many clients there are."""
    return {
        "rss_mib": held.rss_mib,
        "files": held.files - held.connections,
        "tasks": max(held.tasks - held.connections, 0),
        "threads": held.threads,
    }


def trends(samples: Sequence[Sample]) -> dict[str, Trend]:
    """Of what must be flat, over the second half. Raises ``ValueError`` when there are too few samples."""
    end = samples[-1].second if samples else 0.0
    half = [(each.second, steady(each.held)) for each in samples if each.second >= end / 2]
    return {
        name: trend(medians([(second, values[name]) for second, values in half], STRETCH_SECONDS))
        for name in MOST_GROWTH
    }


def stood_still(outcome: Outcome) -> float:
    """The longest that the machine let nobody run, in seconds; 0 when that explains no failure."""
    longest = max(outcome.sampled_late, outcome.load["lag_ms"]["max"] / 1000)
    return longest if longest > MOST_STILL_SECONDS else 0.0


def problems(outcome: Outcome) -> Iterator[str]:
    """Nothing, when the soak was passed."""
    yield from _answers(outcome)
    yield from _health(outcome)
    yield from _log(outcome)
    yield from _growth(outcome)


def _answers(outcome: Outcome) -> Iterator[str]:
    load = outcome.load
    if not load["ok"]:
        yield "the load had no answer at all"
    for kind in ("wrong", "failed", "shed"):
        if load[kind]:
            yield f"{load[kind]} good requests {kind}: {load['errors'] or load['wrong_examples']}"
    if not outcome.probe_asked:
        yield "the probe never asked"
    for kind, texts in (("wrong", outcome.probe_wrong), ("failed", outcome.probe_failed)):
        if texts:
            yield f"{len(texts)} answers to the probe {kind}, the first: {texts[0]}"
    for fault in outcome.faults:
        if fault["problem"]:
            yield f"{fault['name']} at second {fault['begin']:.0f}: {fault['problem']}"
    if not outcome.faults:
        yield "no fault was made"


def _health(outcome: Outcome) -> Iterator[str]:
    if outcome.livez:
        yield f"/livez failed {len(outcome.livez)} times, the first: {outcome.livez[0]}"
    if outcome.errors_500:
        yield f"{outcome.errors_500:.0f} answers were 500"
    if outcome.stderr:
        yield f"stderr: {outcome.stderr[:500]}"
    if outcome.exit_code != 0:
        yield f"the exit code was {outcome.exit_code}"


def _log(outcome: Outcome) -> Iterator[str]:
    if outcome.bad_lines:
        yield f"{len(outcome.bad_lines)} log lines that should not be, the first: {outcome.bad_lines[0]}"
    if outcome.lines_dropped:
        yield f"{outcome.lines_dropped:.0f} log lines were lost, of a log that was read on in time"
    if outcome.reviews_logged != outcome.reviews_told:
        yield f"{outcome.reviews_told:.0f} reviews were to be logged, {outcome.reviews_logged} were"


def _growth(outcome: Outcome) -> Iterator[str]:
    try:
        found_trends = trends(outcome.samples)
    except ValueError as problem:
        yield f"too few samples: {problem}"
        return
    for name, found in found_trends.items():
        least = found.growth[0]
        if least > MOST_GROWTH[name]:
            yield f"{name} grew by at least {least:.1f} over the second half; most: {MOST_GROWTH[name]:g}"
    for kind in ("connections", "inflight"):
        if left := getattr(outcome.after, kind):
            yield f"{left} {kind} when all clients were gone"
    before, after = steady(outcome.before), steady(outcome.after)
    for kind, most in MOST_LEFT.items():
        if after[kind] > before[kind] + most:
            yield f"{after[kind]:.0f} {kind} when all clients were gone, {before[kind]:.0f} before they came"
