"""What makes a soak fail: one line for each thing that must not have been."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.soak.sampling import Sample
from benchmarks.soak.trend import Trend, trend

MOST_GROWTH: Final = {"rss_mib": 6.0, "files": 5.0, "threads": 2.0}
"""Over the second half of the run, whatever its length. Six MiB are what the allocator and a full cache of
decisions come and go by; over 15 minutes at 300 reviews a second they would be 23 bytes a review."""

MOST_LEFT_FILES: Final = 3
MOST_LEFT_THREADS: Final = 6
"""What may stay when all clients are gone. Threads: the pool's, which is never made smaller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Files, threads, connections and reviews at an instant without clients."""

    files: int
    threads: int
    connections: float
    inflight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All that a run is judged by."""

    load: dict[str, Any]
    samples: Sequence[Sample]
    livez: Sequence[str]
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


def second_half(samples: Sequence[Sample]) -> Sequence[Sample]:
    end = samples[-1].second if samples else 0.0
    return [sample for sample in samples if sample.second >= end / 2]


def trends(samples: Sequence[Sample]) -> dict[str, Trend]:
    """Of what must be flat, over the second half."""
    half = second_half(samples)
    return {name: trend([(each.second, getattr(each, name)) for each in half]) for name in MOST_GROWTH}


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
    if len(second_half(outcome.samples)) < 3:
        yield "too few samples"
        return
    for name, found in trends(outcome.samples).items():
        least = found.growth[0]
        if least > MOST_GROWTH[name]:
            yield f"{name} grew by at least {least:.1f} over the second half; most: {MOST_GROWTH[name]:g}"
    before, after = outcome.before, outcome.after
    for kind in ("connections", "inflight"):
        if getattr(after, kind):
            yield f"{getattr(after, kind):.0f} {kind} when all clients were gone"
    if after.files > before.files + MOST_LEFT_FILES:
        yield f"{after.files} open files when all clients were gone, {before.files} before they came"
    if after.threads > before.threads + MOST_LEFT_THREADS:
        yield f"{after.threads} threads when all clients were gone, {before.threads} before they came"
