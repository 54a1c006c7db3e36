"""The growth of a series: the least-squares slope and its confidence interval."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_T: Final = (
    12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11,
    2.10, 2.09, 2.09, 2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05, 2.05, 2.04,
)  # fmt: skip
"""Student's t, two-sided 95 %, for 1 to 30 degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Trend:
    """A slope in units a second with its 95 % confidence interval, over ``seconds``."""

    slope: float
    low: float
    high: float
    seconds: float

    @property
    def growth(self) -> tuple[float, float, float]:
        """Return the growth over the whole time: lowest, most likely, highest."""
        return self.low * self.seconds, self.slope * self.seconds, self.high * self.seconds


def medians(points: Sequence[tuple[float, float]], seconds: float) -> list[tuple[float, float]]:
    """Return the median of each interval of so many seconds, at the start of the interval.

    Resources held for less than half of an interval do not show. A leak raises all medians.
    """
    stretches: dict[int, list[float]] = {}
    for x, y in points:
        stretches.setdefault(int(x // seconds), []).append(y)
    return [(number * seconds, statistics.median(values)) for number, values in sorted(stretches.items())]


def trend(points: Sequence[tuple[float, float]]) -> Trend:
    """Return the trend of (second, value) points, at least three of them at different times.

    Memory in one second depends on the second before, so points contain less information than their number
    suggests. Therefore the interval is widened by the correlation of successive residuals (an AR(1) process).
    """
    count = len(points)
    if count < 3:
        raise ValueError("a trend needs three points")
    mean_x = math.fsum(x for x, _ in points) / count
    mean_y = math.fsum(y for _, y in points) / count
    spread = math.fsum((x - mean_x) ** 2 for x, _ in points)
    if spread == 0:
        raise ValueError("all points are of one time")
    slope = math.fsum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    residuals = [y - mean_y - slope * (x - mean_x) for x, y in points]
    squares = math.fsum(r * r for r in residuals)
    correlation = 0.0
    if squares > 0:
        following = math.fsum(a * b for a, b in itertools.pairwise(residuals))
        correlation = min(max(following / squares, 0.0), 0.99)
    effective = max(count * (1 - correlation) / (1 + correlation), 3.0)
    error = math.sqrt(squares / (count - 2) / spread * (count / effective))
    freedom = int(effective) - 2
    quantile = _T[freedom - 1] if freedom <= len(_T) else 1.96
    seconds = points[-1][0] - points[0][0]
    return Trend(slope, slope - quantile * error, slope + quantile * error, seconds)
