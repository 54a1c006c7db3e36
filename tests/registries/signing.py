"""Images signed as cosign signs them with a key, in both forms, as the content of a repository."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from registries.pushing import OCI, descriptor, digest_of, encoded
from registry.scripted import Scripted
from registry.signatures.signing import BUNDLE, SIMPLE, der_of, fingerprint, private_key, sign, sign_with

EMPTY: Final = b"{}"


@dataclass(frozen=True)
class Signer:
    """One of the keys of ``registry.signatures.signing``, and what it signs."""

    name: str = "p256"

    @property
    def der(self) -> bytes:
        return der_of(self.name)

    @property
    def pem(self) -> str:
        text = base64.encodebytes(self.der).decode()
        return f"-----BEGIN PUBLIC KEY-----\n{text}-----END PUBLIC KEY-----"

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.name)

    def bundle(self, digest: str) -> bytes:
        """Return the Sigstore bundle of an image, which cosign 3 writes."""
        return sign({"form": "bundle", "by": self.name, "payload": [["{image}", digest[7:]]]}).blob

    def payload(self, digest: str) -> tuple[bytes, str]:
        """Return the payload of simple signing of an image, and its signature, which cosign 2 writes."""
        made = sign({"form": "simple", "by": self.name, "payload": [["{image}", digest[7:]]]})
        return made.blob, made.candidate.signature

    def signed(self, payload: bytes) -> tuple[bytes, str]:
        """Return any payload, and its signature."""
        return payload, base64.b64encode(sign_with(private_key(self.name), payload)).decode()


class Signatures:
    """The signatures of one image as a repository holds them.

    ``blobs`` are contents by digest, ``manifests`` contents by digest or tag. ``index`` is the answer of
    the referrers API. Each manifest has this media type, and ``padding`` additional bytes.
    """

    def __init__(self, digest: str, *, padding: int = 0, media_type: str = OCI.image) -> None:
        self.digest = digest
        self._type = media_type
        self._more = {"annotations": {"padding": "x" * padding}} if padding else {}
        self.tag = digest.replace(":", "-")
        self.blobs: dict[str, bytes] = {digest_of(EMPTY): EMPTY}
        self.manifests: dict[str, bytes] = {}
        self._listed: list[dict[str, Any]] = []
        self._layers: list[dict[str, Any]] = []

    @property
    def index(self) -> bytes:
        return encoded({"schemaVersion": 2, "mediaType": OCI.image_index, "manifests": self._listed})

    def add_bundle(self, bundle: bytes, **fields: Any) -> None:
        """Add a bundle whose manifest also has these fields, and list it in the index."""
        subject = {"mediaType": OCI.image, "digest": self.digest, "size": 1}
        manifest = self._manifest(
            [descriptor(BUNDLE, bundle)], artifactType=BUNDLE, subject=subject, **fields
        )
        self.blobs[digest_of(bundle)] = bundle
        self.manifests[digest_of(manifest)] = manifest
        self._listed.append({**descriptor(self._type, manifest), "artifactType": BUNDLE})

    def add_simple(self, payload: bytes, signature: str) -> None:
        """Add a payload of simple signing with its signature."""
        annotations = {"dev.cosignproject.cosign/signature": signature}
        self.blobs[digest_of(payload)] = payload
        self._layers.append({**descriptor(SIMPLE, payload), "annotations": annotations})
        self.manifests[f"{self.tag}.sig"] = self._manifest(self._layers)

    def _manifest(self, layers: list[dict[str, Any]], **fields: Any) -> bytes:
        config = descriptor("application/vnd.oci.empty.v1+json", EMPTY)
        manifest = {"schemaVersion": 2, "mediaType": self._type, "config": config, "layers": layers}
        return encoded({**manifest, **fields, **self._more})


def signed(digest: str, *signers: Signer, simple: bool = False) -> Signatures:
    """Return the signatures of an image by these signers, all in the same form."""
    signatures = Signatures(digest)
    for signer in signers:
        if simple:
            signatures.add_simple(*signer.payload(digest))
        else:
            signatures.add_bundle(signer.bundle(digest))
    return signatures


def contents(signatures: Signatures, *, referrers: bool = True) -> dict[str, bytes]:
    """Return the contents of a repository by path; without ``referrers`` it lists bundles in a tag."""
    found = {f"manifests/{reference}": content for reference, content in signatures.manifests.items()}
    found |= {f"blobs/{digest}": content for digest, content in signatures.blobs.items()}
    listed = f"referrers/{signatures.digest}" if referrers else f"manifests/{signatures.tag}"
    return found | {listed: signatures.index}


def holds(registry: Scripted, signatures: Signatures, *, referrers: bool = True) -> None:
    """Let a scripted registry hold these signatures."""
    for path, content in contents(signatures, referrers=referrers).items():
        registry.on(f"GET /v2/team/app/{path}", web.Response(body=content))
