"""Remarks become findings with lines and columns, which a second pass over the text finds."""

from __future__ import annotations

import pytest

from gatekeeper_py.core.policy.finding import MAX_FINDINGS, Finding, Mark, Path, Remark, Remarks
from gatekeeper_py.core.policy.parse.positions import as_findings, path_text

TEXT = """\
allow:
  - a.io
  - image: b.io
    until: '2026-03-01'
mode: |
  enforce
"""


def located(text: str, path: Path, *, at_key: bool = False) -> Finding:
    remarks = Remarks()
    remarks.add(Remark(code="c", path=path, message="m", at_key=at_key))
    (finding,) = as_findings(text, remarks)
    return finding


@pytest.mark.parametrize(
    ("path", "position", "shown"),
    [
        pytest.param((), (1, 1), "", id="document"),
        pytest.param(("allow",), (2, 3), "allow", id="list"),
        pytest.param(("allow", 0), (2, 5), "allow[0]", id="item"),
        pytest.param(("allow", 1, "until"), (4, 12), "allow[1].until", id="value"),
        pytest.param(
            ("allow", 1, "colour"), (3, 5), "allow[1].colour", id="missing-key-is-where-its-mapping-is"
        ),
        pytest.param(("allow", 7), (2, 3), "allow[7]", id="missing-item-is-where-its-list-is"),
        pytest.param(("deny", 0), (1, 1), "deny[0]", id="missing-field-is-where-the-document-is"),
        pytest.param(("allow", 0, "image"), (2, 5), "allow[0]", id="below-text-is-the-text"),
        pytest.param(("allow", 1, "image"), (3, 12), "allow[1].image", id="below-a-mapping"),
    ],
)
def test_positions_of_values(path: Path, position: tuple[int, int], shown: str) -> None:
    finding = located(TEXT, path)
    assert (finding.line, finding.column) == position
    assert finding.path == shown


@pytest.mark.parametrize(
    ("path", "position"),
    [
        pytest.param(("allow", 1, "until"), (4, 5), id="key"),
        pytest.param(("allow", 1), (3, 5), id="an-item-has-no-key-of-its-own"),
        pytest.param(("allow", 1, "colour"), (3, 5), id="missing-key"),
    ],
)
def test_positions_of_keys(path: Path, position: tuple[int, int]) -> None:
    finding = located(TEXT, path, at_key=True)
    assert (finding.line, finding.column) == position


def test_windows_line_ends_are_counted() -> None:
    finding = located("a: 1\r\nb: 2\r\n", ("b",))
    assert (finding.line, finding.column) == (2, 4)


def test_an_empty_text_has_the_first_position() -> None:
    assert located("", ("a",)).line == 1


def test_a_known_position_is_kept() -> None:
    remarks = Remarks()
    remarks.add(Remark(code="c", path=("a", 0), message="m", mark=Mark(7, 8)))
    remarks.add(Finding(severity="error", code="d", path="mode", line=1, message="m"))
    findings = as_findings("not: [yaml", remarks)
    assert [(f.code, f.path, f.line, f.column) for f in findings] == [
        ("d", "mode", 1, 1),
        ("c", "a[0]", 7, 8),
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [(0, None), (1, "1 more finding is not listed"), (1234, "1,234 more findings are not listed")],
)
def test_a_report_has_a_hundred_findings_and_counts_the_rest(more: int, message: str | None) -> None:
    text = "".join(f"k{i}:\n" for i in range(2_000))
    remarks = Remarks()
    remarks.extend(
        Remark(severity="warning", code="c", path=(f"k{i}",), message="m") for i in range(MAX_FINDINGS + more)
    )
    assert remarks.total == MAX_FINDINGS + more
    findings = as_findings(text, remarks)
    assert [f.line for f in findings[:100]] == list(range(1, 101))
    assert [(f.code, f.message, f.line, f.severity) for f in findings[100:]] == (
        [("more-findings", message, 100, "warning")] if message else []
    )


@pytest.mark.parametrize(
    ("path", "text"),
    [
        pytest.param((), "", id="document"),
        pytest.param(("allow", 2, "image"), "allow[2].image", id="image"),
        pytest.param(("a\nb", "\xe9"), "a\\nb.\\xe9", id="one-printable-line"),
        pytest.param(("k" * 1000,), "k" * 57 + "...", id="bounded"),
    ],
)
def test_paths_are_formatted_with_dots_and_indices(path: Path, text: str) -> None:
    assert path_text(path) == text
