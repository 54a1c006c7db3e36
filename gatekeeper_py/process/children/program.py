"""The start of every child process: set its limits, and separate its messages from other output.

Where a system lacks a limit (Windows, macOS), the other limits and the server's timeout still apply.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from gatekeeper_py.process.children import frames

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

OUT_OF_MEMORY: Final = 77
"""Exit code of a child process that ends because an allocation failed."""

OOM_SCORE: Final = "1000"
"""When memory runs out, the kernel must end this process and not the server."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38


class Pipes(NamedTuple):
    """The stream on which messages arrive, and the function that sends one."""

    messages: BinaryIO
    send: Callable[[bytes], None]


def begin(*, longest: int, niceness: int) -> Pipes:
    """Set the limits of this process, whose first argument is the server's process ID; return its pipes.

    ``longest`` limits the payloads that it sends.
    """
    _confine(int(sys.argv[1]), niceness)
    # The server's own descriptors are already closed here, but not the descriptors that it inherited.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    # Redirect stdout, because printed text must not end up among the messages.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def send(payload: bytes) -> None:
        rest = memoryview(frames.frame(payload, longest))
        while rest:
            rest = rest[output.write(rest) :]

    return Pipes(sys.stdin.buffer, send)


def _confine(parent: int, niceness: int) -> None:
    """Set the limits that hold for the life of the process, and ignore SIGINT and SIGTERM.

    ``parent`` is the process ID of the server. A higher ``niceness`` leaves more CPU time to the server.
    Exits if the server has already ended.
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
    # The server may have ended before prctl() asked for a signal at its end.
    if os.getppid() != parent:
        sys.exit(0)
    if resource is not None:
        os.nice(niceness)
        # Forbid core dumps, which would contain the policy, and writing files.
        for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
            resource.setrlimit(limit, (0, 0))


class Allowance:
    """Limits of memory and processor time for one job at a time.

    A job's memory is limited in addition to what the process uses when this object is created.
    """

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
        # The kernel counts the limit in whole seconds.
        _set_soft_limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime) + cpu_seconds)


def _address_space() -> int:
    """Return the bytes of address space in use, or 0 if the system does not report them."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _set_soft_limit(limit: int, value: int) -> None:
    _, hard = resource.getrlimit(limit)
    soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (soft, hard))
