"""Errors of requests to the API server, and their explanations for users."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import responses
from types import MappingProxyType
from typing import Any

import aiohttp

from gatekeeper_py.process.settings import SettingsError


class ApiError(Exception):
    """The API server refused a request, or did not answer it.

    ``status`` is the HTTP status, 0 when there was no answer. ``reason`` is the reason in the API
    server's Status object, e.g. ``NotFound``. ``continue_token`` resumes a list that expired. ``document`` is
    the JSON object in the answer, which may come from a Pod; empty without one.
    """

    def __init__(
        self,
        method: str,
        path: str,
        status: int,
        message: str,
        *,
        reason: str = "",
        continue_token: str = "",
        document: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        phrase = f"{status} {responses.get(status, '')}".rstrip() if status else ""
        self.explanation = ": ".join(filter(None, (phrase, message)))
        """Status and message, without the request."""
        super().__init__(f"{method} {path}: {self.explanation}")
        self.status = status
        self.reason = reason
        self.continue_token = continue_token
        self.document = document

    @property
    def absent(self) -> bool:
        """Whether the API server itself reports that the object does not exist.

        A 404 from a proxy, or for an API group that is not served, does not count.
        """
        return self.status == HTTPStatus.NOT_FOUND and self.reason == "NotFound"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a request got no usable answer.

    ``reconnect`` means that the caller should read the configuration again and make a new session.
    ``unexpected`` marks a bug of ours. ``text`` never quotes a response body or a URL.
    """

    text: str
    reconnect: bool = False
    unexpected: bool = False


def failure_of(problem: Exception) -> Failure:
    """Explain an exception that a session raised."""
    if isinstance(problem, SettingsError):
        return Failure(text=str(problem), reconnect=True)
    if isinstance(problem, TimeoutError):
        # aiohttp's timeouts are TimeoutErrors; the one for connecting has a type of its own.
        connecting = isinstance(problem, aiohttp.ConnectionTimeoutError)
        return Failure(
            text="no connection in time" if connecting else "no answer in time: the peer is silent"
        )
    if isinstance(problem, aiohttp.ClientConnectorCertificateError):
        # The CA or the server's certificate was rotated: a new session reads both again.
        certificate = problem.certificate_error
        reason = getattr(certificate, "verify_message", "") or type(certificate).__name__
        return Failure(text=f"certificate of {problem.host}:{problem.port}: {reason}", reconnect=True)
    if isinstance(problem, aiohttp.ClientConnectorError):
        reason = problem.os_error.strerror or type(problem.os_error).__name__
        text = f"cannot connect to {problem.host}:{problem.port}: {reason}"
        return Failure(text=text, reconnect=_is_tls(problem))
    if isinstance(problem, aiohttp.ClientHttpProxyError):
        # Not the error's own text, which holds the URL.
        return Failure(text=f"the proxy answered {problem.status}")
    if isinstance(problem, aiohttp.ClientError | OSError):
        return Failure(text=f"connection lost: {type(problem).__name__}", reconnect=_is_tls(problem))
    return Failure(text=f"unexpected {type(problem).__name__}", unexpected=True)


def _is_tls(problem: BaseException) -> bool:
    """Return whether TLS failed.

    With TLS 1.3, the error for a refused client certificate arrives only after the handshake.
    """
    return any(isinstance(each, ssl.SSLError) for each in (problem, problem.__cause__, problem.__context__))
