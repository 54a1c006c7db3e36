"""Read and write the match conditions on the webhook configurations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from gatekeeper_py.cluster.api import KubernetesApi
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.control.fastpath.policy_view import NOTHING_SKIPPED, PolicyView
from gatekeeper_py.control.webhooks.conditions import NO_CONDITIONS, Conditions, carries, with_conditions
from gatekeeper_py.control.webhooks.desired import Desired
from gatekeeper_py.core.compile.fastpath import Endpoint, FastPath
from gatekeeper_py.core.compile.preapproved import PreApproved

ENDPOINT: Final[MappingProxyType[str, Endpoint]] = MappingProxyType(
    {"ValidatingWebhookConfiguration": "validating", "MutatingWebhookConfiguration": "mutating"}
)


class NotStored(Exception):
    """The API server did not store the written conditions."""

    status: Final = 0


WRITE_ERRORS: Final = (ApiError, NotStored)
"""The exceptions of a write. ``status`` is the HTTP status, 0 when the API server did not answer."""


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
        approved: dict[Endpoint, PreApproved] = dict(NOTHING_SKIPPED.approved)
        for desired, live in found:
            if live is None or carries(live, desired.names, NO_CONDITIONS):
                continue
            carried = self._carried.get(desired.path)
            if carried is None or not carries(live, desired.names, carried.conditions):
                return None
            endpoint = ENDPOINT[desired.kind]
            approved[endpoint] = approved[endpoint].joined(carried.fast_path.approved[endpoint])
        return replace(NOTHING_SKIPPED, approved=MappingProxyType(approved))
