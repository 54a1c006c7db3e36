"""A session with one API server: TLS, credentials, and requests with time limits.

kubernetes-asyncio's own client is not used. It follows redirects, reads ``~/.netrc``, has no timeout unless
each request sets one, and chooses a proxy by Python's rules. Those ignore ``NO_PROXY=10.0.0.0/8``, so
requests to the API server's Service address would go through the company's proxy.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import hdrs
from yarl import URL

from gatekeeper_py import __version__
from gatekeeper_py.process.settings import SettingsError

if TYPE_CHECKING:
    from kubernetes_asyncio.client.configuration import Configuration


class Session:
    """Requests to one API server with one set of credentials, until closed.

    ``config_exception`` is the exception that kubernetes-asyncio raises for a token that it cannot read.
    Raises ``SettingsError`` for a configuration without a usable server, or with an unusable proxy.
    """

    def __init__(
        self, configuration: Configuration, environ: Mapping[str, str], config_exception: type[Exception]
    ) -> None:
        url = URL(configuration.host or "")
        if url.scheme not in {"http", "https"} or not url.host:
            raise SettingsError("the configuration names no server with an http or https URL")
        proxy = configuration.proxy or proxy_for(url, environ)
        if proxy is not None and URL(proxy).scheme not in {"http", "https"}:
            raise SettingsError(f"a proxy with the scheme {URL(proxy).scheme!r} is not supported")
        context = _tls_context(configuration) if url.scheme == "https" else None
        self._configuration = configuration
        self._config_exception = config_exception
        self.server = str(url).rstrip("/")
        self._options: dict[str, Any] = {"allow_redirects": False, "proxy": proxy}
        if context is not None and configuration.tls_server_name:
            self._options["server_hostname"] = configuration.tls_server_name
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context or True),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={hdrs.USER_AGENT: f"gatekeeper-py/{__version__}", hdrs.ACCEPT: "application/json"},
        )

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        limits: aiohttp.ClientTimeout,
        *,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> aiohttp.ClientResponse:
        """Return the response once its headers have arrived; the caller closes it.

        ``body`` is sent as ``content_type``. Raises aiohttp's errors, ``TimeoutError``, and ``SettingsError``
        when the token cannot be read.
        """
        headers = await self._headers()
        if body is not None:
            headers[hdrs.CONTENT_TYPE] = content_type
        if self._session.closed:
            # Another request of the same client closed it, for instance after a 401.
            raise aiohttp.ClientConnectionError("the session is closed")
        return await self._session.request(
            method,
            self.server + path,
            params=query,
            data=body,
            headers=headers,
            timeout=limits,
            **self._options,
        )

    async def close(self) -> None:
        """Close the session and its connections."""
        await self._session.close()

    async def _headers(self) -> dict[str, str]:
        try:
            # Reads a service account's token again each minute: the kubelet rotates it.
            token = await self._configuration.get_api_key_with_prefix("BearerToken")
        except OSError as problem:
            reason = problem.strerror or type(problem).__name__
            where = f"{problem.filename}: " if problem.filename else ""
            raise SettingsError(f"the token: {where}{reason}") from None
        except self._config_exception as problem:
            raise SettingsError(f"the token: {problem}"[:300]) from None
        # A token from a file may end in a newline, which a header cannot hold.
        return {hdrs.AUTHORIZATION: token.strip()} if token else {}


def _tls_context(configuration: Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    # Python 3.13 requires extensions that the CAs of many clusters lack. Go does not require them.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def proxy_for(url: URL, environ: Mapping[str, str]) -> str | None:
    """Return the proxy's URL, or ``None`` to connect directly, by the rules of Go's ``httpproxy``.

    Reads ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY``, and their lower-case spellings when those are
    not set. Source: golang.org/x/net/http/httpproxy.
    """
    proxy = _variable(environ, f"{url.scheme}_proxy").strip()
    if not proxy or _direct(url.host or "", url.port or 0, _variable(environ, "no_proxy")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name.upper()) or environ.get(name) or ""


def _direct(host: str, port: int, no_proxy: str) -> bool:
    host = host.lower()
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    rules = (rule.strip().lower() for rule in no_proxy.split(","))
    return any(_matches(rule, host, address, port) for rule in rules if rule)


def _matches(
    rule: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int
) -> bool:
    if rule == "*":
        return True
    if "/" in rule:
        try:
            return address is not None and address in ipaddress.ip_network(rule, strict=False)
        except ValueError:
            return False
    if _address(rule) is None:
        rule, _, rule_port = rule.partition("]:") if rule.startswith("[") else rule.partition(":")
        if rule_port and rule_port != str(port):
            return False
    rule = rule.strip("[]")
    rule_address = _address(rule)
    if rule_address is not None:
        return rule_address == address
    if rule.startswith("*."):
        rule = rule[1:]
    if rule.startswith("."):
        return host.endswith(rule)
    return bool(rule) and (host == rule or host.endswith("." + rule))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
