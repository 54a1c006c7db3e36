"""A policy in a ConfigMap: listed, then watched by name.

kubernetes-asyncio's ``Watch`` is not used: it waits for ever on a silent peer, reconnects about
a thousand times a second on an empty stream, answers 410 with the same version again, and yields
HTTP errors as strings. Here whatever is odd ends in a jittered pause and a new list, and the last
good policy serves meanwhile. Rules: docs/reliability.md.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import quote

from gatekeeper_py.settings import ConfigMapName
from gatekeeper_py.sources import Delivery
from gatekeeper_py.sources.events import Seen, Trouble, read_event, read_list
from gatekeeper_py.sources.listwatch import Connects, Timing, Watch, as_trouble, get_list, open_watch

FIRST_PAUSE_SECONDS: Final = 0.8
LONGEST_PAUSE_SECONDS: Final = 30.0
"""Both as client-go's reflector. A policy may be stale for so long after the API server is back."""

PAUSE_JITTER: Final = 0.5
"""A pause is up to this part longer, so that replicas do not come back together."""

WATCH_JITTER: Final = 0.1

MAX_RETRY_AFTER_SECONDS: Final = 60.0
"""A server that asks for more must not keep an old policy in force for more."""

SHORT_WATCH_SECONDS: Final = 1.0
"""A watch that ends sooner is odd, as for client-go's reflector: going on at once would spin."""

STEADY_SECONDS: Final = 60.0
"""After so long in step, trouble is a new one and starts with the shortest pause."""


RECONNECT_AFTER: Final = 3
"""Failures in a row, after which each has the configuration read again. A server that no longer
takes our client certificate just hangs up (TLS 1.3 tells after the handshake), and a cluster may
have moved; before that a program that makes tokens is not started for nothing."""


class Log(Protocol):
    def info(self, event: str, **keys: Any) -> Any: ...

    def warning(self, event: str, **keys: Any) -> Any: ...

    def error(self, event: str, **keys: Any) -> Any: ...


class ConfigMapSource:
    """Deliveries of one ConfigMap: the first once it is listed, then each time its content changes.

    ``connect`` makes a connection from a configuration read anew; it raises ``SettingsError``.
    """

    def __init__(
        self,
        name: ConfigMapName,
        connect: Callable[[], Awaitable[Connects]],
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
        self._make_connection = connect
        self._log = log
        self._on_synced = on_synced
        self._timing = timing or Timing()
        self._sleep = sleep
        self._monotonic = monotonic
        self._uniform = uniform
        self._connection: Connects | None = None
        self._version: str | None = None
        self._watch: Watch | None = None
        self._watch_opened = 0.0
        self._in_step_since: float | None = None
        self._failures = 0
        self._token_reloaded = False

    async def connect(self) -> Connects:
        """Connect now, so that a configuration that cannot be used is known at start.

        Raises ``SettingsError``. The first step does it otherwise.
        """
        if self._connection is None:
            self._connection = await self._make_connection()
        return self._connection

    async def close(self) -> None:
        """Give the connection back. ``deliveries`` does so at its end, but only if it ever began."""
        await self._disconnect()

    async def deliveries(self) -> AsyncGenerator[Delivery]:
        """Never ends; yields only changes of text, mode or problem.

        Other changes, as of labels, only move the version that the next watch starts from.
        ``on_synced`` is called after each list, event and bookmark.
        """
        last: tuple[str | None, str | None, str] | None = None
        try:
            while True:
                try:
                    delivery = await self.step()
                except Exception as problem:  # noqa: BLE001 - told in _recover; reviews must go on
                    await self._recover(as_trouble(problem), problem)
                    continue
                if delivery is None:
                    continue
                content = (delivery.text, delivery.mode, delivery.problem)
                if content != last:
                    last = content
                    yield delivery
        finally:
            await self._disconnect()

    async def step(self) -> Delivery | None:
        """One of: connect and list, open a watch, take its next line. Answers the state it saw, if any.

        Raises what ``as_trouble`` takes; ``deliveries`` then starts over.
        """
        connection = await self.connect()
        if self._version is None:
            return await self._list(connection)
        if self._watch is None:
            seconds = self._timing.watch * self._uniform(1 - WATCH_JITTER, 1 + WATCH_JITTER)
            self._watch = await open_watch(
                connection, self._path, self._selector, self._version, seconds, self._timing
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

    async def _list(self, connection: Connects) -> Delivery | None:
        body = await get_list(connection, self._path, self._selector, self._timing)
        delivery = self._take(read_list(body, self._name))
        self._in_step_since = self._monotonic()
        self._log.info("policy_source_synced", source=str(self._name), resource_version=self._version)
        return delivery

    def _take(self, seen: Seen) -> Delivery | None:
        self._version = seen.version
        self._on_synced()
        return seen.delivery

    def _end(self, watch: Watch) -> None:
        """Take the end of a watch: a regular one lets the next go on from the version reached."""
        self._close_watch()
        if not watch.lines:
            raise Trouble("a watch ended without an event")
        if self._monotonic() - self._watch_opened < SHORT_WATCH_SECONDS:
            raise Trouble("a watch ended at once")

    async def _recover(self, trouble: Trouble, problem: Exception) -> None:
        """Forget where we were, and pause."""
        since, self._in_step_since = self._in_step_since, None
        if since is not None and self._monotonic() - since >= STEADY_SECONDS:
            self._failures = 0
        self._version = None
        self._close_watch()
        if trouble.reconnect or self._failures >= RECONNECT_AFTER:
            await self._disconnect()
        if trouble.status == HTTPStatus.UNAUTHORIZED and not self._token_reloaded:
            # The token was rotated since it was read: nothing to wait for, once.
            self._token_reloaded = True
            pause = 0.0
        else:
            pause = max(self._next_pause(), min(trouble.retry_after, MAX_RETRY_AFTER_SECONDS))
        keys = {"source": str(self._name), "problem": str(trouble), "retry_seconds": round(pause, 2)}
        if trouble.unexpected:
            self._log.error("policy_source_failed", **keys, exc_info=problem)
        else:
            self._log.warning("policy_source_failed", **keys)
        if pause:
            await self._sleep(pause)

    def _next_pause(self) -> float:
        # The exponent is bounded because 2.0 ** 1024 overflows after some hours of an outage.
        pause = min(
            FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures, 10), LONGEST_PAUSE_SECONDS / (1 + PAUSE_JITTER)
        )
        self._failures += 1
        return pause * self._uniform(1.0, 1.0 + PAUSE_JITTER)

    def _close_watch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    async def _disconnect(self) -> None:
        self._close_watch()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
