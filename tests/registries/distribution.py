"""Real registries as processes: distribution as Debian packages it, with TLS and passwords."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import ssl
import subprocess
import time
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import trustme

OCI = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
USER, PASSWORD = "alice", "wonderland"
CA_FILE = "test-ca.crt"
BASIC = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@dataclass
class DebianRegistry:
    """One running registry. ``host`` is its name with the port, as images and policies write it."""

    host: str
    trust: ssl.SSLContext
    process: subprocess.Popen[bytes]

    def push(self, repository: str, tag: str, content: bytes = b"layer") -> str:
        """Push an image of one layer; return its digest."""
        parts = []
        for blob, media_type in ((b"{}", CONFIG), (content, LAYER)):
            digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
            location = self._request("POST", f"/v2/{repository}/blobs/uploads/", b"").headers["Location"]
            split = urlsplit(location)
            query = f"{split.query}&digest={digest}" if split.query else f"digest={digest}"
            self._request("PUT", f"{split.path}?{query}", blob)
            parts.append({"mediaType": media_type, "digest": digest, "size": len(blob)})
        manifest = {"schemaVersion": 2, "mediaType": OCI, "config": parts[0], "layers": parts[1:]}
        body = json.dumps(manifest).encode()
        self._request("PUT", f"/v2/{repository}/manifests/{tag}", body, OCI)
        return f"sha256:{hashlib.sha256(body).hexdigest()}"

    def _request(
        self, method: str, path: str, body: bytes, content_type: str = "application/octet-stream"
    ) -> http.client.HTTPResponse:
        name, _, port = self.host.partition(":")
        connection = http.client.HTTPSConnection(name, int(port), context=self.trust, timeout=10)
        connection.request(method, path, body, {"Authorization": BASIC, "Content-Type": content_type})
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        assert response.status < 300, (method, path, response.status, answer)
        return response

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def config_files(ca: trustme.CA, *hosts: str, password: str = PASSWORD) -> dict[str, bytes]:
    """The files of ``--registry-config`` for these registries, by name."""
    auth = b64encode(f"{USER}:{password}".encode()).decode()
    auths = {"auths": {host: {"auth": auth} for host in hosts}}
    return {"config.json": json.dumps(auths).encode(), CA_FILE: ca.cert_pem.bytes()}


def hub_mirrored_to(first: str, second: str) -> str:
    """The part of a policy that mirrors Docker Hub to two registries, pinned, with their settings."""
    return f"""mirrors:
  - from: docker.io
    to: [{first}/hub, {second}/hub]
    pin: true
    onMissing: deny
registries:
  - {{host: "{first}", ca: {CA_FILE}, ttlMissing: 1s}}
  - {{host: "{second}", ca: {CA_FILE}, ttlMissing: 1s}}
"""


def start_registry(folder: Path, ca: trustme.CA) -> DebianRegistry:
    """Start a registry with an empty store in ``folder``; return once it answers."""
    folder.mkdir()
    certificate = ca.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    passwords = subprocess.run(["htpasswd", "-Bbn", USER, PASSWORD], check=True, capture_output=True).stdout
    (folder / "htpasswd").write_bytes(passwords)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "store")}},
        "http": {
            "addr": f"localhost:{port}",
            "tls": {"certificate": str(folder / "cert.pem"), "key": str(folder / "key.pem")},
        },
        "auth": {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}},
    }
    (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    trust = ssl.create_default_context()
    ca.configure_trust(trust)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log
        )
    registry = DebianRegistry(f"localhost:{port}", trust, process)
    deadline = time.monotonic() + 30
    while True:
        try:
            registry._request("GET", "/v2/", b"")
        except OSError:
            assert time.monotonic() < deadline, (folder / "log").read_text()
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.02)
        else:
            return registry
