"""Keep the exceptions in use in step with the documents that a source delivers.

Documents are parsed in the parser process. Their authors are not trusted. So each document is parsed at most
once a second, and all documents together take at most a tenth of the time. The namespace whose changes needed
the least time goes first. A document that is invalid, deleted, or waits too long for its turn approves
nothing: no last good version is kept. Documents of the installation do not wait for those of namespaces.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from typing import Any, Final, Protocol

from gatekeeper_py.core.exceptions.document import (
    MAX_ENTRIES_OF_NAMESPACES,
    MAX_OF_NAMESPACES,
    ExceptionDocument,
)
from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.core.exceptions.grants import SOURCES, Source
from gatekeeper_py.core.policy.configmap import ExceptionsText, ParsedExceptions, configmap_error
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.live.exceptions.counting import EntryCounts
from gatekeeper_py.live.exceptions.queue import PAUSE_FACTOR, ParseQueue
from gatekeeper_py.live.parser.process import Interrupted, Parser, ParserError
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.process.logs import LineLimit, Log
from gatekeeper_py.process.shares import Share, Shares
from gatekeeper_py.process.waiting import PartOfTime, wait_for

APART_SECONDS: Final = 1.0
"""Minimum time between two parses of one document."""

STALE_SECONDS: Final = 1.5
"""How long the old version of a document stays in effect while the new one waits for its turn."""

RETRY_SECONDS: Final = 10.0
"""Pause before a document is parsed again after a failure that may be temporary."""

MAX_WAITING_BYTES: Final = 32 * 1024 * 1024
"""Maximum size of the texts that wait for their turn. During the first list, the source waits at the limit.
After that, the longest waiting text is dropped, and its document approves nothing until it is read again. If
the source waited instead, a tenant with many namespaces could delay the removal of other exceptions."""

ROOM_SECONDS: Final = 60.0
"""Minimum time from when a document leaves room until those beyond a limit are read again."""

READY_SECONDS: Final = 10.0
"""How long a replica that starts stays unready at most until the exceptions are read."""

MAX_LOGGED: Final = 10
"""Maximum number of findings in one log line."""

MAX_KEPT: Final = 3
"""Maximum number of findings kept for a document. 10,000 may be invalid, and a finding takes 0.8 KiB."""


class Observer(Protocol):
    """Receives what the metrics show."""

    def exceptions_counted(self, counts: Counter[tuple[Source, str]], next_end: datetime | None) -> None: ...

    def exceptions_readable(self, source: Source, *, readable: bool | None) -> None:
        """``None``: no grant needs the source any more."""


Read = Callable[[frozenset[Source]], Coroutine[Any, Any, None]]
"""Delivers the documents of some sources until cancelled."""

_NO_SHARE: Final = Share("", None)


@dataclass(slots=True)
class _Document:
    """What is known about one ConfigMap."""

    digest: bytes = b""
    """Of the newest text."""
    entries: int | None = None
    """The number of entries of the document that is live or will soon be, ``None`` if there is none."""
    findings: tuple[Finding, ...] = ()
    waiting: bytes | None = None
    """The newest text, until it is parsed. One emoji makes each character of a ``str`` take four bytes."""
    share: Share = _NO_SHARE
    """The share that its size counts towards while it waits."""
    gone: bool = False
    """Whether the ConfigMap was deleted. The record is kept for another second, so that deleting and
    creating a ConfigMap does not get it parsed more often."""
    begun: float = float("-inf")
    """When the last parse began."""
    first: bool = False
    """Whether it is in the first list and not parsed yet. The share of time does not limit the first list,
    because a new replica would otherwise have no exceptions for minutes."""
    stale: asyncio.TimerHandle | None = None
    """Stops the old version, unless the newest text is parsed before."""


class ExceptionsKeeper:
    """Parses documents and makes the exceptions live. ``later`` calls a function after some seconds."""

    def __init__(
        self,
        live: LivePolicy,
        parser: Parser,
        *,
        observer: Observer,
        log: Log,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], asyncio.TimerHandle] = lambda seconds, call: (
            asyncio.get_running_loop().call_later(seconds, call)
        ),
    ) -> None:
        self._live = live
        self._parser = parser
        self._observer = observer
        self._log = log
        self._monotonic = monotonic
        self._later = later
        self._granted: frozenset[Source] = frozenset()
        self._regranted = asyncio.Event()
        self._documents: dict[DocumentKey, _Document] = {}
        self._entries = 0
        """Entries of all parsed documents in namespaces."""
        self._left_out = False
        """Whether some documents are beyond a limit."""
        self._beyond: set[DocumentKey] = set()
        """Documents beyond the limit of documents. At most as many as the limit are remembered."""
        self._rereading: asyncio.TimerHandle | None = None
        """Reads all documents again, because there may be room for those beyond a limit."""
        self._queue = ParseQueue(monotonic)
        self._parsing = False
        self._waiting = Shares()
        """The bytes of the texts that wait, by source and namespace."""
        self._room = asyncio.Event()
        self._queued = asyncio.Event()
        self._changes: dict[DocumentKey, ExceptionDocument | None] = {}
        """Changes that are not live yet."""
        self._install_time = PartOfTime(PAUSE_FACTOR)
        self._installing: asyncio.TimerHandle | None = None
        """Makes changes live that came too soon after other changes."""
        self._limit = LineLimit(
            log, "exceptions_refused_suppressed", "namespace", monotonic=monotonic, later=later
        )
        self._unlisted: set[Source] = set()
        """Sources that may be read now, and whose documents have not been listed since."""
        self._settled = False
        """Whether the replica has read the exceptions once, or need not."""
        self._granted_at = 0.0
        self.unread: set[Source] = set()
        """Sources whose documents the API server does not let this replica read."""
        self.entries = EntryCounts(
            live,
            lambda: (key.source for key, _ in self.refused()),
            on_counted=observer.exceptions_counted,
            log=log,
            now=now,
            monotonic=monotonic,
        )

    def problem(self) -> str:
        """Return why a new replica is not ready; empty once it has read the exceptions."""
        return "" if self._is_settled() or not self._granted else "the exceptions are being read"

    def refused(self) -> Iterator[tuple[DocumentKey, tuple[Finding, ...]]]:
        """Yield the invalid documents with their problems: those of the installation first.

        Callers show only the first, and invalid documents of tenants must not hide those of the installation.
        """
        bad = [(key, known.findings) for key, known in self._documents.items() if known.findings]
        yield from sorted(bad, key=lambda each: each[0].of_tenant)
        yield from ((key, _TOO_MANY_DOCUMENTS) for key in self._beyond)

    def use_policy(self, compiled: CompiledPolicy) -> None:
        """Follow the documents of the sources that a policy grants."""
        granted = frozenset(source for source in SOURCES if compiled.grants.of(source))
        if granted != self._granted:
            for key in [key for key in self._documents if key.source not in granted]:
                self._forget(key)
            self._beyond &= {key for key in self._beyond if key.source in granted}
            self._install()
            for source in self._granted - granted:
                self.unread.discard(source)
                self._observer.exceptions_readable(source, readable=None)
            if not self._granted:
                self._granted_at = self._monotonic()
            self._unlisted = (self._unlisted | granted - self._granted) & granted
            self._granted = granted
            self._regranted.set()
        if not granted:
            self._settled = True
        self.entries.changed.set()

    async def run(self, read: Read) -> None:
        """Follow the documents until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._parse_forever())
            group.create_task(self.entries.run())
            while True:
                self._regranted.clear()
                reading = group.create_task(self._read_forever(read))
                await self._regranted.wait()
                reading.cancel()
                await asyncio.wait({reading})

    async def _read_forever(self, read: Read) -> None:
        while self._granted:
            try:
                await read(self._granted)
            except Exception:  # noqa: BLE001 - a bug of ours must not end the server
                self._log.error("exceptions_not_read", exc_info=True)
            await asyncio.sleep(RETRY_SECONDS)

    async def deliver(self, delivered: ExceptionsText) -> None:
        """Take the current state of a document. Waits while too many texts wait for their turn."""
        key, text = delivered.key, delivered.text
        if key.source not in self._granted:
            return
        if text is None and not delivered.findings:
            self._forget(key)
            self._install_soon()
            return
        known = self._documents.get(key)
        if known is None:
            if key.of_tenant and len(self._documents) >= MAX_OF_NAMESPACES:
                self._left_out = True
                if len(self._beyond) < MAX_OF_NAMESPACES:
                    self._beyond.add(key)
                self._refuse(key, _TOO_MANY_DOCUMENTS)
                return
            self._beyond.discard(key)
            known = self._documents[key] = _Document(first=key.source in self._unlisted)
        known.gone = False
        if text is None or delivered.findings:
            self._unqueue(known)
            known.digest = b""
            self._settle(key, known, None, delivered.findings)
            self._install_soon()
        else:
            await self._take(key, known, text.encode("utf-8", "surrogatepass"))

    async def _take(self, key: DocumentKey, known: _Document, content: bytes) -> None:
        """Queue a text if it is new. If it is in the first list, wait for room."""
        digest = blake2b(content, digest_size=16).digest()
        if digest != known.digest:
            known.digest = digest
            self._queue_text(key, known, content, self._monotonic())
            if known.first:
                while self._is_full(key):
                    self._room.clear()
                    await self._room.wait()
            else:
                self._queue.ask(key, len(content))
                if self._is_full(key):
                    self._make_room(key)

    def _is_full(self, key: DocumentKey) -> bool:
        """Return whether too many texts wait. Those of the installation always have room."""
        return key.of_tenant and self._waiting.used(Share(*key))[0] > MAX_WAITING_BYTES

    def _make_room(self, newest: DocumentKey) -> None:
        """Drop the longest waiting text; the newest one if the longest is in the first list."""
        source, namespace = self._waiting.largest(newest.source)
        largest = newest if namespace is None else DocumentKey(source, namespace)
        known = self._documents.get(largest)
        if known is None or known.waiting is None or known.first:
            largest, known = newest, self._documents[newest]
        self._unqueue(known)
        self._leave_out(largest, known, _TOO_MANY_CHANGES)
        self._read_again_if_some_were_left_out()
        self._install_soon()

    def _leave_out(self, key: DocumentKey, known: _Document, findings: tuple[Finding, ...]) -> None:
        """Stop a document for which there is no room. The same text may be read once there is room."""
        known.digest, self._left_out = b"", True
        self._settle(key, known, None, findings)

    def listed(self, sources: frozenset[Source], keys: frozenset[DocumentKey]) -> None:
        """Forget the documents of some sources that no longer exist: only those with ``keys`` do."""
        for key in [key for key in self._documents if key.source in sources and key not in keys]:
            self._forget(key)
        self._beyond -= {key for key in self._beyond if key.source in sources and key not in keys}
        self._readable(sources, readable=True)

    def unreadable(self, sources: frozenset[Source]) -> None:
        """Forget the documents of some sources, which may no longer be read."""
        for key in [key for key in self._documents if key.source in sources]:
            self._forget(key)
        self._beyond -= {key for key in self._beyond if key.source in sources}
        self._readable(sources, readable=False)
        self._unlisted |= sources & self._granted

    def _readable(self, sources: frozenset[Source], *, readable: bool) -> None:
        self._install()
        self._unlisted -= sources
        self._queued.set()
        for source in sources & self._granted:
            (self.unread.discard if readable else self.unread.add)(source)
            self._observer.exceptions_readable(source, readable=readable)

    def _is_settled(self) -> bool:
        if not self._settled and self._granted:
            late = self._monotonic() - self._granted_at > READY_SECONDS
            unlisted = self._unlisted - self.unread
            waits = unlisted or self._queue.first_wait or self._parsing or self._changes
            self._settled = late or not waits
        return self._settled

    def _queue_text(self, key: DocumentKey, known: _Document, content: bytes, earliest: float) -> None:
        self._unqueue(known)
        self._take_place(key, known, earliest)
        known.waiting, known.share = content, self._waiting.of(key.source, key.namespace)
        self._waiting.add(known.share, len(content))
        if known.entries is not None and known.stale is None:
            known.stale = self._later(STALE_SECONDS, partial(self._suspend, key, known))
        self._queued.set()

    def _take_place(self, key: DocumentKey, known: _Document, earliest: float) -> None:
        self._queue.place(key, max(earliest, known.begun + APART_SECONDS), free=known.first)

    def _unqueue(self, known: _Document) -> None:
        """Drop the text that waits."""
        if known.waiting is not None:
            self._waiting.add(known.share, -len(known.waiting))
            known.waiting = None
            self._room.set()

    def _suspend(self, key: DocumentKey, known: _Document) -> None:
        """Stop the old version of a document, because the new one has waited for too long."""
        known.stale = None
        self._settle(key, known, None, ())
        self._install_soon()

    def _forget(self, key: DocumentKey) -> None:
        self._beyond.discard(key)
        known = self._documents.get(key)
        if known is not None and not known.gone:
            known.gone, known.digest = True, b""
            self._unqueue(known)
            self._settle(key, known, None, ())
            self._take_place(key, known, self._monotonic())
            self._queued.set()

    def _settle(
        self,
        key: DocumentKey,
        known: _Document,
        document: ExceptionDocument | None,
        findings: tuple[Finding, ...],
    ) -> None:
        """Set what a document approves, from the next ``_install`` on."""
        if known.stale is not None:
            known.stale.cancel()
            known.stale = None
        if key.of_tenant:
            more = _length(document) - (known.entries or 0)
            if more > 0 and self._entries + more > MAX_ENTRIES_OF_NAMESPACES:
                others = (each for each in self._documents if each.of_tenant and each != key)
                largest = max(others, key=self._entries_of, default=key)
                if self._entries_of(largest)[0] <= _length(document):
                    self._leave_out(key, known, _TOO_MANY_ENTRIES)
                    return
                self._leave_out(largest, self._documents[largest], _TOO_MANY_ENTRIES)
            self._entries += more
            if _length(document) < (known.entries or 0):
                self._read_again_if_some_were_left_out()
        known.entries = None if document is None else len(document.entries)
        self._changes[key] = document
        kept = findings[:MAX_KEPT]
        if kept and kept != known.findings:
            self._refuse(key, findings)
        known.findings = kept

    def _entries_of(self, key: DocumentKey) -> tuple[int, float]:
        """Return the number of entries of a document, and when its parse began, to break ties."""
        known = self._documents[key]
        return known.entries or 0, known.begun

    def _read_again_if_some_were_left_out(self) -> None:
        if self._left_out and self._rereading is None:
            self._rereading = self._later(ROOM_SECONDS, self._read_again)

    def _read_again(self) -> None:
        self._rereading, self._left_out = None, False
        self._regranted.set()

    def _refuse(self, key: DocumentKey, findings: tuple[Finding, ...]) -> None:
        # Tenants cannot write the documents of the installation, and must not hide what is wrong with them.
        if not key.of_tenant or self._limit.passes(None, key.namespace):
            self._log.warning(
                "exceptions_refused",
                source=key.source,
                namespace=key.namespace,
                findings=[f"{each.code}: {each}" for each in findings[:MAX_LOGGED]],
                more_findings=max(len(findings) - MAX_LOGGED, 0),
            )

    def _install_soon(self) -> None:
        """Make all changes live, after a pause if others became live a moment ago."""
        pause = self._install_time.free_at - self._monotonic()
        if pause <= 0:
            self._install()
        elif self._installing is None:
            self._installing = self._later(pause, self._install)

    def _install(self) -> None:
        """Make all changes live, in one assignment."""
        if self._installing is not None:
            self._installing.cancel()
            self._installing = None
        if self._changes:
            start = self._monotonic()
            self._live.use_exceptions(self._live.exceptions.updated(self._changes))
            self._changes = {}
            self._install_time.spent(start, self._monotonic())
            self.entries.changed.set()

    async def _parse_forever(self) -> None:
        while True:
            self._queued.clear()
            try:
                pause = await self.step()
            except Exception:  # noqa: BLE001 - a bug of ours must not end the server
                self._log.error("exceptions_not_read", exc_info=True)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            await wait_for(self._queued, pause)

    async def step(self) -> float | None:
        """Parse the documents that are due, and make them live.

        Return the seconds until the next one is due, ``None`` if none waits.
        """
        while (turn := self._queue.next()) is not None:
            pause, key = turn
            if pause > 0:
                self._install()
                return pause
            self._queue.take(key)
            known = self._documents[key]
            if known.gone:
                del self._documents[key]
                self._read_again_if_some_were_left_out()
            if known.waiting is not None:
                self._parsing = True
                try:
                    await self._parse(key, known, known.waiting)
                finally:
                    self._parsing = False
            else:
                await asyncio.sleep(0)  # 10,000 documents may be gone at once
        self._install()
        self._is_settled()
        return None

    async def _parse(self, key: DocumentKey, known: _Document, content: bytes) -> None:
        self._unqueue(known)
        known.begun = self._monotonic()
        digest = known.digest
        again = False
        try:
            parsed = await self._judge(key, known, content.decode("utf-8", "surrogatepass"))
        except ParserError as problem:
            failed = _error("not-parsed", f"the document was not parsed: {problem}")
            parsed, again = ParsedExceptions(None, (failed,)), not problem.permanent
        if known.digest != digest:
            return  # it is gone, or another text waits
        self._settle(key, known, *parsed)
        if again:
            self._queue_text(key, known, content, self._monotonic() + RETRY_SECONDS)
        self._install_soon()

    async def _judge(self, key: DocumentKey, known: _Document, text: str) -> ParsedExceptions:
        """Parse a text. A change of the policy goes first. Raises ``ParserError``."""
        while True:
            with suppress(Interrupted):
                async with self._parser.turn(gives_way=True):
                    start, starts = self._monotonic(), self._parser.pid is None
                    try:
                        return await self._parser.parse_exceptions(text, key.source)
                    finally:
                        end = self._monotonic()
                        # Starting the process takes longer than parsing, and the tenant did not cause it.
                        if key.of_tenant and not (known.first or starts):
                            self._queue.spent(start, end)
                        known.first = False


def _length(document: ExceptionDocument | None) -> int:
    return 0 if document is None else len(document.entries)


def _error(code: str, message: str) -> Finding:
    return configmap_error(code, "", message)


_TOO_MANY_CHANGES: Final = (
    _error("too-many-changes", "too many changed documents wait; this one is read again within some minutes"),
)
_OF_ALL: Final = f"the documents of all namespaces have more than {MAX_ENTRIES_OF_NAMESPACES:,} entries"
_TOO_MANY_ENTRIES: Final = (_error("too-many-entries", f"{_OF_ALL}, and this is one of the largest"),)
_TOO_MANY_DOCUMENTS: Final = (_error("too-many-documents", f"more than {MAX_OF_NAMESPACES:,} documents"),)
