"""structlog, imported without rich.

structlog imports rich if it is installed, to print tracebacks on a terminal. No replica needs this, and rich
would take 4 MiB of memory and a tenth of a second at the start of each.
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
