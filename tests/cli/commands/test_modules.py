"""What each command loads: a module that nobody needs costs time in every run, or memory in every replica."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[3]

HEAVY: Final = frozenset(
    {"aiohttp", "asyncio", "attr", "cachetools", "cryptography", "h11", "hypothesis", "jsonschema",
     "kubernetes_asyncio", "msgspec", "multiprocessing", "orjson", "prometheus_client", "pydantic",
     "pygments", "rich", "structlog", "unittest", "urllib3", "uvloop", "yaml"}
)  # fmt: skip
"""Packages that take milliseconds or megabytes. A command may load only those that its row names."""

RUN: Final = "from gatekeeper_py.cli.main import run; run(sys.argv[1:])"
JUDGING: Final = "cachetools orjson yaml"
SERVING: Final = (
    "aiohttp asyncio attr cachetools cryptography msgspec orjson prometheus_client structlog uvloop"
)
POLICY: Final = "examples/policy.yaml"


@pytest.mark.parametrize(
    ("program", "arguments", "may_load", "most"),
    [
        pytest.param(RUN, "version", "", 6, id="version"),
        pytest.param(RUN, "--help", "", 4, id="help"),
        pytest.param(RUN, f"check {POLICY}", "cachetools yaml", 80, id="check"),
        pytest.param(RUN, f"check {POLICY} -o json", JUDGING, 94, id="check-json"),
        pytest.param(RUN, f"explain {POLICY} nginx", JUDGING, 85, id="explain"),
        pytest.param(RUN, f"explain {POLICY} nginx --fast-path", JUDGING, 94, id="explain-fast-path"),
        pytest.param(
            RUN,
            f"review {POLICY} examples/manifests/deployment.yaml",
            f"{JUDGING} msgspec",
            93,
            id="review",
        ),
        pytest.param(RUN, "test examples/tests/policy-tests.yaml", f"{JUDGING} msgspec", 97, id="test"),
        pytest.param(RUN, "schema policy", "cachetools", 44, id="schema"),
        pytest.param(
            "import gatekeeper_py.cli.commands.serve, gatekeeper_py.webhook.app", "", SERVING, 140, id="serve"
        ),
        pytest.param(
            "import gatekeeper_py.cli.commands.control, gatekeeper_py.controller.app",
            "",
            f"{SERVING} yaml",
            150,
            id="control",
        ),
    ],
)
def test_a_command_loads_only_what_it_needs(program: str, arguments: str, may_load: str, most: int) -> None:
    """``most`` limits our own modules: an import of one of them often brings ten others."""
    code = f"import sys; {program}; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments.split()], cwd=ROOT, check=True, capture_output=True, text=True
    )
    names = done.stderr.split()
    loaded = {name.partition(".")[0] for name in names}
    own = [name for name in names if name.startswith("gatekeeper_py")]
    assert sorted(loaded & HEAVY - set(may_load.split())) == []
    assert len(own) <= most, own
