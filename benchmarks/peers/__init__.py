"""Other servers for comparison, which make the same decision and give the same answers.

``contestants()`` builds them and returns how to start each; ``missing()`` returns those whose tools are
missing. ``python -m benchmarks.peers`` checks each of them against one corpus of reviews.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.contestant import Contestant
from benchmarks.goprogram import BuildError
from benchmarks.peers.roster import PEERS, Peer

__all__ = ["BuildError", "contestants", "missing"]


def missing(peers: Sequence[Peer] = PEERS) -> dict[str, str]:
    """Return the peers that cannot be built on this machine: name -> missing tool."""
    reasons = {peer.name: peer.lacking() for peer in peers}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def contestants(peers: Sequence[Peer] = PEERS) -> list[Contestant]:
    """Build all peers that can be built, and return them. Names those left out on standard error.

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
