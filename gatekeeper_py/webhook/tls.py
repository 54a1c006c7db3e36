"""The server's certificate, from files that may change while the server runs.

Files are polled by content, because an inotify watch on a Secret volume misses every change after
the first symlink swap. A changed certificate and its key are loaded into a *fresh* context and
checked before they replace the old ones: loading a mismatched pair into a live context breaks every
later handshake. Connections take the current context when they are accepted, so established ones
are untouched.

If ``hostnames`` are set, a certificate must cover all of them. If not, it must have at least one
name, and a new certificate that lacks names of the previous one causes a warning.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.process.logs import Log
from gatekeeper_py.webhook.metrics import Metrics

POLL_SECONDS: Final = 10.0
EXPIRY_WARNING_DAYS: Final = (30, 7, 1)

MIN_VALIDITY: Final = timedelta(hours=1)
"""With unusable files, a replica is ready only while the certificate that it serves is valid for longer. The
controller repairs the Secret in seconds, or an alert leaves this long to repair it by hand."""

MAX_READS: Final = 5
"""Maximum number of reads until two in a row agree. Files that change between two reads could give a
certificate and a key that do not belong together."""

MAX_LOGGED_NAMES: Final = 20


class CertificateError(ValueError):
    """The certificate files are unusable; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate in use: its TLS context, its expiry, and the fingerprint of its files.

    ``names`` are the DNS names and IP addresses that it is for.
    """

    context: ssl.SSLContext
    not_after: datetime
    fingerprint: str
    names: tuple[str, ...]


class CertificateFiles:
    """The certificate files, the TLS context made from them, and whether the files are still the same.

    ``hostnames`` are names and IP addresses that a certificate has to cover.
    """

    def __init__(
        self,
        cert: Path,
        key: Path,
        *,
        client_ca: Path | None,
        hostnames: tuple[str, ...] = (),
        observer: Metrics,
        log: Log,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._paths = (cert, key) if client_ca is None else (cert, key, client_ca)
        self._hostnames = hostnames
        self._observer = observer
        self._log = log
        self._now = now
        self._sleep = sleep
        self.files_problem = "not loaded yet"
        """Why the files cannot be used; empty without a problem."""
        self._warned_days: int | None = None
        self.current: Certificate | None = None

    @property
    def problem(self) -> str:
        """Why the replica must not get reviews. Empty without a problem.

        Unusable files alone are not a problem, because a damaged Secret reaches all replicas at once, and
        without replicas nobody can create Pods. The controller keeps the CA of every certificate that a
        replica serves in the ``caBundle``, so API servers still trust the old certificate.
        """
        if self.current is None:
            return self.files_problem
        left = self.current.not_after - self._now()
        if self.files_problem and left <= MIN_VALIDITY:
            return self.files_problem
        if left <= timedelta(0):
            return f"the certificate expired at {format_instant(self.current.not_after)}"
        return ""

    def summary(self) -> tuple[datetime, tuple[str, ...]] | None:
        """Return the expiry and the names of the certificate in use, or ``None`` before the first one."""
        return None if self.current is None else (self.current.not_after, self.current.names)

    def context(self) -> ssl.SSLContext | None:
        """Return the TLS context for a new connection, or ``None`` before the first certificate."""
        return None if self.current is None else self.current.context

    async def load(self) -> None:
        """Read the files once. On failure, the old certificate stays; ``files_problem`` is the reason."""
        try:
            contents = await asyncio.to_thread(self._read)
        except CertificateError as problem:
            self._fail(str(problem))
            return
        fingerprint = hashlib.sha256(b"\0".join(contents)).hexdigest()
        if self.current is not None and self.current.fingerprint == fingerprint:
            self._succeed()
            self._warn_of_expiry(self.current.not_after)
            return
        try:
            certificate = await asyncio.to_thread(
                build_certificate, contents, fingerprint, self._now(), self._hostnames
            )
        except CertificateError as problem:
            # The same files are tried again at each poll, because a certificate that is not valid yet becomes
            # valid without changing.
            self._fail(str(problem))
            return
        before, self.current = self.current, certificate
        self._succeed()
        self._warned_days = None
        self._observer.certificate(certificate.not_after.timestamp())
        self._log.info(
            "certificate_loaded",
            file=str(self._paths[0]),
            not_after=certificate.not_after.isoformat(),
            names=list(certificate.names[:MAX_LOGGED_NAMES]),
        )
        self._warn_of_lost_names(before, certificate)
        self._warn_of_expiry(certificate.not_after)

    async def watch(self) -> None:
        """Poll until cancelled."""
        while True:
            await self._sleep(POLL_SECONDS)
            await self.load()

    def _read(self) -> tuple[bytes, ...]:
        """Read the files until two reads in a row agree, at most ``MAX_READS`` times."""
        contents = self._read_once()
        for _ in range(MAX_READS - 1):
            before, contents = contents, self._read_once()
            if contents == before:
                break
        return contents

    def _read_once(self) -> tuple[bytes, ...]:
        contents = []
        for path in self._paths:
            try:
                contents.append(path.read_bytes())
            except OSError as problem:
                raise CertificateError(f"{path}: {problem.strerror or problem}") from None
            if not contents[-1].strip():
                raise CertificateError(f"{path}: empty")
        return tuple(contents)

    def _fail(self, problem: str) -> None:
        if problem != self.files_problem:
            self._log.error("certificate_refused", problem=problem, serving_previous=self.current is not None)
        self.files_problem = problem
        self._observer.certificate_files_bad(1)

    def _succeed(self) -> None:
        self.files_problem = ""
        self._observer.certificate_files_bad(0)

    def _warn_of_lost_names(self, before: Certificate | None, after: Certificate) -> None:
        if before is None or self._hostnames:
            return
        lost = sorted({*before.names} - {*after.names})
        if lost:
            self._log.warning("certificate_lost_names", names=lost[:MAX_LOGGED_NAMES])

    def _warn_of_expiry(self, not_after: datetime) -> None:
        left = not_after - self._now()
        reached = [days for days in EXPIRY_WARNING_DAYS if left <= timedelta(days=days)]
        if reached and min(reached) != self._warned_days:
            self._warned_days = min(reached)
            self._log.warning(
                "certificate_expires_soon", not_after=not_after.isoformat(), days_left=left.days
            )


def build_certificate(
    contents: tuple[bytes, ...], fingerprint: str, now: datetime, hostnames: Iterable[str] = ()
) -> Certificate:
    """Make a fresh, checked context from PEM bytes: certificate chain, key and, third, a client CA.

    Raises ``CertificateError``: not PEM, key of another certificate, not valid now, or not usable for a
    server with these ``hostnames``.
    """
    chain, key, *client_ca = contents
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
    except (ValueError, x509.InvalidVersion) as problem:
        raise CertificateError(f"the certificate is not PEM: {problem}") from None
    names = _names_for_servers(leaf)
    uncovered = [each for each in hostnames if not _covers(names, each)]
    if uncovered:
        raise CertificateError(f"the certificate does not cover {', '.join(uncovered)}")
    if leaf.not_valid_after_utc <= now:
        raise CertificateError(f"the certificate expired at {format_instant(leaf.not_valid_after_utc)}")
    if leaf.not_valid_before_utc > now:
        raise CertificateError(
            f"the certificate is not valid before {format_instant(leaf.not_valid_before_utc)}"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION  # each would cost as much as a new connection
    # API servers keep no sessions; writing the tickets for them is 7 % of a handshake.
    context.num_tickets = 0
    what = "the certificate and its key are"
    try:
        _load_pair(context, chain, key)
        for authority in client_ca:
            what = "the client CA is"
            context.load_verify_locations(cadata=authority.decode("ascii"))
            context.verify_mode = ssl.CERT_REQUIRED
    # ssl.SSLError is an OSError. A lack of file descriptors for the key raises an OSError, too.
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "reason", None) or str(problem)
        raise CertificateError(f"{what} unusable: {reason}") from None
    return Certificate(
        context=context, not_after=leaf.not_valid_after_utc, fingerprint=fingerprint, names=names
    )


def _names_for_servers(leaf: x509.Certificate) -> tuple[str, ...]:
    """Return the subject alternative names. Go's clients ignore the common name.

    Raises ``CertificateError`` if the certificate has no such names, or is not for servers.
    """
    try:
        extensions = leaf.extensions
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as problem:
        raise CertificateError(f"the certificate has unusable extensions: {problem}") from None
    names: tuple[str, ...] = ()
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            dns = value.get_values_for_type(x509.DNSName)
            addresses = value.get_values_for_type(x509.IPAddress)
            names = (*dns, *map(str, addresses))
        elif isinstance(value, x509.ExtendedKeyUsage):
            purposes = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
            if not purposes & {*value}:
                raise CertificateError("the certificate is not for servers by its extended key usage")
    if not names:
        raise CertificateError("the certificate has no subject alternative name, so no client accepts it")
    return names


def _covers(names: tuple[str, ...], host: str) -> bool:
    """Return whether a certificate with these names is valid for ``host`` (RFC 9525, 6.3)."""
    try:
        return str(ipaddress.ip_address(host)) in names
    except ValueError:
        pass
    host = host.lower()
    # A wildcard stands for exactly one label, the leftmost.
    _, _, parent = host.partition(".")
    return any(name.lower() in {host, f"*.{parent}"} for name in names)


def _load_pair(context: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    # The ssl module loads keys only from files. An anonymous memory file keeps the key off the disk, and
    # holds exactly the bytes that were read, even if the certificate files change meanwhile.
    with _memory_file(chain) as cert_path, _memory_file(key) as key_path:
        context.load_cert_chain(cert_path, key_path, password=_no_password)


@contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    """Yield the path of a file in memory, or of a temporary file on systems without files in memory."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("pem"), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name


def _no_password() -> str:
    # Without this function, OpenSSL would ask for a password on the terminal.
    raise ValueError("the key is encrypted")


def peer_names(certificate: dict[str, Any] | None) -> frozenset[str]:
    """Return the common names and DNS names in a verified caller's certificate."""
    if not certificate:
        return frozenset()
    names = {value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"}
    for attributes in certificate.get("subject", ()):
        names.update(value for kind, value in attributes if kind == "commonName")
    return frozenset(names)
