"""The process of every long-running command: event loop, log thread, signals and open files."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import prometheus_client

from gatekeeper_py.process.logs import Format, LogWriter, build_log, stdout_stream

try:
    import uvloop
except ImportError:  # there are no builds of it for Windows
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] | None = None
else:
    new_event_loop = uvloop.new_event_loop

SWITCH_SECONDS: Final = 0.001
"""How long another thread may run before the event loop gets the interpreter back. With Python's default of
5 ms, each turn of the loop waited that long while a thread was busy, for example compiling a policy. Values
below 1 ms gained nothing."""

COLLECTOR_THRESHOLD: Final = 50_000
"""Number of new container objects before the garbage collector looks for cycles. A review of 33 KB creates
2,000, and reference counting frees all of them. With Python's default of 700, the collector ran three times
in each review and took a tenth of its time."""


class Process:
    """One process. ``log`` never blocks; the first signal sets ``stop``.

    A second signal exits at once with ``second_signal_code``.
    """

    def __init__(self, *, log_level: str, log_style: Format, second_signal_code: int = 0) -> None:
        self.stop = asyncio.Event()
        self._second_signal_code = second_signal_code
        self.writer = LogWriter(stdout_stream())
        self.log = build_log(
            self.writer,
            level=log_level,
            style=log_style,
            colors=sys.stdout.isatty() and not os.environ.get("NO_COLOR"),
        )
        self._signals = 0

    def run(self, main: Callable[[], Awaitable[int]]) -> int:
        """Run ``main`` and return its exit code. A second signal exits at once."""
        # A _created series for each counter would double the size of each scrape, and nothing reads it.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        sys.setswitchinterval(SWITCH_SECONDS)
        gc.set_threshold(COLLECTOR_THRESHOLD)
        if new_event_loop is None:
            self.log.warning("slow_event_loop", reason="uvloop is not installed")
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(self._run(main))

    async def _run(self, main: Callable[[], Awaitable[int]]) -> int:
        # Before anything else: PID 1 has no default signal handlers, and no signal may be lost.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                loop.add_signal_handler(number, self._signalled, number)
            except NotImplementedError:  # on Windows
                signal.signal(number, lambda n, _: loop.call_soon_threadsafe(self._signalled, n))
        try:
            return await main()
        finally:
            self.writer.close()

    def _signalled(self, number: int) -> None:
        self._signals += 1
        if self._signals > 1:
            self.log.warning("exit_at_once", signal=signal.Signals(number).name)
            self.writer.close()
            os._exit(self._second_signal_code)
        self.stop.set()


def allow_descriptors(minimum: int) -> int:
    """Raise the process's limit of open files to ``minimum`` if it is lower, and return the new limit.

    A process may raise its soft limit up to the hard one. Systems without such limits allow ``minimum``.
    """
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return minimum
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return minimum
    if soft < minimum:
        soft = minimum if hard == resource.RLIM_INFINITY else min(minimum, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        except (OSError, ValueError):
            return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft
