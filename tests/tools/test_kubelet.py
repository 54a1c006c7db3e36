"""The kubelet of the end-to-end tests gives a Pod's process the arguments that a real one would give it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from tools.controlplane.plane import ControlPlane
from tools.installation.kubelet import Kubelet

ROOT = Path(__file__).parents[2]


class Plane:
    """A control plane that records the started processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[tuple[list[str], dict[str, str]]] = []

    def api(self, method: str, path: str, body: Any = None) -> Any:
        return {}

    def find(self, path: str) -> dict[str, Any]:
        return {"data": {"tls.crt": "", "tls.key": ""}}

    def kubeconfig_for_service_account(self, namespace: str, account: str, pod: str) -> Path:
        return self.folder / account / pod

    def kill(self, name: str) -> None:
        pass

    def popen(self, argv: list[str], *, name: str, env: dict[str, str]) -> None:
        self.started.append((argv[3:], env))


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        pytest.param(
            "deployment.yaml",
            [
                "serve",
                "--configmap=platform/gatekeeper-py-policy",
                "--tls-hostname=gatekeeper-py.platform.svc",
            ],
            id="server",
        ),
        pytest.param(
            "controller.yaml",
            ["control", "--configmap=platform/gatekeeper-py-policy", "--namespace=platform"],
            id="controller",
        ),
    ],
)
def test_the_arguments_of_the_manifests_follow_the_namespace(
    tmp_path: Path, file: str, expected: list[str]
) -> None:
    plane = Plane(tmp_path)
    kubelet = Kubelet(cast(ControlPlane, plane), "platform")
    manifest = yaml.safe_load((ROOT / "k8s/base" / file).read_text(encoding="utf-8"))
    kubelet._start("a-pod", manifest["spec"]["template"] | {"status": {"podIP": "10.0.0.1"}})
    kubelet._folder.cleanup()
    ((arguments, environment),) = plane.started
    assert set(expected) <= set(arguments)
    assert not any("$(" in argument for argument in arguments)
    assert environment["POD_NAMESPACE"] == "platform"
    account = manifest["spec"]["template"]["spec"]["serviceAccountName"]
    assert environment["KUBECONFIG"] == str(tmp_path / account / "a-pod")
    assert [pod.name for pod in kubelet.pods(manifest["metadata"]["name"])] == ["pod-a-pod"]
