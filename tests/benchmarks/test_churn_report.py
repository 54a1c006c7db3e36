"""The churn benchmark's figures: medians, comparisons within a round, verdicts on targets."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.churn.cases import CASES
from benchmarks.churn.report import (
    ENFORCE,
    PREAPPROVED,
    TARGETS,
    TWO_CALLS,
    Spread,
    figures,
    judged,
    markdown,
)
from benchmarks.churn.rounds import FULL, QUICK, Sample


def sample(number: int, case: str, share: int = 50, **changed: float) -> Sample:
    values = {
        "creates_per_second": 100.0,
        "single_mean_ms": 3.0,
        "webhook_cpu_ms": 0.25,
        "others_cores": 0.0,
        **changed,
    }
    return Sample(round=number, case=case, share=share, figures=values)


def test_a_figure_is_its_median_with_the_least_and_the_most() -> None:
    samples = [sample(each, "none", creates_per_second=rate) for each, rate in ((1, 9.0), (2, 1.0), (3, 4.0))]

    assert figures(samples)["none 50 %"]["creates_per_second"] == Spread(4.0, 1.0, 9.0)


def test_a_case_is_compared_with_none_of_its_own_round() -> None:
    samples = [
        sample(1, "none", creates_per_second=100),
        sample(1, "enforce", creates_per_second=80, single_mean_ms=4.0),
        sample(2, "none", creates_per_second=50),
        sample(2, "enforce", creates_per_second=40, single_mean_ms=4.0),
    ]

    found = figures(samples)[ENFORCE]

    assert found["creates_ratio"] == Spread(0.8, 0.8, 0.8)
    assert found["added_mean_ms"] == Spread(1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("cpu", "rate", "verdicts"),
    [
        pytest.param(0.25, 80.0, ["met", "met"], id="within"),
        pytest.param(0.35, 70.0, ["missed", "missed"], id="beyond"),
    ],
)
def test_targets_are_met_or_missed(cpu: float, rate: float, verdicts: list[str]) -> None:
    samples = [sample(1, "none"), sample(1, "enforce", webhook_cpu_ms=cpu, creates_per_second=rate)]

    assert [target["verdict"] for target in judged(figures(samples))[:2]] == verdicts


def test_a_target_without_its_case_is_not_measured() -> None:
    verdicts = {target["what"]: target["verdict"] for target in judged(figures([sample(1, "none")]))}

    assert set(verdicts.values()) == {"not measured"}
    assert len(verdicts) == len(TARGETS)


def test_every_target_names_a_case_that_exists() -> None:
    for plan in (QUICK, FULL):
        labels = {f"{case.name} {share} %" for case in CASES for share in plan.shares(case)}

        assert {ENFORCE, TWO_CALLS, PREAPPROVED, "gatekeeper 50 %"} <= labels


@pytest.mark.parametrize(("cores", "doubtful"), [(0.02, False), (0.7, True)])
def test_the_table_reports_a_machine_that_was_not_quiet(cores: float, *, doubtful: bool) -> None:
    found = figures([sample(1, "none", others_cores=cores)])

    text = markdown(document(found), found)

    assert ("Doubtful" in text) is doubtful
    assert "| none 50 % | 100 (100 to 100) |" in text
    assert "* Left out: fast-path: there is no overlay." in text


def document(found: Any) -> dict[str, Any]:
    return {
        "plan": {"rounds": 1, "seconds": 4.0, "clients": 16, "replicas": 50},
        "machine": {"cores": 2, "cpu": "some"},
        "versions": {"kubernetes": "v1"},
        "commit": "abc",
        "body_bytes": 4000,
        "deployments": 4,
        "left_out": {"fast-path": "there is no overlay"},
        "targets": judged(found),
    }
