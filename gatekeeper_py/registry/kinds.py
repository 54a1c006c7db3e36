"""The kinds of look-ups: the requests of each, its valid answers, and how long an answer is used.

Source: the OCI distribution specification 1.1. The observed behaviour of registries, and the reason for each
step, is in docs/registries.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Final, NamedTuple

from gatekeeper_py.core.images.manifest import MISSING, Answer, Kind, Manifest, found
from gatekeeper_py.core.images.reference import InvalidReference, check_digest, escape
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.registry.connection import Response

MEDIA_TYPES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""Media types in the ``Accept`` header. Without an OCI type, distribution answers 404 for an OCI image that
exists. With the Docker manifest type alone, registries answer with the digest of one platform's manifest."""

MIN_PAUSE_SECONDS: Final = 1.0
MAX_PAUSE_SECONDS: Final = 300.0
MAX_PAUSE_DIGITS: Final = 6
"""Maximum number of digits that are converted. A number with more digits exceeds ``MAX_PAUSE_SECONDS``."""

MAX_DATE_LENGTH: Final = 64
"""A date in HTTP has 29 characters; an obsolete one has 33 at most."""

DIGEST_SECONDS: Final = 3600.0
"""How long an answer about a manifest named by its digest is fresh. Such a manifest never changes, but it can
be deleted."""

UNAUTHORIZED: Final = frozenset({401, 403})
_NO_HEAD: Final = frozenset({405, 501})
_DIGEST_HEADER: Final = "Docker-Content-Digest"


class Ask(NamedTuple):
    """One request about a repository.

    ``path`` follows ``/v2/REPOSITORY/``. ``accept`` lists the media types of the answer. The body of the
    answer is hashed with ``algorithm``.
    """

    method: str
    path: str
    accept: tuple[str, ...]
    algorithm: str


Send = Callable[[Ask], Awaitable[Response]]
"""Sends a request with the authentication that the registry requires. Raises ``Unusable``."""


class LookupKind(NamedTuple):
    """What the client, the server and the facts need to know about one kind of look-up.

    ``query`` asks a registry, and raises ``Unusable``. ``is_valid`` checks an answer of the registry process.
    An attacker may control this process. ``fresh_seconds`` returns how long an answer is fresh.
    """

    query: Callable[[Manifest, Send], Awaitable[Answer]]
    is_valid: Callable[[Manifest, Answer], bool]
    fresh_seconds: Callable[[Manifest, Answer, Registry], float]


class Unusable(Exception):
    """The registry's answer cannot be used. ``trouble`` and ``pause`` are defined as in ``client.Reply``."""

    def __init__(self, cause: str, *, trouble: bool = False, pause: float = 0.0) -> None:
        super().__init__(cause)
        self.trouble = trouble
        self.pause = pause


async def _query_manifest(manifest: Manifest, send: Send) -> Answer:
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
    {"manifest": LookupKind(_query_manifest, _is_valid_manifest, _manifest_seconds)}
)


def refused(response: Response, who: str = "the registry") -> Unusable:
    """Return the error for an answer whose status is neither 200 nor 404."""
    status = response.status
    if status == 429:  # noqa: PLR2004
        return Unusable(f"{who} limits our requests (429)", pause=_retry_after(response))
    if status in UNAUTHORIZED:
        return Unusable(f"{who} refused our credentials ({status})")
    return Unusable(f"{who} answered {status}", trouble=status >= 500)  # noqa: PLR2004


def _retry_after(response: Response) -> float:
    """Return the pause that a registry requests, in seconds.

    The header contains a number of seconds or a date (RFC 9110, section 10.2.3).
    """
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        digits = text.lstrip("0") or "0"  # a header may hold thousands, which are not worth converting
        seconds = float(digits) if len(digits) <= MAX_PAUSE_DIGITS else MAX_PAUSE_SECONDS
    else:
        date = _date_of(text)
        # The date follows the registry's clock, which may differ from ours.
        now = _date_of(response.headers.get("Date", "")) or datetime.now(UTC)
        seconds = 0.0 if date is None else (date - now).total_seconds()
    return min(max(seconds, MIN_PAUSE_SECONDS), MAX_PAUSE_SECONDS)


def _date_of(text: str) -> datetime | None:
    """Parse a date of HTTP; ``None`` if it is not one, or has no time zone."""
    if len(text) > MAX_DATE_LENGTH:
        return None
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo is not None else None
