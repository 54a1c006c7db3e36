"""Free a large structure piece by piece.

Dropping the last reference to a policy of 100,000 rules frees a million objects in one step of the
interpreter, 100 ms in which no other thread runs. Here each step frees one.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from typing import Any, Final

ONLY_OURS: Final = 2
"""Of ``sys.getrefcount``: a local name, and its own argument."""


def dismantle(roots: list[Any]) -> None:
    """Empty ``roots`` and free what nothing else refers to; the rest is left as it is.

    For structures without cycles: parts of a cycle are left to the garbage collector.
    """
    pieces = deque(roots)
    roots.clear()
    while pieces:
        piece = pieces.popleft()
        if sys.getrefcount(piece) <= ONLY_OURS:
            # It goes with this turn: what it held waits here for its own.
            pieces.extend(gc.get_referents(piece))
        del piece
