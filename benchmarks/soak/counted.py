"""``gatekeeper-py`` that also reports the number of tasks of its event loop.

``python -m benchmarks.soak.counted FILE serve …``: at each SIGUSR1 the number is written into FILE.
Everything else is unchanged.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Final

WIDTH: Final = 8
"""Digits in the file, so that each number covers the one before."""


def main() -> None:
    """Run the command line that follows the file's name."""
    file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600)

    def count(_number: int, _frame: object) -> None:
        # Handlers run in the main thread, and with them the loop's thread is at rest.
        os.pwrite(file, f"{len(asyncio.all_tasks()):{WIDTH}d}".encode(), 0)

    signal.signal(signal.SIGUSR1, count)
    sys.argv = ["gatekeeper-py", *sys.argv[2:]]

    from gatekeeper_py.__main__ import main as run  # noqa: PLC0415 - it may take its time; a signal may come

    run()


if __name__ == "__main__":
    main()
