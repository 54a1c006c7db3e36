"""Findings: how they print, serialise and sort."""

from __future__ import annotations

from gatekeeper_py.core.policy.finding import Finding, in_order


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
