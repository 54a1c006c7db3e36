"""Signed images run and others are refused, through a real API server and a real registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from e2e.acting import components, events_about_images, scale, try_pod
from e2e.test_registries import SECRET, SECRETS, has_ca, secret_data, stored_image
from registries.distribution import CA_FILE, Registry, start_registry
from registries.signing import Signer, signed
from tools.controlplane.plane import ControlPlane
from tools.installation.product import Installed, deployment, pod
from tools.polling import wait_until

SERVER = "gatekeeper-py"
SIGNATURES = "gatekeeper_py_signatures_total"
POD_WEBHOOK = "pods.image-validation-webhook.gatekeeper-py"


@dataclass(frozen=True)
class Team:
    """A team that signs what it builds, its registry, and the installation, which has one server."""

    product: Installed
    registry: Registry
    signer: Signer

    def push(self, name: str, *signers: Signer) -> str:
        """Push an image with the tag ``v1``, sign it, and return its digest."""
        repository = f"team/{name}"
        digest = self.registry.push(repository, "v1", name.encode())
        signatures = signed(digest, *signers)
        for content in signatures.blobs.values():
            self.registry.push_blob(repository, content)
        for reference, content in signatures.manifests.items():
            self.registry.push_manifest(repository, reference, content)
        # This registry has no referrers API.
        index = "application/vnd.oci.image.index.v1+json"
        self.registry.push_manifest(repository, signatures.tag, signatures.index, index)
        return digest

    def image(self, name: str) -> str:
        return f"{self.registry.host}/team/{name}:v1"

    def tried(self, namespace: str, image: str) -> str:
        """Create a Pod in dry run; return the image that would be stored, or why the Pod is refused."""
        done = try_pod(self.product.plane, namespace, image)
        return done.stderr if done.returncode else stored_image(json.loads(done.stdout))

    def looked_up(self) -> float:
        """Return the number of look-ups of signatures so far."""
        return self.product.metric(self.product.servers()[0].address, SIGNATURES)


@pytest.fixture(scope="module")
def team(
    product: Installed, control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Team]:
    ca, signer = trustme.CA(), Signer("p256")
    registry = start_registry(tmp_path_factory.mktemp("signatures") / "registry", ca)
    before = product.policy_text()
    data = secret_data(ca, registry.host)
    control_plane.api("POST", SECRETS, {"metadata": {"name": SECRET}, "data": data})
    try:
        scale(product, SERVER, 1)
        wait_until(lambda: len(product.servers()) == 1, seconds=60, what="a single server")
        key = signer.pem.replace("\n", "\n      ")
        product.set_policy(f"""apiVersion: gatekeeper-py/v1
kind: ImagePolicy
mode: enforce
keys:
  - name: ci
    key: |
      {key}
allow: ["{registry.host}/team/**", registry.corp.example]
require:
  - images: ["{registry.host}/team/**"]
    signedBy: [ci]
registries:
  - {{host: "{registry.host}", ca: {CA_FILE}, ttlMissing: 1s, timeout: 5s}}
""")
        wait_until(
            lambda: all(has_ca(product, each) for each in product.servers()),
            seconds=60,
            what="the credentials in the server",
        )
        yield Team(product, registry, signer)
    finally:
        registry.stop()
        product.set_policy(before)
        product.set_mode("enforce")
        scale(product, SERVER, 3)
        product.wait_armed()
        control_plane.api("DELETE", f"{SECRETS}/{SECRET}")


def test_the_pods_of_a_deployment_need_no_look_up_and_no_registry(team: Team, namespace: str) -> None:
    """The review of the Deployment looks the signature up. What was verified runs without the registry."""
    digest = team.push("web", team.signer)
    image = f"{team.image('web')}@{digest}"
    before = team.looked_up()
    plane = team.product.plane
    plane.kubectl(
        "create", "-n", namespace, "-f", "-", input=json.dumps(deployment("web", image, replicas=0))
    )
    wait_until(lambda: team.looked_up() == before + 1, seconds=30, what="the look-up of the Deployment")
    unknown = team.push("unknown", team.signer)
    team.registry.stop()
    try:
        plane.kubectl("scale", "-n", namespace, "deployment/web", "--replicas=2")

        def stored() -> list[str]:
            pods = plane.api("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
            return [stored_image(each) for each in pods]

        wait_until(lambda: stored() == [image] * 2, seconds=60, what="the Pods of the Deployment")
        assert team.looked_up() == before + 1
        assert "(unverified)" in team.tried(namespace, f"{team.image('unknown')}@{unknown}")
    finally:
        team.registry.start()


def test_a_pod_has_the_audit_annotation_of_its_key(team: Team, namespace: str) -> None:
    digest = team.push("audited", team.signer)
    image = f"{team.image('audited')}@{digest}"
    plane = team.product.plane
    plane.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(pod("audited", image)))
    events = wait_until(
        lambda: plane.audit_events(containing=f"{image} by ci"), seconds=30, what="the audit annotation"
    )
    signed_images = [event["annotations"].get(f"{POD_WEBHOOK}/signed") for event in events]
    assert f"{image} by ci" in signed_images


def test_the_component_records_events_about_unsigned_images_that_run(
    team: Team, namespace: str, tmp_path: Path
) -> None:
    plane = team.product.plane
    images = {
        name: f"{team.image(name)}@{team.push(name, *signers)}"
        for name, signers in (("nightly-signed", [team.signer]), ("nightly-unsigned", []))
    }
    team.product.set_mode("warn")
    try:
        for name, image in images.items():
            plane.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(deployment(name, image)))
        path = f"/api/v1/namespaces/{namespace}/pods"
        wait_until(lambda: len(plane.api("GET", path)["items"]) == 2, seconds=60, what="two Pods")
        with components(plane, tmp_path, "reports", "report-events", "report-look-ups"):
            (event,) = wait_until(
                lambda: events_about_images(plane, namespace),
                seconds=90,
                what="an Event about the ReplicaSet",
            )
        unsigned = images["nightly-unsigned"]
        assert event["message"] == f"Pods use images that cause warnings: {unsigned} (unsigned)"
    finally:
        team.product.set_mode("enforce")
