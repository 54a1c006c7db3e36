"""Client certificates of callers, and the accepted names."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable

import pytest
import trustme

from gatekeeper_py.webhook.tls import peer_names
from support.builders import pod, review
from support.contract import check_response
from support.served import Served, Start
from support.wire import Connection, request

GOOD = review(pod("registry.corp.io/web:1"))
CONTENT = request(json.dumps(GOOD).encode())

Client = Callable[..., ssl.SSLContext]


@pytest.fixture(scope="module")
def callers() -> trustme.CA:
    """Return the CA of the callers' certificates."""
    return trustme.CA()


@pytest.fixture
def client(authority: object, callers: trustme.CA) -> Client:
    """Return a function that makes contexts with a certificate for these names."""

    def client(*names: str, common_name: str | None = None, issuer: trustme.CA = callers) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=authority.ca.decode())  # type: ignore[attr-defined]
        issuer.issue_cert(*names, common_name=common_name).configure_cert(context)
        return context

    return client


async def _refuses(served: Served, context: ssl.SSLContext | None) -> None:
    """Check that the server refuses. With TLS 1.3 that may come after the client's handshake is complete."""
    try:
        connection = await Connection.open("127.0.0.1", served.address.port, context or served.trust)
    except (ssl.SSLError, ConnectionError):
        return
    try:
        connection.writer.write(CONTENT)
        assert await connection.ended()
    finally:
        await connection.close()


async def test_a_caller_without_a_certificate_is_refused(start: Start, callers: trustme.CA) -> None:
    await _refuses(start(client_ca=callers.cert_pem.bytes()), None)


async def test_a_caller_with_a_certificate_of_another_ca_is_refused(
    start: Start, callers: trustme.CA, client: Client
) -> None:
    served = start(client_ca=callers.cert_pem.bytes())
    await _refuses(served, client("apiserver", issuer=trustme.CA()))


async def test_any_name_is_accepted_when_none_is_required(
    start: Start, callers: trustme.CA, client: Client
) -> None:
    served = start(client_ca=callers.cert_pem.bytes())
    async with served.connected(client("anybody.example")) as connection:
        assert check_response((await connection.ask(CONTENT)).body, GOOD, "validate").allowed


@pytest.mark.parametrize(
    ("names", "common_name", "status"),
    [
        pytest.param(["kube-apiserver.example"], None, 200, id="dns-name"),
        pytest.param(["other.example", "second.example"], None, 200, id="the-second-accepted-name"),
        pytest.param(["x.example"], "front-proxy", 200, id="common-name"),
        pytest.param(["x.example"], None, 403, id="other-name"),
        pytest.param(["sub.kube-apiserver.example"], None, 403, id="longer-name"),
        pytest.param(["*.example"], None, 403, id="a-wildcard-names-nobody"),
        pytest.param(["10.0.0.1"], None, 403, id="address"),
    ],
)
async def test_names_of_callers(
    start: Start, callers: trustme.CA, client: Client, names: list[str], common_name: str | None, status: int
) -> None:
    accepted = frozenset({"kube-apiserver.example", "second.example", "front-proxy"})
    served = start(client_ca=callers.cert_pem.bytes(), client_names=accepted)
    async with served.connected(client(*names, common_name=common_name)) as connection:
        answer = await connection.ask(CONTENT)
    assert answer.status == status
    if status == 200:
        assert check_response(answer.body, GOOD, "validate").allowed
    else:
        assert list(answer.json()) == ["error"]


def test_no_certificate_has_no_names() -> None:
    assert peer_names(None) == peer_names({}) == frozenset()
