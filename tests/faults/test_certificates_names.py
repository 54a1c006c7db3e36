"""Certificates that no API server accepts, changed names, and files that change while they are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PosixPath
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from faults.mounted import MountedSecret, Pair, make_own_pair, make_pair
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.webhook.metrics import Metrics
from gatekeeper_py.webhook.tls import MAX_READS, CertificateFiles
from support.recording import RecordingLog

SERVICE = "gatekeeper-py.gatekeeper-py.svc"
SAN = x509.SubjectAlternativeName([x509.DNSName(SERVICE)])
CLIENTS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
ANY = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
MAIL = x509.SubjectAlternativeName([x509.RFC822Name("admin@corp.example")])


class Watched:
    """A mounted Secret, its certificate files, and their log."""

    def __init__(self, directory: Path) -> None:
        self.secret = MountedSecret(directory / "tls")
        self.log = RecordingLog()
        self.files = self.watch(self.secret / "tls.crt")

    def watch(self, cert: Path, *hostnames: str) -> CertificateFiles:
        key = self.secret / "tls.key"
        metrics = Metrics(LivePolicy(), CacheCounts())
        return CertificateFiles(
            cert, key, client_ca=None, hostnames=hostnames, observer=metrics, log=self.log
        )

    async def load(self, pair: Pair) -> str:
        """Return why the files with this key pair cannot be used; empty if they can."""
        self.secret.set(pair.files())
        await self.files.load()
        return self.files.files_problem


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


@pytest.mark.parametrize(
    ("extensions", "problem"),
    [
        pytest.param([], "no subject alternative name", id="common-name-only"),
        pytest.param([MAIL], "no subject alternative name", id="mail-address-only"),
        pytest.param([SAN, CLIENTS], "not for servers", id="for-clients-only"),
        pytest.param([SAN, SERVERS], "", id="for-servers-too"),
        pytest.param([SAN, ANY], "", id="for-anything"),
        pytest.param([SAN], "", id="without-a-usage"),
    ],
)
async def test_a_certificate_that_no_client_of_an_api_server_accepts_is_refused(
    watched: Watched, extensions: list[Any], problem: str
) -> None:
    """Callers verify as Go does, by alternative names and the extended key usage for servers, if any."""
    good = make_own_pair(SAN)
    assert await watched.load(good) == ""
    reported = await watched.load(make_own_pair(*extensions))
    assert problem in reported
    assert (reported == "") == (problem == "")
    assert watched.log.events.count("certificate_refused") == (problem != "")


async def test_names_are_logged_and_lost_names_cause_a_warning(watched: Watched) -> None:
    """If no setting lists the names, the server logs a change of names and does not refuse it."""
    authority = trustme.CA()
    short = "gatekeeper-py"
    for names in (
        (SERVICE, short, "127.0.0.1"),
        (SERVICE, "new.example", short, "127.0.0.1"),
        (short, "10.0.0.1"),
    ):
        assert await watched.load(make_pair(authority, "EC", *names)) == ""
        assert {*watched.log.named("certificate_loaded")[-1]["names"]} == {*names}
    assert watched.log.named("certificate_lost_names") == [
        {"names": sorted(["127.0.0.1", "new.example", SERVICE])}
    ]


@pytest.mark.parametrize(
    ("names", "expected_names", "covered"),
    [
        pytest.param([SERVICE], [SERVICE], True, id="the-same"),
        pytest.param([SERVICE], [SERVICE.upper()], True, id="in-another-case"),
        pytest.param(["other.example", SERVICE], [SERVICE], True, id="one-of-several"),
        pytest.param(["*.gatekeeper-py.svc"], [SERVICE], True, id="a-wildcard-for-its-first-label"),
        pytest.param(["*.svc"], [SERVICE], False, id="a-wildcard-is-one-label"),
        pytest.param(["*.gatekeeper-py.svc"], ["gatekeeper-py.svc"], False, id="a-wildcard-is-not-nothing"),
        pytest.param(["gatekeeper-py.other.svc"], [SERVICE], False, id="of-another-namespace"),
        pytest.param([f"x{SERVICE}"], [SERVICE], False, id="only-its-end"),
        pytest.param([SERVICE], [SERVICE, "localhost"], False, id="one-of-two-is-missing"),
        pytest.param(["10.0.0.1"], ["10.0.0.1"], True, id="an-address"),
        pytest.param(["2001:db8::1"], ["2001:DB8:0::1"], True, id="an-address-in-another-spelling"),
        pytest.param(["10.0.0.1"], ["10.0.0.10"], False, id="another-address"),
    ],
)
async def test_a_certificate_that_does_not_cover_the_service_name_is_refused(
    watched: Watched, names: list[str], expected_names: list[str], *, covered: bool
) -> None:
    authority = trustme.CA()
    good, other = make_pair(authority, "EC", *expected_names), make_pair(authority, "EC", *names)
    files = watched.watch(watched.secret / "tls.crt", *expected_names)
    for pair in (good, other):
        watched.secret.set(pair.files())
        await files.load()
    assert (files.files_problem == "") == covered
    assert covered or files.files_problem.startswith(f"the certificate does not cover {expected_names[-1]}")
    assert files.current is not None
    assert set(files.current.names) == set(other.names if covered else good.names)
    assert watched.log.named("certificate_lost_names") == [], "what callers need is known"


class Interrupted(PosixPath):
    """A path that changes the files after each time it is read."""

    happens: Callable[[], None]

    def read_bytes(self) -> bytes:
        content = super().read_bytes()
        self.happens()
        return content


async def test_a_swap_between_two_reads_is_not_reported_as_a_bad_pair(watched: Watched) -> None:
    """The server reads the old certificate and then the new key; a moment later both match."""
    old, new = (make_pair(trustme.CA(), days=days) for days in (50, 60))
    watched.secret.set(old.files())
    path = Interrupted(watched.secret / "tls.crt")
    files = watched.watch(path)
    path.happens = lambda: watched.secret.set(new.files())
    await files.load()
    assert files.files_problem == ""
    assert files.current is not None
    assert files.current.not_after.timestamp() == new.end
    assert watched.log.events == ["certificate_loaded"]


async def test_files_that_keep_changing_are_read_a_bounded_number_of_times(watched: Watched) -> None:
    pairs = [make_pair(trustme.CA()) for _ in range(2)]
    watched.secret.set(pairs[0].files())
    path = Interrupted(watched.secret / "tls.crt")
    files, reads = watched.watch(path), 0

    def swap() -> None:
        nonlocal reads
        reads += 1
        watched.secret.set(pairs[reads % 2].files())

    path.happens = swap
    await files.load()
    assert reads == MAX_READS
    assert "KEY_VALUES_MISMATCH" in files.files_problem
