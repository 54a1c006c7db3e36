"""The browser for the tests of pages. Without a browser they are skipped, unless it is required."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tools.browser import Page, browser, program


@pytest.fixture(name="browser")
async def page(request: pytest.FixtureRequest) -> AsyncIterator[Page]:
    """Yield a window of a new Chromium."""
    if program() is None:
        if request.config.getoption("--require-browser"):
            pytest.fail("there is no Chromium (Debian: apt-get install chromium)")
        pytest.skip("there is no Chromium (Debian: apt-get install chromium)")
    async with browser() as chromium, chromium.page() as page:
        yield page
