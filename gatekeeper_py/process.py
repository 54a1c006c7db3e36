"""What every long-running command shares: uvloop, the log's thread, signals."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import prometheus_client
import structlog
import uvloop

from gatekeeper_py.logs import Format, LogWriter, build_log, stdout_stream


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
