"""A browser for the tests of pages. Without one they are skipped, unless it is required."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from browser import Page, browsing, program


@pytest.fixture
async def browser(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Page]:
    """A tab of a fresh Chromium."""
    if program() is None:
        if request.config.getoption("--require-browser"):
            pytest.fail("there is no Chromium (Debian: apt-get install chromium)")
        pytest.skip("there is no Chromium (Debian: apt-get install chromium)")
    async with browsing(tmp_path / "profile") as page:
        yield page
