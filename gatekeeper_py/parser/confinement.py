"""The limits that the parser process sets itself, so that a document cannot cost more than it may.

Where a system lacks a limit (Windows, macOS), the others and the server's clock remain.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

NICENESS: Final = 10
"""A tenth of the processor when the server needs all of it: enough to load a policy during an overload,
too little to delay reviews."""

OOM_SCORE: Final = "1000"
"""When memory runs out, the kernel is to end this process and not the server."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38


def confine(parent: int) -> None:
    """Set what holds for the life of the process. ``parent`` is the process that started it.

    Exits when the parent has ended already.
    """
    # The server ends this process itself, after its drain.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    # It may have ended before the request to be told of it.
    if os.getppid() != parent:
        sys.exit(0)
    if resource is not None:
        os.nice(NICENESS)
        # No core dump, which would hold the policy, and no file.
        for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
            resource.setrlimit(limit, (0, 0))


class Allowance:
    """Memory and processor time for one job at a time, counted from what the process has now."""

    def __init__(self) -> None:
        self._own_bytes = _address_space()

    def grant(self, *, memory_bytes: int, cpu_seconds: int) -> None:
        """Set the limits of the next job.

        An allocation beyond ``memory_bytes`` fails. More than ``cpu_seconds`` ends the process with SIGXCPU.
        """
        if resource is None:
            return
        if self._own_bytes:
            _set_soft_limit(resource.RLIMIT_AS, self._own_bytes + memory_bytes)
        used = resource.getrusage(resource.RUSAGE_SELF)
        # The limit has whole seconds.
        _set_soft_limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime) + cpu_seconds)


def _address_space() -> int:
    """Bytes of address space in use; 0 where that is not known."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _set_soft_limit(limit: int, value: int) -> None:
    _, hard = resource.getrlimit(limit)
    soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (soft, hard))
