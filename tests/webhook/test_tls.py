"""Certificates from files: which are loaded, which are refused, and which one is served meanwhile."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.http.answers import json_response
from gatekeeper_py.http.listener import Listener
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.process.settings import Address
from gatekeeper_py.webhook.metrics import Metrics
from gatekeeper_py.webhook.tls import POLL_SECONDS, CertificateFiles
from support.recording import RecordingLog
from support.served import sample
from support.wire import Connection, request

NOW = datetime.now(UTC).replace(microsecond=0)  # certificates have whole seconds


class Pair:
    """A certificate and its key as files, with the ``CertificateFiles`` that watches them."""

    def __init__(self, directory: Path) -> None:
        self.cert, self.key = directory / "tls.crt", directory / "tls.key"
        self.authority = trustme.CA()
        self.log, self.metrics = RecordingLog(), Metrics(LivePolicy(), CacheCounts())
        self.now = NOW
        self.files = self.watcher()

    def watcher(self, client_ca: Path | None = None, **more: Any) -> CertificateFiles:
        return CertificateFiles(
            self.cert,
            self.key,
            client_ca=client_ca,
            observer=self.metrics,
            log=self.log,
            now=lambda: self.now,
            **more,
        )

    def write(self, **options: Any) -> trustme.LeafCert:
        leaf = self.authority.issue_cert("localhost", **options)
        self.cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        self.key.write_bytes(leaf.private_key_pem.bytes())
        return leaf


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def _serial(context: ssl.SSLContext | None, authority: trustme.CA) -> int:
    """Return the serial number of a context's certificate, from a verified handshake in memory."""
    assert context is not None
    client = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    theirs = context.wrap_bio(to_server, to_client, server_side=True)
    for side in (ours, theirs, ours, theirs):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    der = ours.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def _number(leaf: trustme.LeafCert) -> int:
    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number


def _end(leaf: trustme.LeafCert) -> float:
    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).not_valid_after_utc.timestamp()


async def test_a_good_pair_is_served(pair: Pair) -> None:
    leaf = pair.write()
    assert pair.files.context() is None
    assert pair.files.problem
    await pair.files.load()
    assert pair.files.problem == ""
    assert _serial(pair.files.context(), pair.authority) == _number(leaf)
    assert pair.log.events == ["certificate_loaded"]
    assert sample(pair.metrics, "certificate_not_after_timestamp_seconds") == _end(leaf)


async def test_the_same_bytes_are_loaded_once(pair: Pair) -> None:
    pair.write()
    await pair.files.load()
    context = pair.files.context()
    for path in (pair.cert, pair.key):
        os.utime(path, (1, 1))
    await pair.files.load()
    assert pair.files.context() is context
    assert pair.log.events == ["certificate_loaded"]


async def test_a_new_pair_replaces_the_old_one_in_a_fresh_context(pair: Pair) -> None:
    """Its key may be of another kind."""
    for kind in (trustme.KeyType.RSA, trustme.KeyType.ECDSA, trustme.KeyType.ECDSA, trustme.KeyType.RSA):
        old, leaf = pair.files.context(), pair.write(key_type=kind)
        await pair.files.load()
        assert pair.files.problem == ""
        assert pair.files.context() is not old
        assert _serial(pair.files.context(), pair.authority) == _number(leaf)


def _mismatch(pair: Pair) -> None:
    pair.key.write_bytes(pair.authority.issue_cert("localhost").private_key_pem.bytes())


def _key_of_another_kind(pair: Pair) -> None:
    key = rsa.generate_private_key(65537, 2048)
    pair.key.write_bytes(_pem(key))


def _encrypted(pair: Pair) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pair.key.write_bytes(_pem(key, serialization.BestAvailableEncryption(b"secret")))


def _pem(key: Any, encryption: Any = None) -> bytes:
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        encryption or serialization.NoEncryption(),
    )
    return pem


BAD: list[Any] = [
    pytest.param(_mismatch, "KEY_VALUES_MISMATCH", id="key-of-another-certificate"),
    pytest.param(_key_of_another_kind, "unusable", id="key-of-another-kind"),
    pytest.param(_encrypted, "encrypted", id="encrypted-key"),
    pytest.param(lambda p: p.cert.write_bytes(b""), "empty", id="empty-certificate"),
    pytest.param(lambda p: p.key.write_bytes(b" \n"), "empty", id="blank-key"),
    pytest.param(lambda p: p.cert.unlink(), "No such file", id="certificate-deleted"),
    pytest.param(lambda p: p.key.unlink(), "No such file", id="key-deleted"),
    pytest.param(lambda p: (p.key.unlink(), p.key.mkdir()), "Is a directory", id="key-is-a-directory"),
    pytest.param(lambda p: p.cert.write_bytes(b"x" * 100), "PEM", id="no-pem"),
    pytest.param(lambda p: p.cert.write_bytes(b"\xff\0" * 100), "PEM", id="binary"),
    pytest.param(lambda p: p.cert.write_bytes(p.cert.read_bytes()[:300]), "PEM", id="half-a-certificate"),
    pytest.param(lambda p: p.key.write_bytes(p.key.read_bytes()[:60]), "unusable", id="half-a-key"),
    pytest.param(lambda p: p.cert.write_bytes(p.key.read_bytes()), "PEM", id="key-as-certificate"),
    pytest.param(lambda p: p.key.write_bytes(p.cert.read_bytes()), "unusable", id="certificate-as-key"),
    pytest.param(lambda p: p.write(not_after=NOW - timedelta(days=1), not_before=NOW - timedelta(days=9)),
                 "expired", id="expired"),
    pytest.param(lambda p: p.write(not_before=NOW + timedelta(days=1), not_after=NOW + timedelta(days=9)),
                 "not valid before", id="not-valid-yet"),
    pytest.param(lambda p: p.cert.write_bytes(_of_version_nine(p.cert.read_bytes())), "PEM", id="version-9"),
]  # fmt: skip


def _of_version_nine(pem: bytes) -> bytes:
    der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    assert der.count(b"\xa0\x03\x02\x01\x02") == 1
    return ssl.DER_cert_to_PEM_cert(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09")).encode()


@pytest.mark.parametrize(("spoil", "reason"), BAD)
async def test_a_bad_pair_is_reported_and_only_the_old_one_is_served(
    pair: Pair, spoil: Callable[[Pair], Any], reason: str
) -> None:
    good = pair.write()
    await pair.files.load()
    old = pair.files.context()
    chain, key = pair.cert.read_bytes(), pair.key.read_bytes()
    spoil(pair)
    at_start = pair.watcher()
    await at_start.load()
    assert reason in at_start.problem
    assert at_start.context() is None
    assert sample(pair.metrics, "certificate_files_bad") == 1
    pair.log.lines.clear()
    for _ in range(3):
        await pair.files.load()
    assert reason in pair.files.files_problem
    assert pair.files.problem == "", "the replica stays ready"
    assert sample(pair.metrics, "certificate_files_bad") == 1
    assert pair.files.context() is old
    assert _serial(old, pair.authority) == _number(good)
    refusals = pair.log.named("certificate_refused")
    assert [refusal["serving_previous"] for refusal in refusals] == [True]
    assert reason in refusals[0]["problem"]
    assert sample(pair.metrics, "certificate_not_after_timestamp_seconds") == _end(good)
    # The old files are back, so there is no problem any more.
    if pair.key.is_dir():
        pair.key.rmdir()
    pair.cert.write_bytes(chain)
    pair.key.write_bytes(key)
    await pair.files.load()
    assert pair.files.files_problem == ""
    assert sample(pair.metrics, "certificate_files_bad") == 0
    assert pair.files.context() is old
    await at_start.load()
    assert at_start.problem == ""
    assert at_start.context() is not None


async def test_with_bad_files_a_replica_is_ready_while_its_certificate_is_valid_for_over_an_hour(
    pair: Pair,
) -> None:
    end = NOW + timedelta(hours=3)
    pair.write(not_after=end)
    await pair.files.load()
    pair.key.unlink()
    for left, is_ready in ((7201, True), (3601, True), (3600, False), (1, False), (-1, False)):
        pair.now = end - timedelta(seconds=left)
        await pair.files.load()
        assert (pair.files.problem == "") is is_ready, left
        assert is_ready or "No such file" in pair.files.problem
    pair.write()
    await pair.files.load()
    assert pair.files.problem == ""


async def test_a_certificate_that_is_not_valid_yet_takes_effect_once_it_is(pair: Pair) -> None:
    pair.write(not_before=NOW + timedelta(minutes=5), not_after=NOW + timedelta(days=90))
    await pair.files.load()
    assert "not valid before" in pair.files.problem
    pair.now = NOW + timedelta(minutes=6)
    await pair.files.load()
    assert pair.files.problem == ""


async def test_a_served_certificate_that_expires_is_a_problem(pair: Pair) -> None:
    pair.write(not_after=NOW + timedelta(hours=1))
    await pair.files.load()
    assert pair.files.problem == ""
    pair.now = NOW + timedelta(hours=2)
    assert "expired" in pair.files.problem
    await pair.files.load()
    assert "expired" in pair.files.problem
    assert pair.files.context() is not None  # callers verify for themselves


async def test_near_expiry_is_logged_once_each_at_30_7_and_1_days(pair: Pair) -> None:
    pair.write(not_after=NOW + timedelta(days=60))
    for days_left in (60, 31, 30, 29, 8, 7, 6, 2, 1, 0.5, 0.4):
        pair.now = NOW + timedelta(days=60) - timedelta(days=days_left)
        await pair.files.load()
    days_logged = [keys["days_left"] for keys in pair.log.named("certificate_expires_soon")]
    assert days_logged == [30, 7, 1]
    pair.write(not_after=pair.now + timedelta(days=5))
    await pair.files.load()
    assert len(pair.log.named("certificate_expires_soon")) == 4


async def test_a_pair_that_is_swapped_by_its_symlink_is_noticed(tmp_path: Path) -> None:
    """Replace files as the kubelet does: they link into ..data, a symbolic link that is replaced."""
    staged = {}
    authority = trustme.CA()
    for version in ("..1", "..2"):
        (tmp_path / version).mkdir()
        leaf = authority.issue_cert("localhost")
        leaf.cert_chain_pems[0].write_to_path(str(tmp_path / version / "tls.crt"))
        leaf.private_key_pem.write_to_path(str(tmp_path / version / "tls.key"))
        staged[version] = _number(leaf)
    (tmp_path / "..data").symlink_to("..1")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    pair = Pair(tmp_path)
    await pair.files.load()
    assert _serial(pair.files.context(), authority) == staged["..1"]
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    await pair.files.load()
    assert _serial(pair.files.context(), authority) == staged["..2"]


async def test_the_files_are_polled(pair: Pair) -> None:
    pair.write()
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise StopAsyncIteration
        pair.write()

    files = pair.watcher(sleep=sleep)
    with pytest.raises(StopAsyncIteration):
        await files.watch()
    assert slept == [POLL_SECONDS] * 3
    assert pair.log.events == ["certificate_loaded"] * 2


async def test_the_client_ca_is_polled_with_the_certificate(pair: Pair, tmp_path: Path) -> None:
    pair.write()
    client_ca = tmp_path / "ca.crt"
    client_ca.write_bytes(b"no certificate")
    files = pair.watcher(client_ca)
    await files.load()
    assert files.problem.startswith("the client CA is unusable")
    client_ca.write_bytes("é".encode())
    await files.load()
    assert files.problem.startswith("the client CA is unusable")
    client_ca.write_bytes(trustme.CA().cert_pem.bytes())
    await files.load()
    assert files.problem == ""
    context = files.context()
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    client_ca.write_bytes(trustme.CA().cert_pem.bytes())
    await files.load()
    assert files.context() is not context


async def test_open_connections_survive_a_new_certificate(pair: Pair) -> None:
    first = pair.write()
    await pair.files.load()

    async def answer(_request: Any) -> Any:
        return json_response(200, {})

    listener = Listener(answer, max_connections=5, context=pair.files.context)
    address = listener.bind(Address("127.0.0.1", 0))
    trust = ssl.create_default_context(cadata=pair.authority.cert_pem.bytes().decode())
    old = await Connection.open("127.0.0.1", address.port, trust)
    assert (await old.ask(request(method="GET"))).status == 200
    second = pair.write(key_type=trustme.KeyType.RSA)
    await pair.files.load()
    new = await Connection.open("127.0.0.1", address.port, trust)
    for connection, leaf in ((old, first), (new, second)):
        assert (await connection.ask(request(method="GET"))).status == 200
        der = connection.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        assert x509.load_der_x509_certificate(der).serial_number == _number(leaf)
        await connection.close()
    await listener.close(0.5)
