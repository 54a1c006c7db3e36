"""The figures of a load on an API server are refused if something was wrong."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.cluster.comparison import Turn
from benchmarks.cluster.creating import Reconnected, creation
from benchmarks.cluster.rounds import expect_reviews
from benchmarks.cluster.site import Spoiled

BEFORE = {"apiserver": 1.0, "webhook": 0.5, "webhook_mib": 60.0, "all_ours": 4.0, "machine": 10.0}
AFTER = {"apiserver": 3.0, "webhook": 0.75, "webhook_mib": 70.0, "all_ours": 6.0, "machine": 13.0}


def result(**changed: Any) -> dict[str, Any]:
    return {
        "creates": 500,
        "seconds": 2.0,
        "latency_ms": {"p50": 4.0, "p99": 9.0},
        "statuses": {"201": 600},
        "errors": 0,
        "warnings": 0,
        "problems": [],
        "dials": 16,
        "cpu_seconds": 0.1,
        **changed,
    }


def read(found: dict[str, Any]) -> Turn:
    return creation(found, BEFORE, AFTER)


def test_a_good_load_is_divided_by_its_creates() -> None:
    found = read(result())

    assert (found.per_second, found.apiserver_cpu_ms, found.webhook_cpu_ms) == (250, 4.0, 0.5)
    assert (found.p50_ms, found.p99_ms, found.webhook_mib) == (4.0, 9.0, 70.0)
    assert found.others_cores == pytest.approx((13 - 10 - (6 - 4) - 0.1) / 2)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        pytest.param({"statuses": {"201": 599, "403": 1}}, "'403': 1", id="another-status"),
        pytest.param({"errors": 1, "problems": ["EOF"]}, "1 errors.*EOF", id="no-answer"),
        pytest.param({"warnings": 3}, "3 warnings", id="a-warning"),
        pytest.param({"creates": 0}, "no create", id="nothing"),
        pytest.param({"dials": 17}, "17 connections", id="connected-again"),
    ],
)
def test_anything_wrong_spoils_a_load(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(Spoiled, match=words):
        read(result(**changed))


@pytest.mark.parametrize(
    ("changed", "is_only_that"),
    [
        pytest.param({"dials": 17}, True, id="connected-again"),
        pytest.param({"dials": 17, "errors": 1}, False, id="and-an-error"),
    ],
)
def test_a_round_may_be_left_out_only_when_nothing_but_a_connection_is_wrong(
    changed: dict[str, Any], *, is_only_that: bool
) -> None:
    with pytest.raises(Spoiled) as raised:
        read(result(**changed))
    assert isinstance(raised.value, Reconnected) is is_only_that


@pytest.mark.parametrize(
    ("reviews", "each"),
    [
        pytest.param(1000, 1, id="one-review-per-create"),
        pytest.param(1012, 1, id="one-review-per-create-and-some-of-the-controller"),
        pytest.param(500, 0.5, id="half-are-pre-approved"),
        pytest.param(0, 0, id="no-review"),
    ],
)
def test_the_expected_number_of_reviews_spoils_nothing(reviews: float, each: float) -> None:
    expect_reviews(reviews, 1000, each)


@pytest.mark.parametrize(
    ("reviews", "each"),
    [
        pytest.param(0, 1, id="the-webhook-was-not-called"),
        pytest.param(2000, 1, id="two-reviews-per-create"),
        pytest.param(100, 0, id="reviews-despite-the-fast-path"),
    ],
)
def test_another_number_of_reviews_spoils_a_load(reviews: float, each: float) -> None:
    with pytest.raises(Spoiled, match=f"led to {reviews} reviews"):
        expect_reviews(reviews, 1000, each)
