"""Open a page of the site in a browser: find problems of its layout, requests and errors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.browser import Browser, Scheme

HEIGHT: Final = 900

LOOK: Final = (Path(__file__).parent / "look.js").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The findings on one page."""

    covered: list[str]
    """Sidebars that lie over the footer at the end of the page."""
    overflow: list[str]
    faint: list[str]
    """Text whose contrast with its background is below 3."""
    scheme: str
    """The theme's colour scheme."""
    requests: list[str]
    """Every URL that the page loaded."""
    errors: list[str]
    """Exceptions of scripts, and failed requests."""


async def look(browser: Browser, url: str, *, width: int, scheme: Scheme) -> Look:
    """Open a page in a window of its own and look at it.

    ``width`` is in CSS pixels. Raises TimeoutError when the page does not load.
    """
    async with browser.page() as page:
        await page.open(url, width=width, height=HEIGHT, scheme=scheme)
        seen = await page.evaluate(f"({LOOK})({width})")
        return Look(
            covered=seen["covered"],
            overflow=seen["overflow"],
            faint=seen["faint"],
            scheme=seen["scheme"],
            requests=page.requests,
            errors=page.errors,
        )
