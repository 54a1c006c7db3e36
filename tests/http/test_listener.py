"""The listener before the handlers: malformed HTTP, the maximum of connections, keep-alive, the drain."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import socket
import ssl

import pytest

from gatekeeper_py.http.answers import json_response
from gatekeeper_py.http.connections.protocol import HttpConnection
from gatekeeper_py.http.connections.scheduler import Scheduler
from gatekeeper_py.http.listener import ACCEPTS_A_TURN, Listener
from gatekeeper_py.process.settings import Address
from support.contract import check_response
from support.served import ASKED, CONTENT, GOOD, Served, Start
from support.wire import Connection, chunked, eventually, request

HEAD = b"POST /validate-image HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

MALFORMED_CHUNKS = {
    "bad-chunk-size": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "bad-chunk-end": b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx\r\n0\r\n\r\n",
    "bare-lf-in-chunks": b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
}

MALFORMED = [
    pytest.param(
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="length-and-chunked"
    ),
    pytest.param(
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", id="chunked-and-length"
    ),
    pytest.param(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", id="two-lengths"),
    pytest.param(HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", id="the-same-length-twice"),
    pytest.param(HEAD + b"Content-Length: 2, 2\r\n\r\n{}", id="list-of-lengths"),
    pytest.param(HEAD + b"Content-Length: -1\r\n\r\n", id="negative-length"),
    pytest.param(HEAD + b"Content-Length: +2\r\n\r\n{}", id="signed-length"),
    pytest.param(HEAD + b"Content-Length: 0x2\r\n\r\n{}", id="hexadecimal-length"),
    pytest.param(HEAD + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n{}", id="length-of-40-digits"),
    pytest.param(HEAD + b"Content-Length: \r\n\r\n", id="no-length"),
    pytest.param(HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", id="chunked-not-last"),
    pytest.param(HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", id="unknown-coding"),
    pytest.param(HEAD.replace(b"\r\n", b"\n") + b"Content-Length: 2\n\n{}", id="bare-lf"),
    pytest.param(HEAD + b"Content-Length: 2\n\r\n{}", id="one-bare-lf"),
    pytest.param(HEAD + b"X: a\rb\r\nContent-Length: 2\r\n\r\n{}", id="bare-cr"),
    pytest.param(HEAD + b"X: " + b"x" * 9000 + b"\r\nContent-Length: 2\r\n\r\n{}", id="9-kib-header"),
    pytest.param(HEAD + b"X" * 9000 + b": x\r\nContent-Length: 2\r\n\r\n{}", id="9-kib-header-name"),
    pytest.param(b"POST /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", id="9-kib-path"),
    pytest.param(HEAD + b"X: y\r\n" * 200 + b"\r\n", id="200-headers"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="http-2-preface"),
    pytest.param(HEAD + b"X : y\r\nContent-Length: 2\r\n\r\n{}", id="space-before-colon"),
    pytest.param(HEAD + b"X: a\r\n folded\r\nContent-Length: 2\r\n\r\n{}", id="folded-header"),
    pytest.param(HEAD + b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}", id="nul-in-header"),
    pytest.param(HEAD + b"no colon\r\n\r\n", id="no-colon"),
    pytest.param(HEAD + b"Host: other\r\nContent-Length: 2\r\n\r\n{}", id="two-hosts"),
    pytest.param(b"POST  /validate-image HTTP/1.1\r\n\r\n", id="two-spaces"),
    pytest.param(b"POST /validate-image HTTP/9.9\r\n\r\n", id="other-version"),
    pytest.param(b"hello\r\n\r\n", id="no-http"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64, id="a-second-client-hello"),
]


@pytest.mark.parametrize("content", MALFORMED)
async def test_malformed_http_gets_400_and_ends_the_connection(served: Served, content: bytes) -> None:
    async with served.connected() as connection:
        answer = await connection.ask(content)
        assert answer.status == 400
        assert list(answer.json()) == ["error"]
        assert answer.closes
        assert await connection.ended()
    assert served.metric("http_errors_total", code="400") == 1
    assert "internal_error" not in served.log.events


@pytest.mark.parametrize("case", MALFORMED_CHUNKS)
async def test_malformed_chunks_get_400_and_end_the_connection(start: Start, case: str) -> None:
    """The handler does not learn of malformed chunks on aiohttp's path, so their bodies never end."""
    served = start(body_seconds=0.2)
    async with served.connected() as connection:
        answer = await connection.ask(HEAD + MALFORMED_CHUNKS[case])
        assert answer.status == (400 if served.fast else 408)
        assert list(answer.json()) == ["error"]
        assert answer.closes
        assert await connection.ended()


async def test_bad_chunks_after_good_headers_end_the_connection(start: Start) -> None:
    """The handler is already running, and its body never becomes complete."""
    served = start(body_seconds=0.2)
    async with served.connected() as connection:
        await connection.send(chunked([b"{"]))
        await eventually(lambda: served.metric("inflight_reviews") == 1)
        answer = await connection.ask(b"zz\r\n")
        assert answer.status in {400, 408}
        assert answer.closes
        assert await connection.ended()


async def test_a_request_smuggled_behind_malformed_http_is_not_answered(served: Served) -> None:
    async with served.connected() as connection:
        smuggled = ASKED
        head = HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        assert (await connection.ask(head + smuggled)).status == 400
        assert await connection.ended()
    assert served.metric("reviews_total", endpoint="validate", operation="CREATE", verdict="allowed",
                         mode="enforce") == 0  # fmt: skip


async def test_pipelined_reviews_are_answered_in_order(served: Served) -> None:
    documents = [{**GOOD, "request": {**GOOD["request"], "uid": f"u{i}"}} for i in range(500)]
    content = b"".join(request(json.dumps(document).encode()) for document in documents)
    async with served.connected() as connection:
        connection.writer.write(content)
        for document in documents:
            assert check_response((await connection.receive()).body, document, "validate").allowed


async def test_a_client_that_expects_100_continue_gets_it(served: Served) -> None:
    head = request(b"", length=len(CONTENT), headers=[("Content-Type", "application/json"),
                                                     ("Expect", "100-continue")])  # fmt: skip
    async with served.connected() as connection:
        await connection.send(head)
        assert (await connection.receive()).status == 100
        assert check_response((await connection.ask(CONTENT)).body, GOOD, "validate").allowed


async def test_http_1_0_is_answered(served: Served) -> None:
    head = HEAD.replace(b"HTTP/1.1", b"HTTP/1.0")
    async with served.connected() as connection:
        answer = await connection.ask(head + f"Content-Length: {len(CONTENT)}\r\n\r\n".encode() + CONTENT)
        assert check_response(answer.body, GOOD, "validate").allowed
        assert await connection.ended()


@pytest.mark.parametrize("method", ["CONNECT", "GET"])
async def test_nothing_is_upgraded_or_tunnelled(served: Served, method: str) -> None:
    target = "localhost:443" if method == "CONNECT" else "/validate-image"
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    assert (await served.ask(head.encode())).status in {400, 404, 405}


async def test_while_draining_each_answer_ends_its_connection(served: Served) -> None:
    async with served.connected() as idle, served.connected() as busy:
        assert not (await idle.ask(ASKED)).closes
        served.webhook.draining = True
        for content, status in ((CONTENT, 200), (b"{", 400)):
            async with served.connected() as connection:
                answer = await connection.ask(request(content))
                assert (answer.status, answer.closes) == (status, True)
                assert await connection.ended()
        # Idle connections stay open, so a review that is arriving on one is still answered.
        answer = await idle.ask(ASKED)
        assert check_response(answer.body, GOOD, "validate").allowed
        assert answer.closes
        assert (await busy.ask(ASKED)).status == 200


async def test_each_connection_counts_once(start: Start) -> None:
    """The maximum number of connections opens repeatedly, and none is evicted."""
    served = start(max_connections=8)
    for _ in range(5):
        opened = await asyncio.gather(
            *(Connection.open("127.0.0.1", served.address.port, served.trust) for _ in range(8))
        )
        assert served.listener.connections == 8
        for connection in opened:
            await connection.close()
        await eventually(lambda: served.listener.connections == 0)
    assert served.evicted == []


async def test_a_silent_client_is_closed_when_the_handshake_takes_too_long(start: Start) -> None:
    served = start(handshake_seconds=0.1)
    connection = await Connection.open("127.0.0.1", served.address.port)
    assert await connection.ended()
    await connection.close()
    await eventually(lambda: served.listener.connections == 0)


@pytest.mark.parametrize("content", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"\x16\x03\x01\xff\xff"])
async def test_plain_text_on_the_tls_port_is_closed_and_costs_no_log_line(
    served: Served, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        connection = await Connection.open("127.0.0.1", served.address.port)
        await connection.send(content)
        connection.writer.write_eof()
        await connection.writer.drain()
        await connection._reader.read()  # an alert, perhaps
        await connection.close()
    await eventually(lambda: served.listener.connections == 0)
    assert caplog.records == []
    assert served.log.lines == []


async def test_an_error_while_timeouts_are_checked_ends_that_connection_only(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context))
    served = start()
    async with served.connected() as broken, served.connected() as connection:
        for each in (broken, connection):
            assert (await each.ask(ASKED)).status == 200
        first, _ = served.listener._connections()
        check_timeouts, looked = HttpConnection.check_timeouts, []

        def fail(self: HttpConnection, now: float) -> None:
            if self is first:
                raise RuntimeError("broken")
            looked.append(self)
            check_timeouts(self, now)

        monkeypatch.setattr(HttpConnection, "check_timeouts", fail)
        served.listener._check_timeouts()
        await eventually(lambda: served.listener.connections == 1)
        assert len(looked) == 1
        assert [str(problem["exception"]) for problem in problems] == ["broken"]
        assert (await connection.ask(ASKED)).status == 200


async def test_many_handshakes_at_once_are_all_served(start: Start) -> None:
    served = start(max_connections=500)

    answers = await asyncio.gather(*(served.ask(ASKED) for _ in range(150)))
    assert {answer.status for answer in answers} == {200}
    await eventually(lambda: served.listener.connections == 0)


async def test_no_connection_is_evicted_while_many_handshakes_wait(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = start(max_connections=2)
    monkeypatch.setattr(Scheduler, "is_behind", True)
    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", served.address.port)
        for _ in range(3):
            stack.enter_context(socket.create_connection(address))
        await eventually(lambda: served.listener.connections == 2)
        await asyncio.sleep(0.05)
        assert served.evicted == []
        monkeypatch.setattr(Scheduler, "is_behind", False)
        await eventually(lambda: served.evicted != [])
        assert served.listener.connections == 2


async def test_a_handshake_completes_during_a_crowd_of_faster_dials(start: Start) -> None:
    """The crowd replaces each closed connection at once; ours still completes its handshake."""
    served = start(max_connections=300)
    with contextlib.suppress(ssl.SSLWantReadError):
        sent = ssl.MemoryBIO()
        served.trust.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost").do_handshake()
    hello = sent.read()

    async def redial() -> None:
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.address.port)
            writer.write(hello)
            try:
                while await reader.read(4096):
                    pass
            except OSError:
                pass
            finally:
                writer.transport.abort()

    crowd = [asyncio.create_task(redial()) for _ in range(500)]
    await eventually(lambda: served.listener.connections == 300)
    for _ in range(4):
        assert (await served.ask(ASKED)).status == 200
    for each in crowd:
        each.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)


async def test_old_protocol_versions_are_refused(served: Served) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLS"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLS"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await Connection.open("127.0.0.1", served.address.port, context)


async def test_http_1_1_is_negotiated(served: Served, trust: ssl.SSLContext) -> None:
    trust.set_alpn_protocols(["h2", "http/1.1"])
    async with served.connected() as connection:
        tls = connection.writer.get_extra_info("ssl_object")
        assert tls.selected_alpn_protocol() == "http/1.1"
        assert tls.version() in {"TLSv1.2", "TLSv1.3"}


async def test_without_a_certificate_connections_are_closed(start: Start) -> None:
    async def never(_request: object) -> None:
        raise AssertionError

    listener = Listener(never, max_connections=5, context=lambda: None)  # type: ignore[arg-type]
    address = listener.bind(Address("127.0.0.1", 0))
    connection = await Connection.open("127.0.0.1", address.port)
    assert await connection.ended()
    await connection.close()
    await listener.close(0.1)


async def test_closing_ends_connections_in_every_state(start: Start) -> None:
    served = start()
    idle = await Connection.open("127.0.0.1", served.address.port, served.trust)
    assert (await idle.ask(ASKED)).status == 200
    reading = await Connection.open("127.0.0.1", served.address.port, served.trust)
    await reading.send(request(b"{", length=100))
    shaking = await Connection.open("127.0.0.1", served.address.port)
    await eventually(lambda: served.listener.connections == 3)
    await served.listener.close(0.1)
    for connection in (idle, reading, shaking):
        await connection.ended()
        await connection.close()
    await eventually(lambda: served.listener.connections == 0)
    with pytest.raises(ConnectionError):
        await Connection.open("127.0.0.1", served.address.port)


async def test_closing_does_not_wait_for_idle_connections(start: Start) -> None:
    """Nor does it leave them open meanwhile, because requests on them would be dropped."""
    served = start()
    idle = [await Connection.open("127.0.0.1", served.address.port, served.trust) for _ in range(3)]
    for connection in idle:
        assert (await connection.ask(ASKED)).status == 200
    async with asyncio.timeout(10):
        await served.listener.close(60.0)
    for connection in idle:
        assert await connection.ended()
        await connection.close()


async def _answer(_request: object) -> object:
    return json_response(200, {})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "::", "0.0.0.0"])
async def test_bind_returns_the_bound_address(host: str) -> None:
    listener = Listener(_answer, max_connections=5)  # type: ignore[arg-type]
    if ":" in host and not socket.has_dualstack_ipv6():
        with pytest.raises(OSError, match=r"address|Address"):
            listener.bind(Address(host, 0))
        return
    address = listener.bind(Address(host, 0))
    assert address.port > 0
    assert str(address).endswith(f":{address.port}")
    connection = await Connection.open("::1" if ":" in host else "127.0.0.1", address.port)
    assert (await connection.ask(request(method="GET", path="/"))).status == 200
    await connection.close()
    await listener.close(0.1)


@pytest.mark.parametrize("host", ["a..b", "x" * 300, "no-such-host.invalid", "192.0.2.1", " "])
async def test_an_address_that_cannot_be_bound_is_an_oserror(host: str) -> None:
    listener = Listener(_answer, max_connections=5)  # type: ignore[arg-type]
    with pytest.raises(OSError):  # noqa: PT011 - whatever the system says
        listener.bind(Address(host, 0))
    await listener.close(0.1)


async def test_a_port_in_use_is_an_oserror() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listener = Listener(_answer, max_connections=5)  # type: ignore[arg-type]
        with pytest.raises(OSError):  # noqa: PT011
            listener.bind(Address("127.0.0.1", other.getsockname()[1]))
        await listener.close(0.1)


class _Exhausted:
    """A listening socket in a process that temporarily has no file descriptor left."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self.failures = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.failures += 1
        if self.failures == 1:
            raise ConnectionAbortedError
        if self.failures == 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return self._listening.accept()

    def __getattr__(self, name: str) -> object:
        return getattr(self._listening, name)


async def test_running_out_of_file_descriptors_delays_a_connection_and_ends_nothing(served: Served) -> None:
    assert served.listener._socket is not None
    exhausted = _Exhausted(served.listener._socket)
    served.listener._socket = exhausted  # type: ignore[assignment]
    assert (await served.ask(ASKED)).status == 200
    assert exhausted.failures > 2


async def test_connections_waiting_to_be_accepted_are_served_after_the_socket_closes(start: Start) -> None:
    """There are more than one turn accepts, and the loop has not run, so none has been accepted yet."""
    served = start(max_connections=4 * ACCEPTS_A_TURN)
    with contextlib.ExitStack() as stack:
        waiting = [
            stack.enter_context(socket.create_connection(("127.0.0.1", served.address.port)))
            for _ in range(3 * ACCEPTS_A_TURN + 1)
        ]
        assert served.listener.connections == 0
        served.listener.stop_accepting()
        assert served.listener.connections == len(waiting)
        for each in waiting:
            reader, writer = await asyncio.open_connection(
                sock=each, ssl=served.trust, server_hostname="localhost"
            )
            connection = Connection(reader, writer)
            assert (await connection.ask(ASKED)).status == 200
            await connection.close()


async def test_a_paused_listener_does_not_resume_after_it_closed(start: Start) -> None:
    served = start()
    assert served.listener._socket is not None
    served.listener._pause(served.listener._socket)
    served.listener.stop_accepting()
    served.listener._resume()
    served.listener._accept()
    served.listener.stop_accepting()
    assert served.listener.connections == 0
