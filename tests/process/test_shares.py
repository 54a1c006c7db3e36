"""No peer uses up what all peers share, and no namespace uses up the share of its peer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.process.shares import MAX_NAMESPACES, MAX_PEERS, OTHERS, Share, Shares

NAMES = st.sampled_from([None, "a", "b", "c"])
USES = st.lists(st.tuples(st.sampled_from(["1.1.1.1", "2.2.2.2"]), NAMES, st.integers(1, 9)), min_size=1)


@given(USES)
def test_the_largest_share_is_the_largest_namespace_of_the_largest_peer(
    uses: list[tuple[str, str | None, int]],
) -> None:
    shares = Shares()
    for peer, namespace, amount in uses:
        shares.add(shares.of(peer, namespace), amount)
    largest = shares.largest()
    everyone = {Share(peer, namespace) for peer, namespace, _ in uses}
    assert shares.used(largest)[0] == max(shares.used(each)[0] for each in everyone)
    assert shares.used(largest)[1] == max(
        shares.used(each)[1] for each in everyone if each.peer == largest.peer
    )


@given(USES)
def test_what_is_given_back_leaves_nothing_behind(uses: list[tuple[str, str | None, int]]) -> None:
    shares = Shares()
    taken = [(shares.of(peer, namespace), amount) for peer, namespace, amount in uses]
    for share, amount in taken:
        shares.add(share, amount)
    for share, amount in taken:
        shares.add(share, -amount)
    assert all(shares.used(share) == (0, 0) for share, _ in taken)
    with pytest.raises(ValueError, match="empty"):
        shares.largest()


@given(st.lists(NAMES, max_size=200), st.integers(1, 50))
def test_a_namespace_that_uses_little_always_has_room(order: list[str | None], most: int) -> None:
    shares = Shares()
    used = 0
    for namespace in order:
        share = shares.of("1.1.1.1", namespace)
        if shares.has_room(share, most):
            shares.add(share)
            used += 1
    newcomer = shares.of("1.1.1.1", "quiet")
    assert shares.has_room(newcomer, most)
    assert used <= sum(most / n + 1 for n in range(1, 5))


@given(st.lists(st.tuples(st.sampled_from([None, "1.1.1.1", "2.2.2.2"]), NAMES)), st.integers(1, 9))
def test_taking_is_adding_where_there_is_room(takers: list[tuple[str | None, str | None]], most: int) -> None:
    taken, added = Shares(), Shares()
    for peer, namespace in takers:
        share = added.of(peer, namespace)
        has_room = added.has_room(share, most)
        if has_room:
            added.add(share)
        assert taken.take(peer, namespace, most) == has_room
    assert all(taken.used(taken.of(*each)) == added.used(added.of(*each)) for each in takers)


def test_peers_and_namespaces_beyond_the_limits_share() -> None:
    shares = Shares()
    for number in range(MAX_PEERS):
        shares.add(shares.of(f"peer-{number}", "a"))
    assert shares.of("another", "a") == Share(OTHERS, "a")
    assert shares.of("peer-1", "b") == Share("peer-1", "b")
    for number in range(MAX_NAMESPACES):
        shares.add(shares.of("peer-1", f"namespace-{number}"))
    assert shares.of("peer-1", "another") == Share("peer-1", OTHERS)
    assert shares.of("peer-1", "namespace-1") == Share("peer-1", "namespace-1")


def test_long_names_of_namespaces_take_no_memory() -> None:
    assert len(Shares().of("1.1.1.1", "x" * 1_000_000).namespace or "") < 100
