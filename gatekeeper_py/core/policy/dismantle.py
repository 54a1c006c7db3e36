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


FEW_RULES: Final = 10_000
"""Freed at once, which takes 5 ms. Piece by piece takes twenty times as long, and a loop that is busy does
next to nothing else meanwhile: with 1,000 rules, reviews waited for 50 ms at each change of the policy."""


def dismantle(roots: list[Any], *, rules: int) -> None:
    """Empty ``roots`` and free what nothing else refers to; the rest is left as it is.

    ``rules`` says how many rules' worth it is. For structures without cycles: parts of a cycle are left to
    the garbage collector.
    """
    if rules <= FEW_RULES:
        roots.clear()
        return
    pieces = deque(roots)
    roots.clear()
    while pieces:
        piece = pieces.popleft()
        if sys.getrefcount(piece) <= ONLY_OURS:
            # It goes with this turn: what it held waits here for its own.
            pieces.extend(gc.get_referents(piece))
        del piece
