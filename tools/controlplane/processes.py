"""The processes of a control plane: each has a log file and can be measured, and none is left running."""

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

    The kernel kills every child when its parent dies (``setpriv --pdeathsig``), so even a SIGKILL of the
    test run leaves nothing behind. The kernel regards the *thread* that forked as the parent, so one thread,
    which lives as long as this object, forks all children.
    """

    def __init__(self, logs: Path, environment: Mapping[str, str]) -> None:
        self._logs = logs
        self._environment = dict(environment)
        # If this process dies before setpriv runs, its setting has no effect. The child therefore checks
        # that this process is still its parent.
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
        """Start a process; append its output to its log unless redirected.

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
                start_new_session=True,  # Ctrl-C must reach only the test run, which ends them in order
            ).result()
        self._children[name] = child
        return child

    def log(self, name: str) -> Path:
        """Return the log file of a process, which may not have been started yet."""
        return self._logs / f"{name}.log"

    def tail(self, name: str) -> str:
        """Return the last lines of a process's log, for error messages."""
        if not self.log(name).exists():
            return "(never started)"
        lines = self.log(name).read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

    def running(self, name: str) -> bool:
        return name in self._children and self._children[name].poll() is None

    def pid(self, name: str) -> int:
        """Return the process ID of a running process."""
        if not self.running(name):
            raise ValueError(f"no process named {name} is running")
        return self._children[name].pid

    def exit_status(self, name: str) -> int | None:
        """Return the status of a process that ended by itself, and otherwise None."""
        return self._children[name].poll() if name in self._children else None

    def kill(self, name: str) -> None:
        """End a process with SIGKILL and wait until it is gone. Do nothing if it is not running."""
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
        """End every process, the last started first. No process can be started afterwards."""
        for name in reversed(tuple(self._children)):
            self.kill(name)
        self._forker.shutdown()

    def cpu_seconds(self, name: str) -> float:
        """Return the user and system time of a running process in seconds, counted from its last start."""
        # The second field is the program's name in parentheses, and may hold spaces and parentheses itself.
        fields = self._proc(name, "stat").rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])  # utime and stime: fields 14 and 15 of proc(5)
        return ticks / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self, name: str) -> int:
        """Return the resident memory of a running process in bytes."""
        return int(self._proc(name, "statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def _proc(self, name: str, file: str) -> str:
        return Path(f"/proc/{self.pid(name)}/{file}").read_text(encoding="ascii", errors="replace")


def _find(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise FileNotFoundError(f"no program {program} on PATH")
    return found
