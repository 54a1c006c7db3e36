"""The reasons for which a soak fails, one line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.soak.process import Held
from benchmarks.soak.sampling import Sample
from benchmarks.soak.trend import Trend, medians, trend

STRETCH_SECONDS: Final = 20.0
"""A point of a trend is the median of the samples of this many seconds. No fault lasts for half of this time,
so resources that are held only during a fault do not show."""

MOST_GROWTH: Final = {"rss_mib": 12.0, "files": 2.0, "tasks": 2.0, "threads": 2.0}
"""The growth that is allowed over the second half of the run, whatever its length.

Memory rises and falls by up to ten MiB: the cache of decisions fills after each reload, and reference cycles
accumulate until the garbage collector runs, every two minutes. Over 15 minutes at 300 reviews a second,
12 MiB would be 47 bytes a review. Files and tasks exclude one for each connection, because clients open and
close connections. A connection has no task until it has carried a request that was not answered directly
where it was read."""

MOST_LEFT: Final = {"files": 3, "tasks": 3, "threads": 6}
"""The increase that is allowed from before the load until after all clients have disconnected. The thread
pool never shrinks. The connections of the last scrapes may not be closed yet, and each has a file and a
task."""

MOST_STILL_SECONDS: Final = 2.0
"""Clients wait for 5 s, and the load is light. If a client woke up later than this, the whole machine stood
still, and a failure at that time proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The figures by which a run is judged."""

    load: dict[str, Any]
    samples: Sequence[Sample]
    livez: Sequence[str]
    sampled_late: float
    """The longest time by which the sampler woke up late, in seconds."""

    probe_reviews: int
    probe_wrong: Sequence[str]
    probe_failed: Sequence[str]
    faults: Sequence[dict[str, Any]]
    before: Held
    after: Held
    reviews_logged: int
    reviews_counted: float
    """Reviews that were denied, warned about or mutated, according to the metrics. Each has a log line."""

    lines_dropped: float
    errors_500: float
    bad_lines: Sequence[str]
    stderr: str
    exit_code: int | None


def steady(held: Held) -> dict[str, float]:
    """Return the series that must not grow, however many clients there are."""
    return {
        "rss_mib": held.rss_mib,
        "files": held.files - held.connections,
        "tasks": max(held.tasks - held.connections, 0),
        "threads": held.threads,
    }


def trends(samples: Sequence[Sample]) -> dict[str, Trend]:
    """Return the trends of the :func:`steady` series over the second half of the run.

    Raises ``ValueError`` for too few samples.
    """
    end = samples[-1].second if samples else 0.0
    half = [(each.second, steady(each.held)) for each in samples if each.second >= end / 2]
    return {
        name: trend(medians([(second, values[name]) for second, values in half], STRETCH_SECONDS))
        for name in MOST_GROWTH
    }


def stood_still(outcome: Outcome) -> float:
    """Return the longest pause of the machine in seconds; 0 if it was too short to explain a failure."""
    longest = max(outcome.sampled_late, outcome.load["lag_ms"]["max"] / 1000)
    return longest if longest > MOST_STILL_SECONDS else 0.0


def problems(outcome: Outcome) -> Iterator[str]:
    """Yield the reasons for a failure; none if the soak passed."""
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
    if not outcome.probe_reviews:
        yield "the probe sent no review"
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
    if outcome.reviews_logged != outcome.reviews_counted:
        yield f"{outcome.reviews_counted:.0f} reviews were to be logged, {outcome.reviews_logged} were"


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
