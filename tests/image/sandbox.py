"""Run programs in an image's file system like a container runtime, but stricter.

The root file system is read-only, and no other path can be written to: no ``/tmp``, no ``/dev/shm``. The
user is the image's; there are no privileges to gain. The program is process 1 of its own process namespace.
Only the network is the machine's, so that a test can talk to the program on the loopback interface.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from image.build import Image

START_SECONDS: Final = 60.0
"""A program that has not started by then never will, even on a busy machine."""

MOUNT: Final = """
root=$1 mode=$2; shift 2
mount --bind "$root" "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null urandom; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mount -o remount,ro "$root/dev"
while [ "$1" != -- ]; do
    mount --bind -o ro "$1" "$root$2"
    shift 2
done
shift
mount -o "remount,bind,$mode" "$root"
exec "$@"
"""
"""Arguments: the root, ``ro`` or ``rw``, pairs of a directory and its mount point, ``--``, the command."""


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """Runs programs of one image. ``volumes`` maps paths in the image to directories here, read-only."""

    image: Image
    volumes: Mapping[str, Path] = field(default_factory=dict)
    read_only: bool = True

    def run(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        return subprocess.run(
            self._command(arguments, environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @contextlib.contextmanager
    def started(self, *arguments: str) -> Iterator[Process]:
        """Start a program; it ends at the latest with the block."""
        with subprocess.Popen(
            self._command(arguments, {}), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as outer:
            process = Process(outer)
            try:
                yield process
            finally:
                process.kill()

    def _command(self, arguments: tuple[str, ...], environment: Mapping[str, str]) -> list[str]:
        root = self.image.root
        for path in ("/proc", "/dev", *self.volumes):
            # A directory to mount on, as a runtime creates it.
            (root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        variables = {**self.image.environment, **environment}
        return [
            *("unshare", "--mount", "--pid", "--fork", "--propagation", "private"),
            *("sh", "-euc", MOUNT, "sh", str(root), "ro" if self.read_only else "rw"),
            *(part for path, source in self.volumes.items() for part in (str(source), path)),
            *("--", "env", "-i", *(f"{name}={value}" for name, value in variables.items())),
            # The paths are absolute, because the environment is already that of the image.
            *(_path("setpriv"), "--no-new-privs"),
            *(_path("chroot"), f"--userspec={self.image.config['User']}", "--groups=", str(root)),
            *arguments,
        ]


class Process:
    """A running program. ``outer`` waits for it, and takes over its exit status."""

    def __init__(self, outer: subprocess.Popen[str]) -> None:
        self._outer = outer
        assert outer.stdout is not None
        self.stdout = outer.stdout

    @property
    def pid(self) -> int:
        """Return the process ID outside of its namespace."""
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        end = time.monotonic() + START_SECONDS
        while not (numbers := children.read_text(encoding="ascii").split()):
            assert time.monotonic() < end, "the program did not start"
            time.sleep(0.01)
        return int(numbers[0])

    @property
    def cpu_seconds(self) -> float:
        """Return the CPU time that the program has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        user, system = int(fields[11]), int(fields[12])
        return (user + system) / os.sysconf("SC_CLK_TCK")

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill the program; the end of process 1 ends its namespace."""
        if self._outer.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self._outer.wait()

    def wait(self, seconds: float) -> int:
        """Wait for the end; return the exit status."""
        return self._outer.wait(seconds)


def _path(tool: str) -> str:
    path = shutil.which(tool)
    assert path is not None, f"{tool} is part of Debian's essential packages"
    return path
