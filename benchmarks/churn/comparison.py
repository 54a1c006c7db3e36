"""Turns of two cases that alternate, compared with their neighbours; as JSON and as a table."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEAST = 6
"""Fewer values say nothing of their median."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn found; CPU in milliseconds per create."""

    creates_per_second: float
    apiserver_cpu_ms: float
    others_cores: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of all turns; between ``low`` and ``high`` the true median is in 95 of 100 such runs."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Comparison:
        """Raises ValueError for fewer than ``LEAST``."""
        if len(values) < LEAST:
            raise ValueError(f"{len(values)} turns are too few")
        ordered = sorted(values)
        # The ranks that a median lies between: a binomial distribution, by its normal approximation.
        half = 1.96 * math.sqrt(len(ordered)) / 2
        low = max(math.floor(len(ordered) / 2 - half), 0)
        high = min(math.ceil(len(ordered) / 2 + half), len(ordered) - 1)
        return cls(statistics.median(ordered), ordered[low], ordered[high])


def against_neighbours(turns: Sequence[Turn]) -> dict[str, Comparison]:
    """Of turns of ``none`` and of a case, alternating, the first and the last of ``none``.

    ``ratio`` is the case's creates/s over the mean of its two neighbours', ``added_ms`` the milliseconds of
    an API server's CPU that a create costs more than theirs.
    """
    ratios, added = [], []
    for before, case, after in zip(turns[::2], turns[1::2], turns[2::2], strict=False):
        rate = (before.creates_per_second + after.creates_per_second) / 2
        ratios.append(case.creates_per_second / rate)
        added.append(case.apiserver_cpu_ms - (before.apiserver_cpu_ms + after.apiserver_cpu_ms) / 2)
    return {"ratio": Comparison.of(ratios), "added_ms": Comparison.of(added)}


def as_json(results: Mapping[str, Sequence[Turn]]) -> dict[str, Any]:
    """By case: its figures and all its turns."""
    return {
        name: {
            **{key: dataclasses.asdict(found) for key, found in against_neighbours(turns).items()},
            "turns": [dataclasses.asdict(turn) for turn in turns],
        }
        for name, turns in results.items()
    }


def table(results: Mapping[str, Sequence[Turn]]) -> list[str]:
    """Lines of Markdown, a row for each case."""
    lines = [
        "| case | turns | creates/s, of none | API server, ms more | creates/s | others, cores |",
        "|---|---|---|---|---|---|",
    ]
    for name, turns in results.items():
        found = against_neighbours(turns)
        ratio, added = found["ratio"], found["added_ms"]
        rates = [turn.creates_per_second for turn in turns[1::2]]
        busy = statistics.median(turn.others_cores for turn in turns)
        lines.append(
            f"| {name} | {len(rates)} | {ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f}) "
            f"| {added.median:.3f} ({added.low:.3f} to {added.high:.3f}) "
            f"| {statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f}) | {busy:.2f} |"
        )
    return lines
