"""Servers that other people would write, to compare with: the same decision, the same answers.

``contestants()`` builds them and says how each is started; ``missing()`` names those for which a tool is not
there. ``python -m benchmarks.peers`` holds each of them to one corpus of reviews.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.contestant import Contestant
from benchmarks.goprogram import BuildError
from benchmarks.peers.roster import PEERS, Peer

__all__ = ["BuildError", "contestants", "missing"]


def missing(peers: Sequence[Peer] = PEERS) -> dict[str, str]:
    """The peers that cannot be had on this machine: name -> which tool is not there."""
    reasons = {peer.name: peer.lacking() for peer in peers}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def contestants(peers: Sequence[Peer] = PEERS) -> list[Contestant]:
    """All peers that can be had, built unless they are; those left out are named on standard error.

    Raises ``BuildError``, naming the peer, when a build fails.
    """
    left_out = missing(peers)
    for name, reason in left_out.items():
        sys.stderr.write(f"{name} is left out: {reason}\n")
    built = []
    for peer in peers:
        if peer.name in left_out:
            continue
        try:
            built.append(peer.contestant(peer.build()))
        except BuildError as error:
            raise BuildError(f"{peer.name} cannot be built: {error}") from error
    return built
