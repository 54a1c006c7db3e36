"""What a look-up asks a host, what the host answered, what the look-up found, and the errors of answers.

The server imports this module, so it needs nothing that only the registry process uses, such as h11.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from gatekeeper_py.core.images.manifest import Answer

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

REQUEST_SECONDS: Final = 5.0
"""Timeout of a look-up in one registry. A look-up may continue after the review that started it has ended,
because its answer fills the cache."""

MEDIA_TYPES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""Media types in the ``Accept`` header. Without an OCI type, distribution answers 404 for an OCI image that
exists. With the Docker manifest type alone, registries answer with the digest of one platform's manifest."""

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
"""Maximum size of a manifest. Registries themselves refuse larger ones."""

MIN_PAUSE_SECONDS: Final = 1.0
MAX_PAUSE_SECONDS: Final = 300.0
MAX_PAUSE_DIGITS: Final = 6
"""Maximum number of digits that are converted. A number with more digits exceeds ``MAX_PAUSE_SECONDS``."""

MAX_DATE_LENGTH: Final = 64
"""A date in HTTP has 29 characters; an obsolete one has 33 at most."""

UNAUTHORIZED: Final = frozenset({401, 403})


class TooLarge(ValueError):
    """The host sent more than allowed."""


class ContentTooLarge(TooLarge):
    """An answer, or all answers of a look-up, are too large. Somebody with push access can cause this."""


class Ask(NamedTuple):
    """One request about a repository.

    ``path`` follows ``/v2/REPOSITORY/``. ``accept`` lists the media types of the answer. With ``algorithm``,
    the body of the answer is hashed and not kept. ``limit`` is the maximum size of the body in bytes.
    """

    method: str
    path: str
    accept: tuple[str, ...]
    algorithm: str = ""
    limit: int = MAX_BODY_BYTES


class Response(NamedTuple):
    """An answer. ``size`` is the size of its whole body, and ``hash`` the body's hexadecimal hash."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    size: int
    hash: str


Send = Callable[[Ask], Awaitable[Response]]
"""Sends a request with the authentication that the registry requires. Raises ``Unusable``."""


class Reply(NamedTuple):
    """An answer, and what it shows about the host.

    ``trouble`` is true after a failure of the host (5xx, connection, TLS, HTTP, no answer at all). It is
    false after a refusal, and after anything that somebody with push access can cause. It is ``None`` if the
    look-up shows nothing about the host. ``pause`` is the pause that the host requested, in seconds; 0 if it
    requested none.
    """

    answer: Answer
    trouble: bool | None = False
    pause: float = 0.0


Turn = Callable[[str], Awaitable[None]]
"""Waits until a request may be sent to a host. If this function raises an exception, the look-up ends."""


def after_first_turn(host: str, turn: Turn) -> Turn:
    """Return a turn that does not wait for the first request to a host, because it is already admitted."""
    is_admitted = True

    async def wait(asked: str) -> None:
        nonlocal is_admitted
        if is_admitted and asked == host:
            is_admitted = False
        else:
            await turn(asked)

    return wait


class Unusable(Exception):
    """The registry's answer cannot be used. ``trouble`` and ``pause`` are defined as in ``Reply``."""

    def __init__(self, cause: str, *, trouble: bool = False, pause: float = 0.0) -> None:
        super().__init__(cause)
        self.trouble = trouble
        self.pause = pause


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
