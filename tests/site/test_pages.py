"""Each page of the built site in a real browser: narrow and wide, light and dark."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tools.browser import Browser, Scheme, browser
from tools.site.look import look
from tools.site.pages import built, served

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with browser() as found:
        yield found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("page", built())
async def test_a_page_fits_is_readable_and_loads_nothing_from_elsewhere(
    chromium: Browser, address: str, page: str, width: int, scheme: Scheme
) -> None:
    seen = await look(chromium, f"{address}/{page}", width=width, scheme=scheme)
    assert seen.overflow == []
    assert seen.faint == []
    assert seen.errors == []
    assert seen.scheme == {"light": "default", "dark": "slate"}[scheme]
    assert f"{address}/{page}" in seen.requests
    assert [url for url in seen.requests if not url.startswith((f"{address}/", "data:", "blob:"))] == []


WIDE = "<p style='width: 2000px'>wide</p>"
FAINT = "<p style='color: #ddd; background: #fff'>faint</p>"
ELSEWHERE = "<img src='http://127.0.0.1:9/x.png'>"


async def test_the_browser_reports_problems(chromium: Browser) -> None:
    """The browser reports errors, so the test above can fail."""
    viewport = "<meta name='viewport' content='width=device-width'>"
    body = f"{viewport}<div class='md-content'>{WIDE}{FAINT}{ELSEWHERE}</div>"
    page = "data:text/html," + body.replace("#", "%23")
    seen = await look(chromium, page, width=390, scheme="light")
    assert seen.overflow == ["P wide", "the page can be scrolled to the right"]
    assert seen.faint == ["P faint"]
    assert seen.errors
    assert "http://127.0.0.1:9/x.png" in seen.requests
