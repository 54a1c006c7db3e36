"""The way to the API server: its configuration as kubernetes-asyncio reads it, and a session.

The session is our own. The library's follows redirects, reads ``~/.netrc``, knows no timeout
unless told for each request, and takes a proxy by Python's rules (see ``proxy.py``).
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import yaml
from aiohttp import hdrs
from yarl import URL

from gatekeeper_py import __version__
from gatekeeper_py.cluster.library import Library, kubernetes_library
from gatekeeper_py.cluster.proxy import proxy_for
from gatekeeper_py.settings import SettingsError

if TYPE_CHECKING:
    from kubernetes_asyncio.client.configuration import Configuration

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet mounts a Pod's identity."""

LOAD_SECONDS: Final = 30.0
"""A kubeconfig may name a program that asks for a token; one that hangs must not hang us."""


class Cluster:
    """A cluster's configuration, found as docs/interface.md says.

    ``kubeconfig`` or ``context`` given: that kubeconfig, else ``$KUBECONFIG``, else
    ``~/.kube/config``. Neither given: the service account of a Pod before those. Raises
    ``SettingsError`` when there is none.
    """

    def __init__(
        self,
        *,
        kubeconfig: Path | None = None,
        context: str | None = None,
        environ: Mapping[str, str],
        service_account: Path = SERVICE_ACCOUNT,
    ) -> None:
        self._environ = environ
        self._service_account = service_account
        self._context = context
        self._paths: tuple[Path, ...] = ()
        if kubeconfig is not None:
            if not kubeconfig.is_file():
                raise SettingsError(f"--kubeconfig {kubeconfig}: no such file")
            self._paths = (kubeconfig,)
        elif context is not None or not self._in_cluster():
            self._paths = _default_paths(environ)

    def __str__(self) -> str:
        return ", ".join(map(str, self._paths)) or "the service account"

    async def connect(self) -> Connection:
        """Read the configuration now, with its tokens and certificates, and make a session of it.

        Raises ``SettingsError`` for a configuration that cannot be used.
        """
        library = kubernetes_library()
        # Without a host of its own it would quietly mean http://localhost.
        configuration = library.configuration(host="")
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                await self._load(library, configuration)
            return Connection(configuration, self._environ, library.config_exception)
        except TimeoutError:
            raise SettingsError(f"{self}: not loaded in {LOAD_SECONDS:.0f} s") from None
        except (
            SettingsError,
            library.config_exception,
            yaml.YAMLError,
            aiohttp.ClientError,
            OSError,
        ) as problem:
            raise SettingsError(f"{self}: {_reason(problem)}") from None
        except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as problem:
            # What the library does with a document of another shape than a kubeconfig's.
            raise SettingsError(f"{self}: not a usable kubeconfig ({type(problem).__name__})") from problem

    def _in_cluster(self) -> bool:
        # As client-go's rest.InClusterConfig decides, and only with files that are there.
        variables = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
        return all(self._environ.get(name) for name in variables) and all(
            (self._service_account / name).is_file() for name in ("token", "ca.crt")
        )

    async def _load(self, library: Library, configuration: Configuration) -> None:
        if self._paths:
            if self._context is not None and not _has_context(self._paths, self._context):
                raise SettingsError(f"no context {self._context!r}")
            await library.load_kube_config(
                config_file=os.pathsep.join(map(str, self._paths)),
                context=self._context or _current_context(self._paths),
                client_configuration=configuration,
            )
        else:
            library.load_incluster_config(
                client_configuration=configuration,
                token_filename=str(self._service_account / "token"),
                cert_filename=str(self._service_account / "ca.crt"),
                environ=self._environ,
            )


class Connection:
    """GET requests to one API server, with one set of credentials, until closed."""

    def __init__(
        self, configuration: Configuration, environ: Mapping[str, str], config_exception: type[Exception]
    ) -> None:
        url = URL(configuration.host or "")
        if url.scheme not in {"http", "https"} or not url.host:
            raise SettingsError("the configuration names no server with an http or https URL")
        proxy = configuration.proxy or proxy_for(url, environ)
        if proxy is not None and URL(proxy).scheme not in {"http", "https"}:
            raise SettingsError(f"a proxy with the scheme {URL(proxy).scheme!r} is not supported")
        context = _context(configuration) if url.scheme == "https" else None
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

    async def get(
        self, path: str, query: Mapping[str, str], limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """Answer the response once its headers are there; the caller closes it.

        Raises aiohttp's errors, ``TimeoutError``, and ``SettingsError`` when the token is gone.
        """
        return await self.request("GET", path, query, limits)

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
        """As ``get``, with any method; ``body`` is sent as ``content_type``."""
        headers = await self._headers()
        if body is not None:
            headers[hdrs.CONTENT_TYPE] = content_type
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
        await self._session.close()

    async def _headers(self) -> dict[str, str]:
        try:
            # Reads a service account's token again each minute: the kubelet rotates it.
            token = await self._configuration.get_api_key_with_prefix("BearerToken")
        except (self._config_exception, OSError) as problem:
            raise SettingsError(f"the token: {_reason(problem)}") from None
        # A token from a file may end in a newline, which no header can hold.
        return {hdrs.AUTHORIZATION: token.strip()} if token else {}


def _default_paths(environ: Mapping[str, str]) -> tuple[Path, ...]:
    named = environ.get("KUBECONFIG", "")
    candidates = [Path(part).expanduser() for part in named.split(os.pathsep) if part]
    if not candidates:
        candidates = [Path(environ.get("HOME", "/")) / ".kube/config"]
    # kubectl, too, passes over files of $KUBECONFIG that do not exist.
    paths = tuple(path for path in candidates if path.is_file())
    if not paths:
        looked = f"$KUBECONFIG ({named})" if named else f"{candidates[0]} ($KUBECONFIG is not set)"
        raise SettingsError(
            f"no cluster configuration: not in a Pod with a service account, and no file at {looked}; "
            "give --kubeconfig FILE"
        )
    return paths


def _current_context(paths: tuple[Path, ...]) -> str | None:
    """Of several files the first that sets it wins, as for kubectl; for the library the last does."""
    if len(paths) == 1:
        return None
    for path in paths:
        document = yaml.safe_load(path.read_bytes())
        context = document.get("current-context") if isinstance(document, dict) else None
        if context:
            return str(context)
    return None


def _has_context(paths: tuple[Path, ...], name: str) -> bool:
    for path in paths:
        document = yaml.safe_load(path.read_bytes())
        contexts = document.get("contexts") if isinstance(document, dict) else None
        entries = contexts if isinstance(contexts, list) else []
        if any(isinstance(entry, dict) and entry.get("name") == name for entry in entries):
            return True
    return False


def _context(configuration: Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    # Python 3.13 demands of an authority what Go does not, and what many a cluster's own lacks.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _reason(problem: Exception) -> str:
    """Short, and without a file's content, which may be a secret."""
    if isinstance(problem, yaml.MarkedYAMLError) and problem.problem_mark is not None:
        return f"not YAML at line {problem.problem_mark.line + 1}"
    if isinstance(problem, OSError):
        reason = problem.strerror or type(problem).__name__
        return f"{problem.filename}: {reason}" if problem.filename else reason
    if isinstance(problem, aiohttp.ClientError | yaml.YAMLError):
        return type(problem).__name__
    return str(problem)[:300]
