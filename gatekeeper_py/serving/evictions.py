"""Log lines about connections that were closed because all were in use."""

from __future__ import annotations

from typing import Final

from gatekeeper_py.runtime.logs import Log, RateLimit
from gatekeeper_py.serving.listener import Evicted

QUIET_SECONDS: Final = 10.0
"""Pause between two lines about one listener and reason. An attack closes thousands of connections a
second."""


class EvictionLog:
    """Logs the first connection in ``QUIET_SECONDS`` that was closed for a reason, and counts the others."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._limit = RateLimit(QUIET_SECONDS)

    def write(self, listener: str, why: Evicted, peer: str) -> None:
        """Log that a connection of ``listener`` was closed because all were in use, at a limited rate."""
        held = self._limit.passes(f"{listener}/{why}")
        if held is not None:
            self._log.warning("connection_evicted", listener=listener, why=why, peer=peer, suppressed=held)
