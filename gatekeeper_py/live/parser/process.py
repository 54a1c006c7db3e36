"""The server's side of the parser process: give it one document at a time, and end it when it is idle.

The server starts the process when there is a document to parse and ends it after ``IDLE_SECONDS`` without
one, so an idle server needs no memory for it. The server kills a process that exceeds a limit on elapsed
time, memory or CPU time, and starts a new one for the next document.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from gatekeeper_py.core.admission.radius import Admitted, Radius
from gatekeeper_py.core.exceptions.grants import Source
from gatekeeper_py.core.policy.configmap import ParsedExceptions
from gatekeeper_py.core.policy.document import PolicyDocument
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.live.parser import messages
from gatekeeper_py.process.children.process import Cause, ChildError, ChildProcess, Observer, command
from gatekeeper_py.process.logs import Log

IDLE_SECONDS: Final = 30.0
"""How long an idle process is kept. A user who corrects a refused policy usually applies it again within this
time, and need not wait 0.3 s for a new process. Ending the process frees its 45 MiB."""

LARGE_TEXT_BYTES: Final = 256 * 1024
"""After a larger document the process ends at once: its allocator would keep over 100 MiB."""

MEBIBYTE: Final = 2**20

FRAME_SECONDS: Final = 10.0
"""Maximum wait for the next frame of an accepted document. Encoding a frame takes a millisecond."""

LONGEST_PAUSE_SECONDS: Final = 1.0
"""Maximum pause before a start. It is short, because the next policy must not wait long. The server does not
retry a document that killed the process at once."""

COMMAND: Final = command("gatekeeper_py.live.parser.program")

PERMANENT: Final[frozenset[Cause]] = frozenset({"memory", "cpu", "bug"})
"""Causes that make the same document fail again."""


T = TypeVar("T")

_Job = messages.AnyJob
J = TypeVar("J", bound=messages.AnyJob)


class ParserError(ChildError):
    """A document could not be judged."""

    @property
    def permanent(self) -> bool:
        return self.cause in PERMANENT


class Interrupted(Exception):
    """A turn with ``gives_way`` was interrupted, because a change of the policy needs the process."""


Fetch = Callable[[], Awaitable[PolicyDocument]]
"""Receives the accepted document from the parser process and returns it. Raises ``ParserError``."""


class Judged(NamedTuple):
    """What was found in one document. The clock changes the findings at ``until``, ``None`` if never.

    ``radius`` is set for an accepted document that judged admitted images.
    """

    accepted: bool
    findings: tuple[Finding, ...]
    until: datetime | None = None
    radius: Radius | None = None


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

    Metrics and log lines have the ``name`` of the process. ``limits`` returns the limits for a document of a
    given size in bytes. ``command`` starts the process, whose environment is taken from ``environ``.
    """

    def __init__(
        self,
        name: str = "parser",
        *,
        log: Log,
        observer: Observer,
        idle_seconds: float = IDLE_SECONDS,
        limits: Callable[[int], Limits] = limits_for,
        command: Sequence[str] = COMMAND,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._limits_for = limits
        self._idle_seconds = idle_seconds
        self._turn = asyncio.Lock()
        self._child = ChildProcess(
            name,
            command,
            log=log,
            observer=observer,
            longest_pause=LONGEST_PAUSE_SECONDS,
            environ=environ,
        )
        self._changes = 0
        """Number of turns without ``gives_way``, waiting or under way."""
        self._yielding: asyncio.Timeout | None = None
        """The scope of a turn with ``gives_way`` that is under way."""
        self._idle: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process ID of the child process, or ``None`` while no child process runs."""
        return self._child.pid

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
                if self._child.pid is not None:
                    self._idle = asyncio.create_task(self._end_when_idle())
                self._turn.release()
        finally:
            if not gives_way:
                self._changes -= 1

    @asynccontextmanager
    async def _until_interrupted(self) -> AsyncIterator[None]:
        """Raise ``Interrupted`` when a turn without ``gives_way`` begins to wait."""
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
        instant: datetime | None,
        *,
        seconds: float | None = None,
        on_accepted: Callable[[Fetch], Awaitable[None]] | None = None,
        admitted: tuple[tuple[Admitted, ...], ...] | None = None,
    ) -> Judged:
        """Parse a document, and lint it as of an instant unless that is ``None``. Call this within ``turn``.

        ``mode`` replaces the document's mode. With an instant, an accepted policy also judges the images in
        ``admitted``. ``seconds`` limits the time until the document is parsed and, separately, the time for
        lint after the document was fetched. If the document is accepted, ``on_accepted`` is called, while
        lint still runs, with a function that fetches the document. Raises ``ParserError``.
        """
        make = partial(
            messages.Job,
            mode=mode,
            instant=instant,
            send_document=on_accepted is not None,
            admitted=admitted,
        )
        return await self._run(text, make, partial(self._judge, on_accepted=on_accepted), seconds)

    async def parse_exceptions(
        self, text: str, source: Source, *, seconds: float | None = None
    ) -> ParsedExceptions:
        """Parse a document with exceptions within ``seconds``. Call this within ``turn``.

        Raises ``ParserError``.
        """
        make = partial(messages.ExceptionsJob, source=source)
        return await self._run(text, make, self._exceptions, seconds)

    async def find_configmaps(self, text: str) -> messages.Manifests:
        """Find the ConfigMaps in a file with manifests. Call this within ``turn``. Raises ``ParserError``."""
        return await self._run(text, messages.ManifestsJob, self._manifests)

    async def _run(
        self,
        text: str,
        make: Callable[..., J],
        work: Callable[[J, float], Coroutine[Any, Any, T]],
        seconds: float | None = None,
    ) -> T:
        """Make a job of a text and return its result. End the process if the job failed or was large.

        ``seconds`` replaces the limit of time for a text of this size.
        """
        content = text.encode("utf-8", "surrogatepass")
        limits = self._limits_for(len(content))
        job = make(text=content, memory_bytes=limits.memory_bytes, cpu_seconds=limits.cpu_seconds)
        try:
            result = await work(job, limits.seconds if seconds is None else seconds)
        except BaseException:
            # Even if this task is cancelled: otherwise the next job would get the replies to this one.
            await self._child.end()
            raise
        self._child.worked()
        if len(job.text) > LARGE_TEXT_BYTES:
            await self._child.end()
        return result

    async def close(self) -> None:
        """End the process. A job under way fails."""
        self._child.kill()
        async with self.turn():
            await self._child.end()

    async def _judge(
        self,
        job: messages.Job,
        seconds: float,
        on_accepted: Callable[[Fetch], Awaitable[None]] | None,
    ) -> Judged:
        reply = await self._first_reply(job, seconds)
        if isinstance(reply, messages.Accepted) and on_accepted is not None:
            try:
                await on_accepted(partial(self._fetched, reply))
            except ChildError as problem:
                raise _error(problem, job) from None
            reply = await self._reply(job, seconds)
        match reply:
            case messages.Refused(findings):
                return Judged(accepted=False, findings=findings)
            case messages.Linted(findings, until, radius):
                return Judged(accepted=True, findings=findings, until=until, radius=radius)
        raise _error(self._unexpected(), job)

    async def _manifests(self, job: messages.ManifestsJob, seconds: float) -> messages.Manifests:
        reply = await self._first_reply(job, seconds)
        if isinstance(reply, messages.Manifests):
            return reply
        raise _error(self._unexpected(), job)

    async def _exceptions(self, job: messages.ExceptionsJob, seconds: float) -> ParsedExceptions:
        match await self._first_reply(job, seconds):
            case messages.Excepting(document):
                return ParsedExceptions(document, ())
            case messages.Refused(findings):
                return ParsedExceptions(None, findings)
        raise _error(self._unexpected(), job)

    async def _first_reply(self, job: _Job, seconds: float) -> messages.Reply:
        """Start the process if none runs, send a job, and return the first reply. Raises ``ParserError``."""
        return await self._reply(job, seconds, self._send(job))

    async def _send(self, job: _Job) -> None:
        await self._child.start()
        await self._child.send(messages.encode(job), messages.MAX_JOB_BYTES)

    async def _reply(
        self, job: _Job, seconds: float, before: Coroutine[Any, Any, None] | None = None
    ) -> messages.Reply:
        try:
            async with asyncio.timeout(seconds):
                if before is not None:
                    await before
                return await self._receive()
        except TimeoutError:
            too_slow = f"it was stopped after {seconds:.3g} s"
            raise _error(self._child.fail("time", too_slow), job) from None
        except ChildError as problem:
            raise _error(problem, job) from None

    async def _receive(self) -> messages.Reply:
        """Return the next reply. Raises ``ChildError``."""
        try:
            reply = messages.parse_reply(await self._child.receive(messages.MAX_REPLY_BYTES))
        except msgspec.DecodeError as problem:
            reason = f"the parser process sent a frame that cannot be read: {problem}"
            raise self._child.fail("bug", reason) from None
        if isinstance(reply, messages.Failed):
            raise self._child.fail(reply.cause, "internal error in the parser process", reply.detail)
        return reply

    async def _fetched(self, accepted: messages.Accepted) -> PolicyDocument:
        assembly = messages.Assembly(accepted)
        while True:
            try:
                async with asyncio.timeout(FRAME_SECONDS):
                    reply = await self._receive()
            except TimeoutError:
                raise self._child.fail("time", "the parser process stopped sending") from None
            match reply:
                case messages.Items():
                    assembly.add(reply)
                case messages.Complete():
                    return assembly.document()
                case _:
                    raise self._unexpected()

    def _unexpected(self) -> ChildError:
        return self._child.fail("bug", "the parser process sent an unexpected answer")

    async def _end_when_idle(self) -> None:
        await asyncio.sleep(self._idle_seconds)
        async with self._turn:
            self._idle = None
            await self._child.end()


def _error(problem: ChildError, job: _Job) -> ParserError:
    """Return the error for the user who wrote the document."""
    if problem.cause == "cpu":
        return ParserError("cpu", f"it needs more than {job.cpu_seconds} s of processor time")
    if problem.cause == "memory":
        memory = job.memory_bytes // MEBIBYTE
        return ParserError("memory", f"it needs more than {memory} MiB of memory to parse")
    return ParserError(problem.cause, str(problem))
