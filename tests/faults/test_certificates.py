"""Certificates rotate under the real listener while clients shake hands with it and verify it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from faults.mounted import MountedSecret, Pair, make_pair
from faults.rolling import GeneratorRun, Site, lost
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.http.listener import Listener
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.process.logs import RateLimit
from gatekeeper_py.process.settings import Address
from gatekeeper_py.webhook.guard import PolicyGuard
from gatekeeper_py.webhook.metrics import Metrics
from gatekeeper_py.webhook.tls import CertificateFiles
from gatekeeper_py.webhook.webhook import Webhook
from support.builders import policy
from support.parsing import InProcessParser
from support.recording import RecordingLog
from support.wire import Connection, eventually, request

LOG = logging.getLogger(__name__)

ROTATIONS = 100
HANDSHAKES_EACH = 15
"""Minimum number of handshakes with each certificate."""


class Serving:
    """A webhook whose certificate comes from a mounted Secret. ``requests`` counts its requests."""

    def __init__(self, secret: MountedSecret, *, sleep: Callable[[float], Awaitable[None]]) -> None:
        self.log = RecordingLog()
        live, counts = LivePolicy(), CacheCounts()
        live.install(policy(allow="[registry.corp.example]").serving(100, counts))
        self.metrics = Metrics(live, counts)
        guard = PolicyGuard(None, InProcessParser(), live, observer=self.metrics, log=self.log)
        self._webhook = Webhook(
            live, guard, observer=self.metrics, log=self.log, limit=RateLimit(), max_body_bytes=1 << 20
        )
        self.files = CertificateFiles(
            secret / "tls.crt",
            secret / "tls.key",
            client_ca=None,
            observer=self.metrics,
            log=self.log,
            sleep=sleep,
        )
        self._listener = Listener(self._answer, max_connections=500, context=self.files.context)
        self.address = self._listener.bind(Address("127.0.0.1", 0))
        self.requests = 0

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests += 1
        return await self._webhook.handle(request)

    async def close(self) -> None:
        await self._listener.close(1.0)

    def serves(self, pair: Pair) -> bool:
        current = self.files.current
        return current is not None and current.not_after.timestamp() == pair.end


@asynccontextmanager
async def polling(secret: MountedSecret, seconds: float) -> AsyncIterator[Serving]:
    """Run a webhook that reads its files every ``seconds`` instead of every ten."""
    serving = Serving(secret, sleep=lambda _: asyncio.sleep(seconds))
    await serving.files.load()
    watching = asyncio.create_task(serving.files.watch())
    try:
        yield serving
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await serving.close()


@pytest.mark.skipif(shutil.which("go") is None, reason="the client of API servers is built with Go")
async def test_a_hundred_rotations_fail_no_handshake(tmp_path: Path) -> None:
    """Between two authorities, both of which the client trusts, and between kinds of keys.

    Every tenth time the Secret first gets a certificate with another one's key, which is not served.
    """
    authorities = trustme.CA(), trustme.CA()
    kinds: tuple[Any, ...] = ("EC", "RSA", "EC", "EC", "RSA")
    # The validity periods distinguish the certificates.
    pairs = [
        make_pair(authority, kind, days=60 + number)
        for number, (authority, kind) in enumerate(zip(itertools.cycle(authorities), kinds * 2, strict=False))
    ]
    secret = MountedSecret(tmp_path / "tls")
    secret.set(pairs[-1].files())
    with Site(tmp_path) as site:
        site.ca.write_bytes(b"".join(authority.cert_pem.bytes() for authority in authorities))
        async with polling(secret, 0.02) as serving:
            assert serving.files.files_problem == ""
            plan = site.plan(
                targets_file="",
                targets=[str(serving.address)],
                fresh_connections=True,
                # Few at once: on a busy machine a long queue of handshakes would exceed their timeout.
                rate=250,
                max_in_flight=20,
                seconds=90,
            )
            with await asyncio.to_thread(GeneratorRun, plan) as run:
                for number in range(ROTATIONS):
                    pair = pairs[number % len(pairs)]
                    if number % 10 == 9:
                        secret.set(Pair(pair.cert, pairs[0].key if pair is not pairs[0] else b"").files())
                        await eventually(lambda: serving.files.files_problem != "")
                        await _some_more(serving)
                    secret.set(pair.files())
                    await eventually(lambda: serving.serves(pair) and serving.files.files_problem == "")  # noqa: B023
                    await _some_more(serving)
                assert run.is_running
                run.stop()
                result = await asyncio.to_thread(run.result)
    LOG.info("%d handshakes during %d rotations, %s ms", result["ok"], ROTATIONS, result["handshake_ms"])
    assert lost(result) == {}
    assert result["ok"] >= ROTATIONS * HANDSHAKES_EACH / 2
    assert serving.log.events.count("certificate_loaded") == ROTATIONS + 1
    assert serving.log.events.count("certificate_refused") == ROTATIONS // 10


async def _some_more(serving: Serving) -> None:
    enough = serving.requests + HANDSHAKES_EACH
    await eventually(lambda: serving.requests >= enough)


async def test_only_a_client_that_trusts_both_cas_survives_a_change_of_the_ca(tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    secret = MountedSecret(tmp_path / "tls")
    before, after = make_pair(old, days=50), make_pair(new, days=60)
    secret.set(before.files())
    async with polling(secret, 0.01) as serving:
        for pair, known in ((before, [old, new]), (after, [new, old])):
            secret.set(pair.files())
            await eventually(lambda: serving.serves(pair))  # noqa: B023
            assert await _answers(serving, *known)
            assert await _answers(serving, known[0])
            assert not await _answers(serving, known[1])


async def _answers(serving: Serving, *trusted: trustme.CA) -> bool:
    """Return whether a client that trusts these CAs gets an answer. The client verifies the certificate."""
    trust = ssl.create_default_context(cadata="".join(each.cert_pem.bytes().decode() for each in trusted))
    try:
        connection = await Connection.open("127.0.0.1", serving.address.port, trust)
    except ssl.SSLCertVerificationError:
        return False
    try:
        return (await connection.ask(request(method="GET"))).status == 405
    finally:
        await connection.close()
