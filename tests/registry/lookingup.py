"""Look-ups with a client that a test scripts; what they count, and what they log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

from gatekeeper_py.core.images.manifest import MISSING, Answer, Lookup, Manifest, Resolution, failed, found
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.process.shares import Share
from gatekeeper_py.registry.asking import Reply, Turn
from gatekeeper_py.registry.lookups import Lookups
from support.recording import Counted, RecordingLog
from support.virtualtime import loop_time

FOUND: Final = found("sha256:" + "a" * 64)
OTHER: Final = found("sha256:" + "b" * 64)
DOWN: Final = Reply(failed("down"), trouble=True)

OURS, THEIRS = "a" * 64, "b" * 64
"""The fingerprints of the keys of the policy."""


class FakeClient:
    """A client with the answers that a test sets. An ``asyncio.Event`` delays an answer until it is set."""

    def __init__(self) -> None:
        self.answers: dict[Manifest, Answer | Reply | asyncio.Event] = {}
        self.other_answers: Answer | Reply | asyncio.Event = MISSING
        """The answer about every manifest that is not in ``answers``."""
        self.reply = Reply(FOUND)
        """The reply after an event is set."""
        self.sends: dict[Manifest, tuple[str, ...]] = {}
        """The hosts that get the requests of a look-up; by default one request to the manifest's host."""
        self.queried: list[Manifest] = []
        self.cancelled: list[Manifest] = []
        self.under_way = self.most_under_way = 0

    async def query(self, manifest: Manifest, turn: Turn, share: Share) -> Reply:
        for host in self.sends.get(manifest, (manifest.host,)):
            await turn(host)
        self.queried.append(manifest)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        answer = self.answers.get(manifest, self.other_answers)
        try:
            if isinstance(answer, asyncio.Event):
                await answer.wait()
                return self.reply
        except asyncio.CancelledError:
            self.cancelled.append(manifest)
            raise
        finally:
            self.under_way -= 1
        return answer if isinstance(answer, Reply) else Reply(answer)


class World:
    """Look-ups in the registries of ``settings``. A test moves the clock with ``skipped``."""

    def __init__(self, *settings: Registry, clock: Callable[[], float] = loop_time) -> None:
        self.client, self.counted, self.log = FakeClient(), Counted(), RecordingLog()
        self.skipped = 0.0
        self.settings = {each.host: each for each in settings}
        self.lookups = Lookups(
            self.client.query,
            registry=lambda host: self.settings.get(host) or Registry(host=host),
            observer=self.counted,
            log=self.log,
            clock=lambda: clock() + self.skipped,
        )
        self.use()

    def use(
        self, *pinned: Manifest, changed: list[str] | None = None, keys: Iterable[str] = (OURS, THEIRS)
    ) -> None:
        """Use a policy that names these manifests; ``changed`` are the registries with new settings."""
        self.lookups.configure(hosts=self.settings, keys=keys, changed=changed, pinned=pinned)

    async def resolve(
        self, *candidates: Manifest, seconds: float = 5.0, namespace: str | None = None, peer: str = "api"
    ) -> Resolution:
        lookup = Lookup(candidates)
        return (await self.lookups.resolve([lookup], seconds, Share(peer, namespace)))[lookup]

    async def resolve_all(
        self, manifests: list[Manifest], namespace: str | None = None, peer: str = "api"
    ) -> list[Answer]:
        """Resolve the look-ups of one review, and return the answers in the order of the manifests."""
        lookups = [Lookup((manifest,)) for manifest in manifests]
        resolved = await self.lookups.resolve(lookups, 5.0, Share(peer, namespace))
        return [resolved[lookup].answer for lookup in lookups]

    def cached(self, *candidates: Manifest) -> Resolution | None:
        return self.lookups.resolve_cached(Lookup(candidates))

    def found(self, manifest: Manifest) -> bool:
        """Return whether a remembered answer shows that a manifest exists."""
        cached = self.cached(manifest)
        return cached is not None and cached.answer.status == "found"


@asynccontextmanager
async def started(settings: Registry, clock: Callable[[], float] = loop_time) -> AsyncIterator[World]:
    """Run look-ups that renew facts, in a registry that has every image."""
    world = World(settings, clock=clock)
    world.client.other_answers = FOUND
    world.lookups.start()
    try:
        yield world
    finally:
        await world.lookups.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the condition is not an event
            await asyncio.sleep(0.001)
