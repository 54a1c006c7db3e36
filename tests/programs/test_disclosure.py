"""What callers without a certificate learn about private registries, as docs/security.md states it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final

import pytest

from support.builders import pod, policy_text, review
from support.httpserving import serving
from support.server import Server

Servers = Callable[..., Server]

DIGEST: Final = "sha256:" + "5e" * 32
BASIC: Final = "Basic " + base64.b64encode(b"puller:s3cr3t").decode()


@dataclass
class Private:
    """A registry that has the tag ``secret`` and shows it only to its user. Records (host, path, header)."""

    host: str = ""
    seen: list[tuple[str, str, str]] = field(default_factory=list)


@pytest.fixture
def registry() -> Iterator[Private]:
    private = Private()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            sent = self.headers.get("Authorization", "")
            private.seen.append((self.headers["Host"], self.path, sent))
            known = sent == BASIC
            self.send_response(401 if not known else 200 if self.path.endswith("/secret") else 404)
            if not known:
                self.send_header("WWW-Authenticate", 'Basic realm="r"')
            elif self.path.endswith("/secret"):
                self.send_header("Docker-Content-Digest", DIGEST)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None: ...

    with serving(Handler) as private.host:
        yield private


def start(servers: Servers, folder: Path, host: str, *arguments: str) -> Server:
    """Start a server that has the credentials of ``host``, in mutate mode with digests."""
    config = folder / "registries"
    config.mkdir()
    auths = {host: {"username": "puller", "password": "s3cr3t"}}
    (config / "config.json").write_text(json.dumps({"auths": auths}))
    required = f"require: [{{images: ['{host}/team/**'], digest: true, exists: true, onError: deny}}]"
    registries = f"registries: [{{host: '{host}', plainHTTP: true}}]"
    text = policy_text(f"{required}\n{registries}", mode="mutate", allow=f"['{host}/team/**']")
    return servers("--registry-config", str(config), *arguments, policy=text)


def response(server: Server, image: str, path: str = "/validate-image") -> dict[str, Any]:
    status, body = server.post(review(pod(image)), path)
    assert status == 200
    answered: dict[str, Any] = json.loads(body)["response"]
    return answered


def test_any_caller_learns_whether_a_tag_exists_and_its_digest(
    servers: Servers, registry: Private, tmp_path: Path
) -> None:
    """A caller cannot make the server contact what no requirement names."""
    server = start(servers, tmp_path, registry.host)
    server.wait(server.is_ready)
    for host in (f"{registry.host}/other", "169.254.169.254/team", "evil.example/team"):
        assert "digest" not in response(server, f"{host}/app:secret")["status"]["message"]
    assert registry.seen == []
    secret, absent = f"{registry.host}/team/app:secret", f"{registry.host}/team/app:other"
    assert f"is unpinned: add @{DIGEST}" in response(server, secret)["status"]["message"]
    assert f"does not exist in {registry.host}" in response(server, absent)["status"]["message"]
    patch = base64.b64decode(response(server, secret, "/mutate-image")["patch"]).decode()
    assert f"{registry.host}/team/app:secret@{DIGEST}" in patch
    for answered in (response(server, secret), response(server, absent)):
        assert "s3cr3t" not in json.dumps(answered)


def test_a_policy_cannot_make_the_server_send_credentials_over_plain_http(
    servers: Servers, registry: Private, tmp_path: Path
) -> None:
    host = registry.host.replace("127.0.0.1", "0.0.0.0")
    server = start(servers, tmp_path, host)
    server.wait(server.is_ready)
    message = response(server, f"{host}/team/app:secret")["status"]["message"]
    assert "credentials are never sent over plain HTTP" in message
    assert [sent for _, _, sent in registry.seen] == [""]
