"""Images signed as cosign signs them with a key, in both forms, as the content of a repository."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from registries.pushing import OCI, descriptor, digest_of, encoded

BUNDLE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIMPLE: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
STATEMENT: Final = "application/vnd.in-toto+json"
EMPTY: Final = b"{}"


@dataclass(frozen=True)
class Signer:
    """A key for ECDSA on P-256, and what it signs."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def der(self) -> bytes:
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.key.public_key().public_bytes(serialization.Encoding.DER, spki)

    @property
    def pem(self) -> str:
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.key.public_key().public_bytes(serialization.Encoding.PEM, spki).decode()

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.der).hexdigest()

    def sign(self, message: bytes) -> str:
        return base64.b64encode(self.key.sign(message, ec.ECDSA(hashes.SHA256()))).decode()

    def bundle(self, digest: str) -> bytes:
        """Return the Sigstore bundle of an image, which cosign 3 writes."""
        algorithm, _, value = digest.partition(":")
        payload = encoded(
            {
                "_type": "https://in-toto.io/Statement/v1",
                "subject": [{"digest": {algorithm: value}}],
                "predicateType": "https://sigstore.dev/cosign/sign/v1",
                "predicate": {},
            }
        )
        pre_authentication = b"DSSEv1 %d %b %d %b" % (
            len(STATEMENT),
            STATEMENT.encode(),
            len(payload),
            payload,
        )
        envelope = {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": STATEMENT,
            "signatures": [{"sig": self.sign(pre_authentication)}],
        }
        return encoded({"mediaType": BUNDLE, "verificationMaterial": {}, "dsseEnvelope": envelope})

    def payload(self, digest: str) -> tuple[bytes, str]:
        """Return the payload of simple signing of an image, and its signature, which cosign 2 writes."""
        payload = encoded(
            {
                "critical": {
                    "identity": {"docker-reference": ""},
                    "image": {"docker-manifest-digest": digest},
                    "type": "cosign container image signature",
                },
                "optional": None,
            }
        )
        return payload, self.sign(payload)


class Signatures:
    """The signatures of one image as a repository holds them.

    ``blobs`` are contents by digest, ``manifests`` contents by digest or tag. ``index`` is the answer of
    the referrers API.
    """

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.tag = digest.replace(":", "-")
        self.blobs: dict[str, bytes] = {digest_of(EMPTY): EMPTY}
        self.manifests: dict[str, bytes] = {}
        self._listed: list[dict[str, Any]] = []
        self._layers: list[dict[str, Any]] = []

    @property
    def index(self) -> bytes:
        return encoded({"schemaVersion": 2, "mediaType": OCI.image_index, "manifests": self._listed})

    def add_bundle(self, bundle: bytes) -> None:
        """Add a bundle, and list it in the index."""
        subject = {"mediaType": OCI.image, "digest": self.digest, "size": 1}
        manifest = self._manifest([descriptor(BUNDLE, bundle)], artifactType=BUNDLE, subject=subject)
        self.blobs[digest_of(bundle)] = bundle
        self.manifests[digest_of(manifest)] = manifest
        self._listed.append({**descriptor(OCI.image, manifest), "artifactType": BUNDLE})

    def add_simple(self, payload: bytes, signature: str) -> None:
        """Add a payload of simple signing with its signature."""
        annotations = {"dev.cosignproject.cosign/signature": signature}
        self.blobs[digest_of(payload)] = payload
        self._layers.append({**descriptor(SIMPLE, payload), "annotations": annotations})
        self.manifests[f"{self.tag}.sig"] = self._manifest(self._layers)

    def _manifest(self, layers: list[dict[str, Any]], **fields: Any) -> bytes:
        config = descriptor("application/vnd.oci.empty.v1+json", EMPTY)
        manifest = {"schemaVersion": 2, "mediaType": OCI.image, "config": config, "layers": layers}
        return encoded({**manifest, **fields})


def signed(digest: str, *signers: Signer, simple: bool = False) -> Signatures:
    """Return the signatures of an image by these signers, all in the same form."""
    signatures = Signatures(digest)
    for signer in signers:
        if simple:
            signatures.add_simple(*signer.payload(digest))
        else:
            signatures.add_bundle(signer.bundle(digest))
    return signatures
