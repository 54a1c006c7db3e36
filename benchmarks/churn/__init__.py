"""What the webhook costs the API server that asks it: creates of Pods, and Deployments scaled up and down.

``make bench-churn``; see ``__main__.py`` for what it does and ``README.md`` for what the numbers mean.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The control plane is the end-to-end tests'; they are no part of an installed package.
_TESTS = str(Path(__file__).parents[2] / "tests")
if _TESTS not in sys.path:
    sys.path.insert(0, _TESTS)
