"""Log look-ups that fail, and circuit breakers that open or close."""

from __future__ import annotations

from typing import Final

from gatekeeper_py.registry.lookups import Observer, Share
from gatekeeper_py.runtime.logs import Log, RateLimit

QUIET_SECONDS: Final = 10.0
"""Minimum time between two log lines about failed look-ups in one registry. While a registry is down, every
review that needs it has a failed look-up."""


class LoggedFailures:
    """Logs failures, and passes every call on to another observer, which counts look-ups.

    Implements ``lookups.Observer``.
    """

    def __init__(self, observer: Observer, log: Log) -> None:
        self._observer = observer
        self._log = log
        self._limit = RateLimit(QUIET_SECONDS)

    def lookup(self, host: str, result: str, seconds: float | None, cause: str = "") -> None:
        self._observer.lookup(host, result, seconds, cause)
        if result == "error":
            suppressed = self._limit.passes(host)
            if suppressed is not None:
                self._log.warning("lookup_failed", host=host, cause=cause, suppressed=suppressed)

    def breaker(self, host: str, *, is_open: bool) -> None:
        self._observer.breaker(host, is_open=is_open)
        if is_open:
            self._log.warning("lookup_breaker_opened", host=host)
        else:
            self._log.info("lookup_breaker_closed", host=host)

    def over_share(self, limit: Share) -> None:
        self._observer.over_share(limit)
