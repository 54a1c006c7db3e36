"""The server with real registries: mirrors with and without an image, pinned digests, absent images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from registries.distribution import Registry, Version, config_files, hub_mirrored_to, start_registry
from registries.looking import Looking, looking


@dataclass(frozen=True)
class Site(Looking):
    """A server and two registries, ``first`` and ``second``."""

    first: Registry
    second: Registry


@pytest.fixture
def site(tmp_path: Path, ca: trustme.CA, version: Version) -> Iterator[Site]:
    first, second = (start_registry(tmp_path / name, ca, version=version) for name in ("first", "second"))
    policy = f"""mode: mutate
allow: ["{first.host}/", "{second.host}/"]
require:
  - images: ["{first.host}/team/**"]
    exists: true
    onError: deny
{hub_mirrored_to(first.host, second.host)}"""
    try:
        with looking(tmp_path, policy, config_files(ca, first.host, second.host)) as server:
            yield Site(server.server, server.config, first, second)
    finally:
        first.stop()
        second.stop()


def test_a_pod_goes_to_the_second_mirror_when_the_first_lacks_the_image(site: Site) -> None:
    digest = site.second.push("hub/library/nginx", "1.27")
    assert site.rewritten("nginx:1.27") == f"{site.second.host}/hub/library/nginx:1.27@{digest}"
    newer = site.first.push("hub/library/redis", "7", b"redis")
    assert site.rewritten("redis:7") == f"{site.first.host}/hub/library/redis:7@{newer}"


def test_an_image_that_no_mirror_has_is_refused_as_absent(site: Site) -> None:
    assert site.rewritten("nginx:1.27") == "nginx:1.27"
    message = site.refusal("nginx:1.27")
    assert f"nginx:1.27 does not exist in {site.first.host}, {site.second.host} (absent)" in message
    digest = site.second.push("hub/library/nginx", "1.27")
    site.server.wait(lambda: site.rewritten("nginx:1.27").endswith(f"@{digest}"))


def test_an_approved_image_must_exist(site: Site) -> None:
    image = f"{site.first.host}/team/app:v1"
    assert f"does not exist in {site.first.host} (absent)" in site.refusal(image)
    site.first.push("team/app", "v1")
    site.server.wait(lambda: bool(site.query(image)["allowed"]))


def test_a_known_image_survives_its_registry_and_an_unknown_one_is_refused(site: Site) -> None:
    site.first.push("team/app", "v1")
    image = f"{site.first.host}/team/app:v1"
    site.server.wait(lambda: bool(site.query(image)["allowed"]))
    site.first.stop()
    assert site.query(image)["allowed"]
    message = site.refusal(f"{site.first.host}/team/app:v2")
    assert "could not be verified: connection refused (unverified)" in message
    assert site.query(f"{site.second.host}/anything:v1")["allowed"]
    for number in range(5):
        site.query(f"{site.first.host}/team/app:x{number}")
    assert site.metric(f'gatekeeper_py_lookup_breaker_open{{host="{site.first.host}"}}') == 1
    shown = json.loads(site.server.get("/policy")[1])["registries"]
    assert shown["openBreakers"] == [site.first.host]
    assert shown["hosts"] == sorted([site.first.host, site.second.host])


def test_bad_credentials_leave_the_last_good_ones(site: Site) -> None:
    site.first.push("team/app", "v1")
    image = f"{site.first.host}/team/app:v1"
    site.server.wait(lambda: bool(site.query(image)["allowed"]))
    (site.config / "config.json").write_text("{")
    site.server.wait(lambda: bool(site.server.events("registry_config_refused")))
    assert site.metric("gatekeeper_py_registry_config_valid") == 0
    assert site.query(image)["allowed"]
