"""The certificates in the Secret, and the one step that is due now.

Everything a rotation needs to know stands in the Secret, so a controller that is killed at any
point is followed by one that goes on. The steps, each a write of its own:

1. *prepare*: a new pair waits under ``next.crt`` and ``next.key``; ``ca.crt`` trusts both authorities.
2. *promote*: once every webhook configuration trusts the new authority, and API servers had time to
   see that, the new pair becomes ``tls.crt`` and ``tls.key``, which the replicas serve.
3. *retire*: once every replica serves the new leaf, the old authority leaves ``ca.crt``.

So at every moment each leaf that some replica serves is trusted by what the API server holds. A
Secret that is gone or garbled is *created* the same way: while there are webhook configurations, the
new pair waits for them as in a rotation; before there are any, it is served at once.
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

from gatekeeper_py.issuing import Issued, issue

SETTLE: Final = timedelta(seconds=15)
"""From the moment the configurations trust an authority until a leaf of it is served: API servers
watch the configurations, and each takes a moment."""

Change = Literal["", "create", "prepare", "promote", "retire"]

KEYS: Final = ("tls.crt", "tls.key", "ca.crt", "next.crt", "next.key")
"""What is ours in the Secret's ``data``."""

_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
)
"""What the library raises for certificates and keys it cannot read."""


class InvalidSecret(ValueError):
    """The Secret does not hold what we put there; the message says what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A leaf and its key, PEM."""

    certificate: bytes
    key: bytes

    @property
    def leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate)

    @property
    def fingerprint(self) -> str:
        return self.leaf.fingerprint(hashes.SHA256()).hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """What the Secret holds: the served pair, the authorities to trust, perhaps the next pair.

    ``current`` is ``None`` when what is there cannot be read; replicas keep what they loaded before.
    """

    current: Pair | None
    authorities: tuple[bytes, ...]
    pending: Pair | None = None

    @property
    def bundle(self) -> bytes:
        """The ``caBundle`` of the webhook configurations."""
        return b"".join(self.authorities)

    @property
    def not_after(self) -> datetime | None:
        """When the served leaf expires, or the one that will be served where there is none."""
        pair = self.current or self.pending
        return None if pair is None else pair.leaf.not_valid_after_utc

    def data(self) -> dict[str, str]:
        """The Secret's ``data``, without ``tls.crt`` and ``tls.key`` while there are none to serve."""
        values = {"ca.crt": self.bundle}
        if self.current is not None:
            values |= {"tls.crt": self.current.certificate, "tls.key": self.current.key}
        if self.pending is not None:
            values |= {"next.crt": self.pending.certificate, "next.key": self.pending.key}
        return {key: base64.b64encode(value).decode() for key, value in values.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the world looks like.

    ``trusted`` are the bundles of our webhooks in the configurations that exist, and
    ``trusted_since`` says from when on they were seen to trust all the authorities of the store.
    ``served`` is the fingerprint of the leaf that each replica serves, ``None`` for one that could
    not be asked; ``unseen`` says that there are replicas which have no address yet.
    """

    trusted: tuple[bytes, ...] = ()
    trusted_since: datetime | None = None
    served: Mapping[str, str | None] = field(default_factory=dict)
    unseen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """For which names certificates are made, and how long they live."""

    names: tuple[str, ...]
    lifetime: timedelta
    renew_before: timedelta
    settle: timedelta = SETTLE


Issue = Callable[[Sequence[str], datetime, timedelta], Issued]


def advance(
    store: Store | None, observed: Observed, terms: Terms, now: datetime, issue_pair: Issue = issue
) -> tuple[Store, Change]:
    """The store after the one step that is due, and which step that was."""
    authorities = () if store is None else store.authorities
    current = None if store is None else _usable(store.current, authorities, terms, now)
    pending = None if store is None else _usable(store.pending, authorities, terms, now)
    if store is not None and pending is not None:
        if _may_promote(store, pending, observed, terms, now):
            return replace(store, current=pending, pending=None), "promote"
        return store, ""
    if store is None or current is None:
        # What the configurations trust until now stays trusted: replicas go on serving the old leaf
        # until they see the new one, also when somebody deleted the Secret.
        made = issue_pair(terms.names, now, terms.lifetime)
        kept = _valid([*authorities, *observed.trusted], now)
        if observed.trusted:
            return Store(current=None, pending=_pair(made), authorities=(*kept, made.ca)), "create"
        return Store(current=_pair(made), authorities=(*kept, made.ca)), "create"
    if store.pending is not None or current.leaf.not_valid_after_utc - now <= terms.renew_before:
        made = issue_pair(terms.names, now, terms.lifetime)
        kept = _valid(authorities, now)
        return replace(store, pending=_pair(made), authorities=(*kept, made.ca)), "prepare"
    signer = _signer(current.leaf, authorities)
    if signer is not None and authorities != (signer,) and everywhere(store, observed):
        return replace(store, authorities=(signer,)), "retire"
    return store, ""


def everywhere(store: Store, observed: Observed) -> bool:
    """Whether every replica serves the current leaf, so that no other authority is needed."""
    return (
        store.current is not None
        and bool(observed.served)
        and not observed.unseen
        and _signer(store.current.leaf, store.authorities) is not None
        and set(observed.served.values()) == {store.current.fingerprint}
    )


def trusted_by_all(store: Store, observed: Observed) -> bool:
    """Whether every webhook configuration trusts all authorities of the store."""
    wanted = set(store.authorities)
    return all(wanted <= set(_certificates(bundle)) for bundle in observed.trusted)


def bundle(store: Store, observed: Observed, now: datetime) -> bytes:
    """The ``caBundle`` to write now.

    A configuration loses an authority only while every replica serves the current leaf: another
    controller, or this one before it was killed, may have put a leaf of it in the Secret meanwhile.
    """
    if everywhere(store, observed):
        return store.bundle
    return b"".join(dict.fromkeys([*store.authorities, *_valid(observed.trusted, now)]))


def settled(store: Store) -> bool:
    """Whether no rotation is under way."""
    return store.pending is None and len(store.authorities) == 1


def parse_secret(data: Mapping[str, Any]) -> Store:
    """Read a Secret's ``data``. Raises ``InvalidSecret`` when it holds neither pair, or no authority."""
    authorities = tuple(_certificates(_decoded(data, "ca.crt")))
    if not authorities:
        raise InvalidSecret("ca.crt holds no certificates")
    try:
        pending = _parse_pair(data, "next")
    except InvalidSecret:
        return Store(current=_parse_pair(data, "tls"), authorities=authorities)
    try:
        current = _parse_pair(data, "tls")
    except InvalidSecret:
        return Store(current=None, authorities=authorities, pending=pending)
    return Store(current=current, authorities=authorities, pending=pending)


def _parse_pair(data: Mapping[str, Any], name: str) -> Pair:
    pair = Pair(certificate=_decoded(data, f"{name}.crt"), key=_decoded(data, f"{name}.key"))
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


def _pair(made: Issued) -> Pair:
    return Pair(certificate=made.leaf, key=made.key)


def _certificates(pem: bytes) -> list[bytes]:
    """Each certificate of a bundle, PEM; none when it cannot be read."""
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except _UNREADABLE:
        return []
    return [certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates]


def _valid(bundles: Iterable[bytes], now: datetime) -> tuple[bytes, ...]:
    """The authorities of these bundles, each once. Lapsed ones are left out, or they would pile up."""
    authorities = dict.fromkeys(authority for bundle in bundles for authority in _certificates(bundle))
    return tuple(
        authority
        for authority in authorities
        if x509.load_pem_x509_certificate(authority).not_valid_after_utc > now
    )


def _may_promote(store: Store, pending: Pair, observed: Observed, terms: Terms, now: datetime) -> bool:
    if pending.leaf.not_valid_before_utc > now:
        return False  # made by a clock that is ahead; a replica would refuse to load it
    if not observed.trusted:
        return True
    since = observed.trusted_since
    return since is not None and now - since >= terms.settle and trusted_by_all(store, observed)


def _usable(pair: Pair | None, authorities: tuple[bytes, ...], terms: Terms, now: datetime) -> Pair | None:
    """The pair, unless it could not be trusted whatever the configurations say."""
    if pair is None or pair.leaf.not_valid_after_utc <= now or _signer(pair.leaf, authorities) is None:
        return None
    try:
        names = pair.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *_UNREADABLE):
        return None
    covered: set[str] = {
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    }
    return pair if covered.issuperset(map(_canonical, terms.names)) else None


def _canonical(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


def _signer(leaf: x509.Certificate, authorities: tuple[bytes, ...]) -> bytes | None:
    """The authority among these that signed a leaf."""
    for authority in authorities:
        try:
            leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
        except (*_UNREADABLE, InvalidSignature):
            continue
        return authority
    return None
