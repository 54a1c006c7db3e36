"""A process that only decides loads no parser: it receives the parsed document from elsewhere."""

from __future__ import annotations

import subprocess
import sys

PARSERS = ("yaml", "gatekeeper_py.core.policy.parse.fields")


def test_deciding_loads_no_parser() -> None:
    code = "import sys, gatekeeper_py.core.policy.policy; "
    code += f"print(*(name for name in {PARSERS!r} if name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.split() == []


def test_serving_loads_nothing_that_it_does_not_need() -> None:
    """Unused modules would cost memory in each replica. The child that parses policies imports its own."""
    unused = (*PARSERS, "rich", "kubernetes_asyncio", "urllib3")
    code = "import sys, gatekeeper_py.webhook.app; "
    code += f"print(*(name for name in {unused!r} if name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.split() == []
