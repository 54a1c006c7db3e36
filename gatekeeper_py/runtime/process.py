"""What every long-running command shares: uvloop, the log's thread, signals."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import prometheus_client
import structlog
import uvloop

from gatekeeper_py.runtime.logs import Format, LogWriter, build_log, stdout_stream

SWITCH_SECONDS: Final = 0.001
"""How long a thread may keep the interpreter from the event loop: reviews go on while one compiles a
policy. Python's 5 ms made each turn of the loop wait for that long; below 1 ms nothing was gained."""

COLLECTOR_THRESHOLD: Final = 50_000
"""New containers before the garbage collector looks for cycles. A review makes 2,000 at 33 KB, all gone
at its end without it; Python's 700 made it run thrice in each, for a tenth of the review."""


class Process:
    """One process: ``log`` writes without blocking, ``stop`` is set by the first signal."""

    def __init__(self, *, log_level: str, log_style: Format) -> None:
        self.stop = asyncio.Event()
        self.writer = LogWriter(stdout_stream())
        self.log: structlog.typing.FilteringBoundLogger = build_log(
            self.writer,
            level=log_level,
            style=log_style,
            colors=sys.stdout.isatty() and not os.environ.get("NO_COLOR"),
        )
        self._signals = 0

    def run(self, main: Callable[[], Awaitable[int]]) -> int:
        """Run to the end; answers the exit code. A second signal exits at once."""
        # A _created series beside each counter would double what is scraped and tell nothing.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        sys.setswitchinterval(SWITCH_SECONDS)
        gc.set_threshold(COLLECTOR_THRESHOLD)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._run(main))

    async def _run(self, main: Callable[[], Awaitable[int]]) -> int:
        # First of all: as PID 1 a process has no default handlers, and a signal must not be lost.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        try:
            return await main()
        finally:
            self.writer.close()

    def _signalled(self, number: int) -> None:
        self._signals += 1
        if self._signals > 1:
            self.log.warning("exit_at_once", signal=signal.Signals(number).name)
            self.writer.close()
            os._exit(0)
        self.stop.set()
