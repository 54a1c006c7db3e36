"""Read and write the match conditions on the webhook configurations, and handle failed writes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from itertools import count
from types import MappingProxyType
from typing import Any, Final, Literal

from gatekeeper_py.cluster.api import KubernetesApi
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.controller.fastpath.policy_view import NOTHING_SKIPPED, PolicyView, unknown
from gatekeeper_py.controller.webhooks.desired import (
    NO_CONDITIONS,
    Conditions,
    Desired,
    carries,
    with_conditions,
)
from gatekeeper_py.core.compile.fastpath import FastPath, WebhookKind
from gatekeeper_py.core.compile.preapproved import PreApproved
from gatekeeper_py.process.waiting import backed_off

ENDPOINT: Final[MappingProxyType[str, WebhookKind]] = MappingProxyType(
    {"ValidatingWebhookConfiguration": "validating", "MutatingWebhookConfiguration": "mutating"}
)


FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Pause between two attempts at a write; short, because the old condition may admit a removed image."""

FIRST_UNWRITABLE_SECONDS: Final = 5.0
LONGEST_UNWRITABLE_SECONDS: Final = 60.0
"""Pause before another attempt at an expression that could not be written."""

FIRST_REFUSED_SECONDS: Final = 60.0
LONGEST_REFUSED_SECONDS: Final = 3600.0
"""Pause before a refused expression is written again; an upgraded API server may accept it."""

REFUSED: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY})
"""The statuses by which an API server reports that an object is invalid."""

CLIENT_ERRORS: Final = range(400, 500)

SHUTDOWN_SECONDS: Final = 10.0
"""How long the removal of all conditions may take when the controller stops."""

LAST_WRITE_SECONDS: Final = 5.0
"""Part of ``SHUTDOWN_SECONDS`` that a write in progress may take to finish."""

LONGEST_SHUTDOWN_PAUSE_SECONDS: Final = 1.0


class NotStored(Exception):
    """The API server did not store the written conditions."""

    status: Final = 0


WRITE_ERRORS: Final = (ApiError, NotStored)
"""The exceptions that a write can raise. ``status`` is the HTTP status, or 0 without an HTTP error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveConditions:
    """The configurations as they were read.

    ``live`` holds ``None`` for a configuration that should exist and does not. ``skipped`` holds the images
    for which API servers skip the webhook because of the conditions; ``None`` if these images are not known.
    ``problems`` holds an error for each configuration that could not be read.
    """

    live: tuple[tuple[Desired, dict[str, Any] | None], ...]
    skipped: FastPath | None
    problems: tuple[ApiError | NotStored, ...] = ()

    @property
    def foreign(self) -> bool:
        """Whether all configurations were read, and one has a condition that this process did not write."""
        return self.skipped is None and not self.problems

    def carry(self, conditions: Conditions) -> bool:
        """Return whether all configurations exist and carry exactly these conditions."""
        return not self.problems and all(
            live is not None and carries(live, desired.names, conditions) for desired, live in self.live
        )


class ConditionStore:
    """Reads and writes the conditions of the fast path.

    ``expected`` returns whether a configuration should exist at that moment. ``on_written`` is called after
    each write.
    """

    def __init__(
        self,
        api: KubernetesApi,
        desired: Iterable[Desired],
        *,
        expected: Callable[[Desired], bool] = lambda _desired: True,
        on_written: Callable[[], None],
    ) -> None:
        self._api = api
        # The validating configuration first, because it is the one that refuses images.
        self._desired = sorted(desired, key=lambda each: each.kind, reverse=True)
        self._on_written = on_written
        self._expected = expected
        self._carried: dict[str, PolicyView] = {}
        """The view whose conditions each configuration last carried, by path. The view holds the images that
        the expression skips, so the expression need not be parsed."""

    async def read(self) -> LiveConditions:
        """Read all configurations; never raises the client's errors."""
        live: list[tuple[Desired, dict[str, Any] | None]] = []
        problems: list[ApiError | NotStored] = []
        for desired in self._desired:
            try:
                found = await self._api.get(desired.path)
            except WRITE_ERRORS as problem:
                problems.append(problem)
            else:
                if found is not None or self._expected(desired):
                    live.append((desired, found))
        skipped = None if problems else self._skipped(live)
        return LiveConditions(live=tuple(live), skipped=skipped, problems=tuple(problems))

    async def write(self, found: LiveConditions, desired_view: PolicyView) -> bool:
        """Write the conditions that differ, and read them back. Return whether all configurations exist.

        Each write carries the resource version that was read, so it conflicts if another writer was faster.
        An error does not prevent the writes to other configurations; the first error is raised at the end.
        """
        complete, problems = True, list(found.problems)
        for desired, live in found.live:
            try:
                complete = await self._write(desired, live, desired_view) and complete
            except WRITE_ERRORS as problem:
                problems.append(problem)
        if problems:
            raise problems[0]
        return complete

    async def remove_all(
        self, writing: asyncio.Task[bool] | None, sleep: Callable[[float], Awaitable[None]]
    ) -> str:
        """Remove every condition when the controller stops, even if the API server is briefly away.

        Return why that failed, or an empty text. ``writing`` is the last write. It may still be in progress,
        and must not take effect after the removal.
        """
        problem = f"not done in {SHUTDOWN_SECONDS:.0f} s"
        with suppress(TimeoutError):
            async with asyncio.timeout(SHUTDOWN_SECONDS):
                if writing is not None:
                    await _finish(writing)
                for failures in count():
                    try:
                        await self.write(await self.read(), unknown("the controller is stopping"))
                    except WRITE_ERRORS as error:
                        problem = str(error)[:500]
                        pause = backed_off(FIRST_PAUSE_SECONDS, failures, LONGEST_SHUTDOWN_PAUSE_SECONDS)
                        await sleep(0.0 if error.status == HTTPStatus.CONFLICT else pause)
                    else:
                        return ""
        return problem

    async def _write(self, desired: Desired, live: dict[str, Any] | None, desired_view: PolicyView) -> bool:
        if live is None:
            return False
        if not carries(live, desired.names, desired_view.conditions):
            await self._api.replace(
                desired.path, with_conditions(live, desired.names, desired_view.conditions)
            )
            self._on_written()
            stored = await self._api.get(desired.path)
            if stored is None:
                return False
            if not carries(stored, desired.names, desired_view.conditions):
                raise NotStored(f"{desired.name} does not carry the conditions that were written")
        self._carried[desired.path] = desired_view
        return True

    def _skipped(self, found: Iterable[tuple[Desired, dict[str, Any] | None]]) -> FastPath | None:
        approved: dict[WebhookKind, PreApproved] = dict(NOTHING_SKIPPED.approved)
        for desired, live in found:
            if live is None or carries(live, desired.names, NO_CONDITIONS):
                continue
            carried = self._carried.get(desired.path)
            if carried is None or not carries(live, desired.names, carried.conditions):
                return None
            endpoint = ENDPOINT[desired.kind]
            approved[endpoint] = approved[endpoint].joined(carried.fast_path.approved[endpoint])
        return replace(NOTHING_SKIPPED, approved=MappingProxyType(approved))


async def _finish(writing: asyncio.Task[bool]) -> None:
    with suppress(TimeoutError, *WRITE_ERRORS):
        async with asyncio.timeout(LAST_WRITE_SECONDS):
            await asyncio.shield(writing)


@dataclass(frozen=True, slots=True)
class Retry:
    """What to do after a failed write.

    ``seconds`` is the pause. If ``problem`` is empty, repeat the same write after the pause. Otherwise remove
    all conditions now, and do not write those of the policy before the pause ends.
    """

    result: Literal["failed", "refused"]
    seconds: float
    problem: str = ""


class WriteRetries:
    """Counts consecutive failures, and decides how to continue."""

    def __init__(self) -> None:
        self._failures = 0
        self._unwritable = 0

    def written(self) -> None:
        """Note that a write succeeded."""
        self._failures = 0

    def accepted(self) -> None:
        """Note that an expression was accepted and read back."""
        self._unwritable = 0

    def failed(self, status: int, *, has_expressions: bool) -> Retry:
        """Return what to do after a failed write.

        ``status`` is the HTTP status of the answer, 0 without an answer. The conditions on the API server may
        admit too much. So if the new conditions cannot be written, all conditions are removed: that write may
        succeed even so.
        """
        replaceable = has_expressions and status != HTTPStatus.CONFLICT
        if replaceable and status in REFUSED:
            pause = backed_off(FIRST_REFUSED_SECONDS, self._unwritable, LONGEST_REFUSED_SECONDS)
            self._unwritable += 1
            return Retry("refused", pause, "the API server refuses the expression")
        again = self._failures > 0
        pause = backed_off(FIRST_PAUSE_SECONDS, self._failures, LONGEST_PAUSE_SECONDS)
        self._failures += 1
        if replaceable and (again or status in CLIENT_ERRORS):
            pause = backed_off(FIRST_UNWRITABLE_SECONDS, self._unwritable, LONGEST_UNWRITABLE_SECONDS)
            self._unwritable += 1
            return Retry("failed", pause, "the expression cannot be written")
        return Retry("failed", pause)
