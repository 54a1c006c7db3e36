"""Compare cases in rounds: differences are found although the machine's speed changes.

A verdict needs enough valid rounds.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from benchmarks.cluster.cases import CASES
from benchmarks.cluster.comparison import (
    BASE,
    LEAST,
    TARGETS,
    Comparison,
    Round,
    Target,
    Turn,
    added_ms,
    as_json,
    judged,
    ratio,
    tables,
)
from benchmarks.machine import ROOT

GOOD = {
    "none": 1.0,
    "enforce": 0.8,
    "native": 0.96,
    "fast-path": 0.955,
    "gatekeeper": 0.4,
    "kyverno-clusterpolicy": 0.3,
}
"""Creates/s relative to the case ``none``, with which every target is met."""

TITLES = {name: "the webhook" if name == "enforce" else name for name in GOOD}


PEER_MS = {"gatekeeper": 1.0, "kyverno-clusterpolicy": 2.0}
"""CPU of the webhook of a peer per create."""


def rounds(
    count: int, shares: Mapping[str, float] = GOOD, *, busy: int = 0, webhook_ms: float = 0.1
) -> list[Round]:
    """Return rounds of a machine that gets slower. Other programs disturb the first ``busy`` rounds.

    Our webhook uses ``webhook_ms`` of CPU for each create.
    """
    return [
        {
            name: Turn(
                per_second=(1000.0 - 20 * number) * share,
                p50_ms=20.0,
                p99_ms=60.0,
                apiserver_cpu_ms=1.5 + number / 10 + (1 - share),
                webhook_cpu_ms=0.0 if name == BASE else PEER_MS.get(name, webhook_ms),
                webhook_mib=70.0,
                others_cores=0.5 if name == BASE and number < busy else 0.01,
            )
            for name, share in shares.items()
        }
        for number in range(count)
    ]


def verdicts(found: list[Round]) -> dict[str, str]:
    return {target["what"]: target["verdict"] for target in judged(found)}


@pytest.mark.parametrize("share", [0.9, 1.0])
def test_a_difference_is_found_despite_a_drift(share: float) -> None:
    found = rounds(20, {"none": 1.0, "native": share})

    assert [ratio("native", BASE)(each) for each in found] == pytest.approx([share] * 20)
    assert [added_ms("native")(each) for each in found] == pytest.approx([1 - share] * 20)


def test_the_ranks_between_which_a_median_lies() -> None:
    """A table of the sign test has the 14th and the 27th of forty values for 95 %. This is one rank wider."""
    found = Comparison.of([float(value) for value in range(1, 41)])

    assert (found.median, found.low, found.high) == (20.5, 14.0, 28.0)


def test_too_few_rounds_are_an_error() -> None:
    with pytest.raises(ValueError, match="5 rounds are too few"):
        Comparison.of([1.0] * (LEAST - 1))


def test_the_targets_are_those_of_cases_that_exist() -> None:
    names = {case.name for case in CASES}

    assert all(target.cases <= names for target in TARGETS)


def test_every_target_is_met_by_good_figures() -> None:
    assert set(verdicts(rounds(8)).values()) == {"met"}


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        pytest.param({"enforce": 0.74}, {TARGETS[0]}, id="one-call-is-slow"),
        pytest.param({"fast-path": 0.92, "native": 0.92}, {TARGETS[4]}, id="fast-path-is-slow"),
        pytest.param({"native": 0.97}, {TARGETS[5]}, id="native-policy-is-faster"),
    ],
)
def test_one_bad_figure_misses_one_target(changed: dict[str, float], missed: set[Target]) -> None:
    found = verdicts(rounds(8, GOOD | changed))

    assert {what for what, verdict in found.items() if verdict == "missed"} == {each.what for each in missed}


def test_a_webhook_that_uses_more_cpu_misses_the_targets_for_cpu() -> None:
    found = verdicts(rounds(8, webhook_ms=0.31))

    assert [what for what, verdict in found.items() if verdict == "missed"] == [
        "one call: webhook CPU per create, ms",
        "Gatekeeper's webhook CPU per create over ours",
        "a Kyverno ClusterPolicy's webhook CPU per create over ours",
    ]


def test_a_target_without_its_cases_is_not_measured() -> None:
    found = verdicts(rounds(8, {"none": 1.0, "fast-path": 0.95}))

    assert sorted(found.values()) == ["met", *["not measured"] * (len(TARGETS) - 1)]


def test_rounds_beside_other_programs_do_not_count() -> None:
    """In this test, the fast path was slow in the disturbed rounds only."""
    slow = rounds(2, GOOD | {"fast-path": 0.1}, busy=2)
    found = [*slow, *rounds(LEAST)]

    assert set(verdicts(found).values()) == {"met"}
    assert tables(found, TITLES)[0].startswith(f"2 of {LEAST + 2} rounds are void")
    assert [each["void"] for each in as_json(found)["rounds"]] == [True] * 2 + [False] * LEAST


def test_a_run_is_void_when_too_few_rounds_count() -> None:
    found = rounds(8, busy=3)

    assert set(verdicts(found).values()) == {"void"}
    assert "The run is void" in tables(found, TITLES)[0]


def test_a_row_for_each_case_and_each_target() -> None:
    lines = tables(rounds(8, busy=1), TITLES)

    assert "| the webhook | 0.80 (0.80…0.80) | 20 | 60 | 0.20 (0.20…0.20) | 0.10 | 70 |" in lines
    assert "| one call: creates/s over none | ≥ 0.75 | 0.80 (0.80…0.80) | met |" in lines
    assert sum(line.startswith("| ") for line in lines) == 2 + len(GOOD) + len(TARGETS)


def test_the_page_shows_the_table_of_the_committed_run() -> None:
    lines = (
        (ROOT / "benchmarks/results/reference/compare/compare.md").read_text(encoding="utf-8").splitlines()
    )
    first = next(number for number, line in enumerate(lines) if line.startswith("| registered |"))
    rows = [line for line in lines[first + 2 : first + 2 + len(CASES)] if line.startswith("| ")]
    page = (ROOT / "docs/compare.md").read_text(encoding="utf-8").splitlines()

    assert len(rows) >= len(GOOD)
    assert [row for row in rows if row not in page] == []
    assert any("run is void" in line for line in lines) is any("run is void" in line for line in page)
