"""Follow the ConfigMaps with exceptions: those in all namespaces, and those of the installation.

Each source has its own list and watch. Otherwise, the documents of the installation would wait until the
server has read those of tenants.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from http import HTTPStatus
from typing import Final, Protocol
from urllib.parse import quote

from gatekeeper_py.cluster.session import Session
from gatekeeper_py.cluster.watch import ListWatch, Seen, Timing, WatchError
from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.core.exceptions.grants import SOURCES, Source
from gatekeeper_py.core.policy.configmap import ExceptionsText, exceptions_of
from gatekeeper_py.process.logs import Log

ENABLE: Final = "set the chart value exceptions.enabled, or add the kustomize component exceptions"


class Consumer(Protocol):
    """Receives documents. ``deliver`` may wait, and no other document is read meanwhile."""

    async def deliver(self, delivered: ExceptionsText) -> None: ...

    def listed(self, sources: frozenset[Source], keys: frozenset[DocumentKey]) -> None:
        """All documents of some sources were delivered: those with these keys."""

    def unreadable(self, sources: frozenset[Source]) -> None:
        """The API server does not allow reading the documents of some sources."""


class ExceptionsSource:
    """Delivers the documents in a cluster, and each change.

    ``installation`` is the namespace of the installation. ``connect`` and ``timing`` are those of
    ``ListWatch``.
    """

    def __init__(
        self,
        installation: str,
        connect: Callable[[], Awaitable[Session]],
        consumer: Consumer,
        *,
        log: Log,
        timing: Timing | None = None,
    ) -> None:
        self._installation = installation
        self._connect = connect
        self._consumer = consumer
        self._log = log
        self._timing = timing

    async def read(self, granted: frozenset[Source]) -> None:
        """Deliver the documents of these sources until cancelled."""
        async with asyncio.TaskGroup() as group:
            for source in granted:
                group.create_task(self._follow(source))

    async def _follow(self, source: Source) -> None:
        name, scope, _ = SOURCES[source]
        namespace = "" if scope == "namespace" else f"/namespaces/{quote(self._installation, safe='')}"
        listed: set[DocumentKey] = set()
        """The documents in the pages of a list so far."""

        def failed(error: WatchError, pause: float) -> None:
            listed.clear()
            self._failed(name, source, error, pause)

        watch = ListWatch(
            self._connect,
            f"/api/v1{namespace}/configmaps",
            {"fieldSelector": f"metadata.name={name}"},
            read=lambda seen: None if seen.kind == "BOOKMARK" else seen,
            on_failed=failed,
            timing=self._timing,
            pages=True,
        )
        async with aclosing(watch.results()) as results:
            async for seen in results:
                for delivered in self._delivered(seen, source):
                    if seen.kind == "LISTED":
                        listed.add(delivered.key)
                    await self._consumer.deliver(delivered)
                    # Hundreds of events may arrive at once. Reviews must not wait for all of them.
                    await asyncio.sleep(0)
                if seen.kind == "LISTED" and not seen.rest:
                    self._log.info("exceptions_synced", source=source, configmaps=name, documents=len(listed))
                    self._consumer.listed(frozenset({source}), frozenset(listed))
                    listed.clear()

    def _delivered(self, seen: Seen, source: Source) -> Iterator[ExceptionsText]:
        for item in seen.objects:
            found = exceptions_of(item, self._installation)
            if found is not None and found.key.source == source:
                yield ExceptionsText(found.key, None) if seen.kind == "DELETED" else found

    def _failed(self, name: str, source: Source, error: WatchError, pause: float) -> None:
        problem = str(error)
        if error.status == HTTPStatus.FORBIDDEN:
            problem += f"; {ENABLE}"
            self._consumer.unreadable(frozenset({source}))
        keys = {"source": source, "configmaps": name, "problem": problem, "retry_seconds": round(pause, 2)}
        if error.bug is not None:
            self._log.error("exceptions_unread", **keys, exc_info=error.bug)
        else:
            self._log.warning("exceptions_unread", **keys)
