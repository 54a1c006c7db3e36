"""Keys are loaded by fingerprint, and other kinds of keys are refused."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, x25519

from gatekeeper_py.registry.signatures.keys import load_keys
from registry.signatures.signing import der_of, fingerprint, public_der

NAMES = ("p256", "p384", "p521", "rsa", "ed25519")
OTHERS = {
    "another-curve": public_der(ec.generate_private_key(ec.SECP256K1()).public_key()),
    "ed448": public_der(ed448.Ed448PrivateKey.generate().public_key()),
    "key-exchange": public_der(x25519.X25519PrivateKey.generate().public_key()),
    "unknown-algorithm": bytes.fromhex("300a300406022a0303020000"),
    "nothing": b"",
    "text": b"-----BEGIN PUBLIC KEY-----",
    "trailing-byte": der_of("p256") + b"\0",
    "private": ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ),
}


def test_keys_are_loaded_by_fingerprint() -> None:
    assert list(load_keys(map(der_of, NAMES))) == list(map(fingerprint, NAMES))


@pytest.mark.parametrize("name", OTHERS)
def test_another_kind_of_key_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"key|parse|deserialize"):
        load_keys([der_of("p256"), OTHERS[name]])
