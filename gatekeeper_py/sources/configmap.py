"""A policy in a ConfigMap: listed, then watched by name.

kubernetes-asyncio's ``Watch`` is not used: it waits for ever for a silent peer, reconnects about a
thousand times a second on an empty stream, retries a 410 with the same version, and yields HTTP errors
as strings. Here anything unusual leads to a jittered pause and a new list, and the last good policy
serves meanwhile. The rules are in docs/reliability.md.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from gatekeeper_py.delivery import Delivery
from gatekeeper_py.runtime.backoff import backed_off
from gatekeeper_py.runtime.logs import Log
from gatekeeper_py.settings import ConfigMapName
from gatekeeper_py.sources.events import Observation, SourceError, read_event, read_list
from gatekeeper_py.sources.listwatch import HttpSession, Timing, Watch, as_source_error, get_list, open_watch

FIRST_PAUSE_SECONDS: Final = 0.8
LONGEST_PAUSE_SECONDS: Final = 30.0
"""Both as in client-go's reflector. A policy may be stale for this long after the API server is back."""

PAUSE_JITTER: Final = 0.5
"""Largest fraction by which a pause is extended, so that replicas do not all return at once."""

WATCH_JITTER: Final = 0.1

MAX_RETRY_AFTER_SECONDS: Final = 60.0
"""Longest pause that an API server can ask for. An old policy stays in force during the pause."""

SHORT_WATCH_SECONDS: Final = 1.0
"""A watch that ends sooner counts as a failure, as in client-go's reflector, to avoid a busy loop."""

STEADY_SECONDS: Final = 60.0
"""After following the ConfigMap for this long, the next failure starts with the shortest pause again."""

RECONNECT_AFTER: Final = 3
"""After this many failures in a row, each further failure makes the source read the configuration again. The
cluster may have moved, and under TLS 1.3 a server that refuses our client certificate just closes the
connection. The first failures do not, because reading the configuration may start a program that fetches a
token."""


class ConfigMapSource:
    """Delivers one ConfigMap: when it has been listed, and then whenever its content changes.

    ``connect`` reads the configuration and makes a session; it raises ``SettingsError``.
    """

    def __init__(
        self,
        name: ConfigMapName,
        connect: Callable[[], Awaitable[HttpSession]],
        *,
        log: Log,
        on_synced: Callable[[], None] = lambda: None,
        timing: Timing | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._name = name
        self._path = f"/api/v1/namespaces/{quote(name.namespace, safe='')}/configmaps"
        self._selector = f"metadata.name={name.name}"
        self._make_session = connect
        self._log = log
        self._on_synced = on_synced
        self._timing = timing or Timing()
        self._sleep = sleep
        self._monotonic = monotonic
        self._uniform = uniform
        self._session: HttpSession | None = None
        self._version: str | None = None
        self._watch: Watch | None = None
        self._watch_opened = 0.0
        self._in_step_since: float | None = None
        self._failures = 0
        self._token_reloaded = False

    async def connect(self) -> HttpSession:
        """Connect now instead of in the first step, to find out at start whether the configuration is usable.

        Raises ``SettingsError``.
        """
        if self._session is None:
            self._session = await self._make_session()
        return self._session

    async def close(self) -> None:
        """Close the session. ``deliveries`` does so at its end, but only if it was started."""
        await self._disconnect()

    async def deliveries(self) -> AsyncGenerator[Delivery]:
        """Yield each change of text, mode or problem, for ever.

        Other changes, such as of labels, only update the version that the next watch starts from.
        ``on_synced`` is called after each list, event and bookmark.
        """
        last: Delivery | None = None
        try:
            while True:
                try:
                    delivery = await self.step()
                except Exception as problem:  # noqa: BLE001 - logged in _recover; reviews must go on
                    await self._recover(as_source_error(problem), problem)
                    continue
                if delivery is None:
                    continue
                if last is None or not delivery.same_state(last):
                    last = delivery
                    yield delivery
        finally:
            await self._disconnect()

    async def step(self) -> Delivery | None:
        """Connect and list, or open a watch, or read its next line. Return the state it delivered, if any.

        Raises what ``as_source_error`` accepts; ``deliveries`` then starts over.
        """
        session = await self.connect()
        if self._version is None:
            return await self._list(session)
        if self._watch is None:
            seconds = self._timing.watch * self._uniform(1 - WATCH_JITTER, 1 + WATCH_JITTER)
            self._watch = await open_watch(
                session, self._path, self._selector, self._version, seconds, self._timing
            )
            self._watch_opened = self._monotonic()
            return None
        line = await self._watch.line()
        if line is None:
            self._end(self._watch)
            return None
        delivery = self._take(read_event(line, self._name))
        self._token_reloaded = False
        return delivery

    async def _list(self, session: HttpSession) -> Delivery | None:
        body = await get_list(session, self._path, self._selector, self._timing)
        delivery = self._take(read_list(body, self._name))
        self._in_step_since = self._monotonic()
        self._log.info("policy_source_synced", source=str(self._name), resource_version=self._version)
        return delivery

    def _take(self, seen: Observation) -> Delivery | None:
        self._version = seen.version
        self._on_synced()
        return seen.delivery

    def _end(self, watch: Watch) -> None:
        """Handle the end of a watch; after a regular one the next watch continues from the last version."""
        self._close_watch()
        if not watch.lines:
            raise SourceError("a watch ended without an event")
        if self._monotonic() - self._watch_opened < SHORT_WATCH_SECONDS:
            raise SourceError("a watch ended at once")

    async def _recover(self, error: SourceError, problem: Exception) -> None:
        """Pause, then start over with a list."""
        since, self._in_step_since = self._in_step_since, None
        if since is not None and self._monotonic() - since >= STEADY_SECONDS:
            self._failures = 0
        self._version = None
        self._close_watch()
        if error.reconnect or self._failures >= RECONNECT_AFTER:
            await self._disconnect()
        if error.status == HTTPStatus.UNAUTHORIZED and not self._token_reloaded:
            # The token was probably rotated since it was read: try once more at once.
            self._token_reloaded = True
            pause = 0.0
        else:
            pause = max(self._next_pause(), min(error.retry_after, MAX_RETRY_AFTER_SECONDS))
        keys = {"source": str(self._name), "problem": str(error), "retry_seconds": round(pause, 2)}
        if error.unexpected:
            self._log.error("policy_source_failed", **keys, exc_info=problem)
        else:
            self._log.warning("policy_source_failed", **keys)
        if pause:
            await self._sleep(pause)

    def _next_pause(self) -> float:
        longest = LONGEST_PAUSE_SECONDS / (1 + PAUSE_JITTER)
        pause = backed_off(FIRST_PAUSE_SECONDS, self._failures, longest)
        self._failures += 1
        return pause * self._uniform(1.0, 1.0 + PAUSE_JITTER)

    def _close_watch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    async def _disconnect(self) -> None:
        self._close_watch()
        session, self._session = self._session, None
        if session is not None:
            await session.close()
