"""Certificate rotation: the content of the Secret, and the next step that is due.

The Secret holds the whole state of a rotation. So if a controller is killed at any point, the next one
continues the rotation. A rotation has three steps, and each step is one write:

1. *prepare*: a new leaf and key wait under ``next.crt`` and ``next.key``; ``ca.crt`` holds both CAs.
2. *promote*: once every webhook configuration trusts the new CA, and API servers have had time to notice the
   change, the new leaf and key become ``tls.crt`` and ``tls.key``, which the replicas serve.
3. *retire*: once every replica serves the new leaf, the old CA is removed from ``ca.crt``.

So API servers trust, at every moment, every leaf that a replica serves.

A Secret that is missing or holds no usable leaf is *created*. If webhook configurations exist, the new leaf
waits until they trust its CA, as in *prepare*. If none exists yet, replicas serve the new leaf at once.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization

from gatekeeper_py.cluster.issuing import Issued, issue

SETTLE: Final = timedelta(seconds=15)
"""How long the configurations must have trusted a new CA before replicas serve its leaf. Each API server
needs a moment to notice a changed configuration."""

Step = Literal["", "create", "prepare", "promote", "retire"]

KEYS: Final = ("tls.crt", "tls.key", "ca.crt", "next.crt", "next.key")
"""Our keys in the Secret's ``data``."""

_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
)
"""The exceptions that the cryptography library raises for certificates and keys that it cannot read."""


class InvalidSecret(ValueError):
    """The Secret does not hold usable certificates; the message gives the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A leaf certificate and its key, PEM."""

    certificate: bytes
    key: bytes

    @property
    def leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate)

    @property
    def fingerprint(self) -> str:
        return self.leaf.fingerprint(hashes.SHA256()).hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateStore:
    """The content of the Secret: the served key pair, the CAs to trust, and perhaps the next key pair.

    ``current`` is ``None`` while there is no key pair to serve. Replicas then keep the one that they loaded
    before.
    """

    current: KeyPair | None
    cas: tuple[bytes, ...]
    pending: KeyPair | None = None

    @property
    def bundle(self) -> bytes:
        """The ``caBundle`` for the webhook configurations."""
        return b"".join(self.cas)

    @property
    def not_after(self) -> datetime | None:
        """The expiry of the served leaf or, if there is none, of the next leaf."""
        pair = self.current or self.pending
        return None if pair is None else pair.leaf.not_valid_after_utc

    def data(self) -> dict[str, str]:
        """Return the Secret's ``data``, without ``tls.crt`` and ``tls.key`` if there is no leaf to serve."""
        values = {"ca.crt": self.bundle}
        if self.current is not None:
            values |= {"tls.crt": self.current.certificate, "tls.key": self.current.key}
        if self.pending is not None:
            values |= {"next.crt": self.pending.certificate, "next.key": self.pending.key}
        return {key: base64.b64encode(value).decode() for key, value in values.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateUse:
    """The certificates that configurations and replicas use now.

    ``trusted`` holds the CA bundles of our webhooks in the existing configurations. ``trusted_since`` is
    when the configurations were first seen to trust every CA of the store. ``served`` maps the address of
    each replica to the fingerprint of its leaf, or to ``None`` if a probe did not get a trusted leaf.
    ``unseen`` is set while some replica has no address.
    """

    trusted: tuple[bytes, ...] = ()
    trusted_since: datetime | None = None
    served: Mapping[str, str | None] = field(default_factory=dict)
    unseen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateSettings:
    """The names that certificates are made for, and how long they are valid."""

    names: tuple[str, ...]
    lifetime: timedelta
    renew_before: timedelta
    settle: timedelta = SETTLE


Issue = Callable[[Sequence[str], datetime, timedelta], Issued]


def advance(
    store: CertificateStore | None,
    use: CertificateUse,
    settings: CertificateSettings,
    now: datetime,
    issue_pair: Issue = issue,
) -> tuple[CertificateStore, Step]:
    """Return the store after the step that is due, and the name of the step; empty if none is due."""
    cas = () if store is None else store.cas
    current = None if store is None else _usable(store.current, cas, settings, now)
    pending = None if store is None else _usable(store.pending, cas, settings, now)
    if store is not None and pending is not None:
        if _may_promote(store, pending, use, settings, now):
            return replace(store, current=pending, pending=None), "promote"
        return store, ""
    if store is None or current is None:
        # Keep every CA that the configurations trust now: replicas serve the old leaf until they see the
        # new one, even if somebody deleted the Secret.
        made = issue_pair(settings.names, now, settings.lifetime)
        kept = _valid([*cas, *use.trusted], now)
        if use.trusted:
            return CertificateStore(current=None, pending=_pair(made), cas=(*kept, made.ca)), "create"
        return CertificateStore(current=_pair(made), cas=(*kept, made.ca)), "create"
    if store.pending is not None or current.leaf.not_valid_after_utc - now <= settings.renew_before:
        made = issue_pair(settings.names, now, settings.lifetime)
        kept = _valid(cas, now)
        return replace(store, pending=_pair(made), cas=(*kept, made.ca)), "prepare"
    signer = _signer(current.leaf, cas)
    if signer is not None and cas != (signer,) and everywhere(store, use):
        return replace(store, cas=(signer,)), "retire"
    return store, ""


def everywhere(store: CertificateStore, use: CertificateUse) -> bool:
    """Return whether every replica serves the current leaf, so that only the CA of this leaf is needed."""
    return (
        store.current is not None
        and bool(use.served)
        and not use.unseen
        and _signer(store.current.leaf, store.cas) is not None
        and set(use.served.values()) == {store.current.fingerprint}
    )


def trusted_by_all(store: CertificateStore, use: CertificateUse) -> bool:
    """Return whether every webhook configuration trusts all CAs of the store."""
    required = set(store.cas)
    return all(required <= set(_certificates(bundle)) for bundle in use.trusted)


def bundle(store: CertificateStore, use: CertificateUse, now: datetime) -> bytes:
    """Return the ``caBundle`` to write now.

    If every replica serves the current leaf, the bundle holds only the CAs of the store. Otherwise it also
    keeps every unexpired CA that a configuration trusts: another controller, or this one before a restart,
    may have written a leaf of such a CA to the Secret.
    """
    if everywhere(store, use):
        return store.bundle
    return b"".join(dict.fromkeys([*store.cas, *_valid(use.trusted, now)]))


def trusts(bundle: bytes, store: CertificateStore) -> bool:
    """Return whether a ``caBundle`` trusts the leaf in the Secret.

    If the Secret holds no leaf to serve, return whether the ``caBundle`` holds every CA of the store.
    """
    trusted = tuple(_certificates(bundle))
    if store.current is not None:
        return _signer(store.current.leaf, trusted) is not None
    return set(store.cas) <= set(trusted)


def settled(store: CertificateStore) -> bool:
    """Return whether no rotation is in progress."""
    return store.pending is None and len(store.cas) == 1


def parse_secret(data: Mapping[str, Any]) -> CertificateStore:
    """Read a Secret's ``data``. Raises ``InvalidSecret`` when it holds no usable key pair or no CA."""
    cas = tuple(_certificates(_decoded(data, "ca.crt")))
    if not cas:
        raise InvalidSecret("ca.crt holds no certificates")
    try:
        pending = _parse_pair(data, "next")
    except InvalidSecret:
        return CertificateStore(current=_parse_pair(data, "tls"), cas=cas)
    try:
        current = _parse_pair(data, "tls")
    except InvalidSecret:
        return CertificateStore(current=None, cas=cas, pending=pending)
    return CertificateStore(current=current, cas=cas, pending=pending)


def _parse_pair(data: Mapping[str, Any], name: str) -> KeyPair:
    pair = KeyPair(certificate=_decoded(data, f"{name}.crt"), key=_decoded(data, f"{name}.key"))
    try:
        leaf = pair.leaf
        key = serialization.load_pem_private_key(pair.key, password=None)
        form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        matches = key.public_key().public_bytes(*form) == leaf.public_key().public_bytes(*form)
    except _UNREADABLE:
        raise InvalidSecret(f"{name}.crt and {name}.key hold no certificate and key") from None
    if not matches:
        raise InvalidSecret(f"{name}.key is not the key of {name}.crt")
    return pair


def _decoded(data: Mapping[str, Any], key: str) -> bytes:
    value = data.get(key)
    if not isinstance(value, str):
        raise InvalidSecret(f"{key} is missing")
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        raise InvalidSecret(f"{key} is not base64") from None


def _pair(made: Issued) -> KeyPair:
    return KeyPair(certificate=made.leaf, key=made.key)


def _certificates(pem: bytes) -> list[bytes]:
    """Return the certificates of a bundle, PEM; an empty list if the bundle cannot be read."""
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except _UNREADABLE:
        return []
    return [certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates]


def _valid(bundles: Iterable[bytes], now: datetime) -> tuple[bytes, ...]:
    """Return the unexpired CAs of the bundles, PEM, each once."""
    cas = dict.fromkeys(ca for bundle in bundles for ca in _certificates(bundle))
    return tuple(ca for ca in cas if x509.load_pem_x509_certificate(ca).not_valid_after_utc > now)


def _may_promote(
    store: CertificateStore,
    pending: KeyPair,
    use: CertificateUse,
    settings: CertificateSettings,
    now: datetime,
) -> bool:
    if pending.leaf.not_valid_before_utc > now:
        return False  # issued by a machine whose clock is ahead; a replica would refuse to load it
    if not use.trusted:
        return True
    since = use.trusted_since
    return since is not None and now - since >= settings.settle and trusted_by_all(store, use)


def _usable(
    pair: KeyPair | None, cas: tuple[bytes, ...], settings: CertificateSettings, now: datetime
) -> KeyPair | None:
    """Return the key pair, or ``None`` if API servers would refuse its leaf.

    They refuse a leaf that is expired, that none of the CAs signed, or that lacks one of the names.
    """
    if pair is None or pair.leaf.not_valid_after_utc <= now or _signer(pair.leaf, cas) is None:
        return None
    try:
        names = pair.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *_UNREADABLE):
        return None
    covered: set[str] = {
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    }
    return pair if covered.issuperset(map(_canonical, settings.names)) else None


def _canonical(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


def _signer(leaf: x509.Certificate, cas: tuple[bytes, ...]) -> bytes | None:
    """Return the CA that signed a leaf; ``None`` if none of ``cas`` did."""
    for ca in cas:
        try:
            leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(ca))
        except (*_UNREADABLE, InvalidSignature):
            continue
        return ca
    return None
