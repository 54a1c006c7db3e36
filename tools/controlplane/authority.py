"""The certificate authority of the control plane, for its components, its users and its webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

_LIFETIME = timedelta(days=2)  # longer than any test run, and short enough to be harmless if found


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A certificate and its private key, as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority with its own P-256 key. It writes certificates below one directory.

    ``certificate`` is the path of the CA certificate, a PEM file. Signing with an elliptic curve takes a
    tenth of the time of RSA, both here and in the API server.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._authority = trustme.CA()
        self.certificate = directory / f"{name}.crt"
        self._authority.cert_pem.write_to_path(self.certificate)

    def client(self, user: str, group: str | None = None, *, file: str) -> KeyPair:
        """Issue a client certificate: the common name is the user, and the organization a group."""
        # API servers refuse a certificate without an alternative name.
        return self._issue(["client.invalid"], file, user, group)

    def server(self, hosts: Sequence[str], *, file: str) -> KeyPair:
        """Issue a serving certificate for these names and addresses."""
        return self._issue(hosts, file, hosts[0])

    def _issue(self, names: Sequence[str], file: str, common_name: str, group: str | None = None) -> KeyPair:
        leaf = self._authority.issue_cert(
            *names,
            common_name=common_name,
            organization_name=group,
            not_after=datetime.now(UTC) + _LIFETIME,
        )
        pair = KeyPair(certificate=self._directory / f"{file}.crt", key=self._directory / f"{file}.key")
        pair.certificate.write_bytes(leaf.cert_chain_pems[0].bytes())
        pair.key.write_bytes(leaf.private_key_pem.bytes())
        pair.key.chmod(0o600)
        return pair
