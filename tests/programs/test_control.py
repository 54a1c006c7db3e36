"""The controller as a process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.scraped import UNREACHABLE


def test_once_ends_at_a_signal_while_the_cluster_cannot_be_reached(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(UNREACHABLE))
    command = [sys.executable, "-m", "gatekeeper_py", "control", "--once"]
    with subprocess.Popen(
        [*command, f"--kubeconfig={kubeconfig}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert json.loads(process.stdout.readline())["event"] == "policy_source_failed"
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, errors) == (130, "")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        pytest.param(["--once"], 130, id="once"),
        pytest.param(["--remove"], 130, id="remove"),
        pytest.param(["--health-listen=127.0.0.1:0"], 0, id="for-ever"),
    ],
)
def test_a_second_signal_exits_at_once_with_the_code_of_a_first_one(
    tmp_path: Path, options: list[str], code: int
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(UNREACHABLE))
    command = [sys.executable, "-m", "gatekeeper_py", "control", *options, f"--kubeconfig={kubeconfig}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()  # it handles signals before it logs anything
            # Stopped, it receives both signals before it can end because of the first.
            for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
                process.send_signal(number)
            output, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert json.loads(output.splitlines()[-1])["event"] == "exit_at_once"
    assert (process.returncode, errors) == (code, "")
