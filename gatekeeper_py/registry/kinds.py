"""The kinds of look-ups: the requests of each, its valid answers, and how long an answer is used.

Source: the OCI distribution specification 1.1. docs/registries.md states the lifetimes, and what
counts as a failure.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from gatekeeper_py.core.images.manifest import EXISTENCE, MISSING, SIGNATURE, Answer, Kind, Manifest, found
from gatekeeper_py.core.images.reference import InvalidReference, check_digest, escape
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.registry.asking import MAX_BODY_BYTES, MEDIA_TYPES, Ask, Response, Send, Unusable, refused
from gatekeeper_py.registry.signatures import lookup
from gatekeeper_py.registry.signatures.verification import Keys

DIGEST_SECONDS: Final = 3600.0
"""How long an answer about a manifest named by its digest is fresh. Such a manifest never changes, but it can
be deleted."""

_NO_HEAD: Final = frozenset({405, 501})
_DIGEST_HEADER: Final = "Docker-Content-Digest"


class LookupKind(NamedTuple):
    """What the client, the server and the facts need to know about one kind of look-up.

    ``query`` queries a registry with the public keys that the manifest names. It raises ``Unusable``.
    ``is_valid`` checks an answer of the registry process, which an attacker may control. ``fresh_seconds``
    returns how long an answer is fresh. ``most_bytes`` is the maximum size of all answers of one look-up.
    """

    query: Callable[[Manifest, Send, Keys], Awaitable[Answer]]
    is_valid: Callable[[Manifest, Answer], bool]
    fresh_seconds: Callable[[Manifest, Answer, Registry], float]
    most_bytes: int


async def _query_manifest(manifest: Manifest, send: Send, _keys: Keys) -> Answer:
    path = f"manifests/{manifest.reference}"
    algorithm = manifest.reference.partition(":")[0] if manifest.by_digest else "sha256"
    head = await send(Ask("HEAD", path, MEDIA_TYPES, algorithm))
    digest = _digest_of(head, manifest) if head.status == 200 else ""  # noqa: PLR2004
    if digest:
        return found(digest)
    if head.status not in {200, 404, *_NO_HEAD}:
        raise refused(head)
    # After 404: Nexus can answer HEAD with 404 for a manifest that GET returns.
    # After 200: the header with the digest is optional.
    get = await send(Ask("GET", path, MEDIA_TYPES, algorithm))
    if get.status == 404:  # noqa: PLR2004
        return MISSING
    if get.status != 200:  # noqa: PLR2004
        raise refused(get)
    return found(_digest_of(get, manifest) or _hashed(get, manifest, algorithm))


def _digest_of(response: Response, manifest: Manifest) -> str:
    """Return the checked digest from an answer's header; empty without the header. Raises ``Unusable``."""
    digest = response.headers.get(_DIGEST_HEADER, "")
    if not digest:
        return ""
    try:
        check_digest(digest)
    except InvalidReference:
        raise Unusable("the registry sent a malformed digest") from None
    if manifest.by_digest and digest != manifest.reference:
        raise Unusable("the registry answered with another digest than the one requested")
    return digest


def _hashed(response: Response, manifest: Manifest, algorithm: str) -> str:
    """Compute the digest of a manifest from its body. Raises ``Unusable``."""
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type not in MEDIA_TYPES:
        raise Unusable(f"the registry sent no digest and the media type {escape(media_type, 60)!r}")
    if not response.size:
        raise Unusable("the registry sent an empty manifest")
    digest = f"{algorithm}:{response.hash}"
    if manifest.by_digest and digest != manifest.reference:
        raise Unusable("the manifest has another digest than the one requested")
    return digest


def _is_valid_manifest(manifest: Manifest, answer: Answer) -> bool:
    if answer.key or answer.form or bool(answer.cause) != (answer.status == "error"):
        return False
    if answer.status != "found":
        return not answer.digest
    try:
        check_digest(answer.digest)
    except InvalidReference:
        return False
    return not manifest.by_digest or answer.digest == manifest.reference


def _manifest_seconds(manifest: Manifest, answer: Answer, settings: Registry) -> float:
    if answer.status == "missing":
        return settings.ttl_missing
    return DIGEST_SECONDS if manifest.by_digest else settings.ttl_found


KINDS: Final[Mapping[Kind, LookupKind]] = MappingProxyType(
    {
        EXISTENCE: LookupKind(_query_manifest, _is_valid_manifest, _manifest_seconds, 2 * MAX_BODY_BYTES),
        SIGNATURE: LookupKind(lookup.query, lookup.is_valid, lookup.fresh_seconds, lookup.MAX_BYTES),
    }
)
