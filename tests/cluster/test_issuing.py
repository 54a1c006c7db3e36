"""Certificates that a TLS client accepts."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gatekeeper_py.cluster.issuing import CLOCK_SKEW, Issued, issue

NAMES = ("gk.ns.svc", "gk.ns", "127.0.0.1", "::1")


def handshake(made: Issued, name: str, folder: Path, authority: bytes) -> None:
    """Raise ``ssl.SSLError`` when a client that trusts the CA refuses the leaf."""
    (folder / "pair.pem").write_bytes(made.leaf + made.key)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(folder / "pair.pem")
    client_side = ssl.create_default_context(cadata=authority.decode())
    client_side.verify_flags |= ssl.VERIFY_X509_STRICT
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_side.wrap_bio(there, back, server_side=True)
    client = client_side.wrap_bio(back, there, server_hostname=name)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert client.getpeercert()


@pytest.mark.parametrize("name", NAMES)
def test_strict_clients_accept_the_leaf_for_each_name(name: str, tmp_path: Path) -> None:
    made = issue(NAMES, datetime.now(UTC), timedelta(days=1))
    handshake(made, name, tmp_path, made.ca)


def test_a_leaf_is_not_trusted_through_another_issued_ca(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    first, second = issue(NAMES, now, timedelta(days=1)), issue(NAMES, now, timedelta(days=1))
    handshake(first, NAMES[0], tmp_path, second.ca + first.ca)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(first, NAMES[0], tmp_path, second.ca)


def test_issued_certificates_have_the_requested_names_and_validity() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    made = issue(("a" * 70 + ".svc", *NAMES), now, timedelta(days=2))
    leaf, authority = map(x509.load_pem_x509_certificate, (made.leaf, made.ca))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    for certificate in (leaf, authority):
        assert certificate.not_valid_before_utc == now - CLOCK_SKEW
        assert certificate.not_valid_after_utc == now + timedelta(days=2)
    assert names.get_values_for_type(x509.DNSName) == ["a" * 70 + ".svc", *NAMES[:2]]
    assert names.get_values_for_type(x509.IPAddress) == [*map(ip_address, NAMES[2:])]
    key = load_pem_private_key(made.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == leaf.public_key()
    assert leaf.public_key() != authority.public_key()
