"""Public keys for ``signedBy``: which keys a policy may hold, and how their text is read.

Source: docs/policy.md, "Fields".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

KeyKind = Literal["P-256", "P-384", "P-521", "RSA", "Ed25519"]

MAX_PEM_LENGTH: Final = 4096
"""Maximum length of the text of a key. An RSA key of 8192 bits has 1,500 characters."""

MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
MAX_RSA_EXPONENT: Final = 2**31 - 1
"""The limit of Go's library, and so of cosign. A larger exponent only makes each verification slower."""

ED25519_PRIME: Final = 2**255 - 19

_ORDER_8: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
FORGEABLE: Final = frozenset({0, 1, ED25519_PRIME - 1, _ORDER_8, ED25519_PRIME - _ORDER_8})
"""The y coordinates of the eight points of small order of Ed25519. With such a point as the key, anybody can
make a valid signature of some messages, or of every message, without a private key."""

_CURVES: Final[dict[str, KeyKind]] = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_LABEL: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,60})-----")
_BLOCK: Final = re.compile(r"\s*-----BEGIN PUBLIC KEY-----\n([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----\s*")
_WANTED: Final = "one public key in PEM: -----BEGIN PUBLIC KEY----- and so on"


class Key(NamedTuple):
    """A public key of the policy.

    ``der`` is the SubjectPublicKeyInfo, and ``fingerprint`` its SHA-256 in 64 hexadecimal digits. Signatures
    do not count from ``until`` on, which is in UTC. ``name`` is empty only in a result of ``parse_key``.
    """

    name: str
    fingerprint: str
    der: bytes
    kind: KeyKind
    until: datetime | None = None


NO_KEYS: Final[Mapping[str, Key]] = MappingProxyType({})


def parse_key(pem: str) -> Key:
    """Parse the PEM text of one public key.

    Raises ``ValueError``, whose message never contains a part of the text: it could be a private key.
    """
    if len(pem) > MAX_PEM_LENGTH:
        raise ValueError(f"at most {MAX_PEM_LENGTH:,} characters, here {len(pem):,}")
    labels: list[str] = _LABEL.findall(pem)
    if any(label.endswith("PRIVATE KEY") for label in labels):
        raise ValueError("this is a private key. Everybody who has read this policy can sign with it")
    if len(labels) > 1:
        raise ValueError("more than one PEM block; each key is an entry of its own")
    if labels and labels[0] != "PUBLIC KEY":
        raise ValueError(f"must be {_WANTED}, not a PEM block of another type")
    block = _BLOCK.fullmatch(pem)
    if block is None:
        raise ValueError(f"must be {_WANTED}")
    try:
        der = base64.b64decode("".join(block[1].split()), validate=True)
    except binascii.Error:
        raise ValueError("the text between the two lines of the PEM block is not Base64") from None
    return Key("", hashlib.sha256(der).hexdigest(), der, _kind(der))


def _kind(der: bytes) -> KeyKind:
    # Imported here, because it takes 30 ms and 12 MiB, and most policies have no keys. It does no I/O.
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415

    try:
        key = serialization.load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("the PEM block holds no public key that can be read") from None
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    if key.public_bytes(serialization.Encoding.DER, spki) != der:
        # One key must have one fingerprint. Go's parser, and so cosign, refuses such keys, too.
        raise ValueError("the key has an unusual encoding, such as a compressed point")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    if isinstance(key, ed25519.Ed25519PublicKey):
        y = int.from_bytes(key.public_bytes_raw(), "little") & (2**255 - 1)  # without the sign of x
        if y % ED25519_PRIME in FORGEABLE:
            raise ValueError("anybody can sign for this Ed25519 key: it is a point of small order")
        return "Ed25519"
    if isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            limits = f"from {MIN_RSA_BITS} to {MAX_RSA_BITS}"
            raise ValueError(f"an RSA key must have {limits} bits, and this one has {key.key_size}")
        if key.public_numbers().e > MAX_RSA_EXPONENT:
            raise ValueError("the exponent of an RSA key must be less than 2^31, and is usually 65537")
        return "RSA"
    raise ValueError("must be a key for ECDSA (P-256, P-384 or P-521), RSA or Ed25519")
