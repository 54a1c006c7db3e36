"""Follow objects of the API server: list them, watch from there, and start over after a failure.

kubernetes-asyncio's ``Watch`` is not used: it waits for ever for a silent peer, reconnects about a
thousand times a second on an empty stream, retries a 410 with the same version, and yields HTTP errors
as strings. After anything unusual, this module waits for a pause with jitter and lists the objects again. The
rules are in docs/reliability.md.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import responses
from typing import Any, Final, Generic, Literal, TypeVar, cast, get_args

import aiohttp
import orjson
from aiohttp import hdrs

from gatekeeper_py.cluster.errors import failure_of
from gatekeeper_py.cluster.session import Session
from gatekeeper_py.process.waiting import backed_off

MAX_BYTES: Final = 16 * 1024 * 1024
"""Limit for one list or one line. An object has at most 1.5 MiB, and JSON escapes multiply it by up to 6."""

PAGE_OBJECTS: Final = 500
PAGE_BYTES: Final = 2 * 1024 * 1024
"""Limits for one page of a list of many objects. Decoding this much takes 5 ms. If the objects of a page are
too large, the watch requests fewer objects, because users decide how large they are."""

PAUSE_JITTER: Final = 0.5
"""Largest fraction by which a pause is extended, so that replicas do not all return at once."""

WATCH_JITTER: Final = 0.1

MAX_RETRY_AFTER_SECONDS: Final = 60.0
"""Longest pause that an API server can ask for. An old policy stays in force during the pause."""

SHORT_WATCH_SECONDS: Final = 1.0
"""A watch that ends sooner counts as a failure, as in client-go's reflector, to avoid a busy loop."""

STEADY_SECONDS: Final = 60.0
"""If the watch has worked for this long, the pause after the next failure is the shortest one again."""

RECONNECT_AFTER: Final = 3
"""After this many failures in a row, each further failure makes the watch read the configuration again. The
cluster may have moved, and under TLS 1.3 a server that refuses our client certificate just closes the
connection. The first failures do not do so, because reading the configuration may start a program that
fetches a token."""

EventKind = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
T = TypeVar("T")


class WatchError(Exception):
    """The objects cannot be followed, and the watch has to start over.

    The text gives the reason and never quotes a body. ``status`` is the API server's HTTP status, if it
    sent one. ``retry_after`` is the pause that the API server requested, in seconds. With ``reconnect``, the
    watch reads the configuration again and makes a new session. ``bug`` is the exception if the reason is a
    bug of ours.
    """

    def __init__(
        self,
        problem: str,
        *,
        status: int | None = None,
        retry_after: float = 0.0,
        reconnect: bool = False,
        bug: Exception | None = None,
    ) -> None:
        super().__init__(problem)
        self.status = status
        self.retry_after = retry_after
        self.reconnect = reconnect or status == HTTPStatus.UNAUTHORIZED
        self.bug = bug


class _TooLong(WatchError):
    """A list has more bytes than its limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Time limits and pauses, in seconds."""

    connect: float = 10.0
    """For DNS, TCP, proxy and TLS. These take milliseconds, but a lost SYN is sent again after 1 and 3 s."""
    read: float = 30.0
    """Between two reads of a list. API Priority and Fairness may make a request wait in a queue first."""
    list: float = 45.0
    """For a whole list: 1 MiB at 25 KB/s."""
    silence: float = 70.0
    """The API server sends a bookmark each minute, so a watch silent for longer is dead."""
    watch: float = 300.0
    """How long a watch lasts before the server ends it, so that connections move to new servers."""
    first_pause: float = 0.8
    longest_pause: float = 30.0
    """Both as in client-go's reflector. A policy may be stale for this long after the API server is back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The objects of a list (``LISTED``), or the object of an event. A ``BOOKMARK`` has no object.

    ``rest`` is set if the list has more pages; it is the token of the next one.
    """

    kind: Literal["LISTED"] | EventKind
    version: str
    objects: tuple[dict[str, Any], ...] = ()
    rest: str = ""


class ListWatch(Generic[T]):
    """Follows the objects at a path that match a selector, such as a ``fieldSelector``.

    ``connect`` reads the configuration and makes a session; it raises ``SettingsError``. ``read`` is called
    with each list, event and bookmark; it may raise ``WatchError``. ``on_failed`` is called with each failure
    and the pause that follows. With ``pages``, a list arrives in pages, for objects of many namespaces.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Session]],
        path: str,
        selector: Mapping[str, str],
        *,
        read: Callable[[Seen], T | None],
        on_failed: Callable[[WatchError, float], None],
        timing: Timing | None = None,
        pages: bool = False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._path = path
        self._selector = selector
        self._make_session = connect
        self._read = read
        self._on_failed = on_failed
        self._timing = timing or Timing()
        self._sleep = sleep
        self._monotonic = monotonic
        self._uniform = uniform
        self._session: Session | None = None
        self._version: str | None = None
        self._pages = pages
        self._page_objects = PAGE_OBJECTS
        self._rest = ""
        """The token of the next page, while a list has one."""
        self._stream: _Stream | None = None
        self._opened = 0.0
        self._in_step_since: float | None = None
        self._failures = 0
        self._token_reloaded = False

    async def connect(self) -> Session:
        """Connect now instead of in the first step, to find out at start whether the configuration is usable.

        Raises ``SettingsError``.
        """
        if self._session is None:
            self._session = await self._make_session()
        return self._session

    async def close(self) -> None:
        """Close the session. ``results`` also does so when it ends."""
        self._close_stream()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def results(self) -> AsyncGenerator[T]:
        """Yield what ``read`` returns, except ``None``, for ever."""
        try:
            while True:
                try:
                    result = await self._step()
                except Exception as problem:  # noqa: BLE001 - reported in _recover; reviews must go on
                    await self._recover(_as_watch_error(problem))
                    continue
                if result is not None:
                    yield result
        finally:
            await self.close()

    async def _step(self) -> T | None:
        """Connect and list, or open a watch, or read its next line. Return what ``read`` makes of it.

        Raises what ``_as_watch_error`` accepts.
        """
        session = await self.connect()
        if self._version is None:
            try:
                body = await self._list(session)
            except _TooLong:
                if not self._pages or self._page_objects == 1:
                    raise
                self._page_objects = max(self._page_objects // 8, 1)
                return None
            result = self._take(_read_list(body))
            self._in_step_since = self._monotonic()
            return result
        if self._stream is None:
            self._stream = await self._watch(session, self._version)
            self._opened = self._monotonic()
            return None
        line = await self._stream.line()
        if line is None:
            self._end(self._stream)
            return None
        result = self._take(_read_event(line))
        self._token_reloaded = False
        return result

    def _take(self, seen: Seen) -> T | None:
        result = self._read(seen)
        self._rest = seen.rest if self._pages else ""
        self._version = None if self._rest else seen.version
        return result

    async def _list(self, session: Session) -> bytes:
        """Return the body of a list, or of its next page."""
        # Without a resourceVersion, the answer is the newest state instead of the state of a stale cache.
        limits = self._limits(total=self._timing.list, read=self._timing.read)
        query, longest = dict(self._selector), MAX_BYTES
        if self._pages:
            query |= {"limit": str(self._page_objects)} | ({"continue": self._rest} if self._rest else {})
            longest = PAGE_BYTES if self._page_objects > 1 else MAX_BYTES
        response = await _get(session, self._path, query, limits)
        body = bytearray()
        # Leaving the block returns the connection to the pool if the body was read to its end, or else closes
        # it.
        async with response:
            while chunk := await response.content.readany():
                body += chunk
                if len(body) > longest:
                    raise _TooLong(f"a list of more than {longest} bytes")
        return bytes(body)

    async def _watch(self, session: Session, version: str) -> _Stream:
        """Watch from a resource version on."""
        seconds = self._timing.watch * self._uniform(1 - WATCH_JITTER, 1 + WATCH_JITTER)
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            **self._selector,
            "resourceVersion": version,
            "timeoutSeconds": str(max(round(seconds), 1)),
        }
        limits = self._limits(total=None, read=self._timing.silence)
        return _Stream(await _get(session, self._path, query, limits), self._timing.silence)

    def _limits(self, *, total: float | None, read: float) -> aiohttp.ClientTimeout:
        connect = self._timing.connect
        return aiohttp.ClientTimeout(total=total, connect=connect, sock_connect=connect, sock_read=read)

    def _end(self, stream: _Stream) -> None:
        """Handle the end of a watch; after a regular one the next watch continues from the last version."""
        self._close_stream()
        if not stream.lines:
            raise WatchError("a watch ended without an event")
        if self._monotonic() - self._opened < SHORT_WATCH_SECONDS:
            raise WatchError("a watch ended at once")

    async def _recover(self, error: WatchError) -> None:
        """Pause, then start over with a list."""
        since, self._in_step_since = self._in_step_since, None
        if since is not None and self._monotonic() - since >= STEADY_SECONDS:
            self._failures = 0
        self._version, self._rest, self._page_objects = None, "", PAGE_OBJECTS
        self._close_stream()
        if error.reconnect or self._failures >= RECONNECT_AFTER:
            await self.close()
        if error.status == HTTPStatus.UNAUTHORIZED and not self._token_reloaded:
            # The token was probably rotated since it was read: try once more at once.
            self._token_reloaded = True
            pause = 0.0
        else:
            pause = max(self._next_pause(), min(error.retry_after, MAX_RETRY_AFTER_SECONDS))
        self._on_failed(error, pause)
        if pause:
            await self._sleep(pause)

    def _next_pause(self) -> float:
        longest = self._timing.longest_pause / (1 + PAUSE_JITTER)
        pause = backed_off(self._timing.first_pause, self._failures, longest)
        self._failures += 1
        return pause * self._uniform(1.0, 1.0 + PAUSE_JITTER)

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class _Stream:
    """An open watch, read line by line. ``lines`` counts them."""

    def __init__(self, response: aiohttp.ClientResponse, silence: float) -> None:
        self.lines = 0
        self._response = response
        self._silence = silence
        self._buffer = bytearray()

    async def line(self) -> bytes | None:
        """Return the next line, or ``None`` at a regular end.

        The time limit is for a whole line, so a peer that sends one byte a minute counts as silent.
        """
        searched = 0
        async with asyncio.timeout(self._silence):
            # aiohttp's readline() is not used, because it refuses lines of more than 128 KiB.
            while (end := self._buffer.find(b"\n", searched)) < 0:
                searched = len(self._buffer)
                if searched > MAX_BYTES:
                    raise WatchError(f"a watch event of more than {MAX_BYTES} bytes")
                chunk = await self._response.content.readany()
                if not chunk:
                    if self._buffer:
                        raise WatchError("a watch ended within an event")
                    return None
                self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self.lines += 1
        return line

    def close(self) -> None:
        self._response.close()


async def _get(
    session: Session, path: str, query: Mapping[str, str], limits: aiohttp.ClientTimeout
) -> aiohttp.ClientResponse:
    response = await session.request("GET", path, query, limits)
    if response.status != HTTPStatus.OK:
        response.close()
        raise _refusal(response)
    return response


def _refusal(response: aiohttp.ClientResponse) -> WatchError:
    """Return the error for a response other than 200. The body is not quoted, as it may contain anything."""
    status = response.status
    problem = f"the API server answered {status} {responses.get(status, '')}".rstrip()
    retry_after = response.headers.get(hdrs.RETRY_AFTER, "")
    seconds = float(retry_after) if retry_after.isascii() and retry_after.isdecimal() else 0.0
    return WatchError(problem, status=status, retry_after=seconds)


def _as_watch_error(problem: Exception) -> WatchError:
    if isinstance(problem, WatchError):
        return problem
    failure = failure_of(problem)
    bug = problem if failure.unexpected else None
    return WatchError(failure.text, reconnect=failure.reconnect, bug=bug)


def _read_list(body: bytes) -> Seen:
    """Read the body of a list. Raises ``WatchError``."""
    document = _parsed(body, "a list")
    version = version_of(document, "a list")
    items = document.get("items") or []
    if not isinstance(items, list):
        raise WatchError("a list whose items are not a list")
    rest = document["metadata"].get("continue") or ""
    if not isinstance(rest, str):
        raise WatchError("a list whose continue token is not a text")
    objects = tuple(each for each in items if isinstance(each, dict))
    return Seen(kind="LISTED", version=version, objects=objects, rest=rest)


def _read_event(line: bytes) -> Seen:
    """Read one line of a watch. Raises ``WatchError`` for an ERROR event and for anything else unusable."""
    event = _parsed(line, "a watch event")
    kind, item = event.get("type"), event.get("object")
    if not isinstance(item, dict):
        raise WatchError("a watch event without an object")
    if kind == "ERROR":
        code = item.get("code")
        status = code if isinstance(code, int) else None
        raise WatchError(f"the watch reported the error {status}", status=status)
    version = version_of(item, "a watch event")
    if kind not in get_args(EventKind):
        raise WatchError("a watch event of an unknown type")
    return Seen(kind=cast(EventKind, kind), version=version, objects=() if kind == "BOOKMARK" else (item,))


def _parsed(text: bytes, what: str) -> dict[str, Any]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise WatchError(f"{what} that is not JSON") from None
    if not isinstance(document, dict):
        raise WatchError(f"{what} that is not an object")
    return document


def version_of(document: dict[str, Any], what: str) -> str:
    """Return the resource version of an object or a list. Raises ``WatchError``, which names ``what``."""
    metadata = document.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    if not isinstance(version, str) or not version:
        raise WatchError(f"{what} without a resourceVersion")
    return version
