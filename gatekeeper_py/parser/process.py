"""The server's side of the parser process: start it, give it one document at a time, end it.

The server starts the process when there is a document to parse and ends it after ``IDLE_SECONDS`` without
one, so an idle server needs no memory for it. A process that needs too much time, memory or processor is
killed, and the next document gets a new process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, Literal, NamedTuple, cast

import msgspec

from gatekeeper_py.core.policy.document import PolicyDocument
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.parser.messages import (
    LENGTH_BYTES,
    MAX_REPLY_BYTES,
    Accepted,
    Assembly,
    Complete,
    Failed,
    Items,
    Job,
    Linted,
    Refused,
    Reply,
    frame,
    parse_reply,
)
from gatekeeper_py.runtime.logs import Log

IDLE_SECONDS: Final = 30.0
"""How long an idle process is kept. A user who corrects a refused policy usually applies it again within this
time, and need not wait 0.3 s for a new process. Ending the process frees its 45 MiB."""

LARGE_TEXT_BYTES: Final = 256 * 1024
"""After a larger document the process ends at once: its allocator would keep over 100 MiB."""

MEBIBYTE: Final = 2**20

FRAME_SECONDS: Final = 10.0
"""Maximum wait for the next frame of an accepted document. Encoding a frame takes a millisecond."""

REAP_SECONDS: Final = 5.0
"""Maximum wait for the end of a killed process. Only a process that hangs in the kernel takes longer."""

MAX_STDERR_CHARACTERS: Final = 2000
"""Characters kept of what the process wrote to stderr, for the log."""

INHERITED: Final = ("LANG", "LC_ALL", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")

COMMAND: Final = (sys.executable, "-X", "utf8", "-m", "gatekeeper_py.parser.program", str(os.getpid()))

Cause = Literal["memory", "cpu", "time", "died", "start", "bug"]

PERMANENT: Final[frozenset[Cause]] = frozenset({"memory", "cpu", "bug"})
"""Causes that make the same document fail again."""


class ParserError(Exception):
    """A document could not be judged. The text gives the reason; ``cause`` is its machine-readable form."""

    def __init__(self, cause: Cause, reason: str) -> None:
        super().__init__(reason)
        self.cause = cause

    @property
    def permanent(self) -> bool:
        return self.cause in PERMANENT


class Interrupted(Exception):
    """A turn that gives way was ended, because a change of the policy needs the process."""


Fetch = Callable[[], Awaitable[PolicyDocument]]
"""Receives the accepted document from the parser process and returns it. Raises ``ParserError``."""


class Report(NamedTuple):
    """What was found in one document."""

    accepted: bool
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one document may cost."""

    seconds: float
    cpu_seconds: int
    memory_bytes: int


def limits_for(text_bytes: int) -> Limits:
    """Return the limits for a document of this size, several times what the most expensive good one needs."""
    mebibytes = text_bytes / MEBIBYTE
    cpu_seconds = 10 + round(10 * mebibytes)
    return Limits(
        # On a busy machine, the process gets only a part of a processor.
        seconds=3.0 * cpu_seconds,
        cpu_seconds=cpu_seconds,
        memory_bytes=round((128 + 128 * mebibytes) * MEBIBYTE),
    )


class Parser:
    """Judges documents in a child process, one at a time.

    ``limits`` returns the limits for a document of a given size in bytes. ``command`` starts the process,
    whose environment is taken from ``environ``.
    """

    def __init__(
        self,
        *,
        log: Log,
        idle_seconds: float = IDLE_SECONDS,
        limits: Callable[[int], Limits] = limits_for,
        command: Sequence[str] = COMMAND,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._log = log
        self._limits_for = limits
        self._idle_seconds = idle_seconds
        self._command = command
        self._environ = environ
        self._turn = asyncio.Lock()
        self._changes = 0
        """Turns that do not give way, waiting or under way."""
        self._yielding: asyncio.Timeout | None = None
        """Ends the turn under way, if it gives way."""
        self._child: _Child | None = None
        self._idle: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process ID of the child process, or ``None`` while no child process runs."""
        return None if self._child is None else self._child.pid

    @asynccontextmanager
    async def turn(self, patience: float | None = None, *, gives_way: bool = False) -> AsyncIterator[None]:
        """Wait until earlier documents are done, then reserve the process.

        Raises ``TimeoutError`` if this takes longer than ``patience`` seconds. With ``gives_way``, raises
        ``Interrupted`` as soon as a turn without it begins to wait.
        """
        if not gives_way:
            self._changes += 1
            self._interrupt()
        try:
            async with asyncio.timeout(patience):
                await self._turn.acquire()
            try:
                if self._idle is not None:
                    self._idle.cancel()
                    self._idle = None
                if gives_way:
                    async with self._until_interrupted():
                        yield
                else:
                    yield
            finally:
                # Even if the caller failed: the process must not stay for ever.
                if self._child is not None:
                    self._idle = asyncio.create_task(self._end_when_idle())
                self._turn.release()
        finally:
            if not gives_way:
                self._changes -= 1

    @asynccontextmanager
    async def _until_interrupted(self) -> AsyncIterator[None]:
        """Raise ``Interrupted`` when another turn needs the process."""
        if self._changes:
            raise Interrupted
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._yielding = scope
                yield
        except TimeoutError:
            if scope.expired():
                raise Interrupted from None
            raise
        finally:
            self._yielding = None

    def _interrupt(self) -> None:
        scope, self._yielding = self._yielding, None
        if scope is not None:
            scope.reschedule(asyncio.get_running_loop().time())

    async def judge(
        self,
        text: str,
        mode: str | None,
        instant: datetime,
        *,
        seconds: float | None = None,
        on_accepted: Callable[[Fetch], Awaitable[None]] | None = None,
    ) -> Report:
        """Parse a document and lint it as of an instant. Call this within ``turn``.

        ``mode`` replaces the document's mode. ``seconds`` limits the time until the document is parsed and,
        separately, the time for lint after the document was fetched. If the document is accepted,
        ``on_accepted`` is called, while lint still runs, with a function that fetches the document. Raises
        ``ParserError``.
        """
        content = text.encode("utf-8", "surrogatepass")
        limits = self._limits_for(len(content))
        job = Job(
            text=content,
            mode=mode,
            instant=instant,
            send_document=on_accepted is not None,
            memory_bytes=limits.memory_bytes,
            cpu_seconds=limits.cpu_seconds,
        )
        try:
            report = await self._judge(job, limits.seconds if seconds is None else seconds, on_accepted)
        except BaseException:
            # Even if this task is cancelled: otherwise the next job would get the replies to this one.
            await self._end()
            raise
        if len(content) > LARGE_TEXT_BYTES:
            await self._end()
        return report

    async def close(self) -> None:
        """End the process. A job under way fails."""
        child = self._child
        if child is not None:
            child.kill()
        async with self.turn():
            await self._end()

    async def _judge(
        self,
        job: Job,
        seconds: float,
        on_accepted: Callable[[Fetch], Awaitable[None]] | None,
    ) -> Report:
        too_slow = ParserError("time", f"it was stopped after {seconds:.3g} s")
        try:
            async with asyncio.timeout(seconds):
                child = await self._started()
                await child.send(job)
                reply = await child.receive(job)
        except TimeoutError:
            raise too_slow from None
        if isinstance(reply, Accepted) and on_accepted is not None:
            await on_accepted(partial(_fetched, child, job, reply))
            try:
                async with asyncio.timeout(seconds):
                    reply = await child.receive(job)
            except TimeoutError:
                raise too_slow from None
        match reply:
            case Refused(findings):
                return Report(accepted=False, findings=findings)
            case Linted(findings):
                return Report(accepted=True, findings=findings)
        raise _unexpected_reply()

    async def _started(self) -> _Child:
        child = self._child
        if child is not None and child.runs:
            return child
        await self._end()
        try:
            self._child = child = await _Child.start(self._command, _environment(self._environ))
        except OSError as problem:
            raise ParserError(
                "start", f"the parser process could not be started: {problem.strerror or problem}"
            ) from None
        return child

    async def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.end()
            if child.stderr_tail:
                self._log.error("parser_failed", pid=child.pid, stderr=child.stderr_tail)

    async def _end_when_idle(self) -> None:
        await asyncio.sleep(self._idle_seconds)
        async with self._turn:
            self._idle = None
            await self._end()


class _Child:
    """One running process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.stderr_tail = ""
        self.pid = process.pid
        self._process = process
        # None of the three is ``None``, because ``start`` requests all of them.
        self._stdin = cast(asyncio.StreamWriter, process.stdin)
        self._stdout = cast(asyncio.StreamReader, process.stdout)
        self._listening = asyncio.create_task(self._listen(cast(asyncio.StreamReader, process.stderr)))

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str]) -> _Child:
        """Raises ``OSError``."""
        return cls(
            await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                # Ctrl-C in a terminal must not reach the process, because the server first answers the
                # reviews in progress.
                start_new_session=True,
            )
        )

    @property
    def runs(self) -> bool:
        return self._process.returncode is None

    async def send(self, job: Job) -> None:
        """Raises ``ParserError``."""
        try:
            self._stdin.write(frame(job))
            await self._stdin.drain()
        except ConnectionError:
            raise await self._died(job) from None

    async def receive(self, job: Job) -> Reply:
        """Return the next reply to a job. Raises ``ParserError``."""
        try:
            size = int.from_bytes(await self._stdout.readexactly(LENGTH_BYTES), "big")
            if size > MAX_REPLY_BYTES:
                raise ParserError("bug", "the parser process sent a frame that is too long")
            reply = parse_reply(await self._stdout.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._died(job) from None
        except msgspec.DecodeError as problem:
            raise ParserError(
                "bug", f"the parser process sent a frame that cannot be read: {problem}"
            ) from None
        if isinstance(reply, Failed):
            if reply.cause == "memory":
                raise _no_memory(job)
            self.stderr_tail = reply.detail
            raise ParserError("bug", "internal error in the parser process")
        return reply

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """Kill the process, discard its remaining output, and wait until it is gone."""
        self.kill()
        self._stdin.close()
        try:
            async with asyncio.timeout(REAP_SECONDS):
                while await self._stdout.read(MAX_REPLY_BYTES):
                    pass
                await self._process.wait()
                await self._listening
        except TimeoutError:
            self._listening.cancel()

    async def _died(self, job: Job) -> ParserError:
        """Return the reason why the process ended by itself."""
        try:
            async with asyncio.timeout(REAP_SECONDS):
                code = await self._process.wait()
                await self._listening
        except TimeoutError:
            return ParserError("died", "the parser process closed its pipe")
        if code == -signal.SIGXCPU:
            return ParserError("cpu", f"it needs more than {job.cpu_seconds} s of processor time")
        if code == -signal.SIGABRT and "memory allocation" in self.stderr_tail:
            # Rust, in which pydantic's core is written, aborts the process when an allocation fails.
            return _no_memory(job)
        if code < 0:
            name = signal.Signals(-code).name
            return ParserError("died", f"the parser process was ended by {name}")
        return ParserError("died", f"the parser process ended with code {code}")

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        """Keep the end of what the process writes to stderr."""
        while part := await stderr.read(MAX_STDERR_CHARACTERS):
            self.stderr_tail = (self.stderr_tail + part.decode("utf-8", "backslashreplace"))[
                -MAX_STDERR_CHARACTERS:
            ]


async def _fetched(child: _Child, job: Job, accepted: Accepted) -> PolicyDocument:
    assembly = Assembly(accepted)
    while True:
        try:
            async with asyncio.timeout(FRAME_SECONDS):
                reply = await child.receive(job)
        except TimeoutError:
            raise ParserError("time", "the parser process stopped sending") from None
        match reply:
            case Items():
                assembly.add(reply)
            case Complete():
                return assembly.document()
            case _:
                raise _unexpected_reply()


def _unexpected_reply() -> ParserError:
    return ParserError("bug", "the parser process sent an unexpected answer")


def _no_memory(job: Job) -> ParserError:
    return ParserError("memory", f"it needs more than {job.memory_bytes // MEBIBYTE} MiB of memory to parse")


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the interpreter needs to run our code, without settings or secrets."""
    return {
        **{name: environ[name] for name in INHERITED if name in environ},
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONSAFEPATH": "1",
        # One thread needs one arena.
        "MALLOC_ARENA_MAX": "1",
    }
