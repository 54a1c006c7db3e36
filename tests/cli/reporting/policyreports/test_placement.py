"""The placement of results in reports: each result is stored once, with small reports and few writes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.cli.reporting.policyreports.placement import (
    MAX_BYTES,
    MAX_RESULTS,
    Live,
    Placement,
    digest_of,
    place,
)
from gatekeeper_py.cli.reporting.policyreports.results import Findings


def result(number: int, padding: int = 0) -> dict[str, Any]:
    return {
        "policy": "p",
        "result": "warn" if number % 3 == 0 else "fail",
        "message": f"{number}" + "x" * padding,
    }


def stored(placement: Placement, before: list[Live]) -> list[Live]:
    """Return the reports that the API server has after the writes and deletions."""
    found = {each.name: each for each in before if each.name not in placement.delete}
    for report in placement.write:
        found[report.name] = Live(
            name=report.name,
            resource_version="1",
            digests=tuple(map(digest_of, report.results)),
            summary=report.summary,
            intact=True,
        )
    return list(found.values())


def findings(*numbers: int, passed: int = 0, padding: int = 0) -> Findings:
    return Findings([result(number, padding) for number in numbers], passed=passed)


def test_ten_thousand_results_take_twenty_reports_and_the_second_time_nothing() -> None:
    found = findings(*range(10_000), passed=7)
    first = place([], found)
    assert len(first.write) == 20
    assert [report.name for report in first.write[:2]] == ["gatekeeper-py-1", "gatekeeper-py-2"]
    assert max(len(report.results) for report in first.write) == MAX_RESULTS
    assert sum(report.summary["pass"] for report in first.write) == 7
    assert sum(report.summary["fail"] + report.summary["warn"] for report in first.write) == 10_000
    again = place(stored(first, []), found)
    assert (again.write, again.delete, again.unchanged) == ((), (), 20)


def test_one_result_more_or_less_changes_one_report() -> None:
    live = stored(place([], findings(*range(3000))), [])
    for changed in (findings(*range(3001)), findings(*range(1, 3000)), findings(-5, *range(1, 3000))):
        placement = place(live, changed)
        assert len(placement.write) == 1
        assert placement.delete == ()


def test_reports_stay_small_when_results_are_large() -> None:
    placement = place([], findings(*range(600), padding=4000))
    for report in placement.write:
        assert len(orjson.dumps(report.results)) <= MAX_BYTES + MAX_RESULTS + 2
    assert sum(len(report.results) for report in placement.write) == 600


def test_empty_reports_are_deleted_and_few_results_do_not_stay_scattered() -> None:
    live = stored(place([], findings(*range(5000))), [])
    gone = place(live, Findings())
    assert (gone.write, len(gone.delete)) == ((), 10)
    half = place(live, findings(*range(500)))
    assert len(half.delete) == 9
    scattered = place(live, findings(*range(0, 5000, 500)))
    after = stored(scattered, live)
    assert [each.name for each in after] == ["gatekeeper-py-1"]
    assert len(after[0].digests) == 10


def test_a_run_without_findings_writes_one_report_without_results() -> None:
    first = place([], Findings(passed=3, skipped=2))
    (report,) = first.write
    assert (report.results, report.summary["pass"], report.summary["skip"]) == ([], 3, 2)
    live = stored(first, [])
    assert place(live, Findings(passed=3, skipped=2)).write == ()
    assert place(live, Findings(passed=4, skipped=2)).write[0].summary["pass"] == 4
    assert place(live, Findings()).delete == ("gatekeeper-py-1",)


def test_a_report_that_somebody_edited_is_written_again() -> None:
    found = findings(1, 2, 3)
    (live,) = stored(place([], found), [])
    for edited in (
        Live(name=live.name, resource_version="9", digests=live.digests, summary={}, intact=True),
        Live(name=live.name, resource_version="9", digests=(), summary=live.summary, intact=True),
        Live(
            name=live.name,
            resource_version="9",
            digests=(*live.digests, digest_of("not a mapping")),
            summary=live.summary,
            intact=True,
        ),
        Live(name=live.name, resource_version="9", digests=live.digests, summary=live.summary, intact=False),
    ):
        (report,) = place([edited], found).write
        assert report.name == live.name
        assert Counter(report.digests) == Counter(live.digests)


def test_fields_that_the_api_server_adds_do_not_count() -> None:
    assert digest_of({**result(1), "subjects": []}) == digest_of(result(1))
    assert digest_of({**result(1), "message": "other"}) != digest_of(result(1))
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    assert digest_of({**result(1), "message": deep}) == b""


_NUMBERS = st.lists(st.integers(0, 40), max_size=60)


@given(st.lists(st.tuples(_NUMBERS, st.integers(0, 2)), min_size=1, max_size=4))
def test_every_result_is_stored_once_and_the_next_run_writes_nothing(
    steps: list[tuple[list[int], int]],
) -> None:
    live: list[Live] = []
    for numbers, passed in steps:
        found = findings(*numbers, passed=passed)
        live = stored(place(live, found), live)
        digests = Counter(digest for each in live for digest in each.digests)
        assert digests == Counter(map(digest_of, found.results))
        assert sum(each.summary["pass"] for each in live) == passed
        assert place(live, found).write == ()
        assert place(live, found).delete == ()
