"""A minute of checks of strangers, tenants and the policy's writer, in simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import pytest

from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.configmap import ConfigMapPolicy, ExceptionsText, ParsedExceptions
from gatekeeper_py.http.answers import Refusal
from gatekeeper_py.http.connections.peers import Peer
from gatekeeper_py.live.parser.process import Judged
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.webhook.guard import PolicyGuard
from gatekeeper_py.webhook.metrics import Metrics
from support.parsing import InProcessParser
from support.recording import RecordingLog
from support.served import GUARDED

SECONDS: Final = 90.0
START_SECONDS: Final = 0.3
"""How long a new parser process takes to start."""

COSTLY_SECONDS: Final = 3.0
MOST_SECONDS: Final = 2.0
REQUEST: Final = AdmissionRequest("u", "", "ConfigMap", "UPDATE", namespace=GUARDED.namespace)


class SimulatedTime(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        selector: Any = self._selector  # type: ignore[attr-defined]
        inner = selector.select

        def select(timeout: float | None) -> Any:
            self.now += timeout or 0.0
            return inner(0)

        selector.select = select

    def time(self) -> float:
        return self.now


class SlowParser(InProcessParser):
    """Takes as many seconds for a document as its text says, and loses its process when interrupted."""

    def __init__(self) -> None:
        super().__init__()
        self._runs = False

    async def _work(self, text: str) -> None:
        runs, self._runs = self._runs, False
        await asyncio.sleep(float(text) + (0.0 if runs else START_SECONDS))
        self._runs = True

    async def judge(self, text: str, *_: Any, **__: Any) -> Judged:
        await self._work(text)
        return Judged(accepted=True, findings=())

    async def parse_exceptions(self, text: str, *_: Any, **__: Any) -> ParsedExceptions:
        await self._work(text)
        return ParsedExceptions(None, ())


def policy(seconds: float) -> ConfigMapPolicy:
    return ConfigMapPolicy(text=str(seconds), mode=None, findings=())


def exceptions(namespace: str, seconds: float) -> ExceptionsText:
    return ExceptionsText(DocumentKey("namespace", namespace), str(seconds), ())


class Crowd:
    """Callers who check documents at one guard."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        observer = Metrics(LivePolicy(), CacheCounts())
        self._guard = PolicyGuard(
            GUARDED,
            SlowParser(),
            LivePolicy(),
            observer=observer,
            log=RecordingLog(),
            monotonic=self._loop.time,
        )
        self.waits: dict[str, list[float]] = {}
        """Name -> how long each check took; infinite for 503."""

    async def caller(
        self,
        name: str,
        peer: Peer,
        written: ConfigMapPolicy | ExceptionsText,
        *,
        after: float = 0.0,
        every: float = 0.25,
        budget: float = 4.5,
    ) -> None:
        """Check the same document again and again. As in a server, each answer counts as a good review."""
        waits = self.waits.setdefault(name, [])
        await asyncio.sleep(after)
        while self._loop.time() < SECONDS:
            start = self._loop.time()
            try:
                await self._guard.judge(REQUEST, written, budget, peer)
                peer.reviews += 1
                waits.append(self._loop.time() - start)
            except Refusal:
                waits.append(float("inf"))
            await asyncio.sleep(every)


def peer(key: str, reviews: int) -> Peer:
    found = Peer(key, 1)
    found.reviews = reviews
    return found


def after_a_minute(attack: Callable[[Crowd, Peer], list[Any]]) -> dict[str, list[float]]:
    """Return the waits of all callers: the attackers, and the callers that must not be delayed."""

    async def run() -> dict[str, list[float]]:
        crowd, api_server = Crowd(), peer("192.0.2.1", 500)
        await asyncio.gather(
            *attack(crowd, api_server),
            crowd.caller("writer", api_server, policy(0.05), after=1.0, every=4.0),
            crowd.caller("other", peer("192.0.2.2", 300), policy(0.3), after=1.5, every=7.3),
            crowd.caller("tenant", api_server, exceptions("quiet", 0.1), after=2.0, every=5.0),
        )
        return crowd.waits

    loop = SimulatedTime()
    try:
        return loop.run_until_complete(run())
    finally:
        loop.close()


@pytest.mark.parametrize(
    ("addresses", "credit"),
    [
        pytest.param(1, 0, id="a-stranger"),
        pytest.param(1, 20, id="one-that-sent-good-reviews"),
        pytest.param(8, 0, id="eight-strangers"),
        pytest.param(8, 50, id="eight-that-sent-good-reviews"),
    ],
)
def test_the_costliest_policy_as_fast_as_possible_delays_no_other_check(addresses: int, credit: int) -> None:
    waits = after_a_minute(
        lambda crowd, _: [
            crowd.caller("attack", peer(f"198.51.100.{each}", credit), policy(COSTLY_SECONDS), budget=9.5)
            for each in range(addresses)
        ]
    )
    assert {name for name, each in waits.items() if max(each) > MOST_SECONDS} == {"attack"}


def test_exceptions_that_are_checked_again_and_again_delay_no_other_check() -> None:
    """Eight tenants with three clients each, all behind the address of the API server."""
    waits = after_a_minute(
        lambda crowd, api_server: [
            crowd.caller("attack", api_server, exceptions(f"noisy-{each % 8}", 0.2)) for each in range(24)
        ]
    )
    assert {name for name, each in waits.items() if max(each) > MOST_SECONDS} <= {"attack"}
