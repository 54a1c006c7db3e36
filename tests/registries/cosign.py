"""cosign as a program, and a registry that has the referrers API.

distribution does not have this API.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from cryptography.hazmat.primitives import serialization

from registries.distribution import START_SECONDS, free_port
from registries.pushing import OCI, Pusher
from registries.signing import Signatures
from registry.signatures.signing import PrivateKey
from tools.programs import COSIGN

Major = Literal[2, 3]
Form = Literal["bundle", "simple"]

MAJORS: Final[tuple[Major, ...]] = (2, 3)
FORMS: Final[tuple[Form, ...]] = ("bundle", "simple")

_SIGN: Final[dict[tuple[Major, Form], tuple[str, ...]]] = {
    (2, "bundle"): ("--new-bundle-format",),
    (2, "simple"): (),
    (3, "bundle"): ("--use-signing-config=false",),
    (3, "simple"): ("--use-signing-config=false", "--new-bundle-format=false"),
}

_REFUSALS: Final = (
    "no valid bundles exist in registry",
    "no matching attestations: ",
    "no matching signatures: ",
    "no signatures found",
)


def version_of(major: Major) -> str:
    """Return the version that is built, such as ``3.1.2``."""
    return COSIGN.products[major - 2].version.removeprefix("v")


@functools.cache
def _programs() -> Path:
    return COSIGN.cached()


@dataclass
class Cosign:
    """cosign 2 and 3 with their keys in ``folder``. Neither contacts a transparency log."""

    folder: Path

    def __post_init__(self) -> None:
        empty = {"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}
        (self.folder / "root.json").write_text(json.dumps(empty), encoding="utf-8")

    def add_key(self, name: str, key: PrivateKey) -> None:
        """Give a key to cosign, under this name."""
        private = self.folder / f"{name}.pem"
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self.run(3, "import-key-pair", "--key", str(private), "--output-key-prefix", name)

    def add_public_key(self, name: str, der: bytes) -> None:
        """Give only a public key to cosign, under this name."""
        text = f"-----BEGIN PUBLIC KEY-----\n{b64encode(der).decode()}\n-----END PUBLIC KEY-----\n"
        (self.folder / f"{name}.pub").write_text(text, encoding="utf-8")

    def sign(self, major: Major, form: Form, name: str, image: str, **environment: str) -> None:
        self.run(
            major,
            *("sign", "--key", f"{name}.key", "--tlog-upload=false", "-y", *_SIGN[major, form], image),
            **environment,
        )

    def attest(self, name: str, image: str) -> None:
        """Attach a statement about the provenance of an image, which is not a signature."""
        (self.folder / "predicate").write_text('{"builder":{"id":"x"}}', encoding="utf-8")
        options = ("--key", f"{name}.key", "--tlog-upload=false", "--use-signing-config=false", "-y")
        self.run(3, "attest", *options, "--predicate=predicate", "--type=slsaprovenance1", image)

    def accepts(self, major: Major, form: Form, name: str, image: str, *options: str) -> bool:
        """Return whether ``cosign verify`` accepts an image, signed in this form, with this public key."""
        if major == 2:
            # Version 2 reads a bundle only with a trusted root.
            options = (*options, "--trusted-root=root.json")
            if form == "bundle":
                options = (*options, "--new-bundle-format")
        command = ("verify", "--key", f"{name}.pub", "--insecure-ignore-tlog", *options, image)
        done = self._start(major, *command)
        # Another problem, such as with the registry, must not pass as a refusal.
        assert done.returncode == 0 or any(text in done.stderr for text in _REFUSALS), done.stderr
        return done.returncode == 0

    def run(self, major: Major, *arguments: str, **environment: str) -> None:
        """Run a command that must succeed."""
        done = self._start(major, *arguments, **environment)
        assert done.returncode == 0, (arguments, done.stderr)

    def _start(self, major: Major, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        # The proxy does not exist: without it, cosign would download a trusted root.
        offline = {"HOME": str(self.folder), "COSIGN_PASSWORD": "", "HTTPS_PROXY": "http://127.0.0.1:9"}
        return subprocess.run(
            [_programs() / f"cosign{major}", *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"]} | offline | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@contextmanager
def referrers_registry(folder: Path) -> Iterator[Pusher]:
    """Run a registry with the referrers API over plain HTTP, with its log in ``folder``."""
    registry = Pusher(f"127.0.0.1:{free_port()}", None, lambda _repository: "")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([_programs() / "referrers", registry.host], stderr=log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not registry.answers():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        yield registry
    finally:
        process.kill()
        process.wait()


class Written(NamedTuple):
    """What cosign wrote for one image: a manifest, its blob, and the signature beside it, if there is one."""

    manifest: str
    blob: str
    signature: str


def read_back(registry: Pusher, repository: str, digest: str, form: Form) -> Written:
    """Read the only signature of an image."""
    if form == "bundle":
        (listed,) = json.loads(_get(registry, repository, f"referrers/{digest}"))["manifests"]
        reference = listed["digest"]
    else:
        reference = f"{digest.replace(':', '-')}.sig"
    manifest = _get(registry, repository, f"manifests/{reference}")
    (layer,) = json.loads(manifest)["layers"]
    blob = _get(registry, repository, f"blobs/{layer['digest']}")
    annotations: dict[str, Any] = layer.get("annotations", {})
    return Written(manifest, blob, annotations.get("dev.cosignproject.cosign/signature", ""))


def push_signatures(registry: Pusher, repository: str, signatures: Signatures) -> None:
    """Push signatures of an image; the registry lists their manifests itself."""
    for blob in signatures.blobs.values():
        registry.push_blob(repository, blob)
    for reference, manifest in signatures.manifests.items():
        registry.push_manifest(repository, reference, manifest, OCI.image)


def _get(registry: Pusher, repository: str, path: str) -> str:
    answer = registry._request("GET", f"/v2/{repository}/{path}", b"", repository, {})
    assert answer.status == 200, (path, answer)
    return answer.body.decode()
