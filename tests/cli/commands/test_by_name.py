"""Commands that contact no registry decide by the names of images, even if the policy needs look-ups."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from support.builders import PUBLIC_KEYS, named, pod, policy_text, workload
from support.commanding import Command, Write
from support.fakecluster import FakeCluster

NOWHERE = "127.0.0.1:1"
"""An address on which nothing listens, so a look-up would fail."""

IMAGE = f"{NOWHERE}/app:1"
STRICT = "verify: true, onMissing: deny, onError: deny"


def mirror(options: str, *, to: str = f"'{NOWHERE}/hub'", allow: str) -> str:
    mirrors = f"mirrors: [{{from: docker.io/library, to: {to}, {options}}}]\n"
    return policy_text(mirrors, mode="mutate", allow=allow)


def required(fields: str, keys: str = "", mode: str = "enforce") -> str:
    more = f"{keys}require: [{{images: ['{NOWHERE}/**'], {fields}, onError: deny}}]\n"
    return policy_text(more, mode=mode, allow=f"['{NOWHERE}/**']")


POLICIES = [
    pytest.param(required("exists: true"), IMAGE, None, id="exists"),
    pytest.param(required("digest: true", mode="mutate"), IMAGE, None, id="digest-that-mutate-writes"),
    pytest.param(
        mirror(STRICT, allow=f"['{NOWHERE}/hub/**']"), "nginx:1", f"{NOWHERE}/hub/nginx:1", id="mirror"
    ),
    pytest.param(
        mirror(f"{STRICT}, pin: true", allow=f"['{NOWHERE}/hub/**', docker.io]"),
        "nginx:1",
        f"{NOWHERE}/hub/nginx:1",
        id="mirror-pin",
    ),
    pytest.param(mirror(STRICT, allow="[docker.io]"), "nginx:1", None, id="mirror-whose-target-is-unlisted"),
    pytest.param(
        mirror(STRICT, to=f"[r.io/hub, '{NOWHERE}/hub']", allow=f"['{NOWHERE}/hub/**']"),
        "nginx:1",
        f"{NOWHERE}/hub/nginx:1",
        id="mirror-whose-first-target-is-unlisted",
    ),
]


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster().serving() as cluster:
        yield cluster


@pytest.mark.parametrize(("policy", "image", "rewritten"), POLICIES)
def test_every_command_gives_the_same_answer(
    command: Command,
    write: Write,
    cluster: FakeCluster,
    tmp_path: Path,
    policy: str,
    image: str,
    rewritten: str | None,
) -> None:
    given = write(policy)
    stored = rewritten or image
    written = write(json.dumps(pod(image)), "pod.json")
    template = write(json.dumps(workload("Deployment", image)), "deployment.json")
    config = cluster.kubeconfig(tmp_path)
    cluster.add("/api/v1/pods", named(pod(stored), "web-1"))
    cluster.add("/apis/apps/v1/deployments", named(workload("Deployment", image), "web"))

    explained = command("explain", given, image, "-n", "shop", "-o", "json")
    assert [each["rewritten"] for each in json.loads(explained.out)] == [rewritten]
    assert command("explain", given, stored).code == 0

    reviewed = command("review", given, written, template, "-o", "json")
    assert (reviewed.code, reviewed.err) == (0, "")
    verdicts = [each["verdict"] for each in json.loads(reviewed.out)]
    assert verdicts == ["rewritten" if rewritten else "admitted", "admitted"]
    mutated = command("review", given, written, "--mutate")
    assert yaml.safe_load(mutated.out)["spec"]["containers"][0]["image"] == stored

    tests = {
        "apiVersion": "gatekeeper-py/v1",
        "kind": "ImagePolicyTest",
        "policy": given.name,
        "cases": [
            {"image": stored, "expect": "approved"},
            {
                "image": image,
                "expect": "rejected" if explained.code else "approved",
                "rewritten": rewritten,
            },
            {"manifest": written.name, "expect": "rewritten" if rewritten else "admitted"},
            {"manifest": template.name, "expect": "admitted"},
        ],
    }
    tested = command("test", write(yaml.safe_dump(tests), "tests.yaml"))
    assert (tested.code, tested.out) == (0, "4 cases: 4 passed, 0 failed\n")

    audited = command("audit", "--policy", given, "--kubeconfig", config)
    assert (audited.code, audited.err) == (0, "")

    nothing = write(policy_text(allow="[x.io]"), "nothing.yaml")
    differing = command("diff", nothing, given, "--kubeconfig", config, "-o", "json")
    changes = {each["image"]: each["after"] for each in json.loads(differing.out)["images"]}
    assert changes == dict.fromkeys({stored, image}, "approved")


PINNED = f"{NOWHERE}/app@sha256:{'ab' * 32}"


@pytest.mark.parametrize(
    ("mode", "until", "image", "reason"),
    [
        pytest.param("enforce", "", IMAGE, "unpinned", id="no-digest"),
        pytest.param("warn", "", IMAGE, "unpinned", id="no-digest-in-warn"),
        pytest.param("enforce", "", PINNED, "allowed", id="digest"),
        pytest.param("enforce", ", until: 2020-01-01", PINNED, "unsigned", id="no-live-key"),
        pytest.param("mutate", "", IMAGE, "allowed", id="mutate-writes-the-digest"),
        pytest.param("mutate", ", until: 2020-01-01", IMAGE, "unsigned", id="mutate-without-a-live-key"),
        pytest.param("mutate", ", until: 2020-01-01", PINNED, "unsigned", id="digest-in-mutate"),
    ],
)
def test_commands_reject_by_name_what_the_webhook_always_refuses(
    command: Command, write: Write, mode: str, until: str, image: str, reason: str
) -> None:
    keys = f"keys: [{{name: ci, key: {json.dumps(PUBLIC_KEYS['ci-2025'])}{until}}}]\n"
    given = write(required("signedBy: [ci]", keys, mode))
    (explained,) = json.loads(command("explain", given, image, "-o", "json").out)
    assert explained["reason"] == reason
    reviewed = command("review", given, write(json.dumps(pod(image)), "pod.json"), "-o", "json")
    ((found,),) = (each["images"] for each in json.loads(reviewed.out))
    assert (found["reason"], reviewed.code) == (reason, int(reason != "allowed" and mode != "warn"))
    template = write(json.dumps(workload("Deployment", image)), "deployment.json")
    assert command("review", given, template).code == reviewed.code
    expect = "approved" if reason == "allowed" else "rejected"
    case = {"image": image, "expect": expect, "reason": reason}
    tests = {
        "apiVersion": "gatekeeper-py/v1",
        "kind": "ImagePolicyTest",
        "policy": given.name,
        "cases": [case],
    }
    assert command("test", write(json.dumps(tests), "tests.yaml")).out == "1 case: 1 passed, 0 failed\n"
