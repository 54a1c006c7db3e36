"""Processes have names and logs, can be measured, and never outlive the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.processes import runs
from tools.controlplane.processes import Processes
from tools.polling import wait_until

ROOT = Path(__file__).parents[3]
FOREVER = ["sleep", "600"]

STARTS_ONE_AND_WAITS = """
import os, sys, time
from pathlib import Path
from tools.controlplane.processes import Processes
processes = Processes(Path(sys.argv[1]), os.environ)
child = processes.start("child", ["sleep", "600"])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path, os.environ)
    yield started
    started.kill_all()


def test_the_log_holds_the_output_of_a_process_across_restarts(processes: Processes) -> None:
    for _ in range(2):
        processes.start("greeter", ["echo", "hello"]).wait()

    assert processes.log("greeter").read_text(encoding="utf-8") == "hello\nhello\n"
    assert processes.exit_status("greeter") == 0


def test_a_name_is_one_process_at_a_time(processes: Processes) -> None:
    processes.start("sleeper", FOREVER)

    with pytest.raises(ValueError, match="sleeper is running already"):
        processes.start("sleeper", FOREVER)


def test_a_missing_program_is_an_error_at_once(processes: Processes) -> None:
    with pytest.raises(FileNotFoundError, match="no program no-such-program"):
        processes.start("nothing", ["no-such-program"])


def test_a_killed_process_is_gone_when_kill_returns(processes: Processes) -> None:
    child = processes.start("sleeper", FOREVER)

    processes.kill("sleeper")

    assert child.returncode == -signal.SIGKILL
    assert not processes.running("sleeper")
    assert processes.exit_status("sleeper") is None


def test_a_process_outlives_the_thread_that_started_it(processes: Processes) -> None:
    starter = threading.Thread(target=processes.start, args=("sleeper", FOREVER))
    starter.start()
    starter.join()

    # If the kernel killed the process with its thread, it would be gone before another process has run.
    processes.start("other", ["true"]).wait()
    assert processes.running("sleeper")


def test_processor_time_and_memory_are_those_of_the_process(processes: Processes) -> None:
    began = time.monotonic()
    processes.start("busy", [sys.executable, "-c", "block = bytearray(50_000_000)\nwhile True: pass"])

    wait_until(lambda: processes.cpu_seconds("busy") >= 0.2, seconds=30, what="a fifth of a second used")
    wait_until(lambda: processes.rss_bytes("busy") > 50e6, seconds=30, what="50 MB resident")

    used = processes.cpu_seconds("busy")
    assert used <= time.monotonic() - began + 0.1, "it has one thread; the kernel counts hundredths"
    assert processes.rss_bytes("busy") < 200e6


def test_nothing_survives_a_kill_of_the_test_run(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_ONE_AND_WAITS, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        was_alive = runs(pid)
        run.kill()

    assert was_alive
    wait_until(lambda: not runs(pid), seconds=10, what="the child gone")
