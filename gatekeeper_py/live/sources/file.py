"""A policy file, polled by content.

inotify is not used. On a mounted Secret or ConfigMap it misses changes after the kubelet has swapped the
symlink, and an editor that renames files gives the file another inode.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

from gatekeeper_py.core.policy.limits import MAX_FILE_BYTES
from gatekeeper_py.live.sources import Delivery

POLL_SECONDS: Final = 1.0
MAX_BYTES: Final = MAX_FILE_BYTES
"""Maximum size of a policy file, so that a device or a wrong file cannot fill memory."""


class FileSource:
    """Delivers one file: at once, and then whenever its content changes."""

    def __init__(
        self,
        path: Path,
        *,
        on_synced: Callable[[], None] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._path = path
        self._on_synced = on_synced
        self._sleep = sleep

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield each change, for ever. ``on_synced`` is called after each successful read."""
        last: Delivery | None = None
        while True:
            delivery = await asyncio.to_thread(self.read)
            if not delivery.problem:
                self._on_synced()
            if delivery != last:
                last = delivery
                yield delivery
            await self._sleep(POLL_SECONDS)

    def read(self) -> Delivery:
        """Return the present content, or the problem of the file."""
        text, problem = read_text(self._path, MAX_BYTES)
        return Delivery(text=text, problem=f"{self._path}: {problem}" if problem else "")


def read_text(path: Path, limit: int) -> tuple[str | None, str]:
    """Return the text of a file, or ``None`` and why it cannot be used."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as problem:
        return None, problem.strerror or type(problem).__name__
    if len(content) > limit:
        return None, f"longer than {limit // 2**20} MiB, the limit"
    try:
        return content.decode(), ""
    except UnicodeDecodeError as problem:
        return None, f"not UTF-8 at byte {problem.start}"
