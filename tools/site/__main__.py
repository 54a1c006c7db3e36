"""Take pictures of pages of the built site, narrow and wide, light and dark, in .build/screenshots."""

from __future__ import annotations

import asyncio
import sys

from tools.browser import Scheme, browser
from tools.site.look import look
from tools.site.pages import SITE, built, served

WIDTHS = (390, 1280)
SCHEMES: tuple[Scheme, ...] = ("light", "dark")


async def main(selected: list[str]) -> None:
    """Take the pictures of the pages named on the command line, or of all."""
    folder = SITE.parent / "screenshots"
    folder.mkdir(exist_ok=True)
    with served() as address:
        async with browser() as chromium:
            for page in built():
                name = page.removesuffix(".html").replace("/", "-")
                if selected and name not in selected:
                    continue
                for width in WIDTHS:
                    for scheme in SCHEMES:
                        seen = await look(
                            chromium, f"{address}/{page}", width=width, scheme=scheme, picture=True
                        )
                        (folder / f"{name}-{width}-{scheme}.png").write_bytes(seen.picture)
    sys.stdout.write(f"{folder}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
