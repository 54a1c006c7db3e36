"""The resources that a process and its descendants use, from ``/proc``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
PROC: Final = Path("/proc")
PINNED: Final = Path(__file__).with_name("pinned.py")


@dataclass(frozen=True, slots=True)
class Place:
    """The core and the niceness of a process."""

    core: int
    niceness: int = 0

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs ``argv`` on this core with this niceness."""
        return [sys.executable, "-S", "-E", str(PINNED), str(self.core), str(self.niceness), *argv]


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor seconds (user and system, all threads), and memory in MiB.

    ``own_cpu_seconds`` is the part of ``cpu_seconds`` that the process itself used, not its descendants.
    """

    own_cpu_seconds: float
    cpu_seconds: float
    rss_mib: float


def usage(pid: int) -> Usage:
    """Return the usage of a process and its descendants. Raises ``ProcessLookupError`` when it has ended."""
    own, cpu, rss = 0.0, 0.0, 0.0
    for each in family(pid):
        try:
            used = cpu_seconds(each)
            own = used if each == pid else own
            cpu += used
            rss += rss_mib(each)
        except (FileNotFoundError, ProcessLookupError):
            if each == pid:
                raise ProcessLookupError(pid) from None
    return Usage(own, cpu, rss)


def family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = [pid]
    for each in found:
        for children in (PROC / str(each) / "task").glob("*/children"):
            try:
                found += map(int, children.read_text(encoding="ascii").split())
            except (FileNotFoundError, ProcessLookupError):
                continue  # the thread has ended
    return found


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of all threads, in steps of a tick."""
    text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    fields = text.rpartition(")")[2].split()  # the process name before it may contain anything
    return (int(fields[11]) + int(fields[12])) / TICKS


def status(pid: int) -> dict[str, str]:
    """Return the fields of ``/proc/PID/status``."""
    lines = (PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def rss_mib(pid: int) -> float:
    """Return the resident memory of one process; 0 if it has ended and was not waited for."""
    return int(status(pid).get("VmRSS", "0").split()[0]) / 1024


def busy_seconds() -> float:
    """Return the seconds that the cores of this machine were not idle since its start, summed up."""
    # cpu user nice system idle iowait irq softirq steal …: proc_stat(5)
    fields = (PROC / "stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]
    return sum(int(field) for number, field in enumerate(fields) if number not in {3, 4}) / TICKS
