"""A plain second verifier of signatures, which shares no code with the product: the opposite of clever.

It answers only whether a blob is a valid signature, and has no limits. RSA is computed with ``pow``.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed


def is_valid_bundle(blob: bytes, digest: str, keys: Iterable[bytes]) -> bool:
    """Return whether a bundle is a signature of the image by one of the keys (in DER)."""
    try:
        bundle = _parse(blob)
        assert bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
        assert "messageSignature" not in bundle
        envelope = bundle["dsseEnvelope"]
        assert envelope["payloadType"] == "application/vnd.in-toto+json"
        assert len(envelope["signatures"]) == 1
        payload = _decode(envelope["payload"])
        statement = _parse(payload)
        assert statement["_type"] == "https://in-toto.io/Statement/v1"
        assert statement["predicateType"] == "https://sigstore.dev/cosign/sign/v1"
        algorithm, value = digest.split(":")
        named = [subject["digest"] for subject in statement["subject"] if "digest" in subject]
        assert any(type(digests) is dict and digests.get(algorithm) == value for digests in named)
        return is_signed(
            pre_authentication_encoding(payload), _decode(envelope["signatures"][0]["sig"]), keys
        )
    except (AssertionError, KeyError, TypeError, IndexError, ValueError, AttributeError, RecursionError):
        return False


def pre_authentication_encoding(payload: bytes) -> bytes:
    return b"DSSEv1 28 application/vnd.in-toto+json " + str(len(payload)).encode() + b" " + payload


def is_valid_simple(payload: bytes, signature: str, digest: str, keys: Iterable[bytes]) -> bool:
    """Return whether a payload of simple signing is signed for the image by one of the keys (in DER)."""
    try:
        critical = _parse(payload)["critical"]
        assert critical["type"] == "cosign container image signature"
        assert critical["image"]["docker-manifest-digest"] == digest
        return is_signed(payload, _decode(signature), keys)
    except (AssertionError, KeyError, TypeError, ValueError, RecursionError):
        return False


def _parse(content: bytes) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    document = json.loads(content.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
    json.dumps(document, ensure_ascii=False).encode("utf-8")  # fails for half a surrogate pair
    return document


def _decode(text: str) -> bytes:
    content = base64.b64decode(text.encode("ascii"), validate=True)
    assert content
    assert base64.b64encode(content) == text.encode("ascii")
    return content


def is_signed(message: bytes, signature: bytes, keys: Iterable[bytes]) -> bool:
    """Return whether one of the keys (in DER) made a signature of a message."""
    return any(_is_signed_by(serialization.load_der_public_key(key), message, signature) for key in keys)


def _is_signed_by(key: object, message: bytes, signature: bytes) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        size = key.key_size // 8
        number = int.from_bytes(signature, "big")
        if len(signature) != size or number >= key.public_numbers().n:
            return False
        opened = pow(number, key.public_numbers().e, key.public_numbers().n).to_bytes(size, "big")
        info = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(message).digest()
        return opened == b"\x00\x01" + b"\xff" * (size - 3 - len(info)) + b"\x00" + info
    if isinstance(key, ed25519.Ed25519PublicKey):
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True
    assert isinstance(key, ec.EllipticCurvePublicKey)
    names = {256: ("sha256",), 384: ("sha384", "sha256"), 521: ("sha512", "sha256")}[key.curve.key_size]
    algorithms = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
    for name in names:
        try:
            prehashed = Prehashed(algorithms[name])
            key.verify(signature, hashlib.new(name, message).digest(), ec.ECDSA(prehashed))
        except InvalidSignature:
            continue
        return True
    return False
