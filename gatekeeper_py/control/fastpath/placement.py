"""Puts match conditions on the webhook configurations, and tells what an API server skips by them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, Protocol

from gatekeeper_py.control import webhooks
from gatekeeper_py.control.fastpath.knowledge import NOTHING, Known
from gatekeeper_py.control.webhooks import ASK_ALWAYS, Conditions, Desired
from gatekeeper_py.core.compile.expression import Places
from gatekeeper_py.core.compile.preapproved import Endpoint, FastPath

ENDPOINT: Final[MappingProxyType[str, Endpoint]] = MappingProxyType(
    {"ValidatingWebhookConfiguration": "validating", "MutatingWebhookConfiguration": "mutating"}
)


class Cluster(Protocol):
    """What is needed of the API server; every method raises the client's own errors."""

    async def get(self, path: str) -> dict[str, Any] | None: ...

    async def replace(self, path: str, document: dict[str, Any]) -> None: ...


class NotTaken(Exception):
    """A configuration that was written is not as it was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The configurations as they were read, ``None`` for one that is not there.

    ``standing`` is what is skipped by them, ``None`` when that is not known. ``problems`` are those of
    the configurations that could not be read.
    """

    live: tuple[tuple[Desired, dict[str, Any] | None], ...]
    standing: FastPath | None
    problems: tuple[Exception, ...] = ()

    @property
    def unknown(self) -> bool:
        """Whether all were read, and one carries what was not written here."""
        return self.standing is None and not self.problems

    def carry(self, conditions: Conditions) -> bool:
        """Whether all are there with exactly these."""
        return not self.problems and all(
            live is not None and webhooks.carries(live, desired, conditions) for desired, live in self.live
        )


class Placement:
    """Reads and writes the fast path's part of the configurations.

    ``errors`` are what the client raises. ``on_written`` is called after each write.
    """

    def __init__(
        self,
        cluster: Cluster,
        desired: Iterable[Desired],
        *,
        errors: tuple[type[Exception], ...],
        on_written: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        # The validating one first: it is the one that keeps images out.
        self._desired = sorted(desired, key=lambda each: each.kind, reverse=True)
        self.errors: tuple[type[Exception], ...] = (*errors, NotTaken)
        """What ``put`` raises."""
        self._on_written = on_written
        self._carried: dict[str, Known] = {}
        """What each was last seen to carry, by path: so that its expression need not be read."""

    async def read(self) -> Found:
        """Read all; never raises the client's errors."""
        live, problems = [], []
        for desired in self._desired:
            try:
                live.append((desired, await self._cluster.get(desired.path)))
            except self.errors as problem:
                problems.append(problem)
        standing = None if problems else self._standing(live)
        return Found(live=tuple(live), standing=standing, problems=tuple(problems))

    async def put(self, found: Found, known: Known) -> bool:
        """Write what differs and read it back; whether all configurations are there.

        Each write is on the version that was read: when another was faster, it is a conflict. Tries
        each, and raises the first one's error afterwards.
        """
        complete, problems = True, list(found.problems)
        for desired, live in found.live:
            try:
                complete = await self._put(desired, live, known) and complete
            except self.errors as problem:
                problems.append(problem)
        if problems:
            raise problems[0]
        return complete

    async def _put(self, desired: Desired, live: dict[str, Any] | None, known: Known) -> bool:
        if live is None:
            return False
        if not webhooks.carries(live, desired, known.conditions):
            await self._cluster.replace(desired.path, webhooks.conditioned(live, desired, known.conditions))
            self._on_written()
            stored = await self._cluster.get(desired.path)
            if stored is None:
                return False
            if not webhooks.carries(stored, desired, known.conditions):
                raise NotTaken(f"{desired.name} does not carry what was written")
        self._carried[desired.path] = known
        return True

    def _standing(self, found: Iterable[tuple[Desired, dict[str, Any] | None]]) -> FastPath | None:
        places: dict[Endpoint, Places] = dict(NOTHING.places)
        for desired, live in found:
            if live is None or webhooks.carries(live, desired, ASK_ALWAYS):
                continue
            known = self._carried.get(desired.path)
            if known is None or not webhooks.carries(live, desired, known.conditions):
                return None
            endpoint = ENDPOINT[desired.kind]
            places[endpoint] |= known.fast_path.places[endpoint]
        return replace(NOTHING, places=MappingProxyType(places))
