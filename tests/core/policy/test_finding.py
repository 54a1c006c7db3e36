"""Findings: how they print, serialise and sort."""

from __future__ import annotations

import dataclasses

import orjson

from gatekeeper_py.core.policy.finding import (
    MAX_FINDINGS,
    MAX_MESSAGE,
    MAX_PATH,
    MAX_PROPOSAL,
    MORE_FINDINGS,
    Finding,
    Remark,
    Remarks,
    in_order,
)


def finding(path: str = "mode", line: int = 3, *, column: int = 1, proposal: str = "") -> Finding:
    return Finding(
        severity="error",
        code="bad-value",
        path=path,
        line=line,
        column=column,
        message="must be text",
        proposal=proposal,
    )


def test_a_finding_prints_its_place_and_its_proposal() -> None:
    assert str(finding()) == "line 3, mode: must be text"
    assert str(finding("", proposal="quote it")) == "line 3: must be text (quote it)"


def test_the_stable_form() -> None:
    assert finding(column=7).as_json() == {
        "severity": "error",
        "code": "bad-value",
        "path": "mode",
        "line": 3,
        "message": "must be text",
        "proposal": "",
    }


def test_findings_are_read_from_top_to_bottom() -> None:
    ordered = in_order([finding("b", 9), finding("b", 2, column=4), finding("b", 2), finding("a", 2)])
    assert [(f.line, f.column, f.path) for f in ordered] == [
        (2, 1, "a"),
        (2, 1, "b"),
        (2, 4, "b"),
        (9, 1, "b"),
    ]


def test_the_number_of_omitted_findings_comes_last() -> None:
    more = dataclasses.replace(finding(line=1), code=MORE_FINDINGS)
    assert in_order([more, finding(line=9)]) == (finding(line=9), more)


def test_a_finding_is_bounded() -> None:
    """A long proposal is left out, because a cut one would propose something else."""
    long = Finding(
        severity="error",
        code="c",
        path="p" * 10_000,
        line=1,
        message="m" * 10_000,
        proposal="p" * (MAX_PROPOSAL + 1),
    )
    assert (long.path, long.message) == ("p" * (MAX_PATH - 3) + "...", "m" * (MAX_MESSAGE - 3) + "...")
    assert long.proposal == ""
    longest = Finding(
        severity="error",
        code="c",
        path="p" * MAX_PATH,
        line=1,
        message="m" * MAX_MESSAGE,
        proposal="p" * MAX_PROPOSAL,
    )
    assert (len(longest.path), len(longest.message)) == (MAX_PATH, MAX_MESSAGE)
    assert len(longest.proposal) == MAX_PROPOSAL


def test_the_findings_of_two_documents_fit_into_256_kib_of_json() -> None:
    """``/policy`` shows the findings of the loaded and of the refused document."""
    worst = Finding(
        severity="information",
        code="a-code-of-twenty-two",
        path='"' * 1_000,
        line=10**8,
        message="\\" * 1_000,
        proposal='"' * MAX_PROPOSAL,
    )
    shown = [worst.as_json()] * 2 * (MAX_FINDINGS + 1)
    assert len(orjson.dumps({"findings": shown})) < 250 * 1024


def test_a_report_keeps_the_first_hundred_and_counts_the_rest() -> None:
    remarks = Remarks()
    remarks.extend(Remark(code="c", path=(number,), message="m") for number in range(MAX_FINDINGS - 1))
    assert not remarks.full
    remarks.extend(Remark(code="c", path=(number,), message="m") for number in range(5))
    assert remarks.full
    assert (len(list(remarks)), remarks.more, remarks.total) == (MAX_FINDINGS, 4, MAX_FINDINGS + 4)
