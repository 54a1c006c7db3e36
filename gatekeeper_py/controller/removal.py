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
from gatekeeper_py.process.logs import Log

REMOVAL_SECONDS: Final = 120.0
"""How long the removal may take."""

GONE_SECONDS: Final = 2.0
"""How long the configurations must be gone before the removal is complete. Within this time, a controller
finishes a write that it had begun, and API servers notice that the configurations are gone."""

POLL_SECONDS: Final = 0.25
RETRY_SECONDS: Final = 2.0


async def remove(
    api: KubernetesApi,
    owner: str,
    configurations: Sequence[str],
    *,
    log: Log,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> bool:
    """Remove the owner and the webhook configurations; return whether all are gone. Retries failed requests.

    Deletes the owner first, because a controller that still runs does not create configurations without it.
    """
    end = monotonic() + REMOVAL_SECONDS
    gone_since: float | None = None
    while monotonic() < end:
        pause = POLL_SECONDS
        try:
            present = await _delete_present(api, (owner, *configurations))
        except ApiError as problem:
            log.warning("removal_failed", problem=str(problem)[:500], retry_seconds=RETRY_SECONDS)
            gone_since, pause = None, RETRY_SECONDS
        else:
            if present:
                log.info("removing", paths=present)
                gone_since = None
            elif gone_since is None:
                gone_since = monotonic()
            elif monotonic() - gone_since >= GONE_SECONDS:
                log.info("removed")
                return True
        await sleep(pause)
    log.error("not_removed", problem=f"the objects are not gone after {REMOVAL_SECONDS:.0f} s")
    return False


async def _delete_present(api: KubernetesApi, paths: Sequence[str]) -> list[str]:
    """Delete the objects that exist, in order; return their paths."""
    present = []
    for path in paths:
        if await api.get(path) is not None:
            present.append(path)
            await api.delete(path)
    return present
