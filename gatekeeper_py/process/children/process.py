"""The server's side of a child process: start it, exchange frames with it, and find out why it died.

After a death, the server starts the next process after a pause that grows with each death in a row.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Literal, NamedTuple, Protocol, cast

from gatekeeper_py.process.children import frames
from gatekeeper_py.process.children.program import OUT_OF_MEMORY
from gatekeeper_py.process.logs import Log
from gatekeeper_py.process.waiting import backed_off

REAP_SECONDS: Final = 5.0
"""Maximum wait for the end of a killed process. Only a process that hangs in the kernel takes longer."""

FIRST_PAUSE_SECONDS: Final = 0.1
"""Pause after the first death. It doubles with each further death in a row."""

MAX_STDERR_CHARACTERS: Final = 2000
"""Characters of the end of stderr that the log gets."""

DISCARDED_BYTES: Final = 64 * 1024

INHERITED: Final = (
    "LANG", "LC_ALL", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX",
    "SSL_CERT_DIR", "SSL_CERT_FILE",  # where OpenSSL finds the CAs of the system
    "LOCALDOMAIN", "RES_OPTIONS",  # settings of the resolver
)  # fmt: skip
"""Variables that a child process gets. None of them is one of our settings or a secret."""

Cause = Literal["memory", "cpu", "time", "died", "start", "bug"]
"""Why a process died: it exceeded its limit on memory, CPU time or time; it died for another reason; it could
not be started; or it sent an invalid message."""

CAUSES: Final[tuple[Cause, ...]] = ("memory", "cpu", "time", "died", "start", "bug")


class ChildError(Exception):
    """The process failed. The text gives the reason; ``cause`` is its machine-readable form."""

    def __init__(self, cause: Cause, reason: str) -> None:
        super().__init__(reason)
        self.cause = cause


class Observer(Protocol):
    """Receives the starts and ends of child processes, for the metrics. ``child`` is the process's name."""

    def child_runs(self, child: str, *, runs: bool) -> None: ...

    def child_died(self, child: str, cause: Cause) -> None: ...


def command(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs one of our modules as a child of this process."""
    return (sys.executable, "-X", "utf8", "-m", module, str(os.getpid()), *arguments)


class _Running(NamedTuple):
    process: asyncio.subprocess.Process
    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    listening: asyncio.Task[None]


class ChildProcess:
    """One kind of child process, of which at most one runs.

    ``name`` is used in messages, in the log and in metrics. ``command`` starts the process, whose environment
    is taken from ``environ``. ``longest_pause`` limits the pause after deaths, in seconds.

    After every ``ChildError``, ``end`` must be called: it counts and logs the death.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Log,
        observer: Observer,
        longest_pause: float,
        environ: Mapping[str, str] = os.environ,
        jitter: Callable[[], float] = lambda: random.uniform(0.5, 1.5),  # noqa: S311 - no secret
    ) -> None:
        self.stderr_tail = ""
        self._name = name
        self._command = command
        self._log = log
        self._observer = observer
        self._longest_pause = longest_pause
        self._environ = environ
        self._jitter = jitter
        self._running: _Running | None = None
        self._posted: list[bytes] = []
        self._death: ChildError | None = None
        self._is_ended = False
        """Whether we killed a process that had not failed."""
        self._deaths = 0
        """Deaths in a row."""
        self._not_before = float("-inf")

    @property
    def pid(self) -> int | None:
        """The process ID, or ``None`` while no process runs."""
        return None if self._running is None else self._running.process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process died, and ``end`` was not called yet."""
        return self._running is not None and self._running.process.returncode is not None

    @property
    def pauses(self) -> bool:
        """Whether a start would wait, because the last process died recently."""
        return asyncio.get_running_loop().time() < self._not_before

    async def start(self) -> None:
        """Wait for the end of the pause, and start the process if none runs. Raises ``ChildError``."""
        if self.has_ended:
            await self.end()
        if self._running is not None:
            return
        await asyncio.sleep(max(self._not_before - asyncio.get_running_loop().time(), 0.0))
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=_environment(self._environ),
                # Ctrl-C in a terminal must not reach the process, because the server first answers the
                # reviews in progress.
                start_new_session=True,
            )
        except OSError as problem:
            reason = f"the {self._name} process could not be started: {problem.strerror or problem}"
            raise self.fail("start", reason) from None
        self.stderr_tail = ""
        # None of the three is ``None``, because all of them are requested above.
        self._running = _Running(
            process,
            cast(asyncio.StreamWriter, process.stdin),
            cast(asyncio.StreamReader, process.stdout),
            asyncio.create_task(self._listen(cast(asyncio.StreamReader, process.stderr))),
        )
        self._observer.child_runs(self._name, runs=True)

    def post(self, payload: bytes, longest: int) -> None:
        """Send a message without waiting. Messages to a process that has ended are lost.

        The messages of one turn of the event loop are written together, because each write wakes the process.
        """
        if self._running is None:
            return
        if not self._posted:
            asyncio.get_running_loop().call_soon(self._flush)
        self._posted.append(frames.frame(payload, longest))

    def _flush(self) -> None:
        if self._running is not None and self._posted:
            # uvloop raises RuntimeError if the process has ended. `send` or `receive` then raise ChildError.
            with suppress(RuntimeError):
                self._running.stdin.write(b"".join(self._posted))
        self._posted.clear()

    async def send(self, payload: bytes, longest: int) -> None:
        """Send a message, and wait until the process has read most of it. Raises ``ChildError``."""
        try:
            self.post(payload, longest)
            self._flush()
            await self._get().stdin.drain()
        except ConnectionError:
            raise await self._died() from None

    async def receive(self, longest: int) -> bytes:
        """Return the payload of the next message, of at most ``longest`` bytes. Raises ``ChildError``."""
        stream = self._get().stdout
        try:
            size = frames.size_of(await stream.readexactly(frames.LENGTH_BYTES), longest)
            return await stream.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._died() from None
        except frames.FrameError as problem:
            raise self.fail("bug", f"the {self._name} process sent {problem}") from None

    def fail(self, cause: Cause, reason: str, detail: str = "") -> ChildError:
        """Record why the process must end, and return the error. The first cause counts."""
        if self._death is None:
            self._death = ChildError(cause, reason)
            self.stderr_tail = detail or self.stderr_tail
        return self._death

    def kill(self) -> None:
        """Kill the process. This counts as a death only if ``fail`` was called before."""
        self._is_ended = self._death is None
        if self._running is not None:
            with suppress(ProcessLookupError):
                self._running.process.kill()

    def worked(self) -> None:
        """Record that the process works, so the next death is the first in a row."""
        self._deaths = 0

    async def end(self) -> ChildError | None:
        """Kill the process, discard its remaining output, and wait until it is gone.

        Return the reason of its death; ``None`` if it had not failed.
        """
        running, self._running = self._running, None
        self._posted.clear()
        if running is not None:
            if running.process.returncode is not None and self._death is None:
                self._death = self._exited(running.process.returncode)
            with suppress(ProcessLookupError):
                running.process.kill()
            running.stdin.close()
            try:
                async with asyncio.timeout(REAP_SECONDS):
                    while await running.stdout.read(DISCARDED_BYTES):
                        pass
                    await running.process.wait()
                    await running.listening
            except TimeoutError:
                running.listening.cancel()
            self._observer.child_runs(self._name, runs=False)
        death = None if self._is_ended else self._death
        self._death, self._is_ended = None, False
        if death is not None:
            self._deaths += 1
            pause = backed_off(FIRST_PAUSE_SECONDS, self._deaths - 1, self._longest_pause)
            self._not_before = asyncio.get_running_loop().time() + self._jitter() * pause
            self._observer.child_died(self._name, death.cause)
        if death is not None or self.stderr_tail:
            self._log.error(
                "child_failed",
                child=self._name,
                pid=None if running is None else running.process.pid,
                cause="" if death is None else death.cause,
                reason="" if death is None else str(death),
                stderr=self.stderr_tail,
            )
            self.stderr_tail = ""
        return death

    def _get(self) -> _Running:
        if self._running is None:
            raise self.fail("died", f"the {self._name} process was ended")
        return self._running

    async def _died(self) -> ChildError:
        """Return the reason why the process died."""
        running = self._get()
        try:
            async with asyncio.timeout(REAP_SECONDS):
                code = await running.process.wait()
                await running.listening
        except TimeoutError:
            return self.fail("died", f"the {self._name} process closed its pipe")
        death = self._exited(code)
        return self.fail(death.cause, str(death))

    def _exited(self, code: int) -> ChildError:
        if code == -signal.SIGXCPU:
            return ChildError("cpu", f"the {self._name} process used up its processor time")
        # Rust, in which orjson is written, aborts the process when an allocation fails.
        aborted = code == -signal.SIGABRT and "memory allocation" in self.stderr_tail
        if code == OUT_OF_MEMORY or aborted:
            return ChildError("memory", f"the {self._name} process used up its memory")
        if code < 0:
            return ChildError("died", f"the {self._name} process was ended by {signal.Signals(-code).name}")
        return ChildError("died", f"the {self._name} process ended with code {code}")

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        """Keep the end of the process's stderr."""
        while part := await stderr.read(MAX_STDERR_CHARACTERS):
            text = self.stderr_tail + part.decode("utf-8", "backslashreplace")
            self.stderr_tail = text[-MAX_STDERR_CHARACTERS:]


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the interpreter needs to run our code, without settings or secrets."""
    return {
        **{name: environ[name] for name in INHERITED if name in environ},
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONSAFEPATH": "1",
        # Few threads allocate little, so they need one arena.
        "MALLOC_ARENA_MAX": "1",
    }
