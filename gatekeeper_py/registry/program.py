"""The registry process: ``python -m gatekeeper_py.registry.program PARENT [DIRECTORY]``.

Reads everything that a registry, a token server or the target of a redirect sends. PARENT is the process ID
of the server, and DIRECTORY is that of ``--registry-config``. The process reads the files itself, so that
messages contain no passwords, and the server, which anybody in the cluster can reach, keeps none.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

from gatekeeper_py.core.images.manifest import failed
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.process.children import frames
from gatekeeper_py.process.children.program import OUT_OF_MEMORY, Allowance, begin
from gatekeeper_py.registry import messages
from gatekeeper_py.registry.access import Access
from gatekeeper_py.registry.asking import Reply, after_first_turn
from gatekeeper_py.registry.client import Client
from gatekeeper_py.registry.files import NO_FILES, FilesError, read_files

MEMORY_BYTES: Final = 192 * 1024 * 1024
"""Memory that look-ups may use in addition to that of the idle process. One connection keeps at most 0.5 MiB
(a manifest with signatures), and there are 20 to each registry."""

CPU_SECONDS: Final = 20
"""CPU time from one ``Ping`` to the next. On an idle machine, the server's own limit for an answer to a ping
comes first."""

NICENESS: Final = 3
"""Under full load, this process gets a third of the CPU time. With less, look-ups would fail on a busy
machine."""

STACK_BYTES: Final = 512 * 1024
"""Stack of a thread. The default of 8 MiB would count as used memory."""


class Turns:
    """The turns of one look-up, which may send several requests at the same time.

    The server grants one turn at a time. ``ask`` requests a turn for a request to a host.
    """

    def __init__(self, ask: Callable[[str], None]) -> None:
        self._ask = ask
        self._one_at_a_time = asyncio.Lock()
        self._granted = asyncio.Event()
        self._granted.set()

    async def take(self, host: str) -> None:
        async with self._one_at_a_time:
            await self._granted.wait()  # the previous request may have been cancelled before it got its turn
            self._granted.clear()
            self._ask(host)
            await self._granted.wait()

    def grant(self) -> None:
        self._granted.set()


class Desk:
    """Carries out orders. ``send`` sends an event, and ``refresh`` renews the allowance of CPU time."""

    def __init__(
        self, directory: Path | None, send: Callable[[messages.Event], None], refresh: Callable[[], None]
    ) -> None:
        self._directory = directory
        self._send = send
        self._refresh = refresh
        self._access = Access()
        self._refused: dict[str, str] = {}
        self._client = Client(
            self._access,
            self._access.transport,
            clock=time.monotonic,
            on_refused_realm=self._refused.__setitem__,
        )
        self._running: dict[int, asyncio.Task[Reply]] = {}
        self._turns: dict[int, Turns] = {}

    def take(self, order: messages.Order) -> None:
        match order:
            case messages.Query():
                self._start(order)
            case messages.Go(number):
                # The look-up may have ended while it waited.
                if (turns := self._turns.get(number)) is not None:
                    turns.grant()
            case messages.Stop(number):
                if (task := self._running.get(number)) is not None:
                    task.cancel()
            case messages.Ping():
                self._refresh()
                self._send(messages.Pong())
            case messages.Files():
                self._read_files()
            case messages.UseRegistries(registries, keys):
                self._access.use_keys(keys)
                if self._access.use_registries(registries):
                    # The CA and the tokens of a host can depend on the entry of another host.
                    self._client.forget()

    def _read_files(self) -> None:
        # The server has read the same files without a problem. If they changed since, it notices that, too,
        # and sends another order.
        with suppress(FilesError, OSError):
            directory = self._directory
            self._access.use_files(read_files(directory) if directory and directory.is_dir() else NO_FILES)
            self._client.forget()

    def _start(self, query: messages.Query) -> None:
        task = asyncio.get_running_loop().create_task(self._query(query))
        self._running[query.number] = task
        task.add_done_callback(partial(self._finish, query))

    async def _query(self, query: messages.Query) -> Reply:
        turns = Turns(lambda host: self._send(messages.TurnWanted(query.number, host)))
        self._turns[query.number] = turns
        try:
            turn = after_first_turn(query.manifest.host, turns.take)
            return await self._client.query(query.manifest, turn, query.seconds, query.share)
        except MemoryError:
            raise
        except Exception as problem:  # noqa: BLE001 - what one registry sends must not end the look-ups of others
            traceback.print_exc()
            return Reply(failed(f"internal error: {type(problem).__name__}"), trouble=True)

    def _finish(self, query: messages.Query, task: asyncio.Task[Reply]) -> None:
        del self._running[query.number]
        self._turns.pop(query.number, None)
        reply = Reply(failed("the look-up was stopped")) if task.cancelled() else task.result()
        answer = reply.answer._replace(cause=escape(reply.answer.cause, messages.MAX_TEXT))
        realm = escape(self._refused.pop(query.manifest.host, ""), messages.MAX_TEXT)
        self._send(messages.Answered(query.number, reply._replace(answer=answer), realm))


async def _run(stream: BinaryIO, send: Callable[[bytes], None], directory: Path | None) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_exit)
    allowance = Allowance()

    def refresh() -> None:
        allowance.grant(memory_bytes=MEMORY_BYTES, cpu_seconds=CPU_SECONDS)

    desk = Desk(directory, lambda event: send(messages.encode(event)), refresh)
    end = loop.create_future()

    def listen() -> None:
        try:
            while (payload := frames.read(stream, messages.MAX_ORDER_BYTES)) is not None:
                loop.call_soon_threadsafe(desk.take, messages.parse_order(payload))
        finally:
            loop.call_soon_threadsafe(end.set_result, None)

    threading.Thread(target=listen, daemon=True).start()
    refresh()
    await end


def _exit(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """End the process after an error in a callback, because its state is unknown; the server logs it."""
    problem = context.get("exception")
    if isinstance(problem, MemoryError):
        os._exit(OUT_OF_MEMORY)
    if problem is not None:
        traceback.print_exception(problem)
        sys.stderr.flush()
    # Other contexts are about a task or a future whose error nobody waited for.
    if "handle" in context or "protocol" in context:
        os._exit(1)


def main() -> None:
    directory = Path(sys.argv[2]) if sys.argv[2:] else None
    threading.stack_size(STACK_BYTES)
    pipes = begin(longest=messages.MAX_EVENT_BYTES, niceness=NICENESS)
    asyncio.run(_run(pipes.messages, pipes.send, directory))
    os._exit(0)  # without waiting for a thread that resolves a name


if __name__ == "__main__":
    main()
