"""Prove each minute that every API server that answers enforces the policy."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

from gatekeeper_py.control.enforcement.evidence import Outcome, Proof, probe_image, read_answer
from gatekeeper_py.control.probe_pod import Answer
from gatekeeper_py.runtime.logs import Log

PERIOD_SECONDS: Final = 60.0
"""Interval between rounds while the policy is enforced."""

RETRY_SECONDS: Final = 10.0
"""Interval between rounds while the policy is not enforced. New webhook configurations reach API servers
within a second."""

WAITING_SECONDS: Final = 2.0
"""Interval between checks whether the webhook is armed."""

CONFIGURED: Final = ""
"""Address that means the API server of the cluster configuration."""

Send = Callable[[str, str], Awaitable[Answer]]
"""Takes the address of an API server (or ``CONFIGURED``) and an image; creates the probe Pod."""


class Observer(Protocol):
    """Receives the outcome of each round, for metrics."""

    def enforced(self, *, enforced: bool, servers: Mapping[Outcome, int]) -> None: ...


class Prover:
    """Probes every API server, and reports whether all that answer enforce the policy.

    An API server that does not answer proves nothing either way. It is counted as ``unreachable``, and an
    alert fires when that lasts.

    ``servers`` returns the known addresses of API servers. ``armed`` returns whether the webhook should be
    called at all. ``rejects_valid_images`` returns whether the policy rejects valid probe images.
    """

    def __init__(
        self,
        send: Send,
        servers: Callable[[], Awaitable[Sequence[str]]],
        *,
        armed: Callable[[], bool],
        rejects_valid_images: Callable[[], bool],
        observer: Observer,
        log: Log,
        token: Callable[[], str] = lambda: secrets.token_hex(8),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._send = send
        self._servers = servers
        self._armed = armed
        self._rejects_valid_images = rejects_valid_images
        self._observer = observer
        self._log = log
        self._token = token
        self._sleep = sleep
        self._last: tuple[bool, tuple[str, ...]] | None = None

    async def run(self) -> None:
        """Run rounds until cancelled."""
        while True:
            await self._sleep(await self.round())

    async def round(self) -> float:
        """Probe every API server once; return the seconds until the next round is due."""
        if not self._armed():
            self._observer.enforced(enforced=False, servers={})
            self._last = None
            return WAITING_SECONDS
        proofs = await self._probe_all(await self._servers() or (CONFIGURED,))
        if CONFIGURED not in proofs and all(each.outcome == "unreachable" for each in proofs.values()):
            # A network policy or a certificate may prevent direct connections.
            proofs |= await self._probe_all((CONFIGURED,))
        counts: dict[Outcome, int] = {"enforced": 0, "not_enforced": 0, "unreachable": 0}
        for each in proofs.values():
            counts[each.outcome] += 1
        enforced = counts["enforced"] > 0 and counts["not_enforced"] == 0
        self._observer.enforced(enforced=enforced, servers=counts)
        self._report(proofs, enforced=enforced)
        return PERIOD_SECONDS if enforced else RETRY_SECONDS

    async def _probe_all(self, servers: Sequence[str]) -> dict[str, Proof]:
        found = await asyncio.gather(*map(self._probe, servers))
        return dict(zip(servers, found, strict=True))

    async def _probe(self, server: str) -> Proof:
        token = self._token()
        return read_answer(
            await self._send(server, probe_image(token, valid=self._rejects_valid_images())), token
        )

    def _report(self, proofs: Mapping[str, Proof], *, enforced: bool) -> None:
        """Log only when the outcome or the set of failing servers changes."""
        problems = {
            server or "the configured API server": each.problem
            for server, each in proofs.items()
            if each.problem
        }
        state = (enforced, tuple(problems))
        if state == self._last:
            return
        self._last = state
        if enforced:
            self._log.info("enforced", servers=len(proofs), problems=problems)
        else:
            self._log.warning("not_enforced", servers=len(proofs), problems=problems)
