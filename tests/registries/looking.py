"""A ``serve`` process that looks images up in registries, with helpers for its reviews."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonpatch

from support.builders import pod, review
from support.server import Server


@dataclass(frozen=True)
class Looking:
    """The server, and the directory of ``--registry-config``."""

    server: Server
    config: Path

    def query(self, image: str, path: str = "/validate-image") -> dict[str, Any]:
        """Return the response to the review of a new Pod with one image."""
        status, body = self.server.post(review(pod(image)), path)
        assert status == 200, body
        response: dict[str, Any] = json.loads(body)["response"]
        return response

    def rewritten(self, image: str) -> str:
        """Return the image of a new Pod after the mutating endpoint."""
        response = self.query(image, "/mutate-image")
        patch = json.loads(base64.b64decode(response.get("patch", "W10=")))
        result: str = jsonpatch.apply_patch(pod(image), patch)["spec"]["containers"][0]["image"]
        return result

    def refusal(self, image: str) -> str:
        """Return the message of a denial; empty when the Pod is admitted."""
        message: str = self.query(image).get("status", {}).get("message", "")
        return message

    def metric(self, name: str) -> float:
        """Return the first sample whose name and labels begin with this text; 0 when there is none."""
        lines = self.server.get("/metrics")[1].decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)), 0.0)


@contextmanager
def looking(folder: Path, policy: str, files: Mapping[str, bytes]) -> Iterator[Looking]:
    """Run a server with a policy and the files of ``--registry-config``, and yield it when it is ready."""
    config = folder / "config"
    config.mkdir()
    for name, content in files.items():
        (config / name).write_bytes(content)
    (folder / "policy.yaml").write_text(f"apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\n{policy}")
    server = Server(
        "--policy", str(folder / "policy.yaml"), "--registry-config", str(config),
        "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0", "--drain-seconds", "0",
        "--tls-self-signed", "--tls-ca-out", str(folder / "ca.pem"), ca=folder / "ca.pem",
    )  # fmt: skip
    try:
        server.wait(lambda: bool(server.events("registry_config_loaded")) and server.is_ready())
        yield Looking(server, config)
    finally:
        server.end()
