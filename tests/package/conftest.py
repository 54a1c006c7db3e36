"""Find the wheel and the source distribution that ``make package`` built."""

from __future__ import annotations

from pathlib import Path

import pytest

from package.outside import ROOT


@pytest.fixture(scope="session")
def wheel() -> Path:
    (found,) = (ROOT / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="session")
def sdist() -> Path:
    (found,) = (ROOT / "dist").glob("*.tar.gz")
    return found
