"""Turns that alternate: what differs is found though the machine's speed changes, and nothing else."""

from __future__ import annotations

import pytest

from benchmarks.churn.comparison import LEAST, Comparison, Turn, against_neighbours, as_json, table


def turns(pairs: int, *, ratio: float, added: float) -> list[Turn]:
    """Of a machine that gets slower from turn to turn."""
    rates = [1000.0 - 5 * number for number in range(2 * pairs + 1)]
    return [
        Turn(rate * (ratio if number % 2 else 1), 1.5 + number / 100 + (added if number % 2 else 0), 0.0)
        for number, rate in enumerate(rates)
    ]


@pytest.mark.parametrize(("ratio", "added"), [(0.9, 0.2), (1.0, 0.0)])
def test_a_difference_is_found_beneath_a_drift(ratio: float, added: float) -> None:
    found = against_neighbours(turns(20, ratio=ratio, added=added))

    assert found["ratio"].median == pytest.approx(ratio)
    assert found["added_ms"].median == pytest.approx(added)
    assert found["ratio"].low <= found["ratio"].median <= found["ratio"].high


def test_the_ranks_between_which_a_median_lies() -> None:
    """For forty values, the 14th and the 28th: a table of the sign test has 14 and 27 for 95 per cent."""
    found = Comparison.of([float(value) for value in range(1, 41)])

    assert (found.median, found.low, found.high) == (20.5, 14.0, 28.0)


def test_too_few_turns_say_nothing() -> None:
    with pytest.raises(ValueError, match="5 turns are too few"):
        Comparison.of([1.0] * (LEAST - 1))


def test_a_row_for_each_case() -> None:
    results = {"native": turns(6, ratio=0.95, added=0.1)}

    assert table(results)[-1].startswith("| native | 6 | 0.950 (0.950 to 0.950) | 0.100 (0.100 to 0.100) |")
    assert len(as_json(results)["native"]["turns"]) == 13
