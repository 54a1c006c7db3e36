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
"""Characters in the file. A fixed width makes each number overwrite the previous one completely."""


def main() -> None:
    """Run the command line that follows the file's name."""
    file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600)

    def count(_number: int, _frame: object) -> None:
        # Signal handlers run in the main thread, which is also the loop's, so no task runs during the count.
        os.pwrite(file, f"{len(asyncio.all_tasks()):{WIDTH}d}".encode(), 0)

    signal.signal(signal.SIGUSR1, count)
    sys.argv = ["gatekeeper-py", *sys.argv[2:]]

    from gatekeeper_py.__main__ import main as run  # noqa: PLC0415 - slow, and a signal may arrive

    run()


if __name__ == "__main__":
    main()
