"""Pass the latest item of a source to a function, and repeat that if it fails.

A failure that may be temporary is repeated with growing pauses, until it succeeds or a newer item arrives.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Generic, TypeVar

from gatekeeper_py.process.waiting import backed_off, wait_for

FIRST_RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 300.0
"""Default of the first and of the longest pause before an item is taken again."""

T = TypeVar("T")


class Feed(Generic[T]):
    """Calls ``take`` with the latest item. ``take`` returns false if it failed and may succeed later.

    ``first_retry`` and ``longest_retry`` are the pauses before an item is taken again, in seconds.
    """

    def __init__(
        self,
        take: Callable[[T], Awaitable[bool]],
        *,
        first_retry: float = FIRST_RETRY_SECONDS,
        longest_retry: float = LONGEST_RETRY_SECONDS,
    ) -> None:
        self._take = take
        self._first_retry = first_retry
        self._longest_retry = longest_retry
        self._latest: T | None = None
        self._arrived = asyncio.Event()
        self._failures = 0

    @property
    def retry_seconds(self) -> float | None:
        """The pause before the latest item is taken again; ``None`` if its last result is final."""
        if not self._failures:
            return None
        return backed_off(self._first_retry, self._failures - 1, self._longest_retry)

    def put(self, item: T) -> None:
        """Make this the next item; drop earlier ones that wait."""
        self._latest = item
        self._arrived.set()

    async def follow(self, items: AsyncIterator[T]) -> None:
        """Put all items of a source."""
        async for item in items:
            self.put(item)

    async def run(self) -> None:
        """Take items until cancelled. If ``take`` raises, call ``run`` again for the next item."""
        while True:
            if await wait_for(self._arrived, self.retry_seconds):
                self._failures = 0
            self._arrived.clear()
            if self._latest is not None:
                failures, self._failures = self._failures, 0
                if not await self._take(self._latest):
                    self._failures = failures + 1
