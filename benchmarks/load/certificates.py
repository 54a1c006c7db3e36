"""Certificates for localhost: P-256, and RSA-2048 to compare its cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import trustme

KeyKind = Literal["p256", "rsa"]

_KEYS: Final = {"p256": trustme.KeyType.ECDSA, "rsa": trustme.KeyType.RSA}


@dataclass(frozen=True, slots=True)
class Certificate:
    """The PEM files of a CA, of a certificate chain, and of its key."""

    ca: Path
    chain: Path
    key: Path


def make(folder: Path, kind: KeyKind) -> Certificate:
    """Make a leaf certificate with a key of this kind, signed by a CA with a P-256 key."""
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", key_type=_KEYS[kind])
    made = Certificate(folder / f"{kind}-ca.pem", folder / f"{kind}.pem", folder / f"{kind}.key")
    authority.cert_pem.write_to_path(made.ca)
    made.chain.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(made.key)
    return made
