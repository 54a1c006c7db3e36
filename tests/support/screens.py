"""The screen sizes on which pages are tested, and the checks for each."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Final

import pytest

from tools.browser import Page, Scheme

PICTURES: Final = Path(__file__).parents[2] / "docs" / "images"
DRAWINGS: Final = [
    PICTURES / f"{name}.svg"
    for name in ("parts", "review", "policy-change", "look-ups", "exceptions", "failures")
]
"""The drawings that were made by hand."""

SCREENS: Final = [
    pytest.param(width, height, scheme, id=f"{name}-{scheme}")
    for name, width, height in (("phone", 390, 844), ("small-phone", 320, 640), ("desktop", 1280, 900))
    for scheme in ("light", "dark")
]

LUMINANCE: Final = """
(() => {
  const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g).map(Number);
  return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
})()
"""

_CONTRAST: Final = """
(() => {
  const light = v => (v /= 255, v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const parse = color => {
    const [r, g, b, a = 1] = color.match(/[0-9.]+/g).map(Number);
    return {l: 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b), a};
  };
  const behind = e => {
    for (; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color.a) return color.l;
    }
    return 1;
  };
  const bad = new Set();
  for (const e of document.querySelectorAll('body *:not(script, style, svg, svg *)')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length) continue;
    const [a, b] = [parse(getComputedStyle(e).color).l, behind(e)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.add(`${e.tagName}.${e.className}: ${ratio.toFixed(2)}`);
  }
  return [...bad];
})()
"""
"""Elements whose text has less contrast than WCAG 2 AA asks for."""

__all__ = ["DRAWINGS", "LUMINANCE", "PICTURES", "SCREENS", "Scheme", "check_fits", "screenshot"]


async def check_fits(page: Page) -> None:
    """Check that nothing is wider than the screen, and that all text is readable."""
    width, screen = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= screen
    assert await page.evaluate(_CONTRAST) == []


async def screenshot(page: Page, x: float, y: float, width: float, height: float) -> bytes:
    """Return a part of the page as PNG. Positions and sizes are in CSS pixels."""
    clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
    taken = await page.send(
        "Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True, optimizeForSpeed=False
    )
    return base64.b64decode(taken["data"])
