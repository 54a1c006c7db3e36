"""Each page of the built site in a browser: narrow and wide, light and dark, served and from a folder."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from support.screens import DRAWINGS, screenshot
from tools.browser import Browser, Scheme, browser
from tools.site.look import look
from tools.site.pages import SITE, built, served

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
    assert seen.covered == []
    assert seen.errors == []
    assert seen.scheme == {"light": "default", "dark": "slate"}[scheme]
    assert f"{address}/{page}" in seen.requests
    assert [url for url in seen.requests if not url.startswith((f"{address}/", "data:", "blob:"))] == []


# Only a server shows the page 404.html, at any address, so its links do not work in a folder.
@pytest.mark.parametrize("page", [page for page in built() if page != "404.html"])
async def test_a_page_opened_from_a_folder_has_the_same_layout_and_loads_only_files(
    chromium: Browser, page: str
) -> None:
    seen = await look(chromium, (SITE / page).as_uri(), width=1280, scheme="light")
    assert seen.overflow == []
    assert seen.covered == []
    assert seen.errors == []
    folder = f"{SITE.as_uri()}/"
    assert [url for url in seen.requests if not url.startswith((folder, "data:", "blob:"))] == []


SEARCH = """new Promise((found) => {
    const results = () => [...document.querySelectorAll(".md-search-result__link")].map((link) => link.href);
    const box = document.querySelector(".md-search__input");
    document.querySelector("[data-md-toggle=search]").click();
    box.focus();
    box.value = "certificate";
    box.dispatchEvent(new Event("input"));
    const deadline = performance.now() + 20000;
    const look = () => results().length || performance.now() > deadline
        ? found(results()) : requestAnimationFrame(look);
    look();
})"""


@pytest.mark.parametrize("page", ["index.html", "runbooks/servers.html"])
@pytest.mark.parametrize("where", ["server", "folder"])
async def test_the_search_finds_pages(chromium: Browser, address: str, where: str, page: str) -> None:
    root = {"server": address, "folder": SITE.as_uri()}[where]
    async with chromium.page() as opened:
        await opened.open(f"{root}/{page}", width=1280, height=900, scheme="light")
        found = {url.partition("?")[0] for url in await opened.evaluate(SEARCH)}
        assert f"{root}/operate.html" in found
        assert opened.errors == []


LUMINANCE = """async (png) => {
    const image = new Image();
    image.src = `data:image/png;base64,${png}`;
    await image.decode();
    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
    canvas.drawImage(image, 0, 0);
    const [r, g, b] = canvas.getImageData(0, 0, 1, 1).data;
    return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
}"""
DRAWN = ", ".join(f".md-content img[src$='images/{path.name}']" for path in DRAWINGS)
PLACES = (
    f"[...document.querySelectorAll({json.dumps(DRAWN)})]"
    """.map((image) => {
    const {x, y, width, height} = image.getBoundingClientRect();
    return {x: x + scrollX, y: y + scrollY, width, height, alt: image.alt};
})"""
)


def drawn() -> list[str]:
    """Return the pages with drawings."""
    names = [f'src="images/{path.name}"' for path in DRAWINGS]
    texts = {page: (SITE / page).read_text(encoding="utf-8") for page in built()}
    return [page for page, text in texts.items() if any(name in text for name in names)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", drawn())
async def test_drawings_have_the_colours_of_the_page_and_follow_its_switch(
    chromium: Browser, address: str, page: str, scheme: Scheme
) -> None:
    async with chromium.page() as opened:
        await opened.open(f"{address}/{page}", width=390, height=900, scheme=scheme)
        for is_light in (scheme == "light", scheme == "dark"):
            places = await opened.evaluate(PLACES)
            assert places != []
            for place in places:
                assert len(place["alt"]) > 20
                assert place["width"] > 300
                corner = await screenshot(opened, place["x"] + 3, place["y"] + 3, 4, 4)
                luminance = await opened.evaluate(f"({LUMINANCE})('{base64.b64encode(corner).decode()}')")
                assert luminance > 0.8 if is_light else luminance < 0.2
            await opened.evaluate(
                "document.querySelector('[data-md-component=palette] label:not([hidden])').click()"
            )


WIDE = "<p style='width: 2000px'>wide</p>"
FAINT = "<p style='color: #ddd; background: #fff'>faint</p>"
COVERED = (
    "<p class='md-sidebar__scrollwrap' style='position: fixed; top: 0; bottom: 0; margin: 0'>menu</p>"
    "<div class='md-footer'>licence</div>"
)
ELSEWHERE = "<img src='http://127.0.0.1:9/x.png'>"


async def test_the_browser_reports_problems(chromium: Browser) -> None:
    """The browser reports errors, so the test above can fail."""
    viewport = "<meta name='viewport' content='width=device-width'>"
    body = f"{viewport}<div class='md-content'>{WIDE}{FAINT}{ELSEWHERE}</div>{COVERED}"
    page = "data:text/html," + body.replace("#", "%23")
    seen = await look(chromium, page, width=390, scheme="light")
    assert seen.overflow == ["P wide", "the page can be scrolled to the right"]
    assert seen.faint == ["P faint"]
    assert seen.covered == ["menu"]
    assert seen.errors
    assert "http://127.0.0.1:9/x.png" in seen.requests
