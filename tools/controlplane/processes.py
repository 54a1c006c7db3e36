"""The processes of a control plane: started with a log file each, measured, and ended without exception."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_TAIL_LINES = 20


class Processes:
    """Named child processes that cannot outlive us.

    Every child asks the kernel to be killed when its parent dies (``setpriv --pdeathsig``), so that even a
    SIGKILL of the test run leaves nothing behind. The kernel takes the *thread* that forked for the parent;
    therefore one thread, which lives as long as this object, forks them all, whoever calls.
    """

    def __init__(self, logs: Path, environment: Mapping[str, str]) -> None:
        self._logs = logs
        self._environment = dict(environment)
        # The kernel is not asked in time when we die in the same moment; hence the look at who is the parent.
        still_ours = f'test "$PPID" -eq {os.getpid()} && exec "$@"'
        self._bound_to_us = [
            _find("setpriv"),
            "--pdeathsig",
            "KILL",
            "--",
            _find("sh"),
            "-c",
            still_ours,
            "sh",
        ]
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._forker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forker")

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process; what it prints is appended to its log unless redirected.

        Raises ValueError while another process of this name runs, FileNotFoundError without such a program.
        """
        if self.running(name):
            raise ValueError(f"a process named {name} is running already")
        command = [*self._bound_to_us, _find(argv[0]), *argv[1:]]
        with self.log(name).open("ab") as log:
            child = self._forker.submit(
                subprocess.Popen[bytes],
                command,
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=log if stderr is None else stderr,
                env=self._environment | dict(env or {}),
                cwd=cwd,
                start_new_session=True,  # Ctrl-C is for the test run, which ends its processes in order
            ).result()
        self._children[name] = child
        return child

    def log(self, name: str) -> Path:
        """The log file of a process, which may not have been started yet."""
        return self._logs / f"{name}.log"

    def tail(self, name: str) -> str:
        """The last lines of a process's log, for error messages."""
        if not self.log(name).exists():
            return "(never started)"
        lines = self.log(name).read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

    def running(self, name: str) -> bool:
        return name in self._children and self._children[name].poll() is None

    def exit_status(self, name: str) -> int | None:
        """The status of a process that ended by itself; None while it runs, before its start, once killed."""
        return self._children[name].poll() if name in self._children else None

    def kill(self, name: str) -> None:
        """End a process with SIGKILL and wait until it is gone; nothing happens if it is."""
        child = self._children.pop(name, None)
        if child is None:
            return
        if child.poll() is None:
            child.kill()
        child.wait()
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                stream.close()

    def kill_all(self) -> None:
        """End every process, the last started first, and refuse to start more."""
        for name in reversed(tuple(self._children)):
            self.kill(name)
        self._forker.shutdown()

    def cpu_seconds(self, name: str) -> float:
        """User and system time a running process has used, in seconds; counted anew after a restart."""
        # The second field is the program's name in parentheses, and may hold spaces and parentheses itself.
        fields = self._proc(name, "stat").rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])  # utime and stime: fields 14 and 15 of proc(5)
        return ticks / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self, name: str) -> int:
        """Resident memory of a running process, in bytes."""
        return int(self._proc(name, "statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def _proc(self, name: str, file: str) -> str:
        if not self.running(name):
            raise ValueError(f"no process named {name} is running")
        return Path(f"/proc/{self._children[name].pid}/{file}").read_text(encoding="ascii", errors="replace")


def _find(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise FileNotFoundError(f"no program {program} on PATH")
    return found
