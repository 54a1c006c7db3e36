"""structlog without rich, which it imports where it finds it.

It would print tracebacks with it, on a terminal. In each replica that took 4 MiB and a tenth of a second of
the start, for nothing.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import structlog
else:
    _unused = sys.modules.setdefault("rich", None)  # as if it were not installed
    structlog = importlib.import_module("structlog")
    if _unused is None:
        del sys.modules["rich"]

__all__ = ["structlog"]
