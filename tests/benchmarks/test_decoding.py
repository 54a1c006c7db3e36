"""The benchmark of the typed decode: its bodies get the typed decode, and missed targets are reported."""

from __future__ import annotations

import pytest

from benchmarks.micro.decoding import POD, SHAPES, SIZES, Cost, missed, over_pod
from gatekeeper_py.serving.decode import parse_pod_review

GOOD = (
    Cost(POD, 7000, 7000, 14.0, 15.0),
    Cost("UPDATE", 7000, 7700, 18.0, 19.0),
    Cost(POD, 1_000_000, 1_000_000, 1500.0, 1600.0),
    Cost("UPDATE", 1_000_000, 1_000_000, 1600.0, 1700.0),
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_each_body_has_about_its_stated_size_and_gets_the_typed_decode(shape: str, size: int) -> None:
    body = SHAPES[shape](size=size)

    assert abs(len(body) - size) < 0.02 * size
    assert parse_pod_review(body) is not None


def test_shapes_are_compared_by_byte_with_a_pod_of_the_same_size() -> None:
    assert over_pod(GOOD) == {"UPDATE": pytest.approx(18.0 / 7700 * 7000 / 14.0)}
    assert missed(GOOD) == []


@pytest.mark.parametrize(
    ("cost", "line"),
    [
        pytest.param(Cost("UPDATE", 7000, 7000, 19.0, 19.0), "UPDATE: 1.36 times a Pod", id="shape"),
        pytest.param(Cost(POD, 2_000_000, 2_000_000, 8000.0, 8000.0), "2,000,000 bytes: 4.00 µs", id="size"),
    ],
)
def test_a_missed_target_is_named(cost: Cost, line: str) -> None:
    assert [each.startswith(line) for each in missed((*GOOD, cost))] == [True]
