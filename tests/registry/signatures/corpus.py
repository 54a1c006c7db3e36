"""The rows of ``tests/data/signatures/corpus.yaml``, and the bundles that others published."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_der_x509_certificate

from registry.signatures.independent import pre_authentication_encoding
from registry.signatures.signing import public_der

SIGNATURES: Final = Path(__file__).parents[2] / "data/signatures"
PUBLISHED: Final = SIGNATURES / "published"

CORPUS: Final[list[dict[str, Any]]] = yaml.load(
    (SIGNATURES / "corpus.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader
)


def rows(*forms: str) -> list[Any]:
    """Return the rows of these forms as parameters of a test."""
    return [pytest.param(row, id=row["id"]) for row in CORPUS if row["form"] in forms]


class Published(NamedTuple):
    """A bundle, the text that is signed, its signature, and the public key of the signer in DER."""

    blob: bytes
    message: bytes
    signature: bytes
    key: bytes


def published(name: str) -> Published:
    """Read a published bundle. Its key is beside it, or in its certificate."""
    blob = (PUBLISHED / f"{name}.json").read_bytes()
    bundle = json.loads(blob)
    pem = PUBLISHED / f"{name}.pub"
    if pem.exists():
        key = load_pem_public_key(pem.read_bytes())
    else:
        certificate = base64.b64decode(bundle["verificationMaterial"]["certificate"]["rawBytes"])
        key = load_der_x509_certificate(certificate).public_key()
    if "messageSignature" in bundle:
        message, signature = (PUBLISHED / "a.txt").read_bytes(), bundle["messageSignature"]["signature"]
    else:
        envelope = bundle["dsseEnvelope"]
        message = pre_authentication_encoding(base64.b64decode(envelope["payload"]))
        signature = envelope["signatures"][0]["sig"]
    return Published(blob, message, base64.b64decode(signature), public_der(key))
