"""The controller as a process."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

WEBHOOKS = Path(__file__).parents[2] / "k8s/base/webhooks"

KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "u", "user": {}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "x",
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_once_ends_at_a_signal_while_the_cluster_cannot_be_reached(
    tmp_path: Path, number: signal.Signals
) -> None:
    for file in ("validating.yaml", "mutating.yaml"):
        shutil.copy(WEBHOOKS / file, tmp_path)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(KUBECONFIG))
    command = [sys.executable, "-m", "gatekeeper_py", "control", "--once", f"--webhooks={tmp_path}"]
    with subprocess.Popen(
        [*command, f"--kubeconfig={kubeconfig}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert json.loads(process.stdout.readline())["event"] == "reconcile_failed"
            process.send_signal(number)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, errors) == (130, "")
