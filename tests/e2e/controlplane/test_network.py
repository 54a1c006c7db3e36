"""The network namespace is isolated and prepared, and other namespaces are not taken for it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tools.controlplane import network

SCRIPT = Path(network.__file__)
ASK = "import network, sys; sys.stdout.write(str(network.isolated()))"


def test_no_packet_leaves() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        pytest.raises(OSError, match="unreachable"),
    ):
        sender.sendto(b"", ("192.0.2.1", 9))


def test_a_command_stays_in_a_namespace_that_is_isolated_already() -> None:
    namespace = subprocess.run(
        [sys.executable, str(SCRIPT), "readlink", "/proc/self/ns/net"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()

    assert namespace == str(Path("/proc/self/ns/net").readlink())


def test_an_unprepared_namespace_is_not_isolated() -> None:
    answer = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", ASK],
        cwd=SCRIPT.parent,
        capture_output=True,
        text=True,
        check=True,
    )

    assert answer.stdout == "False"


def test_a_fresh_namespace_is_prepared_for_the_command() -> None:
    # Calls the inner half of run_isolated() in an unprepared namespace, as on a machine without a network.
    answer = subprocess.run(
        ["unshare", "--net", sys.executable, str(SCRIPT), sys.executable, "-c", ASK],
        cwd=SCRIPT.parent,
        capture_output=True,
        text=True,
        check=True,
    )

    assert answer.stdout == "True"


def test_a_missing_program_is_an_error_that_names_it(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    assert unshare is not None

    answer = subprocess.run(
        [unshare, "--net", sys.executable, str(SCRIPT), "true"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert answer.returncode == 1
    assert answer.stderr == "error: `unshare` is missing; install util-linux and iproute2\n"


def test_a_missing_command_is_an_error_that_names_it() -> None:
    answer = subprocess.run(
        [sys.executable, str(SCRIPT), "no-such-command"], capture_output=True, text=True, check=False
    )

    assert answer.returncode == 1
    assert answer.stderr == "error: cannot run no-such-command: No such file or directory\n"
