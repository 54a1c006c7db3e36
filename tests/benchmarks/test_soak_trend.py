"""The trend of a soak: its interval is reliable, even for values that wander without growth."""

from __future__ import annotations

import math
import random

import pytest

from benchmarks.soak.trend import medians, trend


def test_a_straight_line_is_its_own_trend() -> None:
    found = trend([(float(x), 3.0 + 0.5 * x) for x in range(100)])
    assert found.slope == pytest.approx(0.5)
    assert found.low == pytest.approx(0.5)
    assert found.high == pytest.approx(0.5)
    assert found.growth == pytest.approx((49.5, 49.5, 49.5))


def test_a_constant_has_no_trend() -> None:
    assert trend([(float(x), 7.0) for x in range(50)]).growth == pytest.approx((0, 0, 0))


def test_a_leak_is_found_despite_noise() -> None:
    noise = random.Random(1)
    found = trend([(float(x), 70 + 0.02 * x + noise.gauss(0, 1)) for x in range(900)])
    assert found.low > 0.018
    assert found.low < 0.02 < found.high


def test_the_interval_contains_the_slope_as_often_as_its_confidence() -> None:
    """The confidence is 95 %, even for correlated values, for which the textbook formula is wrong."""
    source = random.Random(2)
    missed = 0
    for _ in range(300):
        value, points = 0.0, []
        for x in range(400):
            value = 0.8 * value + source.gauss(0, 1)
            points.append((float(x), value))
        found = trend(points)
        missed += not found.low <= 0 <= found.high
    assert missed <= 30


def test_the_interval_widens_when_values_are_correlated() -> None:
    source = random.Random(3)
    loose = [(float(x), source.gauss(0, 1)) for x in range(200)]
    clinging = [(x, math.sin(x / 30)) for x, _ in loose]
    widths = [found.high - found.low for found in (trend(loose), trend(clinging))]
    assert widths[1] > widths[0]


@pytest.mark.parametrize("points", [[], [(0.0, 1.0), (1.0, 2.0)], [(5.0, 1.0)] * 10])
def test_too_few_points_are_an_error(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match=r"trend|time"):
        trend(points)


def test_medians_leave_out_values_that_come_and_go() -> None:
    points = [(float(x), 10.0 + (50 if x % 10 < 4 else 0)) for x in range(40)]
    assert medians(points, 10) == [(0, 10), (10, 10), (20, 10), (30, 10)]


def test_medians_keep_a_leak() -> None:
    points = [(float(x), x / 10 + (5 if x % 10 < 4 else 0)) for x in range(200)]
    assert trend(medians(points, 10)).slope == pytest.approx(0.1)
