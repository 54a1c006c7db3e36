"""Certificates of the real process: a mounted Secret changes, and clients check each server.

A server reads its files every ten seconds. To keep the waits few, several servers each run their own
sequence of changes in parallel: all Secrets change, then the test waits for all servers.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509

from faults.mounted import MountedSecret, Pair, make_pair
from support.builders import pod, policy_text, review
from support.contract import check_response
from support.server import Server, ask
from tools.polling import wait_until

APPROVED = review(pod())
POLLED_SECONDS = 60.0
"""The server polls every 10 s; the rest is slack for slow machines."""

NAMED = "with-tls-hostname"
"""The sequence for the server that has ``--tls-hostname``."""


class ServerRun:
    """One server with its Secret. ``bundle`` holds the CAs that its callers trust."""

    def __init__(
        self, directory: Path, bundle: Path, first: Pair, *arguments: str, client_ca: bytes | None = None
    ) -> None:
        self.secret = MountedSecret(directory)
        self.served = first
        self._bundle = bundle
        policy = directory / "policy.yaml"
        policy.write_text(policy_text())
        self.secret.set(first.files() | ({} if client_ca is None else {"client-ca.crt": client_ca}))
        clients = () if client_ca is None else ("--client-ca", str(self.secret / "client-ca.crt"))
        self.server = Server(
            "--policy", str(policy), "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0",
            "--tls-cert", str(self.secret / "tls.crt"), "--tls-key", str(self.secret / "tls.key"),
            *clients, *arguments, ca=bundle,
        )  # fmt: skip

    def connect(self, caller: trustme.LeafCert | None = None) -> HTTPSConnection:
        """Open a connection that verifies the server, with the caller's certificate if there is one."""
        context = ssl.create_default_context(cafile=self._bundle)
        if caller is not None:
            caller.configure_cert(context)
        connection = HTTPSConnection(*self.server.address("webhook"), timeout=30, context=context)
        connection.connect()
        return connection

    def serial(self, caller: trustme.LeafCert | None = None) -> int:
        """Return the serial number of the certificate that a new connection gets, after a review on it."""
        connection = self.connect(caller)
        try:
            assert isinstance(connection.sock, ssl.SSLSocket)
            der = connection.sock.getpeercert(binary_form=True)
            assert der is not None
            assert is_answered(connection)
            return x509.load_der_x509_certificate(der).serial_number
        finally:
            connection.close()

    def certificate_check(self) -> str:
        """Return what ``/readyz`` reports about the certificate; ``ok`` if the server is ready."""
        status, body = self.server.get("/readyz")
        check: str = json.loads(body)["checks"]["certificate"]
        assert (status == 200) == (check == "ok")
        return check

    def metric(self) -> float:
        return self.server.metric("certificate_not_after_timestamp_seconds")

    def shows(self, pair: Pair) -> bool:
        is_good = self.server.metric("certificate_files_bad") == 0 and self.certificate_check() == "ok"
        return is_good and self.metric() == pair.end


def is_answered(connection: HTTPConnection) -> bool:
    assert isinstance(connection, HTTPSConnection)
    status, body = ask(connection, APPROVED)
    return status == 200 and check_response(body, APPROVED, "validate").allowed


@dataclass(frozen=True)
class Step:
    """A change of the Secret. ``problem`` is the reported problem; empty if the new pair is served."""

    change: Callable[[MountedSecret, Pair], Any]
    problem: str = ""
    warning: str = ""


def serve(pair: Pair, *, warning: str = "") -> Step:
    return Step(lambda secret, _served: secret.set(pair.files()), warning=warning)


def replace_files(problem: str, **files: Callable[[Pair], bytes]) -> Step:
    """Replace files (``cert``, ``key``). Each function makes the new content from the served pair."""
    names = {"cert": "tls.crt", "key": "tls.key"}
    return Step(
        lambda secret, served: secret.set({names[name]: make(served) for name, make in files.items()}),
        problem,
    )


@pytest.fixture
def authorities() -> tuple[trustme.CA, trustme.CA]:
    return trustme.CA(), trustme.CA()


@pytest.fixture
def bundle(tmp_path: Path, authorities: tuple[trustme.CA, trustme.CA]) -> Path:
    path = tmp_path / "bundle.crt"
    path.write_bytes(b"".join(each.cert_pem.bytes() for each in authorities))
    return path


@pytest.fixture
def start(tmp_path: Path, bundle: Path) -> Iterator[Callable[..., ServerRun]]:
    """Return a function that starts servers; they end with the test."""
    with ExitStack() as ends:

        def start(name: str, *arguments: Any, **options: Any) -> ServerRun:
            run = ServerRun(tmp_path / name, bundle, *arguments, **options)
            ends.callback(run.server.end)
            return run

        yield start


def stories(old: trustme.CA, new: trustme.CA) -> dict[str, list[Step]]:
    """Return by name the changes of each server's Secret; all sequences have the same length.

    webhook/test_tls.py has all other kinds of bad files.

    Each server starts with a certificate of the old authority and an EC key.
    """
    expired = make_pair(old, days=-0.5)
    others = [make_pair(old, "EC", name, days=67) for name in ("other.example", "*.localhost")]
    return {
        "rotated": [
            serve(make_pair(old, "RSA", days=61)),
            serve(make_pair(new, "EC", days=62)),
            serve(make_pair(new, days=5), warning="certificate_expires_soon"),
        ],
        "key-of-another": [
            replace_files("KEY_VALUES_MISMATCH", key=lambda _: make_pair(old).key),
            serve(make_pair(new, "RSA", days=63)),
            replace_files("unusable", key=lambda _: make_pair(old, "EC").key),
        ],
        NAMED: [
            Step(lambda secret, _: secret.set(others[0].files()), "does not cover localhost"),
            serve(make_pair(new, "EC", "127.0.0.1", "localhost", days=68)),
            Step(lambda secret, _: secret.set(others[1].files()), "does not cover localhost"),
        ],
        "gone-and-expired": [
            Step(lambda secret, _: secret.remove("tls.key"), "No such file"),
            Step(lambda secret, _: secret.set(expired.files()), "expired"),
            serve(make_pair(old, "EC", "127.0.0.1", days=65), warning="certificate_lost_names"),
        ],
    }


def test_good_files_are_served_and_bad_files_are_reported(
    start: Callable[..., ServerRun], authorities: tuple[trustme.CA, trustme.CA]
) -> None:
    """New connections get the new certificate or, if it is bad, the old one. Open connections stay open."""
    sequences = stories(*authorities)
    runs = {
        name: start(
            name, make_pair(authorities[0]), *(["--tls-hostname", "localhost"] if name == NAMED else [])
        )
        for name in sequences
    }
    open_ones = {}
    for name, run in runs.items():
        run.server.wait(run.server.is_ready)
        assert run.serial() == run.served.serial
        assert run.metric() == run.served.end
        open_ones[name] = run.connect()
    for number in range(3):
        for name, run in runs.items():
            sequences[name][number].change(run.secret, run.served)
        for name, run in runs.items():
            _expect(run, sequences[name][number], name)
            assert is_answered(open_ones[name])
    for name, run in runs.items():
        assert run.server.errors == "", name
        open_ones[name].close()


def _expect(run: ServerRun, step: Step, name: str) -> None:
    what = f"{name}: {step.problem or 'served'}"
    if step.problem:
        # The metric tells this refusal from one before the last good files.
        wait_until(
            lambda: (
                run.server.metric("certificate_files_bad") == 1
                and step.problem in _last_refusal(run)["problem"]
            ),
            seconds=POLLED_SECONDS,
            what=what,
        )
        refused = _last_refusal(run)
        assert run.certificate_check() == "ok", "the old certificate is valid for days"
        assert (refused["level"], refused["serving_previous"]) == ("error", True)
    else:
        on_disk = Pair((run.secret / "tls.crt").read_bytes(), (run.secret / "tls.key").read_bytes())
        wait_until(lambda: run.shows(on_disk), seconds=POLLED_SECONDS, what=what)
        run.served = on_disk
        if step.warning:
            wait_until(lambda: run.server.events(step.warning), seconds=5, what=step.warning)
            assert {line["level"] for line in run.server.events(step.warning)} == {"warning"}
    assert run.serial() == run.served.serial, what
    assert run.metric() == run.served.end, what


def _last_refusal(run: ServerRun) -> dict[str, Any]:
    lines = run.server.events("certificate_refused")
    return lines[-1] if lines else {"problem": ""}


def test_a_served_certificate_that_expires_is_reported(
    start: Callable[..., ServerRun], authorities: tuple[trustme.CA, trustme.CA]
) -> None:
    """Afterwards a good certificate replaces it as usual."""
    run = start("ending", make_pair(authorities[0], days=15 / 86_400))
    run.server.wait(run.server.is_ready)
    assert run.serial() == run.served.serial
    wait_until(lambda: "expired" in run.certificate_check(), seconds=POLLED_SECONDS, what="its end")
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        run.connect()
    new = make_pair(authorities[1])
    run.secret.set(new.files())
    wait_until(lambda: run.shows(new), seconds=POLLED_SECONDS, what="the new one served")
    assert run.serial() == new.serial
    assert run.server.errors == ""


def test_the_client_ca_is_rotated_with_an_overlap(
    start: Callable[..., ServerRun], authorities: tuple[trustme.CA, trustme.CA]
) -> None:
    """The one after another: old, old and new, new; then garbage, which changes nothing."""
    old, new = trustme.CA(), trustme.CA()
    callers = old.issue_cert("old-api-server"), new.issue_cert("new-api-server")
    pems = old.cert_pem.bytes(), new.cert_pem.bytes()
    run = start("callers", make_pair(authorities[0]), client_ca=pems[0])
    run.server.wait(run.server.is_ready)
    assert [_accepts(run, caller) for caller in (*callers, None)] == [True, False, False]
    open_one = run.connect(callers[0])
    for authority, let_in in ((pems[0] + pems[1], [True, True, False]), (pems[1], [False, True, False])):
        run.secret.set({"client-ca.crt": authority})
        wait_until(
            lambda: [_accepts(run, caller) for caller in (*callers, None)] == let_in,  # noqa: B023
            seconds=POLLED_SECONDS,
            what=f"{let_in} let in",
        )
        assert is_answered(open_one), "connections that are open stay"
        assert run.certificate_check() == "ok"
    run.secret.set({"client-ca.crt": b"garbage"})
    wait_until(lambda: "client CA" in _last_refusal(run)["problem"], seconds=POLLED_SECONDS, what="refused")
    assert [_accepts(run, caller) for caller in (*callers, None)] == [False, True, False]
    open_one.close()


def _accepts(run: ServerRun, caller: trustme.LeafCert | None) -> bool:
    """Return whether the server answers this caller. TLS 1.3 refuses after the handshake."""
    try:
        run.serial(caller)
    except (ssl.SSLError, ConnectionError):
        return False
    return True
