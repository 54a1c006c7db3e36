"""Remove the webhook configurations of an installation, and wait until they stay removed.

Do this before the other objects are deleted, for instance by ``helm uninstall``. API servers then call no
webhook any more, so they refuse no Pod when the Service or a server is deleted. The removal works with and
without a running controller.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gatekeeper_py.cluster.api import KubernetesApi
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.runtime.logs import Log

REMOVAL_SECONDS: Final = 120.0
"""How long the removal may take."""

GONE_SECONDS: Final = 2.0
"""How long the configurations must be gone before the removal is complete. Within this time, a controller
finishes a write that it had begun, and API servers notice that the configurations are gone."""

POLL_SECONDS: Final = 0.25
RETRY_SECONDS: Final = 2.0


class Removal:
    """Removes the webhook configurations and their owner.

    It deletes the owner first, because a controller does not create configurations without their owner.
    """

    def __init__(
        self,
        api: KubernetesApi,
        owner: str,
        configurations: Sequence[str],
        *,
        log: Log,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._owner = owner
        self._configurations = configurations
        self._log = log
        self._sleep = sleep
        self._monotonic = monotonic

    async def run(self) -> bool:
        """Remove the owner and the configurations; return whether all are gone. Retries failed requests."""
        end = self._monotonic() + REMOVAL_SECONDS
        gone_since: float | None = None
        while self._monotonic() < end:
            pause = POLL_SECONDS
            try:
                present = await self._delete_present()
            except ApiError as problem:
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
        """Delete the objects that exist, the owner first; return their paths."""
        present = []
        for path in (self._owner, *self._configurations):
            if await self._api.get(path) is not None:
                present.append(path)
                await self._api.delete(path)
        return present
