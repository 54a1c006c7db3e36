"""Peers: which addresses count as one, how they earn credit, and how many are remembered."""

from __future__ import annotations

import pytest

from gatekeeper_py.http.connections.peers import MAX_CREDIT, MAX_REMEMBERED, Peer, Peers, peer_key


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("10.0.0.1", "10.0.0.1", True, id="the-same-address"),
        pytest.param("10.0.0.1", "10.0.0.2", False, id="two-ipv4-addresses"),
        pytest.param("10.0.0.1", "::ffff:10.0.0.1", True, id="ipv4-at-a-socket-of-both-families"),
        pytest.param("::ffff:10.0.0.1", "::ffff:10.0.0.2", False, id="two-mapped-ipv4-addresses"),
        pytest.param("::ffff:a00:1", "10.0.0.1", True, id="mapped-in-hexadecimal"),
        pytest.param("fd00::1", "fd00::2:3:4:5", True, id="two-addresses-of-one-ipv6-prefix"),
        pytest.param("fd00:0:0:1::1", "fd00:0:0:2::1", False, id="two-ipv6-prefixes"),
        pytest.param("fe80::1%eth0", "fe80::2%eth0", True, id="link-local-addresses-with-a-zone"),
        pytest.param("::1", "127.0.0.1", False, id="the-loopbacks-of-both-families"),
    ],
)
def test_addresses_are_grouped_into_peers(one: str, other: str, *, same: bool) -> None:
    assert (peer_key(one) == peer_key(other)) is same


def test_each_good_request_makes_the_burden_of_a_connection_less() -> None:
    peer = Peer("10.0.0.1", 1)
    peer.connections = 25
    burdens = []
    for reviews in (0, 1, 24, 500, MAX_CREDIT):
        peer.reviews = reviews
        burdens.append(peer.burden())
    assert burdens == sorted(burdens, reverse=True)
    assert burdens[0] == 25
    assert burdens[2] == 1


def test_credit_is_bounded_so_that_no_peer_can_hold_all_connections() -> None:
    rich, honest = Peer("10.0.0.1", 1), Peer("10.0.0.2", 2)
    rich.connections, rich.reviews = 400, 100 * MAX_CREDIT
    honest.connections, honest.reviews = 25, MAX_CREDIT
    assert rich.burden() > honest.burden()


def test_a_peer_is_known_while_it_has_a_connection_or_credit() -> None:
    peers = Peers()
    stranger, caller = peers.find("10.0.0.1"), peers.find("10.0.0.2")
    assert len(peers) == 0, "an address that was only looked up is not kept"
    for peer in (stranger, caller):
        peers.connected(peer)
    caller.reviews = 3
    for peer in (stranger, caller):
        peers.disconnected(peer)
    assert peers.find("10.0.0.2") is caller
    assert peers.find("10.0.0.1") is not stranger
    peers.halve_credit()
    assert peers.find("10.0.0.2").reviews == 1
    peers.halve_credit()
    assert len(peers) == 0


def test_halving_credit_keeps_connected_peers() -> None:
    peers = Peers()
    peer = peers.find("10.0.0.1")
    peers.connected(peer)
    peers.halve_credit()
    assert list(peers) == [peer]
    peers.disconnected(peer)
    assert len(peers) == 0


def test_strangers_cannot_displace_the_credit_of_an_api_server() -> None:
    """Each stranger sends one good review from its own address and disconnects."""
    peers = Peers()
    server = peers.find("10.0.0.1")
    peers.connected(server)
    server.reviews = 50
    peers.disconnected(server)
    for number in range(3 * MAX_REMEMBERED):
        stranger = peers.find(f"10.1.{number // 256}.{number % 256}")
        peers.connected(stranger)
        stranger.reviews = 1
        peers.disconnected(stranger)
        assert len(peers) <= MAX_REMEMBERED + 1
    assert peers.find("10.0.0.1") is server
    peers.connected(server)
    peers.disconnected(server)
    assert peers.find("10.0.0.1") is server
