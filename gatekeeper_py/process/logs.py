"""Logs: structlog events as JSON lines on stdout, written by a separate thread.

If nothing reads stdout, log lines may be lost, but reviews must go on. Events therefore go into a bounded
queue; events that do not fit are dropped and counted.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, Protocol

import orjson

from gatekeeper_py.process.shares import Shares

if TYPE_CHECKING:
    import structlog
else:
    # structlog imports rich if it is installed, to print tracebacks on a terminal. No replica needs this, and
    # rich would take 4 MiB of memory and a tenth of a second at the start of each.
    _unused = sys.modules.setdefault("rich", None)  # as if it were not installed
    structlog = importlib.import_module("structlog")
    if _unused is None:
        del sys.modules["rich"]

Format = Literal["json", "console"]
LEVELS: Final = ("debug", "info", "warning", "error")

QUEUE_LINES: Final = 10_000
"""Maximum number of queued lines: a few seconds of a storm of denials, or 5 MiB of typical review events."""

QUEUE_BYTES: Final = 16 * 1024 * 1024
"""Maximum total size of the queued lines. If nobody reads them, 10,000 lines of the maximum length would
otherwise take 160 MiB, a fifth of the memory limit."""

MAX_LINE_BYTES: Final = 16_384
"""Longer lines are cut, because log collectors split or drop them."""

MAX_LINES: Final = 200
"""Maximum number of lines of one kind in a second. For lines that are evidence, it applies to each namespace
of a peer, for other lines to the peer. It leaves room in the queue for the lines of others."""

FLUSH_SECONDS: Final = 1.0

BATCH_SECONDS: Final = 0.02
"""How long to collect lines before writing them. A thread that wakes for each line interrupts the event
loop each time; that doubled the cost of a denial."""

MAX_BATCH_BYTES: Final = 256 * 1024
"""A batch is written when it reaches this size."""


class Log(Protocol):
    """A logger: a constant event name, with the data in keys."""

    def debug(self, event: str, **keys: Any) -> Any: ...

    def info(self, event: str, **keys: Any) -> Any: ...

    def warning(self, event: str, **keys: Any) -> Any: ...

    def error(self, event: str, **keys: Any) -> Any: ...


class LogWriter:
    """Accepts whole lines without blocking; a daemon thread writes them.

    ``dropped`` counts the lines lost because the queue was full or the stream failed.
    """

    def __init__(
        self, stream: BinaryIO, *, capacity: int = QUEUE_LINES, capacity_bytes: int = QUEUE_BYTES
    ) -> None:
        self.dropped = 0
        self._stream = stream
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._lines: deque[bytes] = deque()
        self._bytes = 0  # of all lines in the queue
        self._lock = threading.Lock()  # for the queue and its size, and never held while writing
        self._waiting = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write_forever, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        with self._lock:
            if len(self._lines) >= self._capacity or self._bytes + len(line) > self._capacity_bytes:
                self.dropped += 1
                return
            self._lines.append(line)
            self._bytes += len(line)
        if not self._waiting.is_set():
            self._waiting.set()

    def has_room(self) -> bool:
        """Return whether a line that is not evidence may be written. Otherwise, count it as lost.

        Such lines fill at most half of the queue, so that they do not displace evidence.
        """
        if 2 * len(self._lines) < self._capacity and 2 * self._bytes < self._capacity_bytes:
            return True
        with self._lock:
            self.dropped += 1
        return False

    def close(self) -> None:
        """Write the queued lines, for at most a second, so that a blocked stream cannot delay the exit."""
        self._stopping.set()
        self._waiting.set()
        self._thread.join(FLUSH_SECONDS)

    def _write_forever(self) -> None:
        while not self._stopping.is_set():
            self._waiting.wait()
            self._stopping.wait(BATCH_SECONDS)
            self._waiting.clear()
            self._write_waiting()
        self._write_waiting()  # lines that arrived while it was stopping

    def _write_waiting(self) -> None:
        # Write many lines at once: one system call per line is the largest cost in a storm.
        while batch := self._next_batch():
            try:
                self._write_all(b"".join(batch))
            except (OSError, ValueError):
                self.dropped += len(batch)

    def _next_batch(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        with self._lock:
            while self._lines and size < MAX_BATCH_BYTES:
                batch.append(self._lines.popleft())
                size += len(batch[-1])
            self._bytes -= size
        return batch

    def _write_all(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            written = self._stream.write(rest)
            if written is None:  # the stream is a full pipe in non-blocking mode
                raise BlockingIOError
            rest = rest[written:]  # an unbuffered stream may accept only a part
        self._stream.flush()


class _LineLogger:
    """The logger that structlog calls after its processors."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def msg(self, line: bytes | str) -> None:
        encoded = line.encode("utf-8", "backslashreplace") if isinstance(line, str) else line
        if len(encoded) > MAX_LINE_BYTES:
            encoded = _cut(encoded)
        self._writer.write(encoded + b"\n")

    debug = info = warning = error = critical = msg


def build_log(
    writer: LogWriter, *, level: str, style: Format, colors: bool = False
) -> structlog.typing.FilteringBoundLogger:
    """Return a logger that writes events to ``writer``. Warnings of the standard library go there, too."""
    renderer: Callable[..., Any]
    if style == "json":
        renderer = structlog.processors.JSONRenderer(serializer=_serialize)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=colors)
    processors: list[Callable[..., Any]] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info if style == "json" else _as_is,
        renderer,
    ]
    log: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        _LineLogger(writer),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
    )
    log = log.bind()  # otherwise structlog rebuilds the chain of processors for each line
    root = logging.getLogger()
    root.handlers = [_ToStructlog(log)]
    root.setLevel(logging.WARNING)
    return log


class RateLimit:
    """Lets one event of each kind through per interval and counts the others."""

    def __init__(self, seconds: float = 1.0, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._kinds: dict[str, tuple[float, int]] = {}

    def passes(self, kind: str) -> int | None:
        """Return the number of events suppressed since the last one, or ``None`` to suppress this one."""
        now = self._monotonic()
        last, held = self._kinds.get(kind, (float("-inf"), 0))
        if now - last < self._seconds:
            self._kinds[kind] = (last, held + 1)
            return None
        self._kinds[kind] = (now, 0)
        return held


class LineLimit:
    """Limits the log lines of one kind, and logs how many were not written.

    In each interval of ``seconds``, it lets ``lines`` lines pass for each namespace of a peer. If the lines
    are not evidence, ``has_room`` returns whether the queue has room for them, and the namespaces of a peer
    share its ``lines``. For each peer or namespace (``key``), it logs the number of the other lines as
    ``event`` with ``keys``. ``later`` calls a function after some seconds.
    """

    def __init__(
        self,
        log: Log,
        event: str,
        key: Literal["peer", "namespace"],
        *,
        lines: int = MAX_LINES,
        has_room: Callable[[], bool] | None = None,
        seconds: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], object] = lambda seconds, call: (
            asyncio.get_running_loop().call_later(seconds, call)
        ),
        **keys: str,
    ) -> None:
        self._log = log
        self._event = event
        self._key = key
        self._keys = keys
        self._most = lines
        self._has_room = has_room
        self._seconds = seconds
        self._monotonic = monotonic
        self._later = later
        self._lines = Shares()
        """Lines written in the current interval."""
        self._suppressed: Counter[str] = Counter()
        """Peer or namespace -> lines not written in the current interval."""
        self._end = float("-inf")

    def passes(self, peer: str | None, namespace: str | None) -> bool:
        """Count a line about a namespace of a peer, and return whether to write it."""
        now = self._monotonic()
        if now >= self._end:
            self._report()
            self._end = now + self._seconds
        lines, has_room = self._lines, self._has_room
        if has_room is not None and has_room() and lines.take(peer, namespace, self._most):
            return True
        share = lines.of(peer, namespace)
        if has_room is None and lines.used(share)[1] < self._most:
            lines.add(share)
            return True
        if not self._suppressed:
            end = self._end
            self._later(end - now, lambda: self._report_at(end))
        self._suppressed[getattr(share, self._key)] += 1
        return False

    def _report_at(self, end: float) -> None:
        if end == self._end:  # otherwise a later line has reported
            self._report()

    def _report(self) -> None:
        """Log the number of lines that were not written, and reset the counts."""
        for name, count in self._suppressed.items():
            self._log.warning(self._event, **{self._key: name}, **self._keys, count=count)
        self._suppressed.clear()
        self._lines.clear()


class _ToStructlog(logging.Handler):
    def __init__(self, log: structlog.typing.FilteringBoundLogger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        write = getattr(self._log, level if level in LEVELS else "error")
        keys: dict[str, Any] = {"logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            keys["exc_info"] = record.exc_info
        write("library", **keys)


def _as_is(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return event


def _serialize(event: Any, **_options: Any) -> bytes:
    try:
        return orjson.dumps(event, default=str)
    except (orjson.JSONEncodeError, TypeError):
        # A lone surrogate or a number over 64 bits: escape it so that the line is not lost.
        return orjson.dumps({key: _plain(value) for key, value in event.items()})


def _plain(value: Any) -> str:
    return value if isinstance(value, str) and value.isascii() else ascii(value)


def _cut(line: bytes) -> bytes:
    """Return a shorter line that is still valid JSON."""
    # An eighth, because escaping turns a control character into six characters.
    head = line[: MAX_LINE_BYTES // 8].decode("utf-8", "ignore")
    return orjson.dumps({"event": "log_line_cut", "level": "warning", "bytes": len(line), "head": head})


def stdout_stream() -> BinaryIO:
    """Return stdout without Python's buffer: a blocked write would hold the buffer's lock at exit."""
    return open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)
