"""Send the requests of a look-up to a registry, with the token flow of distribution.

Source: distribution's token specification. docs/registries.md states the number of requests, and what counts
as a failure.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import orjson
from yarl import URL

from gatekeeper_py.core.images.manifest import Manifest, failed
from gatekeeper_py.core.images.reference import DOCKER_HUB, escape
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.process.shares import NOBODY, Share
from gatekeeper_py.registry.access import Access
from gatekeeper_py.registry.asking import (
    REQUEST_SECONDS,
    UNAUTHORIZED,
    Ask,
    ContentTooLarge,
    Reply,
    Response,
    TooLarge,
    Turn,
    Unusable,
    refused,
)
from gatekeeper_py.registry.challenge import (
    Bearer,
    ChallengeError,
    check_bearer,
    host_of,
    is_private,
    parse_challenges,
    parse_url,
)
from gatekeeper_py.registry.connection import BadAnswer, Budget
from gatekeeper_py.registry.credentials import Credential
from gatekeeper_py.registry.kinds import KINDS
from gatekeeper_py.registry.transport import Transport

DOCKER_HUB_API: Final = "registry-1.docker.io"

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

_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


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

    async def query(
        self, manifest: Manifest, turn: Turn, seconds: float = REQUEST_SECONDS, share: Share = NOBODY
    ) -> Reply:
        """Query one registry for one manifest within ``seconds``; ``turn`` is awaited before each request.

        ``share`` is that of the review, in the connections, too.
        Raises only the exceptions of ``turn``. Any other failure becomes an answer with the status ``error``.
        """
        kind = KINDS[manifest.kind]
        budget = Budget(turn, share, manifest.repository, kind.most_bytes)
        try:
            async with asyncio.timeout(seconds):
                keys = self._access.keys(manifest.keys)
                return Reply(await kind.query(manifest, lambda ask: self._send(ask, manifest, budget), keys))
        except Unusable as problem:
            return Reply(failed(str(problem)), trouble=problem.trouble, pause=problem.pause)
        except TimeoutError:
            return Reply(failed(f"no answer in {seconds:.2g} s"), trouble=budget.is_silent(seconds / 2))
        except (BadAnswer, OSError, ValueError) as problem:
            return Reply(failed(_described(problem)), trouble=not isinstance(problem, ContentTooLarge))

    async def _send(self, ask: Ask, manifest: Manifest, budget: Budget) -> Response:
        """Send a request with the authentication that the registry requires. Raises ``Unusable``."""
        worked = self._authorizations
        authorization = await self._remembered(worked, manifest, budget)
        response = await self._follow(ask, manifest, authorization, budget)
        if response.status not in UNAUTHORIZED:
            return response
        worked.pop(manifest.name, None)
        challenges = parse_challenges(response.headers.getall("WWW-Authenticate", []))
        credentials = self._access.credentials(manifest.name)
        if credentials:
            _check_private(_url(self._access.registry(manifest.host), manifest, ask.path))
        # With credentials, there is no anonymous attempt, as in the kubelet.
        for credential in credentials or (None,):
            if challenges.bearer is not None:
                bearer = self._checked(challenges.bearer, manifest)
                if credential is not None:
                    _check_private(bearer.realm)
                attempt = await self._fetch_token(bearer, credential, manifest, budget)
            elif challenges.basic and credential is not None:
                attempt = _Authorization(credential.basic, credential)
            else:
                break
            if attempt is None:
                continue
            response = await self._follow(ask, manifest, attempt, budget)
            if response.status not in UNAUTHORIZED:
                _remember(worked, manifest, attempt)
                return response
        raise refused(response)

    async def _follow(
        self, ask: Ask, manifest: Manifest, authorization: _Authorization | None, budget: Budget
    ) -> Response:
        """Send a request and follow redirects to listed hosts. Raises ``Unusable``."""
        settings = self._access.registry(manifest.host)
        url = _url(settings, manifest, ask.path)
        host = manifest.host
        headers: dict[str, str] = {"Accept": ", ".join(ask.accept)}
        if authorization is not None and authorization.header:
            headers["Authorization"] = authorization.header
        for _ in range(MAX_REDIRECTS + 1):
            budget.use_request()
            await budget.turn(host)
            transport = self._transport(self._access.context(host, manifest.host))
            response = await transport.send(ask.method, url, headers, budget, ask.limit, ask.algorithm)
            budget.is_answered = True
            if response.status not in _REDIRECTS:
                return response
            url, target = _redirected(url, response)
            if target not in settings.redirect_hosts:
                raise Unusable(f"a redirect to {escape(target, 100)}, which redirectHosts does not list")
            if url.scheme == "http" and not self._access.registry(target).plain_http:
                raise Unusable(f"a redirect to {escape(target, 100)} that does not use https")
            if target != host:
                # Another host must not get the header. A redirect back to the first host does not restore it.
                headers.pop("Authorization", None)
            host = target
        raise Unusable(f"more than {MAX_REDIRECTS} redirects")

    async def _remembered(
        self, worked: _Authorizations, manifest: Manifest, budget: Budget
    ) -> _Authorization | None:
        """Return the authorization of an earlier look-up, if any; renew its token if it is due."""
        known = worked.get(manifest.name)
        if known is None:
            return None
        worked.move_to_end(manifest.name)
        if known.bearer is None or self._clock() < known.renew_at:
            return known
        renewed = await self._fetch_token(known.bearer, known.credential, manifest, budget)
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
            raise Unusable(str(problem)) from None

    async def _fetch_token(
        self, bearer: Bearer, credential: Credential | None, manifest: Manifest, budget: Budget
    ) -> _Authorization | None:
        """Fetch a token; ``None`` if the token server refuses the credentials. Raises ``Unusable``."""
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
        budget.use_request()
        await budget.turn(host)
        budget.sent_at, budget.is_answered = math.inf, False
        transport = self._transport(self._access.context(host, manifest.host))
        url = bearer.realm.with_query(query)
        try:
            response = await transport.send("GET", url, headers, budget, MAX_TOKEN_BYTES)
        except TooLarge as problem:
            # Somebody with push access can cause this only by using up the bytes of the look-up.
            raise Unusable(f"the token server: {problem}", trouble=budget.bytes_left >= 0) from None
        budget.is_answered = True
        if response.status in UNAUTHORIZED:
            return None
        if response.status != 200:  # noqa: PLR2004
            raise refused(response, "the token server")
        token, seconds = _token_of(response.body)
        return _Authorization(f"Bearer {token}", credential, bearer, self._clock() + RENEW_AT * seconds)


def _remember(worked: _Authorizations, manifest: Manifest, authorization: _Authorization) -> None:
    worked[manifest.name] = authorization
    while len(worked) > MAX_TOKENS:
        worked.popitem(last=False)


def _url(settings: Registry, manifest: Manifest, path: str) -> URL:
    scheme = "http" if settings.plain_http else "https"
    host = DOCKER_HUB_API if manifest.host == DOCKER_HUB else manifest.host
    # Every part follows the grammar of references, which has no character that a URL must escape.
    return URL(f"{scheme}://{host}/v2/{manifest.repository}/{path}", encoded=True)


def _check_private(url: URL) -> None:
    """Raise ``Unusable`` if others could read the credentials. The policy chooses ``plainHTTP``."""
    if not is_private(url):
        host = escape(url.host or "", 100)
        raise Unusable(f"credentials are never sent over plain HTTP, and {host} uses it")


def _redirected(url: URL, response: Response) -> tuple[URL, str]:
    """Return the target of a redirect: the URL and its folded host. Raises ``Unusable``."""
    try:
        target = url.join(parse_url(response.headers.get("Location", "")))
        host = host_of(target)
    except ValueError:
        raise Unusable("a redirect to a malformed URL") from None
    if target.scheme not in {"http", "https"} or not host or target.user is not None:
        raise Unusable("a redirect to a URL that is not plain http or https")
    return target, host


def _token_of(body: bytes) -> tuple[str, float]:
    """Return the token in a token server's answer, and its lifetime in seconds. Raises ``Unusable``."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Unusable("the token server's answer is not JSON") from None
    fields = document if isinstance(document, dict) else {}
    token = fields.get("token") or fields.get("access_token")
    if not isinstance(token, str) or not token:
        raise Unusable("the token server's answer holds no token")
    if len(token) > MAX_TOKEN_LENGTH or not _TOKEN.fullmatch(token):
        raise Unusable("the token server sent a token that no header can hold")
    seconds = fields.get("expires_in")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds <= 0:
        return token, DEFAULT_TOKEN_SECONDS
    return token, min(float(seconds), MAX_TOKEN_SECONDS)


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
