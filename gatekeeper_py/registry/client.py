"""Query a registry for a manifest: HEAD, then GET, with the token flow of distribution.

Source: the OCI distribution specification 1.1 and distribution's token specification. The observed
behaviour of registries, and the reason for each step, is in docs/registries.md.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple, Protocol

import orjson
from yarl import URL

from gatekeeper_py.core.images.manifest import MISSING, Answer, Manifest, failed, found
from gatekeeper_py.core.images.reference import (
    DOCKER_HUB,
    InvalidReference,
    check_digest,
    escape,
)
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.registry.challenge import (
    Bearer,
    ChallengeError,
    check_bearer,
    host_of,
    is_private,
    parse_challenges,
    parse_url,
)
from gatekeeper_py.registry.connection import BadAnswer, Response
from gatekeeper_py.registry.credentials import Credential
from gatekeeper_py.registry.transport import MAX_BODY_BYTES, Transport

MEDIA_TYPES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""Media types in the ``Accept`` header. Without an OCI type, distribution answers 404 for an OCI image that
exists. With the Docker manifest type alone, registries answer with the digest of one platform's manifest."""

DOCKER_HUB_API: Final = "registry-1.docker.io"

REQUEST_SECONDS: Final = 5.0
"""Timeout of a look-up in one registry. A look-up may continue after the review that started it has ended,
because its answer fills the cache."""

MAX_REDIRECTS: Final = 3
MAX_TOKEN_LENGTH: Final = 64 * 1024
MAX_TOKEN_BYTES: Final = 4 * MAX_TOKEN_LENGTH
"""Maximum size of a token server's answer, which can contain the token twice. Parsing 4 MiB of empty lists
takes 0.3 s."""

MAX_TOKENS: Final = 4096
"""Maximum number of repositories whose authorization is kept."""

DEFAULT_TOKEN_SECONDS: Final = 60.0
"""Lifetime of a token whose answer does not state one (distribution's token specification)."""

MAX_TOKEN_SECONDS: Final = 3600.0
RENEW_AT: Final = 0.9
"""Share of a token's life after which it is renewed."""

MIN_PAUSE_SECONDS: Final = 1.0
MAX_PAUSE_SECONDS: Final = 300.0
MAX_PAUSE_DIGITS: Final = 6
"""Maximum number of digits that are converted. A number with more digits exceeds ``MAX_PAUSE_SECONDS``."""

MAX_DATE_LENGTH: Final = 64
"""A date in HTTP has 29 characters; an obsolete one has 33 at most."""


_DIGEST_HEADER: Final = "Docker-Content-Digest"
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_UNAUTHORIZED: Final = frozenset({401, 403})
_NO_HEAD: Final = frozenset({405, 501})


class Access(Protocol):
    """What the client needs to reach a host: its settings, trust and credentials."""

    def registry(self, host: str) -> Registry: ...

    def context(self, host: str, named_by: str) -> ssl.SSLContext: ...

    def credentials(self, name: str) -> tuple[Credential, ...]: ...


class Reply(NamedTuple):
    """An answer, and what it shows about the host.

    ``trouble`` is set after a failure of the host (5xx, timeout, connection, TLS), not after a refusal.
    ``pause`` is the pause that the host requested, in seconds; 0 if it requested none.
    """

    answer: Answer
    trouble: bool = False
    pause: float = 0.0


Turn = Callable[[str], Awaitable[None]]
"""Waits until a request may be sent to a host. If this function raises an exception, the look-up ends."""


class _Unusable(Exception):
    """The registry's answer cannot be used. ``trouble`` and ``pause`` are defined as in ``Reply``."""

    def __init__(self, cause: str, *, trouble: bool = False, pause: float = 0.0) -> None:
        super().__init__(cause)
        self.trouble = trouble
        self.pause = pause


@dataclass(slots=True)
class _Authorization:
    """The authorization that a registry accepted for a repository. ``renew_at`` is in the clock's seconds."""

    header: str
    credential: Credential | None = None
    bearer: Bearer | None = None
    renew_at: float = float("inf")


_Authorizations = OrderedDict[str, _Authorization]
"""Accepted authorizations by ``host/repository``, the least recently used one first."""


class Client:
    """Queries registries for manifests.

    ``clock`` counts seconds. ``on_refused_realm`` receives the host and the reason when a token realm is
    refused.
    """

    def __init__(
        self,
        access: Access,
        transport: Callable[[ssl.SSLContext], Transport],
        *,
        clock: Callable[[], float],
        on_refused_realm: Callable[[str, str], None] = lambda _host, _reason: None,
    ) -> None:
        self._access = access
        self._transport = transport
        self._clock = clock
        self._on_refused_realm = on_refused_realm
        self._authorizations: _Authorizations = OrderedDict()

    def forget(self) -> None:
        """Forget every authorization, because the credentials or the settings changed.

        A request under way keeps the old mapping, so it cannot store an old authorization in the new one.
        """
        self._authorizations = OrderedDict()

    async def query(self, manifest: Manifest, turn: Turn, seconds: float = REQUEST_SECONDS) -> Reply:
        """Query one registry for one manifest within ``seconds``; ``turn`` is awaited before each request.

        Raises only the exceptions of ``turn``. Any other failure becomes an answer with the status ``error``.
        """
        try:
            async with asyncio.timeout(seconds):
                return Reply(await self._query(manifest, turn))
        except _Unusable as problem:
            return Reply(failed(str(problem)), trouble=problem.trouble, pause=problem.pause)
        except TimeoutError:
            return Reply(failed(f"no answer in {seconds:.2g} s"), trouble=True)
        except (BadAnswer, OSError, ValueError) as problem:
            return Reply(failed(_described(problem)), trouble=True)

    async def _query(self, manifest: Manifest, turn: Turn) -> Answer:
        head = await self._send("HEAD", manifest, turn)
        digest = _digest_of(head, manifest) if head.status == 200 else ""  # noqa: PLR2004
        if digest:
            return found(digest)
        if head.status not in {200, 404, *_NO_HEAD}:
            raise _refused(head)
        # After 404: Nexus can answer HEAD with 404 for a manifest that GET returns.
        # After 200: the header with the digest is optional.
        get = await self._send("GET", manifest, turn)
        if get.status == 404:  # noqa: PLR2004
            return MISSING
        if get.status != 200:  # noqa: PLR2004
            raise _refused(get)
        return found(_digest_of(get, manifest) or _hashed(get, manifest))

    async def _send(self, method: str, manifest: Manifest, turn: Turn) -> Response:
        """Send a request with the authentication that the registry requires. Raises ``_Unusable``."""
        worked = self._authorizations
        authorization = await self._remembered(worked, manifest, turn)
        response = await self._follow(method, manifest, authorization, turn)
        if response.status not in _UNAUTHORIZED:
            return response
        worked.pop(manifest.name, None)
        challenges = parse_challenges(response.headers.getall("WWW-Authenticate", []))
        credentials = self._access.credentials(manifest.name)
        if credentials:
            _check_private(_url(self._access.registry(manifest.host), manifest))
        # With credentials, there is no anonymous attempt, as in the kubelet.
        for credential in credentials or (None,):
            if challenges.bearer is not None:
                bearer = self._checked(challenges.bearer, manifest)
                if credential is not None:
                    _check_private(bearer.realm)
                attempt = await self._fetch_token(bearer, credential, manifest, turn)
            elif challenges.basic and credential is not None:
                attempt = _Authorization(credential.basic, credential)
            else:
                break
            if attempt is None:
                continue
            response = await self._follow(method, manifest, attempt, turn)
            if response.status not in _UNAUTHORIZED:
                _remember(worked, manifest, attempt)
                return response
        raise _refused(response)

    async def _follow(
        self, method: str, manifest: Manifest, authorization: _Authorization | None, turn: Turn
    ) -> Response:
        """Send a request and follow redirects to listed hosts. Raises ``_Unusable``."""
        settings = self._access.registry(manifest.host)
        url = _url(settings, manifest)
        host = manifest.host
        headers: dict[str, str] = {"Accept": ", ".join(MEDIA_TYPES)}
        if authorization is not None and authorization.header:
            headers["Authorization"] = authorization.header
        for _ in range(MAX_REDIRECTS + 1):
            await turn(host)
            transport = self._transport(self._access.context(host, manifest.host))
            response = await transport.send(
                method, url, headers, limit=MAX_BODY_BYTES, algorithm=_algorithm(manifest)
            )
            if response.status not in _REDIRECTS:
                return response
            url, target = _redirected(url, response)
            if target not in settings.redirect_hosts:
                raise _Unusable(f"a redirect to {escape(target, 100)}, which redirectHosts does not list")
            if url.scheme == "http" and not self._access.registry(target).plain_http:
                raise _Unusable(f"a redirect to {escape(target, 100)} that does not use https")
            if target != host:
                # Another host must not get the header. A redirect back to the first host does not restore it.
                headers.pop("Authorization", None)
            host = target
        raise _Unusable(f"more than {MAX_REDIRECTS} redirects")

    async def _remembered(
        self, worked: _Authorizations, manifest: Manifest, turn: Turn
    ) -> _Authorization | None:
        """Return the authorization of an earlier look-up, if any; renew its token if it is due."""
        known = worked.get(manifest.name)
        if known is None:
            return None
        worked.move_to_end(manifest.name)
        if known.bearer is None or self._clock() < known.renew_at:
            return known
        renewed = await self._fetch_token(known.bearer, known.credential, manifest, turn)
        if renewed is None:
            return None
        _remember(worked, manifest, renewed)
        return renewed

    def _checked(self, parameters: object, manifest: Manifest) -> Bearer:
        settings = self._access.registry(manifest.host)
        allowed = settings.allowed_token_hosts
        plain = [host for host in allowed if self._access.registry(host).plain_http]
        try:
            return check_bearer(
                parameters,  # type: ignore[arg-type]
                manifest.repository,
                token_hosts=allowed,
                plain_hosts=plain,
            )
        except ChallengeError as problem:
            self._on_refused_realm(manifest.host, str(problem))
            raise _Unusable(str(problem)) from None

    async def _fetch_token(
        self, bearer: Bearer, credential: Credential | None, manifest: Manifest, turn: Turn
    ) -> _Authorization | None:
        """Fetch a token; ``None`` if the token server refuses the credentials. Raises ``_Unusable``."""
        # The registry chooses the query of the realm, so a scope in it is dropped. Case is ignored, because
        # some token servers ignore the case of parameter names.
        query = [(name, value) for name, value in bearer.realm.query.items() if name.lower() != "scope"]
        if bearer.service:
            query.append(("service", bearer.service))
        query.append(("scope", bearer.scope))
        headers: dict[str, str] = {"Accept": "application/json"}
        if credential is not None and credential.username:
            headers["Authorization"] = credential.basic
        host = host_of(bearer.realm)
        await turn(host)
        transport = self._transport(self._access.context(host, manifest.host))
        response = await transport.send("GET", bearer.realm.with_query(query), headers, limit=MAX_TOKEN_BYTES)
        if response.status in _UNAUTHORIZED:
            return None
        if response.status != 200:  # noqa: PLR2004
            raise _refused(response, "the token server")
        token, seconds = _token_of(response.body)
        return _Authorization(f"Bearer {token}", credential, bearer, self._clock() + RENEW_AT * seconds)


def _remember(worked: _Authorizations, manifest: Manifest, authorization: _Authorization) -> None:
    worked[manifest.name] = authorization
    while len(worked) > MAX_TOKENS:
        worked.popitem(last=False)


def _url(settings: Registry, manifest: Manifest) -> URL:
    scheme = "http" if settings.plain_http else "https"
    host = DOCKER_HUB_API if manifest.host == DOCKER_HUB else manifest.host
    # Every part follows the grammar of references, which has no character that a URL must escape.
    return URL(f"{scheme}://{host}/v2/{manifest.repository}/manifests/{manifest.reference}", encoded=True)


def _check_private(url: URL) -> None:
    """Raise ``_Unusable`` if others could read the credentials. The policy chooses ``plainHTTP``."""
    if not is_private(url):
        host = escape(url.host or "", 100)
        raise _Unusable(f"credentials are never sent over plain HTTP, and {host} uses it")


def _redirected(url: URL, response: Response) -> tuple[URL, str]:
    """Return the target of a redirect: the URL and its folded host. Raises ``_Unusable``."""
    try:
        target = url.join(parse_url(response.headers.get("Location", "")))
        host = host_of(target)
    except ValueError:
        raise _Unusable("a redirect to a malformed URL") from None
    if target.scheme not in {"http", "https"} or not host or target.user is not None:
        raise _Unusable("a redirect to a URL that is not plain http or https")
    return target, host


def _digest_of(response: Response, manifest: Manifest) -> str:
    """Return the checked digest from an answer's header; empty without the header. Raises ``_Unusable``."""
    digest = response.headers.get(_DIGEST_HEADER, "")
    if not digest:
        return ""
    try:
        check_digest(digest)
    except InvalidReference:
        raise _Unusable("the registry sent a malformed digest") from None
    if manifest.by_digest and digest != manifest.reference:
        raise _Unusable("the registry answered with another digest than the one requested")
    return digest


def _hashed(response: Response, manifest: Manifest) -> str:
    """Compute the digest of a manifest from its body. Raises ``_Unusable``."""
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type not in MEDIA_TYPES:
        raise _Unusable(f"the registry sent no digest and the media type {escape(media_type, 60)!r}")
    if not response.size:
        raise _Unusable("the registry sent an empty manifest")
    digest = f"{_algorithm(manifest)}:{response.hash}"
    if manifest.by_digest and digest != manifest.reference:
        raise _Unusable("the manifest has another digest than the one requested")
    return digest


def _algorithm(manifest: Manifest) -> str:
    """Return the algorithm of a manifest's digest."""
    return manifest.reference.partition(":")[0] if manifest.by_digest else "sha256"


def _token_of(body: bytes) -> tuple[str, float]:
    """Return the token in a token server's answer, and its lifetime in seconds. Raises ``_Unusable``."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _Unusable("the token server's answer is not JSON") from None
    fields = document if isinstance(document, dict) else {}
    token = fields.get("token") or fields.get("access_token")
    if not isinstance(token, str) or not token:
        raise _Unusable("the token server's answer holds no token")
    if len(token) > MAX_TOKEN_LENGTH or not _TOKEN.fullmatch(token):
        raise _Unusable("the token server sent a token that no header can hold")
    seconds = fields.get("expires_in")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds <= 0:
        return token, DEFAULT_TOKEN_SECONDS
    return token, min(float(seconds), MAX_TOKEN_SECONDS)


def _refused(response: Response, who: str = "the registry") -> _Unusable:
    """Return the error for an answer whose status is neither 200 nor 404."""
    status = response.status
    if status == 429:  # noqa: PLR2004
        return _Unusable(f"{who} limits our requests (429)", pause=_retry_after(response))
    if status in _UNAUTHORIZED:
        return _Unusable(f"{who} refused our credentials ({status})")
    return _Unusable(f"{who} answered {status}", trouble=status >= 500)  # noqa: PLR2004


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


def _described(problem: Exception) -> str:
    """Describe a network error in a few words, without addresses or secrets."""
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"certificate: {escape(str(problem.verify_message), 100)}"
    if isinstance(problem, ssl.SSLError):
        return "TLS failed"
    if isinstance(problem, socket.gaierror):
        return "its name cannot be resolved"
    if isinstance(problem, OSError):
        reason = os.strerror(problem.errno).lower() if problem.errno else type(problem).__name__
        return escape(reason, 100)
    if isinstance(problem, BadAnswer):
        return "the answer is not valid HTTP"
    return escape(str(problem) or type(problem).__name__, 100)
