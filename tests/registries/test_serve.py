"""The server asks real registries: mirrors that have the image, digests pinned, what does not exist."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
import trustme

from builders import pod, review
from registries.debian import DebianRegistry, config_files, hub_mirrored_to, start_registry
from server import Server


@dataclass
class Site:
    """A server and two registries, ``first`` and ``second``."""

    server: Server
    first: DebianRegistry
    second: DebianRegistry
    folder: Path

    def ask(self, image: str, path: str = "/validate-image") -> dict[str, Any]:
        status, body = self.server.post(review(pod(image)), path)
        assert status == 200, body
        response: dict[str, Any] = json.loads(body)["response"]
        return response

    def rewritten(self, image: str) -> str:
        """The image of a new Pod after the mutating endpoint."""
        response = self.ask(image, "/mutate-image")
        patch = json.loads(base64.b64decode(response.get("patch", "W10=")))
        result: str = jsonpatch.apply_patch(pod(image), patch)["spec"]["containers"][0]["image"]
        return result

    def metric(self, name: str) -> float:
        lines = self.server.get("/metrics")[1].decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)), 0.0)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    ca = trustme.CA()
    first, second = (start_registry(tmp_path / name, ca) for name in ("first", "second"))
    config = tmp_path / "config"
    config.mkdir()
    for name, content in config_files(ca, first.host, second.host).items():
        (config / name).write_bytes(content)
    (tmp_path / "policy.yaml").write_text(f"""apiVersion: gatekeeper-py/v1
kind: ImagePolicy
mode: mutate
allow:
  - image: {first.host}/team/**
    verify: true
    onError: deny
  - {first.host}/
  - {second.host}/
{hub_mirrored_to(first.host, second.host)}""")
    server = Server(
        "--policy", str(tmp_path / "policy.yaml"), "--registry-config", str(config),
        "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0", "--drain-seconds", "0",
        "--tls-self-signed", "--tls-ca-out", str(tmp_path / "ca.pem"), ca=tmp_path / "ca.pem",
    )  # fmt: skip
    try:
        server.wait(lambda: bool(server.events("policy_loaded")) and server.is_ready())
        yield Site(server, first, second, tmp_path)
    finally:
        server.end()
        first.stop()
        second.stop()


def test_a_pod_goes_to_the_second_mirror_when_the_first_lacks_the_image(site: Site) -> None:
    digest = site.second.push("hub/library/nginx", "1.27")
    assert site.rewritten("nginx:1.27") == f"{site.second.host}/hub/library/nginx:1.27@{digest}"
    newer = site.first.push("hub/library/redis", "7", b"redis")
    assert site.rewritten("redis:7") == f"{site.first.host}/hub/library/redis:7@{newer}"


def test_an_image_that_no_mirror_has_is_refused_as_absent(site: Site) -> None:
    assert site.rewritten("nginx:1.27") == "nginx:1.27"
    message = site.ask("nginx:1.27")["status"]["message"]
    assert f"nginx:1.27 does not exist in {site.first.host}, {site.second.host} (absent)" in message
    digest = site.second.push("hub/library/nginx", "1.27")
    site.server.wait(lambda: site.rewritten("nginx:1.27").endswith(f"@{digest}"))


def test_an_approved_image_must_exist(site: Site) -> None:
    image = f"{site.first.host}/team/app:v1"
    assert f"does not exist in {site.first.host} (absent)" in site.ask(image)["status"]["message"]
    site.first.push("team/app", "v1")
    site.server.wait(lambda: bool(site.ask(image)["allowed"]))


def test_a_known_image_survives_its_registry_and_an_unknown_one_is_refused(site: Site) -> None:
    site.first.push("team/app", "v1")
    image = f"{site.first.host}/team/app:v1"
    site.server.wait(lambda: bool(site.ask(image)["allowed"]))
    site.first.stop()
    assert site.ask(image)["allowed"]
    message = site.ask(f"{site.first.host}/team/app:v2")["status"]["message"]
    assert "could not be verified: connection refused (unverified)" in message
    assert site.ask(f"{site.second.host}/anything:v1")["allowed"]
    for number in range(5):
        site.ask(f"{site.first.host}/team/app:x{number}")
    assert site.metric(f'gatekeeper_py_lookup_breaker_open{{host="{site.first.host}"}}') == 1
    shown = json.loads(site.server.get("/policy")[1])["registries"]
    assert shown["openBreakers"] == [site.first.host]
    assert shown["hosts"] == sorted([site.first.host, site.second.host])


def test_bad_credentials_leave_the_last_good_ones(site: Site) -> None:
    site.first.push("team/app", "v1")
    image = f"{site.first.host}/team/app:v1"
    site.server.wait(lambda: bool(site.ask(image)["allowed"]))
    (site.folder / "config" / "config.json").write_text("{")
    site.server.wait(lambda: bool(site.server.events("registry_config_refused")))
    assert site.metric("gatekeeper_py_registry_config_valid") == 0
    assert site.ask(image)["allowed"]
