"""The use of aiohttp's parser: checked at the start, with a fallback if the check fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import http_parser

from gatekeeper_py.http import aiohttp_internals
from gatekeeper_py.http.aiohttp_internals import RequestParser, check


async def test_the_installed_aiohttp_can_be_used() -> None:
    assert check() == ""


class _Parser:
    """aiohttp's parser as a future release might change it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._parser = _REAL(*arguments, **options)

    def feed_data(self, data: bytes) -> Any:
        return self._parser.feed_data(data)


_REAL = http_parser.HttpRequestParser


class _Renamed(_Parser):
    feed_data = None  # type: ignore[assignment]


class _OtherResult(_Parser):
    def feed_data(self, data: bytes) -> Any:
        return super().feed_data(data)[0]


class _OtherMessage(_Parser):
    def feed_data(self, data: bytes) -> Any:
        messages, upgraded, tail = super().feed_data(data)
        return [(None, payload) for _, payload in messages], upgraded, tail


class _OtherOption(_Parser):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)


class _Lax(_Parser):
    """A parser that accepts input which it refused before."""

    def feed_data(self, data: bytes) -> Any:
        try:
            return super().feed_data(data)
        except Exception:  # noqa: BLE001
            good = b"POST /path HTTP/1.1\r\nHost: a\r\nContent-Type: b\r\nContent-Length: 4\r\n\r\nbody"
            return _REAL(None, asyncio.get_running_loop(), 2**16).feed_data(good)


@pytest.mark.parametrize("changed", [_Renamed, _OtherResult, _OtherMessage, _OtherOption, _Lax])
async def test_a_parser_that_changed_is_noticed(
    changed: type[_Parser], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_parser, "HttpRequestParser", changed)
    assert check() != ""


HEAD = b"POST /path HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(HEAD[:-1], id="part-of-a-header"),
        pytest.param(HEAD + b"bodyPOST", id="the-begin-of-another-request"),
        pytest.param((HEAD + b"body") * 2, id="two-requests"),
        pytest.param(b"\r\n" + HEAD + b"body", id="an-empty-line-first"),
        pytest.param(HEAD.replace(b"1.1", b"1.0") + b"body", id="http-1.0"),
        pytest.param(HEAD.replace(b"Host", b"Connection: close\r\nHost") + b"body", id="to-be-closed"),
        pytest.param(
            HEAD.replace(b"Host", b"Connection: Upgrade\r\nUpgrade: websocket\r\nHost") + b"body",
            id="upgrade",
        ),
        pytest.param(HEAD.replace(b"Content-Length: 4", b"Transfer-Encoding: chunked"), id="chunked"),
        pytest.param(HEAD.replace(b"4", b"-4"), id="malformed"),
        pytest.param(HEAD.replace(b"Host", b"X: " + b"x" * 8200 + b"\r\nHost") + b"body", id="9-kib-header"),
        pytest.param(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", id="connect"),
    ],
)
async def test_data_that_is_not_exactly_one_simple_request_takes_the_slow_path(data: bytes) -> None:
    assert RequestParser(asyncio.get_running_loop()).begin(data) is None


async def test_one_simple_request_is_parsed() -> None:
    parser = RequestParser(asyncio.get_running_loop())
    for body in (b"body", b"bo", b""):
        parsed = parser.begin(HEAD + body)
        assert parsed is not None
        message, end, size = parsed
        assert (message.method, message.path, end, size) == ("POST", "/path", len(HEAD), len(HEAD) + 4)
        parser.feed(b"body"[len(body) :])
    assert aiohttp_internals.check() == ""
