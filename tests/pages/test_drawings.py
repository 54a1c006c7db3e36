"""The drawings of the documentation: small files that people can read in light and dark, even on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from support.screens import DRAWINGS
from tools.browser import Page, Scheme

PHONE_TEXT: Final = 358
"""Width in CSS pixels of the text of a page on a phone that is 390 pixels wide."""

PROBLEMS: Final = """(phone) => {
  const found = [];
  const page = document.documentElement.viewBox.baseVal;
  const light = v => (v /= 255, v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const luminance = colour => {
    const [r, g, b] = colour.match(/[0-9.]+/g).map(Number);
    return 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  };
  const edges = e => { const b = e.getBBox(); return [b.x, b.y + 3, b.x + b.width, b.y + b.height - 3]; };
  const meet = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
  const holds = (a, b) => a[0] <= b[0] && b[2] <= a[2] && a[1] <= b[1] && b[3] <= a[3];
  const boxes = [...document.querySelectorAll("rect")].map(e => [e, edges(e)]);
  const texts = [...document.querySelectorAll("text")].map(e => [e, edges(e)]);
  for (const [text, at] of texts) {
    const name = text.textContent;
    if (!holds([4, 0, page.width - 4, page.height], at)) found.push(`outside the picture: ${name}`);
    const around = boxes.filter(([box, where]) => meet(where, at));
    for (const [box, where] of around) if (!holds(where, at)) found.push(`crosses a box: ${name}`);
    for (const [other, where] of texts) if (other !== text && meet(where, at)) found.push(`covered: ${name}`);
    const size = parseFloat(getComputedStyle(text).fontSize) * phone / page.width;
    if (size < 11) found.push(`${size} pixels on a phone: ${name}`);
    const below = around.map(([box]) => getComputedStyle(box).fill).filter(fill => fill !== "none").at(-1);
    const [a, b] = [luminance(getComputedStyle(text).fill), luminance(below)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) found.push(`contrast ${contrast}: ${name}`);
  }
  return [texts.length, luminance(getComputedStyle(boxes[0][0]).fill), found];
}"""
"""Returns the number of texts, the luminance of the background, and the texts that cannot be read."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_can_be_read(browser: Page, scheme: Scheme) -> None:
    for path in DRAWINGS:
        await browser.open(path.as_uri(), width=1280, height=900, scheme=scheme)
        texts, background, problems = await browser.evaluate(f"({PROBLEMS})({PHONE_TEXT})")
        assert texts > 10
        assert problems == [], path
        assert background > 0.8 if scheme == "light" else background < 0.1
    assert browser.complaints == []
    assert set(browser.requests) == {path.as_uri() for path in DRAWINGS}


async def test_text_that_cannot_be_read_is_found(browser: Page, tmp_path: Path) -> None:
    """This proves that the test above can fail."""
    path = tmp_path / "bad.svg"
    path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 90">'
        '<rect width="600" height="90" fill="#fff"/><rect x="9" y="9" width="60" height="30" fill="#eee"/>'
        '<text x="20" y="30" fill="#000">too long a text</text><text x="25" y="30" fill="#ccc">faint</text>'
        '<text x="590" y="70" fill="#000">cut off</text></svg>'
    )
    await browser.open(path.as_uri(), width=1280, height=900, scheme="light")
    _, _, problems = await browser.evaluate(f"({PROBLEMS})({PHONE_TEXT})")
    found = {problem.partition(":")[0].split()[0] for problem in problems}
    assert found == {"outside", "crosses", "covered", "9.546666666666667", "contrast"}
