"""An event loop in a separate thread, and how long and with how much memory it works on an input."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import uvloop

from support.wire import DEADLINE_SECONDS

SLICE_SECONDS: Final = 0.25
"""Limit of CPU time in one turn of the loop: the wait of an established connection (docs/reliability.md). The
target of a turn is 100 ms; the rest is slack for slower machines."""

T = TypeVar("T")


class MeasuredLoop:
    """An event loop in a separate thread. ``problems`` are what its exception handler received."""

    def __init__(self) -> None:
        self.problems: list[dict[str, Any]] = []
        self._measuring = False
        self._worst_turn = 0.0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(DEADLINE_SECONDS)

    async def begin(self) -> None:
        """Do what comes first in the loop."""

    async def finish(self) -> None:
        """Do what comes last in the loop."""

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(lambda _loop, context: self.problems.append(context))
        await self.begin()
        self._ready.set()
        await self._stop.wait()
        await self.finish()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Do some work in the loop; return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_SECONDS)

    def worst_turn(self, work: Callable[[], object]) -> float:
        """Return the CPU time of the loop's longest turn during some work."""
        started = threading.Event()

        def start() -> None:
            self._measuring, self._worst_turn = True, 0.0
            self._beat(time.thread_time())
            started.set()

        self._loop.call_soon_threadsafe(start)
        assert started.wait(DEADLINE_SECONDS)
        work()
        self._measuring = False
        return self._worst_turn

    def _beat(self, before: float) -> None:
        """Run once in each turn of the loop."""
        now = time.thread_time()
        self._worst_turn = max(self._worst_turn, now - before)
        if self._measuring:
            self._loop.call_soon(self._beat, now)

    def cost_of(self, work: Callable[[], object], most_bytes: int) -> float:
        """Return the share of its limits that some work takes; over 1 is too much."""
        turns: list[float] = []
        memory = _peak(lambda: turns.append(self.worst_turn(work)))
        while max(turns) > SLICE_SECONDS and len(turns) < 3:  # on a busy machine the minimum of three counts
            turns.append(self.worst_turn(work))
        return max(min(turns) / SLICE_SECONDS, memory / most_bytes)


def _peak(work: Callable[[], object]) -> float:
    """Return the peak growth of this process's memory, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
