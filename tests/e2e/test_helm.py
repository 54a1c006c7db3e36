"""The chart on the real API server, with Helm 3 and 4, each step while the cluster creates Pods.

A cluster has one installation, and the shared one is gone by now (see LAST in conftest.py). The release
and its namespace have unusual names.
"""

from __future__ import annotations

import http.client
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.acting import CONTROLLER, scale, try_pod, use_images
from e2e.load import no_create_fails
from e2e.strictly import check_every_field
from tools.controlplane.exchange import ApiError
from tools.controlplane.plane import ControlPlane
from tools.installation.kubelet import Kubelet
from tools.installation.product import (
    MUTATING,
    POLICY,
    SETTLE_SECONDS,
    UNLISTED,
    VALIDATING,
    Installed,
)
from tools.polling import wait_until
from tools.programs import HELM

CHART = Path(__file__).parents[2] / "charts/gatekeeper-py"
RELEASE, NAMESPACE = "shop", "platform"
HELM_SECONDS = 180.0

DOCUMENT = (
    "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: enforce\nallow:\n  - registry.corp.example\n"
)
EDITED = DOCUMENT + "  - edited.example\n"

# kwok marks a Pod as ready at once, unless this annotation leaves that to the readiness probe.
PROBED = {"controlplane/ready": "false"}
VALUES: dict[str, Any] = {"policy": {"document": DOCUMENT}, "server": {"podAnnotations": PROBED}}
ONE_REPLICA: dict[str, Any] = {**VALUES, "replicas": 1}

OWNER = "/apis/rbac.authorization.k8s.io/v1/clusterroles/gatekeeper-py-controller"
CLUSTER_SCOPED = (
    VALIDATING,
    MUTATING,
    OWNER,
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/gatekeeper-py-controller",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/gatekeeper-py-uninstall",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/gatekeeper-py-uninstall",
    *(
        f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic{kind}/gatekeeper-py-controller-{part}"
        for kind in ("ies", "ybindings")
        for part in ("users", "writes")
    ),
)


class Release:
    """One release of the chart, and the commands that change it."""

    def __init__(self, product: Installed, program: Path, folder: Path) -> None:
        self.product = product
        self.plane = product.plane
        self._program = program
        self._values = folder / "values.yaml"

    def helm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.plane.exec(
            [str(self._program), *arguments, f"--namespace={NAMESPACE}"], seconds=HELM_SECONDS + 30
        )

    def succeed(self, *arguments: str) -> str:
        done = self.helm(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def install(self, replicas: int = 3) -> None:
        self.write({**VALUES, "replicas": replicas})
        self.succeed("install", RELEASE, str(CHART), *self.options())
        self.product.wait_armed(replicas)

    def upgrade(self, values: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        self.write(values)
        return self.helm("upgrade", RELEASE, str(CHART), *self.options())

    def uninstall(self) -> None:
        self.succeed("uninstall", RELEASE, "--wait", f"--timeout={HELM_SECONDS:.0f}s")

    def document(self) -> str:
        return self.product.policy_text()

    def marked(self) -> bool:
        """Return whether the Deployment of the server has the annotation of a later revision."""
        found = self.plane.api("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/gatekeeper-py")
        return "example.com/v" in found["spec"]["template"]["metadata"]["annotations"]

    def refused(self, namespace: str, image: str = UNLISTED) -> bool:
        done = try_pod(self.plane, namespace, image)
        assert done.returncode == 0 or "is not approved" in done.stderr, done.stderr
        return done.returncode != 0

    def leftovers(self) -> list[str]:
        """Return the objects that an uninstallation wrongly left behind."""
        found = [path for path in CLUSTER_SCOPED if self.product.get(path) is not None]
        listed = self.plane.kubectl(
            "get", "-n", NAMESPACE, "-o", "name",
            "deployments,services,configmaps,serviceaccounts,roles,rolebindings,jobs,poddisruptionbudgets,networkpolicies,"
            "resourcequotas",
        ).stdout.split()  # fmt: skip
        own = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
        return found + [name for name in listed if name not in own]

    def write(self, values: Mapping[str, Any]) -> None:
        self._values.write_text(yaml.safe_dump(dict(values)), encoding="utf-8")

    def options(self) -> list[str]:
        return [f"--values={self._values}", "--wait", f"--timeout={HELM_SECONDS:.0f}s"]


def delete_if_present(plane: ControlPlane, path: str) -> None:
    try:
        plane.api("DELETE", path)
    except ApiError as problem:
        # The garbage collector deletes the webhook configurations once their owner is gone.
        if problem.status != http.client.NOT_FOUND:
            raise


@pytest.fixture(params=["helm3", "helm4"])
def release(request: pytest.FixtureRequest, control_plane: ControlPlane, tmp_path: Path) -> Iterator[Release]:
    """Create a namespace for a release; uninstall the release at the end in any case."""
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    control_plane.make_namespace(NAMESPACE, restricted)
    with Kubelet(control_plane, NAMESPACE) as kubelet:
        found = Release(Installed(control_plane, kubelet), HELM.cached() / request.param, tmp_path)
        try:
            yield found
        finally:
            for path in (OWNER, VALIDATING, MUTATING):
                delete_if_present(control_plane, path)
            found.helm("uninstall", RELEASE, "--no-hooks", "--ignore-not-found")
            control_plane.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", seconds=120)


def test_install_upgrade_rollback_and_uninstall_fail_no_create(release: Release, namespace: str) -> None:
    product = release.product
    with no_create_fails(release.plane, namespace):
        release.install()
    assert release.refused(namespace)

    # A mode that was set by hand survives an upgrade and a rollback.
    product.set_mode("warn")
    with no_create_fails(release.plane, namespace):
        upgraded = release.upgrade({**VALUES, "server": {"podAnnotations": {**PROBED, "example.com/v": "2"}}})
        assert upgraded.returncode == 0, upgraded.stderr
    product.wait_armed()
    assert {product.mode_of(each.address) for each in product.servers()} == {"warn"}
    with no_create_fails(release.plane, namespace):
        release.succeed("rollback", RELEASE, "1", "--wait", f"--timeout={HELM_SECONDS:.0f}s")
    product.wait_armed()
    assert {product.mode_of(each.address) for each in product.servers()} == {"warn"}
    assert not release.refused(namespace)
    product.set_mode("enforce")
    assert release.refused(namespace)

    with no_create_fails(release.plane, namespace):
        release.uninstall()
    assert not release.refused(namespace)
    wait_until(lambda: not release.leftovers(), seconds=SETTLE_SECONDS, what="nothing left")


@pytest.mark.parametrize("release", ["helm3"], indirect=True)
def test_helm_3_overwrites_edits_by_hand_and_uninstalls_without_any_replica(
    release: Release, namespace: str
) -> None:
    release.install(replicas=1)
    release.product.set_policy(EDITED)
    release.product.set_mode("warn")
    upgraded = release.upgrade({**ONE_REPLICA, "policy": {"document": DOCUMENT, "mode": "enforce"}})
    assert upgraded.returncode == 0, upgraded.stderr
    assert release.document() == DOCUMENT
    wait_until(lambda: release.refused(namespace), seconds=SETTLE_SECONDS, what="the mode of the values")
    release.product.set_policy(EDITED)
    release.succeed("rollback", RELEASE, "1", "--wait", f"--timeout={HELM_SECONDS:.0f}s")
    assert release.document() == DOCUMENT
    check_uninstallation(release, namespace, dead="everything")


@pytest.mark.parametrize("release", ["helm4"], indirect=True)
def test_after_an_edit_by_hand_helm_4_upgrades_and_rollbacks_fail_but_not_the_uninstallation(
    release: Release, namespace: str
) -> None:
    """The page Operate documents this. One release goes through all of it, as installing one takes long."""
    release.install(replicas=1)
    check_rollback(release)
    check_upgrades(release, namespace)
    release.product.set_mode("enforce")
    check_uninstallation(release, namespace, dead="controller")


def check_uninstallation(release: Release, namespace: str, *, dead: str) -> None:
    assert release.refused(namespace)
    scale(release.product, CONTROLLER, 0)
    if dead == "controller":
        with no_create_fails(release.plane, namespace):
            release.uninstall()
    else:
        scale(release.product, "gatekeeper-py", 0)
        release.uninstall()
    assert not release.refused(namespace)
    wait_until(lambda: not release.leftovers(), seconds=SETTLE_SECONDS, what="nothing left")


def check_rollback(release: Release) -> None:
    """Check that a rollback fails after an edit, until the policy is deleted."""
    marked = {"podAnnotations": {**PROBED, "example.com/v": "2"}}
    values = {"policy": {"document": DOCUMENT + "  - another.example\n"}, "server": marked}
    changed = release.upgrade({**ONE_REPLICA, **values})
    assert changed.returncode == 0, changed.stderr
    release.product.set_policy(EDITED)
    rollback = ("rollback", RELEASE, "1", "--wait", f"--timeout={HELM_SECONDS:.0f}s")
    stopped = release.helm(*rollback)
    assert stopped.returncode != 0
    assert "kubectl-patch" in stopped.stderr
    assert release.document() == EDITED
    assert not release.marked(), "Helm writes the other objects although the policy failed"

    release.plane.kubectl("delete", "configmap", POLICY, "-n", NAMESPACE)
    release.succeed(*rollback)
    assert release.document() == DOCUMENT
    assert not release.marked()
    release.product.wait_armed(1)


def check_upgrades(release: Release, namespace: str) -> None:
    """Check that upgrades fail after an edit of the policy or of the mode, until the values have it."""

    def stopped_by_hand(values: Mapping[str, Any], key: str) -> None:
        stopped = release.upgrade(values)
        assert stopped.returncode != 0
        assert "kubectl-patch" in stopped.stderr
        assert key in stopped.stderr

    # The policy: both an upgrade that leaves it alone and one that changes it stop.
    release.product.set_policy(EDITED)
    for document in (DOCUMENT, DOCUMENT + "  - another.example\n"):
        stopped_by_hand({**ONE_REPLICA, "policy": {"document": document}}, "policy.yaml")
        assert release.document() == EDITED
    assert not release.refused(namespace, "edited.example/app:1")
    taken = release.upgrade({**ONE_REPLICA, "policy": {"document": EDITED}})
    assert taken.returncode == 0, taken.stderr
    assert release.document() == EDITED

    # The mode, once it is in the values.
    values = {**ONE_REPLICA, "policy": {"document": EDITED, "mode": "enforce"}}
    upgraded = release.upgrade(values)
    assert upgraded.returncode == 0, upgraded.stderr
    release.product.set_mode("warn")
    stopped_by_hand({**values, "controller": {"logLevel": "debug"}}, "mode")
    assert {release.product.mode_of(each.address) for each in release.product.servers()} == {"warn"}

    second = release.helm("install", "second", str(CHART), *release.options())
    assert second.returncode != 0
    assert "exists and cannot be imported into the current release" in second.stderr


def test_an_upgrade_and_a_rollback_that_reject_most_images_need_the_annotation(
    release: Release, namespace: str
) -> None:
    release.install(replicas=1)  # each replica knows the images of its own reviews

    def annotate(annotation: str) -> None:
        name = "gatekeeper-py-policy"
        release.plane.kubectl("annotate", "configmap", name, f"--namespace={NAMESPACE}", annotation)

    def insist(*command: str) -> None:
        before = release.document()
        stopped = release.helm(*command)
        assert stopped.returncode != 0
        assert "this policy rejects 12 of 12 images" in stopped.stderr
        assert release.document() == before
        annotate("gatekeeper-py/accept-rejections=true")
        release.succeed(*command)
        annotate("gatekeeper-py/accept-rejections-")

    use_images(release.plane, namespace, "registry.corp.example", 12)
    other = DOCUMENT.replace("registry.corp.example", "other.example")
    release.write({**ONE_REPLICA, "policy": {"document": other}})
    insist("upgrade", RELEASE, str(CHART), *release.options())
    use_images(release.plane, namespace, "other.example", 12)
    insist("rollback", RELEASE, "1", "--wait", f"--timeout={HELM_SECONDS:.0f}s")
    assert release.document() == DOCUMENT
    release.uninstall()


EXAMPLES = sorted((CHART / "ci").glob("*-values.yaml"))
FULLEST = ("cert-manager-values", "full-values")
"""Together they render every object of the chart."""


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(path, marks=[pytest.mark.oldest] * (path.stem in FULLEST), id=path.stem)
        for path in EXAMPLES
    ],
)
def test_the_api_server_knows_every_field_of_the_examples(
    control_plane: ControlPlane, namespace: str, example: Path
) -> None:
    program = str(HELM.cached() / "helm4")  # other tests show that Helm 3 renders the same
    done = control_plane.exec(
        [program, "template", RELEASE, str(CHART), f"--namespace={namespace}", f"--values={example}"]
    )
    assert done.returncode == 0, done.stderr
    check_every_field(
        control_plane, namespace, [each for each in yaml.safe_load_all(done.stdout) if each is not None]
    )
