"""Certificates for localhost: P-256, and RSA-2048 to compare its cost."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final, Literal

import trustme
from cryptography import x509

KeyKind = Literal["p256", "rsa"]

_KEYS: Final = {"p256": trustme.KeyType.ECDSA, "rsa": trustme.KeyType.RSA}


class Certificate:
    """The PEM files of a CA with a P-256 key, of a certificate chain, and of its key.

    ``serial`` is the serial number of the leaf certificate.
    """

    def __init__(self, folder: Path, kind: KeyKind = "p256") -> None:
        self._authority = trustme.CA()
        self._kind = kind
        self.ca, self.chain, self.key = (
            folder / name for name in (f"{kind}-ca.pem", f"{kind}.pem", f"{kind}.key")
        )
        self._authority.cert_pem.write_to_path(self.ca)
        self.rotate()

    def rotate(self) -> None:
        """Write another leaf certificate, one file after the other. Deployments should not do this."""
        leaf = self._issue()
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        self.chain.write_bytes(chain)
        self.key.write_bytes(leaf.private_key_pem.bytes())
        self.serial = x509.load_pem_x509_certificate(chain).serial_number

    def spoil(self) -> None:
        """Write a key that does not match the certificate."""
        self.key.write_bytes(self._issue().private_key_pem.bytes())

    def trust(self) -> ssl.SSLContext:
        """Return a context for clients that trust the CA."""
        return ssl.create_default_context(cafile=self.ca)

    def _issue(self) -> trustme.LeafCert:
        return self._authority.issue_cert("localhost", key_type=_KEYS[self._kind])
