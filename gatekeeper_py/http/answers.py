"""HTTP answers: JSON bodies, errors, and the two answers that are written without aiohttp."""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

import orjson
from aiohttp import hdrs, web

SERVER: Final = "gatekeeper-py"
"""Value of the Server header. aiohttp's own value names the versions of Python and aiohttp."""

MALFORMED: Final = "malformed HTTP"

TRY_AGAIN: Final[dict[str, str]] = {hdrs.RETRY_AFTER: "1"}
"""The API server retries within its own timeout, up to ten times."""


class Refusal(Exception):
    """The request is refused: ``status`` and ``reason`` are the answer, ``headers`` are sent with it.

    ``close`` must be set if the rest of the body was not read. It ends the connection.
    """

    def __init__(
        self, status: int, reason: str, *, close: bool = False, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.close = close
        self.headers = headers


def json_response(status: int, document: Any, *, headers: dict[str, str] | None = None) -> web.Response:
    """Return a response whose body is ``document`` as JSON."""
    return bytes_response(status, orjson.dumps(document), headers=headers)


def bytes_response(status: int, body: bytes, *, headers: dict[str, str] | None = None) -> web.Response:
    """Return a response whose body is already JSON."""
    return web.Response(
        status=status,
        body=body,
        content_type="application/json",
        headers={hdrs.SERVER: SERVER, **(headers or {})},
    )


def error_response(status: int, reason: str, *, headers: dict[str, str] | None = None) -> web.Response:
    """Return an error. The body of every answer other than 200 is ``{"error": …}``."""
    return json_response(status, {"error": reason}, headers=headers)


def encode_ok(body: bytes) -> bytes:
    """Encode a whole 200 answer, so that it can be sent with one write.

    Two writes would be two TLS records and two system calls.
    """
    return (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"Date: {_date(int(time.time()))}\r\nServer: {SERVER}\r\n\r\n"
    ).encode() + body


def encode_refusal(status: int, reason: str) -> bytes:
    """Encode a whole answer that ends its connection.

    The request could not be read, so its HTTP version is unknown. The answer is in HTTP/1.0, which every
    client can read.
    """
    body = orjson.dumps({"error": reason})
    return (
        f"HTTP/1.0 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nDate: {_date(int(time.time()))}\r\nServer: {SERVER}\r\n"
        "Connection: close\r\n\r\n"
    ).encode() + body


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    """Return the value of a Date header, which is formatted once a second."""
    return formatdate(second, usegmt=True)
