"""Real registries as processes: distribution 2.8 as Debian packages it, distribution 3 built from source."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import trustme

from registries.pushing import Pusher
from tools.programs import REGISTRY

Version = Literal["2.8", "3"]

USER, PASSWORD = "alice", "wonderland"
CA_FILE = "test-ca.crt"
START_SECONDS: Final = 30.0

_ACCESS: Final = re.compile(r'"(GET|HEAD) (/v2/\S+) HTTP/1\.1" ([0-9]{3}) ')


def basic(user: str = USER, password: str = PASSWORD) -> str:
    """Return the value of an Authorization header."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


@dataclass
class Registry(Pusher):
    """One registry with its store in ``folder``."""

    version: Version
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the registry and wait until it answers."""
        assert self.process is None
        # distribution 3 would send traces to a collector on this machine.
        environment = {
            **os.environ,
            "OTEL_TRACES_EXPORTER": "none",
            "SSL_CERT_FILE": str(self.folder / "ca.pem"),
        }
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [_program(self.version), "serve", str(self.folder / "config.yml")],
                stdout=log,
                stderr=log,
                env=environment,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            assert time.monotonic() < deadline, self.log
            assert self.process.poll() is None, self.log
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the process and keep the store."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def reads(self, repository: str) -> list[str]:
        """Return every answered request for manifests of a repository: ``METHOD REFERENCE STATUS``."""
        path = f"/v2/{repository}/manifests/"
        return [
            f"{method} {target.removeprefix(path)} {status}"
            for method, target, status in _ACCESS.findall(self.log)
            if target.startswith(path)
        ]


def _program(version: Version) -> str:
    return "docker-registry" if version == "2.8" else str(REGISTRY.cached() / "registry3")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_registry(
    folder: Path,
    ca: trustme.CA,
    *,
    version: Version = "2.8",
    auth: Mapping[str, Any] | None = None,
    authorization: Callable[[str], str] = lambda _repository: basic(),
    proxy: Mapping[str, str] | None = None,
    tls: bool = True,
) -> Registry:
    """Start a registry with an empty store in ``folder``; return once it answers.

    ``auth`` and ``proxy`` are those of its configuration; without ``auth`` it requires the password of
    ``USER``. ``authorization`` returns the header for pushing to a repository.
    """
    folder.mkdir()
    port = free_port()
    http: dict[str, Any] = {"addr": f"localhost:{port}"}
    ca.cert_pem.write_to_path(folder / "ca.pem")
    if tls:
        certificate = ca.issue_cert("localhost")
        certificate.private_key_pem.write_to_path(folder / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        http["tls"] = {"certificate": str(folder / "cert.pem"), "key": str(folder / "key.pem")}
    if auth is None:
        write_passwords(folder / "htpasswd", {USER: PASSWORD})
        auth = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
    config = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "store")}, "delete": {"enabled": True}},
        "http": http,
        "auth": auth,
        **({"proxy": proxy} if proxy else {}),
    }
    (folder / "config.yml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    trust = ssl.create_default_context()
    ca.configure_trust(trust)
    registry = Registry(f"localhost:{port}", trust if tls else None, authorization, version, folder)
    registry.start()
    return registry


def write_passwords(path: Path, passwords: Mapping[str, str]) -> None:
    """Write a file of passwords as Apache's htpasswd does."""
    lines = [
        subprocess.run(["htpasswd", "-Bbn", user, password], check=True, capture_output=True).stdout.strip()
        for user, password in passwords.items()
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")


def config_files(ca: trustme.CA, *hosts: str, user: str = USER, password: str = PASSWORD) -> dict[str, bytes]:
    """Return the files of ``--registry-config`` for these registries, by name."""
    auth = b64encode(f"{user}:{password}".encode()).decode()
    auths = {"auths": {host: {"auth": auth} for host in hosts}}
    return {"config.json": json.dumps(auths).encode(), CA_FILE: ca.cert_pem.bytes()}


def hub_mirrored_to(first: str, second: str) -> str:
    """Return a policy part that mirrors Docker Hub to two registries, pinned, with their settings."""
    return f"""mirrors:
  - from: docker.io
    to: [{first}/hub, {second}/hub]
    pin: true
    onMissing: deny
registries:
  - {{host: "{first}", ca: {CA_FILE}, ttlMissing: 1s}}
  - {{host: "{second}", ca: {CA_FILE}, ttlMissing: 1s}}
"""
