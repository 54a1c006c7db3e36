"""The guard of the hot path: its counts are reproducible, and it reports additional work."""

from __future__ import annotations

from benchmarks.guard.__main__ import CASES, TOLERANCE, count, counted_in, over_budget


async def test_counts_are_the_same_each_time() -> None:
    assert await count("allow") == await count("allow")


async def test_every_case_is_counted() -> None:
    for case in CASES:
        assert min((await count(case)).values()) > 0


def test_one_more_closure_shows() -> None:
    def lean() -> list[int]:
        return [1]

    def wasteful() -> list[int]:
        return sorted([3, 2, 1], key=lambda number: -number)

    assert counted_in(wasteful)["bytecodes"] > counted_in(lean)["bytecodes"]
    assert counted_in(wasteful)["c_calls"] > counted_in(lean)["c_calls"]


def test_a_count_over_its_budget_is_reported() -> None:
    budget = {"allow": {"bytecodes": 1000, "c_calls": 100}}
    within = int(1000 * (1 + TOLERANCE))
    assert over_budget({"allow": {"bytecodes": within, "c_calls": 100}}, budget) == []
    problems = over_budget({"allow": {"bytecodes": within + 1, "c_calls": 90}}, budget)
    assert len(problems) == 1
    assert problems[0].startswith("allow: 1,031 bytecodes, 3.1 % over")
