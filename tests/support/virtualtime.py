"""An event loop whose clock jumps to the next timer instead of waiting, so that timeouts take no time."""

from __future__ import annotations

import asyncio
import selectors


class _Jumping(selectors.DefaultSelector):
    """Returns at once, and adds the seconds that it would have waited to ``now``."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(None if timeout is None else 0)
        if timeout is not None and not found:
            self.now += max(timeout, 0.0)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs timers in order, at exactly their time, even on a busy machine."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def loop_time() -> float:
    """Return the time of the running loop."""
    return asyncio.get_running_loop().time()
