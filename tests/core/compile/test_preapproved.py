"""Pre-approved images are included and not excluded; one set may cover another."""

from __future__ import annotations

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from gatekeeper_py.core.compile.preapproved import EVERYTHING, NOTHING, PreApproved
from gatekeeper_py.core.images import scope as scopes
from property.strategies import NAMESPACES, images, patterns
from support.skipping import pre_approved, scope

DIGEST = "@sha256:" + "7c" * 32
APPROVED = pre_approved(
    "a.io",
    scope("b.io/team/**", "shop", "team-*"),
    "c.io/x@*",
    excluded=["*/**:latest", "a.io/old/**", scope("a.io/x", "shop")],
)


@pytest.mark.parametrize(
    ("image", "namespace", "has"),
    [
        pytest.param("a.io/y:1", None, True, id="included"),
        pytest.param("a.io/y", None, False, id="latest-is-excluded"),
        pytest.param("a.io/y:latest", None, False, id="latest-by-name"),
        pytest.param("a.io/old/y:1", None, False, id="excluded-subtree"),
        pytest.param("a.io/old:1", None, True, id="beside-the-excluded-subtree"),
        pytest.param("a.io/x:1", "shop", False, id="excluded-here"),
        pytest.param("a.io/x:1", "team-a", True, id="excluded-elsewhere"),
        pytest.param("a.io/x:1", None, True, id="without-a-namespace"),
        pytest.param("b.io/team/y:1", "team-a", True, id="included-here"),
        pytest.param("b.io/team/y:1", "other", False, id="included-elsewhere"),
        pytest.param("b.io/team/y:1", None, False, id="included-somewhere"),
        pytest.param(f"c.io/x:1{DIGEST}", None, True, id="pinned"),
        pytest.param("c.io/x:1", None, False, id="not-pinned"),
        pytest.param("nginx:1", None, False, id="not-written-in-full"),
        pytest.param("d.io/x:1", None, False, id="not-included"),
    ],
)
def test_an_image_is_pre_approved_by_its_name_and_namespace(
    image: str, namespace: str | None, *, has: bool
) -> None:
    assert APPROVED.has(namespace, image) is has
    assert EVERYTHING.has(namespace, image)
    assert not NOTHING.has(namespace, image)


def test_whether_there_is_anything_and_whether_namespaces_matter() -> None:
    assert (bool(NOTHING), bool(EVERYTHING), bool(APPROVED)) == (False, True, True)
    assert APPROVED.by_namespace
    assert not EVERYTHING.by_namespace
    assert not pre_approved("a.io", excluded=["a.io/x"]).by_namespace


@pytest.mark.parametrize(
    ("one", "other", "covers"),
    [
        pytest.param(NOTHING, NOTHING, True, id="nothing"),
        pytest.param(pre_approved("a.io"), NOTHING, True, id="anything-covers-nothing"),
        pytest.param(NOTHING, pre_approved("a.io"), False, id="nothing-covers-nothing-else"),
        pytest.param(EVERYTHING, pre_approved("a.io"), True, id="everything"),
        pytest.param(pre_approved("a.io"), EVERYTHING, False, id="not-everything"),
        pytest.param(pre_approved("a.io"), pre_approved("a.io/x"), True, id="wider"),
        pytest.param(pre_approved("a.io/x"), pre_approved("a.io"), False, id="narrower"),
        pytest.param(pre_approved("a.io@*"), pre_approved("a.io"), False, id="digest-required"),
        pytest.param(pre_approved(scope("a.io", "shop")), pre_approved("a.io"), False, id="one-namespace"),
        pytest.param(
            pre_approved("a.io", excluded=["a.io/x"]), pre_approved("a.io"), False, id="one-more-exclusion"
        ),
        pytest.param(
            pre_approved("a.io", "b.io", excluded=["b.io/x"]), pre_approved("a.io"), True, id="beside-it"
        ),
        pytest.param(
            pre_approved("a.io", excluded=["a.io/x/y"]),
            pre_approved("a.io", excluded=["a.io/x/**"]),
            True,
            id="a-narrower-exclusion",
        ),
        pytest.param(
            pre_approved("a.io"), pre_approved("a.io", excluded=["a.io/x"]), True, id="no-exclusion-any-more"
        ),
    ],
)
def test_one_set_covers_another(one: PreApproved, other: PreApproved, covers: bool) -> None:  # noqa: FBT001
    assert one.covers(other) is covers


@pytest.mark.parametrize(
    ("one", "other", "joined"),
    [
        pytest.param(NOTHING, pre_approved("a.io"), pre_approved("a.io"), id="nothing"),
        pytest.param(pre_approved("a.io"), NOTHING, pre_approved("a.io"), id="nothing-more"),
        pytest.param(EVERYTHING, pre_approved("a.io"), EVERYTHING, id="everything"),
        pytest.param(pre_approved("a.io"), EVERYTHING, EVERYTHING, id="everything-more"),
        pytest.param(pre_approved("a.io"), pre_approved("b.io"), pre_approved("a.io", "b.io"), id="both"),
        pytest.param(
            pre_approved("a.io", excluded=["a.io/x", "a.io/y"]),
            pre_approved("a.io", excluded=["a.io/y", "a.io/z"]),
            pre_approved("a.io", excluded=["a.io/y"]),
            id="what-both-exclude",
        ),
    ],
)
def test_joined_sets_cover_both(one: PreApproved, other: PreApproved, joined: PreApproved) -> None:
    assert one.joined(other) == joined
    assert joined.covers(one)
    assert joined.covers(other)


some = st.lists(patterns, min_size=1, max_size=3)


@given(some, some, some, some, images, st.sampled_from(NAMESPACES))
def test_an_image_in_the_one_and_not_in_the_other_shows_that_it_is_not_covered(
    included: list[str],
    excluded: list[str],
    other_included: list[str],
    other_excluded: list[str],
    image: str,
    namespace: str | None,
) -> None:
    one = pre_approved(*included, excluded=excluded)
    other = pre_approved(*included, *other_included, excluded=other_excluded)
    for left, right in ((one, other), (other, one)):
        if left.covers(right) and right.has(namespace, image):
            event("covered")
            assert left.has(namespace, image)


def test_a_comparison_over_its_budget_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    other = pre_approved("a.io", "b.io")
    one = pre_approved("a.io", "b.io", excluded=["c.io/x"])
    assert one.covers(other)
    monkeypatch.setattr(scopes, "MAX_COMPARISONS", 0)
    assert not pre_approved("a.io", "b.io", excluded=["a.io/x"]).covers(other)
