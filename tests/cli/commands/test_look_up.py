"""The rate of look-ups. The table ``look-up`` has what commands with ``--look-up`` print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.builders import pod, policy_text
from support.commanding import Command, Write
from support.fakeregistry import FakeRegistry


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry().serving() as registry:
        yield registry


def policy(host: str, rate: int, on_error: str) -> str:
    required = f"require: [{{images: ['{host}/**'], exists: true, onError: {on_error}}}]\n"
    registries = f"registries: [{{host: '{host}', plainHTTP: true, rate: {rate}}}]\n"
    return policy_text(f"{registries}{required}", allow=f"['{host}/**']")


def test_many_images_stay_within_the_rate(command: Command, write: Write, registry: FakeRegistry) -> None:
    images = [f"{registry.host}/team/app-{number}:good" for number in range(60)]
    given = write(policy(registry.host, 20, "deny"))
    done = command("review", given, write(json.dumps(pod(*images)), "pod"), "--look-up")
    assert (done.code, len(set(registry.queried))) == (0, 60)


def test_a_low_rate_slows_a_command_but_fails_no_look_up(
    command: Command, write: Write, registry: FakeRegistry, tmp_path: Path
) -> None:
    """Each image needs three requests: HEAD, HEAD with the password, and GET."""
    registry.credentials = "alice:secret"
    folder = tmp_path / "config"
    folder.mkdir()
    auth = {"auths": {registry.host: {"username": "alice", "password": "secret"}}}
    (folder / "config.json").write_text(json.dumps(auth))
    slow = write(policy(registry.host, 1, "keep"))
    images = [f"{registry.host}/{name}:gone" for name in ("one", "two")]
    done = command("explain", slow, *images, "--look-up", "--registry-config", folder, "-o", "json")
    assert [each["reason"] for each in json.loads(done.out)] == ["absent", "absent"]
    assert len(registry.queried) == 6
