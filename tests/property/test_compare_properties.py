"""Laws of the exact difference: no image contradicts it, in either direction."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget import budget
from gatekeeper_py.core import CompiledPolicy
from gatekeeper_py.core.compare.difference import Difference, _Comparison, compare
from property.policy_pairs import hub_images, hub_pairs, pairs
from property.strategies import images, namespaces

examples: Final = settings(max_examples=budget(40))

long_segments = st.integers(1, 255).map("n".__mul__)
long_images = st.builds(
    "{}/{}{}".format,
    st.sampled_from(["a.io", "b.io", "docker.io", "a.io/a", "a.io/library"]),
    st.builds("/".join, st.lists(long_segments, min_size=1, max_size=3)),
    st.sampled_from(["", ":v1"]),
)


def rewritten(policy: CompiledPolicy, namespace: str | None, image: str) -> str | None:
    return policy.rewrite(namespace, image) if policy.mode(namespace) == "mutate" else None


@examples
@given(pairs(), st.lists(st.tuples(st.one_of(images, long_images), namespaces), min_size=20, max_size=60))
def test_no_image_contradicts_the_difference(
    pair: tuple[CompiledPolicy, CompiledPolicy], probes: list[tuple[str, str | None]]
) -> None:
    check(pair, probes)


@settings(max_examples=budget(120))
@given(hub_pairs(), st.lists(st.tuples(hub_images, namespaces), min_size=40, max_size=60))
def test_no_image_at_the_limits_of_the_length_contradicts_the_difference(
    pair: tuple[CompiledPolicy, CompiledPolicy], probes: list[tuple[str, str | None]]
) -> None:
    check(pair, probes)


def check(pair: tuple[CompiledPolicy, CompiledPolicy], probes: list[tuple[str, str | None]]) -> None:
    """Check that no image contradicts the difference."""
    old, new = pair
    found = compare(old, new)
    for image, namespace in probes:
        before, after = (policy.decide(namespace, image).approved for policy in pair)
        assert found.widens or before or not after
        assert found.narrows or after or not before
        if before == after:
            same = rewritten(old, namespace, image) == rewritten(new, namespace, image)
            assert found.rewrites or same


@examples
@given(st.one_of(pairs(), hub_pairs()))
def test_every_witness_is_true(pair: tuple[CompiledPolicy, CompiledPolicy]) -> None:
    old, new = pair
    found = compare(old, new)
    for witness in found.witnesses:
        before, after = (policy.decide(witness.namespace, witness.image) for policy in pair)
        assert before.approved == (witness.before == "approved")
        assert after.approved == (witness.after == "approved")
        assert (before.rule, after.rule) == (witness.old, witness.new)
        if witness.change == "rewritten":
            names = [rewritten(policy, witness.namespace, witness.image) for policy in pair]
            assert names[0] != names[1]
    changes = {witness.change for witness in found.witnesses}
    assert changes == {
        name
        for name, is_true in (
            ("approved", found.widens), ("rejected", found.narrows), ("rewritten", found.rewrites),
        )
        if is_true
    }  # fmt: skip


@examples
@given(st.one_of(pairs(), hub_pairs()))
def test_a_policy_does_not_differ_from_itself_and_the_difference_has_two_sides(
    pair: tuple[CompiledPolicy, CompiledPolicy],
) -> None:
    old, new = pair
    same = compare(old, old)
    assert (same.widens, same.narrows, same.rewrites, same.witnesses) == (False, False, False, ())
    forward, backward = compare(old, new), compare(new, old)
    assert (forward.widens, forward.narrows, forward.rewrites) == (
        backward.narrows, backward.widens, backward.rewrites,
    )  # fmt: skip


@settings(max_examples=budget(80))
@given(st.one_of(pairs(), hub_pairs()))
def test_comparing_common_patterns_once_does_not_change_the_result(
    pair: tuple[CompiledPolicy, CompiledPolicy],
) -> None:
    found = compare(*pair)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Comparison, "_common", lambda *_: None)
        slow = compare(*pair)

    def by_cause(result: Difference) -> list[tuple[str, str, str, int]]:
        return sorted((w.change, str(w.old), str(w.new), len(w.image)) for w in result.witnesses)

    assert (found.widens, found.narrows, found.rewrites) == (slow.widens, slow.narrows, slow.rewrites)
    assert by_cause(found) == by_cause(slow)
