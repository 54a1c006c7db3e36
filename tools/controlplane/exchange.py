"""Send single JSON requests to the API server and to etcd, each on a connection of its own."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from typing import Any

_SECONDS = 30.0


class ApiError(RuntimeError):
    """The API server or etcd answered a request with an error."""

    def __init__(self, method: str, path: str, status: int, body: str) -> None:
        super().__init__(f"{method} {path}: {status} {body}")
        self.status = status
        self.body = body


def exchange(
    address: tuple[str, int],
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    tls: ssl.SSLContext | None = None,
) -> str:
    """Send a request and return the text of the answer. The body of a PATCH is a JSON merge patch.

    Raises ApiError for a status of 400 or more, and OSError if there is no answer.
    """
    connection = (
        http.client.HTTPConnection(*address, timeout=_SECONDS)
        if tls is None
        else http.client.HTTPSConnection(*address, timeout=_SECONDS, context=tls)
    )
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    try:
        if body is None:
            connection.request(method, path)
        else:
            connection.request(method, path, json.dumps(body), {"Content-Type": kind})
        response = connection.getresponse()
        text = response.read().decode()
    except http.client.HTTPException as error:
        raise ConnectionError(f"{method} {path}: the connection broke: {error!r}") from error
    finally:
        connection.close()
    if response.status >= http.client.BAD_REQUEST:
        raise ApiError(method, path, response.status, text)
    return text


def listening(address: tuple[str, int]) -> bool:
    """Return whether something accepts connections at this address."""
    try:
        socket.create_connection(address, timeout=_SECONDS).close()
    except OSError:
        return False
    return True
