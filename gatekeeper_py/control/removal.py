"""The end of an installation: remove its webhook configurations, and wait until they stay away.

This comes before the other objects are deleted, for instance by ``helm uninstall``. Afterwards API
servers call no webhook, so deleting the Service or a server refuses no Pod. It works with and without a
running controller.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from gatekeeper_py.runtime.logs import Log

REMOVAL_SECONDS: Final = 120.0
"""How long the removal may take."""

GONE_SECONDS: Final = 2.0
"""How long the configurations must be gone: a controller that was about to write one has done so by then, and
API servers have noticed that they are gone."""

POLL_SECONDS: Final = 0.25
RETRY_SECONDS: Final = 2.0


class KubernetesApi(Protocol):
    """The requests that a removal needs; both raise the client's own errors.

    ``get`` returns ``None`` for an object that does not exist, and ``delete`` ignores one.
    """

    async def get(self, path: str) -> dict[str, Any] | None: ...

    async def delete(self, path: str) -> None: ...


class Removal:
    """Removes the owner of the configurations first, because a controller without the owner creates none."""

    def __init__(
        self,
        api: KubernetesApi,
        owner: str,
        configurations: Sequence[str],
        *,
        log: Log,
        errors: tuple[type[Exception], ...],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._owner = owner
        self._configurations = configurations
        self._log = log
        self._errors = errors
        self._sleep = sleep
        self._monotonic = monotonic

    async def run(self) -> bool:
        """Remove everything; return whether it is gone. Requests that fail are repeated."""
        end = self._monotonic() + REMOVAL_SECONDS
        gone_since: float | None = None
        while self._monotonic() < end:
            pause = POLL_SECONDS
            try:
                present = await self._delete_present()
            except self._errors as problem:
                self._log.warning("removal_failed", problem=str(problem)[:500], retry_seconds=RETRY_SECONDS)
                gone_since, pause = None, RETRY_SECONDS
            else:
                if present:
                    self._log.info("removing", paths=present)
                    gone_since = None
                elif gone_since is None:
                    gone_since = self._monotonic()
                elif self._monotonic() - gone_since >= GONE_SECONDS:
                    self._log.info("removed")
                    return True
            await self._sleep(pause)
        self._log.error("not_removed", problem=f"the objects are not gone after {REMOVAL_SECONDS:.0f} s")
        return False

    async def _delete_present(self) -> list[str]:
        """Delete what exists, the owner first; return the paths of what existed."""
        present = []
        for path in (self._owner, *self._configurations):
            if await self._api.get(path) is not None:
                present.append(path)
                await self._api.delete(path)
        return present
