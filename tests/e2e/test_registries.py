"""Look-ups in real registries through a real API server: stored images exist in a registry."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from e2e.acting import try_pod
from registries.distribution import PASSWORD, Registry, config_files, hub_mirrored_to, start_registry
from tools.controlplane.plane import ControlPlane
from tools.installation.product import NAMESPACE, Installed, deployment
from tools.polling import wait_until

SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"
SECRET = "gatekeeper-py-registries"


@dataclass(frozen=True)
class Mirrors:
    """Two registries and the installation that uses them, ``first`` before ``second``."""

    product: Installed
    ca: trustme.CA
    first: Registry
    second: Registry


def stored_image(document: dict[str, Any]) -> str:
    image: str = document["spec"]["containers"][0]["image"]
    return image


def has_ca(product: Installed, server: Any) -> bool:
    """Return whether a replica has loaded the CA from the Secret, from its log."""
    lines = product.plane.log(server.name).read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    return any(event["event"] == "registry_config_loaded" and event["cas"] for event in events)


def secret_data(ca: trustme.CA, *hosts: str, password: str = PASSWORD) -> dict[str, str]:
    """Return the data of the Secret."""
    files = config_files(ca, *hosts, password=password)
    return {name: base64.b64encode(content).decode() for name, content in files.items()}


@pytest.fixture(scope="module")
def mirrors(
    product: Installed, control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mirrors]:
    ca = trustme.CA()
    folder: Path = tmp_path_factory.mktemp("registries")
    first, second = (start_registry(folder / name, ca) for name in ("first", "second"))
    before = product.policy_text()
    data = secret_data(ca, first.host, second.host)
    control_plane.api("POST", SECRETS, {"metadata": {"name": SECRET}, "data": data})
    try:
        product.set_policy(f"""apiVersion: gatekeeper-py/v1
kind: ImagePolicy
mode: mutate
allow:
  - registry.corp.example
  - {first.host}/
  - {second.host}/
{hub_mirrored_to(first.host, second.host)}""")
        product.set_mode("mutate")
        wait_until(
            lambda: all(has_ca(product, each) for each in product.servers()),
            seconds=60,
            what="the credentials in every replica",
        )
        yield Mirrors(product, ca, first, second)
    finally:
        product.set_policy(before)
        product.set_mode("enforce")
        control_plane.api("DELETE", f"{SECRETS}/{SECRET}")
        first.stop()
        second.stop()


def test_the_pods_of_a_deployment_are_stored_with_the_mirror_and_the_digest(
    mirrors: Mirrors, namespace: str
) -> None:
    digest = mirrors.second.push("hub/library/redis", "7", b"redis")
    plane = mirrors.product.plane
    plane.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(deployment("cache", "redis:7")))

    def images() -> list[str]:
        pods = plane.api("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
        return [stored_image(each) for each in pods]

    wait_until(images, seconds=60, what="a Pod of the Deployment")
    assert images() == [f"{mirrors.second.host}/hub/library/redis:7@{digest}"]


def test_new_credentials_are_used_without_a_restart(mirrors: Mirrors, namespace: str) -> None:
    """A look-up with a wrong password fails; with the right one again, the next Pod is rewritten."""
    product, plane = mirrors.product, mirrors.product.plane
    secret = f"{SECRETS}/{SECRET}"
    hosts = (mirrors.first.host, mirrors.second.host)
    mirrors.first.push("hub/library/httpd", "2", b"httpd")
    processes = {each.name: each.process.pid for each in product.servers()}

    def refused() -> bool:
        done = try_pod(plane, namespace, "httpd:missing")
        return done.returncode == 1 and "no mirror could be queried" in done.stderr

    def rewritten() -> bool:
        done = try_pod(plane, namespace, "httpd:2")
        if done.returncode:
            return False
        return stored_image(json.loads(done.stdout)).startswith(f"{mirrors.first.host}/hub/library/httpd:2@")

    try:
        plane.api("PATCH", secret, {"data": secret_data(mirrors.ca, *hosts, password="wrong")})
        wait_until(refused, seconds=60, what="a look-up that is not authorized")
    finally:
        plane.api("PATCH", secret, {"data": secret_data(mirrors.ca, *hosts)})
    wait_until(rewritten, seconds=60, what="look-ups with the right password")
    assert {each.name: each.process.pid for each in product.servers()} == processes
