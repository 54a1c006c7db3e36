"""``explain``, ``review`` and ``audit`` with ``--look-up``: the answers of a registry on a socket."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml

from registries.signing import Signer, contents, signed
from support.builders import named, pod, policy_text, workload
from support.commanding import Command, Done, Write
from support.fakecluster import FakeCluster
from support.httpserving import serving

DIGEST = "sha256:" + "7c" * 32


@dataclass
class Registry:
    """A registry with the tag ``good`` of every repository. It fails for ``broken``.

    It requires ``credentials`` if they are set.
    """

    host: str = ""
    queried: list[str] = field(default_factory=list)
    credentials: str = ""
    contents: dict[str, bytes] = field(default_factory=dict)
    """Answers to GET, by path."""

    def path(self, path: str) -> str:
        return f"/v2/team/app/{path}"


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            registry.queried.append(self.path)
            code = {"good": 200, DIGEST: 200, "broken": 500}.get(self.path.rpartition("/")[2], 404)
            token = base64.b64encode(registry.credentials.encode()).decode()
            if registry.credentials and self.headers.get("Authorization") != f"Basic {token}":
                code = 401
            self.send_response(code)
            if code == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="here"')
            if code == 200:
                self.send_header("Docker-Content-Digest", DIGEST)
                self.send_header("Content-Type", "application/vnd.oci.image.index.v1+json")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            content = registry.contents.get(self.path)
            if content is None:
                self.do_HEAD()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    with serving(Handler) as registry.host:
        yield registry


def policy(host: str, more: str = "", *, mode: str = "enforce", on_error: str = "keep", pin: str = "") -> str:
    required = f"require: [{{images: ['{host}/**'], exists: true, onError: {on_error}{pin}}}]\n"
    registries = f"registries: [{{host: '{host}', plainHTTP: true}}]\n"
    return policy_text(f"{registries}{required}{more}", mode=mode, allow=f"['{host}/**']")


def shown(answer: dict[str, Any], field: str) -> list[Any]:
    """Return a field of each requirement of an image."""
    return [each[field] for each in answer.get("requirements", ())]


def test_explain_shows_what_the_registry_says(command: Command, write: Write, registry: Registry) -> None:
    images = [f"{registry.host}/team/app:{tag}" for tag in ("good", "gone", "broken")]
    done = command("explain", write(policy(registry.host)), *images, "quay.io/x", "--look-up", "-o", "json")
    assert (done.code, done.err) == (1, "")
    found = json.loads(done.out)
    assert [(each["verdict"], each["reason"]) for each in found] == [
        ("approved", "allowed"),
        ("rejected", "absent"),
        ("approved", "allowed"),
        ("rejected", "unlisted"),
    ]
    absent = f"does not exist in {registry.host} (absent)"
    none = {"signature": None, "warns": False}
    assert [each["requirements"] for each in found] == [
        [{"index": 0, "met": True, "reason": None, "detail": None, **none}],
        [{"index": 0, "met": False, "reason": "absent", "detail": absent, **none}],
        [{"index": 0, "met": None, "reason": "unverified", "detail": "the registry answered 500", **none}],
        [],
    ]
    assert found[1]["detail"] == absent
    text = command("explain", write(policy(registry.host)), *images, "--look-up").out
    for state in ("met", f"unmet: {absent}", "unknown: the registry answered 500"):
        assert f"requires   require[0] {state}\n" in text


@pytest.mark.parametrize(
    ("on_error", "broken", "reason"), [("keep", "admitted", "allowed"), ("deny", "rejected", "unverified")]
)
def test_review_judges_by_what_exists(
    command: Command, write: Write, registry: Registry, on_error: str, broken: str, reason: str
) -> None:
    given = write(policy(registry.host, on_error=on_error))
    objects = [pod(f"{registry.host}/team/app:{tag}") for tag in ("good", "gone", "broken")]
    # A template is judged by names, as the webhook does.
    objects.append(workload("Job", f"{registry.host}/team/app:gone"))
    done = command("review", given, write(yaml.safe_dump_all(objects), "all.yaml"), "--look-up", "-o", "json")
    assert done.code == 1
    assert [(each["verdict"], each["images"][0]["reason"]) for each in json.loads(done.out)] == [
        ("admitted", "allowed"),
        ("rejected", "absent"),
        (broken, reason),
        ("admitted", "allowed"),
    ]
    kept = f"Warning: Pod shop/web: {registry.host}/team/app:broken could not be"
    assert done.err.startswith(kept) if on_error == "keep" else done.err == ""


def test_mutate_mode_follows_mirrors_and_pins(command: Command, write: Write, registry: Registry) -> None:
    mirrors = f"mirrors: [{{from: docker.io, to: '{registry.host}/hub', verify: true, pin: true}}]\n"
    given = write(policy(registry.host, mirrors, mode="mutate", pin=", digest: true"))
    file = write(json.dumps(pod("nginx:good", "nginx:gone", f"{registry.host}/app:good")), "pod.json")
    done = command("review", given, file, "--look-up", "--mutate")
    assert done.code == 1  # the mirror does not have nginx:gone, and docker.io is not approved
    file = write(json.dumps(pod("nginx:good", f"{registry.host}/app:good")), "pod.json")
    done = command("review", given, file, "--look-up", "--mutate")
    assert (done.code, done.err) == (0, "")
    stored = yaml.safe_load(done.out)
    assert [each["image"] for each in stored["spec"]["containers"]] == [
        f"{registry.host}/hub/library/nginx:good@{DIGEST}",
        f"{registry.host}/app:good@{DIGEST}",
    ]
    explained = command("explain", given, "nginx:good", "--look-up", "-o", "json")
    assert json.loads(explained.out)[0]["rewritten"] == f"{registry.host}/hub/library/nginx:good@{DIGEST}"


@pytest.mark.parametrize(
    ("tag", "cause", "style"),
    [
        ("broken", "no mirror could be queried: the registry answered 500", "text"),
        ("gone", "no mirror has it", "junit"),
        ("gone", "no mirror has it", "json"),
    ],
)
def test_an_image_that_no_mirror_replaces_causes_a_warning(
    command: Command, write: Write, registry: Registry, style: str, tag: str, cause: str
) -> None:
    given = policy_text(
        f"registries: [{{host: '{registry.host}', plainHTTP: true}}]\n"
        f"mirrors: [{{from: docker.io, to: '{registry.host}/hub', verify: true}}]\n",
        mode="mutate",
        allow=f"[docker.io/library/**, '{registry.host}']",
    )
    file = write(json.dumps(pod(f"nginx:{tag}", "redis:good")), "pod.json")
    done = command("review", write(given), file, "--look-up", "--format", style)
    assert done.code == 0
    warning = f"nginx:{tag} is left as written: {cause}"
    assert done.err == f"Warning: Pod shop/web: {warning}\n"
    assert (warning in done.out) is (style == "junit")


def test_many_images_stay_within_the_rate(command: Command, write: Write, registry: Registry) -> None:
    images = [f"{registry.host}/team/app-{number}:good" for number in range(60)]
    given = policy(registry.host, on_error="deny").replace("plainHTTP: true", "plainHTTP: true, rate: 20")
    done = command("review", write(given), write(json.dumps(pod(*images)), "pod"), "--look-up")
    assert (done.code, len(set(registry.queried))) == (0, 60)


def test_credentials_come_from_the_directory(
    command: Command, write: Write, registry: Registry, tmp_path: Path
) -> None:
    registry.credentials = "user:secret"
    given = write(policy(registry.host, on_error="deny"))
    file = write(json.dumps(pod(f"{registry.host}/team/app:good")), "pod.json")
    assert command("review", given, file, "--look-up").code == 1
    directory = tmp_path / "registries"
    directory.mkdir()
    auth = base64.b64encode(b"user:secret").decode()
    (directory / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
    assert command("review", given, file, "--look-up", "--registry-config", directory).code == 0
    (directory / "config.json").write_text("{")
    done = command("review", given, file, "--look-up", "--registry-config", directory)
    assert (done.code, done.out) == (2, "")
    assert "config.json" in done.err
    assert "secret" not in done.err


def test_a_low_rate_slows_a_command_but_fails_no_look_up(
    command: Command, write: Write, registry: Registry, tmp_path: Path
) -> None:
    """Each image needs three requests: HEAD, HEAD with the password, and GET."""
    registry.credentials = "alice:secret"
    folder = tmp_path / "config"
    folder.mkdir()
    auth = {"auths": {registry.host: {"username": "alice", "password": "secret"}}}
    (folder / "config.json").write_text(json.dumps(auth))
    slow = policy(registry.host).replace("plainHTTP: true", "plainHTTP: true, rate: 1")
    images = [f"{registry.host}/{name}:gone" for name in ("one", "two")]
    done = command(
        "explain", write(slow), *images, "--look-up", "--registry-config", str(folder), "-o", "json"
    )
    assert [each["reason"] for each in json.loads(done.out)] == ["absent", "absent"]
    assert len(registry.queried) == 6


OURS, THEIRS = Signer("p256"), Signer("p256-b")
OTHER = "sha256:" + "8d" * 32


@pytest.fixture
def signing(registry: Registry) -> str:
    """Return a policy for a registry with two images: we signed ``DIGEST``, others signed ``OTHER``."""
    for image in (signed(DIGEST, OURS), signed(OTHER, THEIRS, simple=True)):
        registry.contents |= {registry.path(path): content for path, content in contents(image).items()}
    more = {
        "keys": [{"name": "ci", "key": OURS.pem}],
        "registries": [{"host": registry.host, "plainHTTP": True}],
    }
    more["require"] = [{"images": [f"{registry.host}/**"], "signedBy": ["ci"]}]
    return policy_text(yaml.safe_dump(more), allow=f"['{registry.host}/**']")


VALID = {"by": "ci", "form": "bundle", "subject": None, "issuer": None}
BY_OTHERS = "is signed, but by another key (unsigned)"


def test_explain_and_review_show_the_signature(
    command: Command, write: Write, registry: Registry, signing: str
) -> None:
    given, app = write(signing), f"{registry.host}/team/app"
    images = [f"{app}:good@{DIGEST}", f"{app}@{OTHER}", f"{app}:good"]
    done = command("explain", given, *images, "--look-up", "-o", "json")
    expected = [("allowed", [VALID]), ("unsigned", [None]), ("unpinned", [None])]
    assert [(each["reason"], shown(each, "signature")) for each in json.loads(done.out)] == expected
    met = "requires   require[0] met, signed by ci (bundle)"
    assert met in command("explain", given, images[0], "--look-up").out
    file = write(json.dumps(pod(*images)), "pod.json")
    (answer,) = json.loads(command("review", given, file, "--look-up", "-o", "json").out)
    assert [(each["reason"], shown(each, "signature")) for each in answer["images"]] == expected
    text = command("review", given, file, "--look-up").out
    assert f"{images[0]} is signed by ci (bundle)" in text
    assert BY_OTHERS in text
    assert f"add @{DIGEST}" in text


Audited = Callable[..., Done]


@pytest.fixture
def audited(command: Command, write: Write, tmp_path: Path) -> Audited:
    """Return a function that audits Pods by a policy."""

    def audited(policy: str, *pods: dict[str, Any], options: Sequence[object]) -> Done:
        cluster = FakeCluster()
        cluster.add("/api/v1/pods", *pods)
        with cluster.serving():
            config = ("--kubeconfig", cluster.kubeconfig(tmp_path))
            return command("audit", "--policy", write(policy), *config, "--all", *options)

    return audited


def running(image: str, digest: str) -> dict[str, Any]:
    """Return a Pod whose status has the digest of its image; empty if it does not run yet."""
    repository, _, tag = image.rpartition(":")
    status = {"name": "c0", "imageID": f"{repository}@{digest}" if digest else ""}
    return named(pod(image), tag) | {"status": {"containerStatuses": [status]}}


def test_audit_judges_the_digests_that_run(
    command: Command, write: Write, registry: Registry, signing: str, audited: Audited
) -> None:
    """A Pod's status has the digests. One that does not run yet is judged as written.

    A volume whose name is that of a container does not have the container's digest.
    """
    app = f"{registry.host}/team/app"
    good = running(f"{app}:good", DIGEST)
    good["spec"]["volumes"] = [{"name": "c0", "image": {"reference": f"{app}:volume"}}]
    pods = (good, running(f"{app}:bad", OTHER), running(f"{app}:pending", ""))
    done = audited(signing, *pods, options=("--look-up", "-o", "json"))
    found = json.loads(done.out)["images"]
    assert {
        each["image"].rpartition(":")[2]: (
            each["reason"],
            each["detail"].partition(": ")[0],
            shown(each, "signature"),
        )
        for each in found
    } == {
        "good": ("allowed", f"{app} matches allow[0] {registry.host}/**", [VALID]),
        "bad": ("unsigned", BY_OTHERS, [None]),
        "pending": ("unpinned", "is unpinned", [None]),
        "volume": ("unpinned", "is unpinned", [None]),
    }
    assert "signed by ci (bundle)" in audited(signing, *pods, options=("--look-up", "--wide")).out
    merge = ("audit", "--merge", write(done.out, "saved.json"), "--all", "-o")
    merged = json.loads(command(*merge, "json").out)["images"]
    assert [each["requirements"] for each in merged] == [each["requirements"] for each in found]
    rows = csv.DictReader(io.StringIO(command(*merge, "csv").out))
    signed_by = {row["image"].rpartition(":")[2]: (row["signed_by"], row["signature_form"]) for row in rows}
    none = ("", "")
    assert signed_by == {"good": ("ci", "bundle"), "bad": none, "pending": none, "volume": none}
    by_name = json.loads(audited(signing, *pods, options=("-o", "json")).out)["images"]
    assert {each["image"].rpartition(":")[2]: (each["reason"], shown(each, "met")) for each in by_name} == {
        "good": ("allowed", [None]),
        "bad": ("allowed", [None]),
        "pending": ("unpinned", [False]),
        "volume": ("unpinned", [False]),
    }


def test_audit_reports_a_running_digest_that_is_denied_whatever_its_tag(
    registry: Registry, signing: str, audited: Audited
) -> None:
    app = f"{registry.host}/team/app"
    denied = f"{signing}\ndeny: ['{app}@{DIGEST}']\n"
    done = audited(denied, running(f"{app}:good", DIGEST), options=("--look-up", "-o", "json"))
    (image,) = json.loads(done.out)["images"]
    assert (image["reason"], shown(image, "met")) == ("denied", [True])
    assert f"{app}:good@{DIGEST} is denied by deny[0]" in image["detail"]
