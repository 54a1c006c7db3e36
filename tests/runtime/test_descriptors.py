"""The process raises its limit of open files as far as it may."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from gatekeeper_py.runtime.descriptors import allow_descriptors


@pytest.mark.parametrize(
    ("soft", "hard", "minimum", "allowed"),
    [
        pytest.param(100, 400, 50, 100, id="already-higher"),
        pytest.param(100, 400, 300, 300, id="raised"),
        pytest.param(100, 400, 400, 400, id="raised-to-the-hard-limit"),
        pytest.param(100, 400, 5000, 400, id="no-higher-than-the-hard-limit"),
    ],
)
def test_the_soft_limit_is_raised(soft: int, hard: int, minimum: int, allowed: int) -> None:
    """The test runs in a separate process, because a lowered hard limit cannot be raised again."""
    code = (
        "import resource; from gatekeeper_py.runtime.descriptors import allow_descriptors;"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}));"
        f"print(allow_descriptors({minimum}), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(allowed), str(allowed), str(hard)]


def test_a_sufficient_limit_is_not_changed() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert allow_descriptors(10) >= 10
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
