"""Run a process with the Pod's memory limit, and measure the peak as the kubelet does.

A control group counts what a container's limit counts: the pages of all processes in it, its part of the
page cache, and the kernel's socket buffers. Where no control group can be made (not root, or a container
without a writable hierarchy) the limit is one on the data of each process, and the peak is what
``/proc`` shows for the process and its children.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import yaml

MIB: Final = 2**20
DEPLOYMENT: Final = Path(__file__).parents[2] / "k8s" / "base" / "deployment.yaml"
HIERARCHIES: Final = Path("/sys/fs/cgroup")
LEAVE_SECONDS: Final = 10.0

_numbers: Final = itertools.count()


def pod_limit() -> int:
    """Return the memory limit of the shipped Deployment, in bytes."""
    (deployment,) = yaml.safe_load_all(DEPLOYMENT.read_text(encoding="utf-8"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    found = re.fullmatch(r"(\d+)Mi", container["resources"]["limits"]["memory"])
    assert found is not None, "the limit is not written in Mi"
    return int(found[1]) * MIB


class Limited(Protocol):
    """A memory limit for a process.

    ``command`` is a prefix of the process's own command, and keeps its process ID.
    """

    @property
    def command(self) -> list[str]: ...

    def used(self) -> int:
        """Return the bytes in use now."""

    def peak(self) -> int:
        """Return the peak of used bytes since ``start_peak``."""

    def start_peak(self) -> None: ...


@dataclass(frozen=True)
class Files:
    """The file names of a version of control groups. ``usages`` are added up, and so are ``peaks``.

    ``resets`` are written to begin a new peak, when the kernel allows it.
    """

    limits: tuple[str, ...]
    usages: tuple[str, ...]
    peaks: tuple[str, ...]
    resets: bool


VERSION_1: Final = Files(
    # Socket buffers are counted separately, and only where they have a limit.
    limits=("memory.limit_in_bytes", "memory.kmem.tcp.limit_in_bytes"),
    usages=("memory.usage_in_bytes", "memory.kmem.tcp.usage_in_bytes"),
    peaks=("memory.max_usage_in_bytes", "memory.kmem.tcp.max_usage_in_bytes"),
    resets=True,
)
VERSION_2: Final = Files(
    limits=("memory.max",), usages=("memory.current",), peaks=("memory.peak",), resets=False
)


class Group:
    """A control group, by its directory.

    In version 2 the peak counts from the creation of the group: the kernel resets it only for the requesting
    reader, and only since Linux 6.12. So a peak that is too high shows in all later rows, too.
    """

    def __init__(self, directory: Path, files: Files) -> None:
        self._directory = directory
        self._files = files

    @property
    def command(self) -> list[str]:
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self._directory / "cgroup.procs")]

    def limit(self, size: int) -> None:
        for name in self._files.limits:
            (self._directory / name).write_text(str(size))

    def used(self) -> int:
        return self._sum(self._files.usages)

    def peak(self) -> int:
        return self._sum(self._files.peaks)

    def start_peak(self) -> None:
        if self._files.resets:
            for name in self._files.peaks:
                (self._directory / name).write_text("0")

    def processes(self) -> list[str]:
        return (self._directory / "cgroup.procs").read_text().split()

    def _sum(self, names: tuple[str, ...]) -> int:
        return sum(int((self._directory / name).read_text()) for name in names)


class Resident:
    """The resident memory of a process alone."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def used(self) -> int:
        return sum(_status(pid, "VmRSS") for pid in self._family())

    def peak(self) -> int:
        return sum(_status(pid, "VmHWM") for pid in self._family())

    def start_peak(self) -> None:
        for pid in self._family():
            with contextlib.suppress(OSError):  # a child may end at any time
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def _family(self) -> list[int]:
        return [self.pid]


class Rlimit(Resident):
    """A limit on the data of each process. ``pid`` has to be set once the process runs."""

    def __init__(self, size: int) -> None:
        super().__init__(0)
        self._size = size

    @property
    def command(self) -> list[str]:
        return ["sh", "-c", f'ulimit -d {self._size // 1024} && exec "$@"', "sh"]

    def _family(self) -> list[int]:
        return [self.pid, *children(self.pid)]


@contextlib.contextmanager
def limited(size: int) -> Iterator[Limited]:
    """Return a limit for one process and its children, with the best method of this machine."""
    made = _make_group(size)
    if made is None:
        yield Rlimit(size)
        return
    group, directory = made
    try:
        yield group
    finally:
        _remove(group, directory)


def children(pid: int) -> list[int]:
    """Return the running descendants of a process."""
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *children(child)]
    return found


def _make_group(size: int) -> tuple[Group, Path] | None:
    for parent, files in ((HIERARCHIES / "memory", VERSION_1), (HIERARCHIES, VERSION_2)):
        directory = parent / f"gatekeeper-py-test-{os.getpid()}-{next(_numbers)}"
        if not (parent / "cgroup.procs").exists():
            continue
        try:
            if files is VERSION_2:
                (parent / "cgroup.subtree_control").write_text("+memory")
            directory.mkdir()
        except OSError:
            continue
        group = Group(directory, files)
        try:
            group.limit(size)
            group.start_peak()
            group.peak()
        except OSError:
            directory.rmdir()
            continue
        return group, directory
    return None


def _remove(group: Group, directory: Path) -> None:
    """Remove a group. No child may outlive the process, so its group is empty soon after its end."""
    end = time.monotonic() + LEAVE_SECONDS
    while group.processes():
        assert time.monotonic() < end, f"processes outlived the server: {group.processes()}"
        time.sleep(0.05)
    directory.rmdir()


def _status(pid: int, field: str) -> int:
    """Return a field of ``/proc/PID/status`` in bytes; 0 when the process has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return 0
