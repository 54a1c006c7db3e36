"""Public keys: each key fixes the algorithm of its signatures.

This module imports ``cryptography``, which takes 12 MiB. Import it only where a policy has keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from gatekeeper_py.registry.signatures.verification import Verifier

_EC_HASHES: Final[dict[str, tuple[hashes.HashAlgorithm, ...]]] = {
    "secp256r1": (hashes.SHA256(),),
    "secp384r1": (hashes.SHA384(), hashes.SHA256()),
    "secp521r1": (hashes.SHA512(), hashes.SHA256()),
}
"""The hashes of each curve, the usual one first. Earlier versions of cosign used SHA-256 with every curve."""


def load_keys(keys: Iterable[bytes]) -> dict[str, tuple[Verifier, ...]]:
    """Load public keys (SubjectPublicKeyInfo in DER); return the verifiers for each fingerprint.

    Raises ``ValueError`` if a key is of another kind or cannot be read. ``core.policy.keys`` checks the size
    of a key before.
    """
    return {hashlib.sha256(key).hexdigest(): _verifiers(key) for key in keys}


def _verifiers(der: bytes) -> tuple[Verifier, ...]:
    try:
        key = serialization.load_der_public_key(der)
    except UnsupportedAlgorithm as problem:
        raise ValueError("a key of another kind") from problem
    attempts: list[Callable[[bytes, bytes], None]]
    match key:
        case ec.EllipticCurvePublicKey() if key.curve.name in _EC_HASHES:
            algorithms = map(ec.ECDSA, _EC_HASHES[key.curve.name])
            attempts = [partial(key.verify, signature_algorithm=algorithm) for algorithm in algorithms]
        case rsa.RSAPublicKey():
            attempts = [partial(key.verify, padding=padding.PKCS1v15(), algorithm=hashes.SHA256())]
        case ed25519.Ed25519PublicKey():
            attempts = [key.verify]
        case _:
            raise ValueError("a key of another kind")
    return tuple(partial(_succeeds, attempt) for attempt in attempts)


def _succeeds(attempt: Callable[[bytes, bytes], None], signature: bytes, message: bytes) -> bool:
    try:
        attempt(signature, message)
    except InvalidSignature:
        return False
    return True
