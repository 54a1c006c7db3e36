"""The table of an audit has its full width or the width of the terminal."""

from __future__ import annotations

import pytest

from gatekeeper_py.cli.inventory.tally import Tallied, Usage
from gatekeeper_py.cli.reporting.audit import HEADINGS, table_cells
from gatekeeper_py.cli.reporting.tables import layout
from support.auditing import tallied

DIGEST = "sha256:" + "ab" * 32
UNLISTED = tallied("nginx:1", "unlisted", "docker.io/library/nginx matches no rule")
DENIED = tallied(
    f"registry.fake.io/team/tool@{DIGEST}",
    "denied",
    "registry.fake.io/team/tool is denied by deny[0] registry.fake.io (a lookalike, owner security)",
)
MISSING = tallied("", "invalid", "the image is missing")


def pods(count: int) -> list[Usage]:
    return [Usage("Pod", "shop", f"web-{number}", "spec.containers[0].image") for number in range(count)]


def table(rows: list[tuple[Tallied, list[Usage]]], width: int | None) -> list[tuple[str, ...]]:
    return layout(HEADINGS, [table_cells(*row) for row in rows], width, right={"COUNT"})


def test_a_table_without_a_width_cuts_nothing() -> None:
    _, cells = table([(DENIED, pods(100))], None)
    assert cells[0] == DENIED.verdict.image
    assert cells[3] == DENIED.verdict.decision.detail
    assert cells[-1] == ", ".join(f"Pod shop/web-{number}" for number in range(100))


def test_details_are_shown_if_they_add_to_the_reason() -> None:
    assert table([(UNLISTED, pods(1))], None) == [
        ("IMAGE  ", "REASON  ", "COUNT", "WHERE"),
        ("nginx:1", "unlisted", "    1", "Pod shop/web-0"),
    ]
    assert table([(MISSING, pods(1)), (UNLISTED, pods(1))], None) == [
        ("IMAGE  ", "REASON  ", "COUNT", "DETAIL              ", "WHERE"),
        ("(none) ", "invalid ", "    1", "the image is missing", "Pod shop/web-0"),
        ("nginx:1", "unlisted", "    1", "                    ", "Pod shop/web-0"),
    ]


@pytest.mark.parametrize("width", [70, 80, 100, 140, 200, 300])
def test_lines_fit_in_a_width(width: int) -> None:
    lines = table([(UNLISTED, pods(50)), (DENIED, pods(2))], width)
    assert all(len("  ".join(line)) <= width for line in lines)


def test_the_columns_after_the_image_are_cut_first() -> None:
    _, first, second = table([(UNLISTED, pods(50)), (DENIED, pods(2))], 120)
    assert first == (
        "nginx:1                                          ",
        "unlisted",
        "   50",
        "                         ",
        "Pod shop/web-0, +49 more",
    )
    assert second == (
        "registry.fake.io/team/tool@sha256:abababababab...",
        "denied  ",
        "    2",
        "registry.fake.io/team/...",
        "Pod shop/web-0, +1 more",
    )


def test_digests_are_cut_before_anything_else() -> None:
    long = tallied(f"registry.corp.example/team/tool@{DIGEST}", "unlisted", "it matches no rule")
    _, cells = table([(long, pods(1))], 90)
    assert cells[0] == "registry.corp.example/team/tool@sha256:abababababab..."
    assert cells[-1] == "Pod shop/web-0"


@pytest.mark.parametrize("width", [0, 1, 20])
def test_a_terminal_that_is_too_narrow_gets_narrow_columns(width: int) -> None:
    [_, cells] = table([(DENIED, [Usage("Deployment", "a-long-namespace", "a-long-name", "")])], width)
    assert [len(cell) for cell in cells] == [12, 6, 5, 12, 12]
    assert cells[-1] == "Deploymen..."


def test_a_cluster_scoped_object_has_no_namespace() -> None:
    [_, cells] = table([(UNLISTED, [Usage("Widget", None, "shared", "spec.image")])], None)
    assert cells[-1] == "Widget shared"
