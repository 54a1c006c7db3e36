"""Record the demo as a picture of a terminal: ``make manifests`` writes ``docs/images/demo.svg``.

The picture shows some steps of the tour, as they were printed, with long lines broken between words. It
leaves out how long the server took to see a new mode, which differs from run to run. Standard library only.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "demo.svg"

STEPS = (
    "$ gatekeeper-py serve",
    "-- mode: enforce",
    "$ kubectl apply -f approved.yaml",
    "$ kubectl apply -f lookalike.yaml",
    "$ kubectl apply -f dockerhub.yaml",
    "-- change 'mode: enforce' to 'mode: warn'",
    "$ kubectl apply -f dockerhub.yaml",
    "-- change 'mode: warn' to 'mode: mutate'",
    "$ kubectl apply -f dockerhub.yaml",
)
"""The beginnings of the steps in the picture, in the order of the tour."""

COLUMNS = 104
CHARACTER, LINE, MARGIN, SIZE = 8.0, 19, 20, 13.3
"""Sizes in pixels: width of a character, height of a line, space around the text, size of the font."""

COLOURS = {
    "command": "#ffffff",
    "title": "#7aa2f7",
    "allowed": "#9ece6a",
    "warning": "#e0af68",
    "denied": "#ff8f9e",
}
BACKGROUND = "#1a1b26"
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def recorded() -> str:
    """Run the demo and return what it printed. Raises CalledProcessError when an answer was unexpected."""
    demo = [sys.executable, str(ROOT / "examples" / "demo.py"), "--once"]
    return subprocess.run(demo, stdout=subprocess.PIPE, text=True, check=True, timeout=120).stdout


def chosen(output: str) -> list[str]:
    """Return the steps for the picture. Raises ValueError when the demo does not have one of them."""
    steps = iter(output.strip().split("\n\n"))
    found = []
    for start in STEPS:
        step = next((step for step in steps if step.startswith(start)), None)
        if step is None:
            raise ValueError(f"the demo has no step {start!r} any more")
        found.append("\n".join(line for line in step.splitlines() if not line.startswith("   live after ")))
    return found


def style(line: str) -> str | None:
    """Return the style of a line, or None for one that continues the line before it."""
    if line.startswith("$ "):
        return "command"
    if line.startswith("-- "):
        return "title"
    if line.startswith("Error "):
        return "denied"
    if line.startswith("Warning: "):
        return "warning"
    return "allowed" if line.endswith(" created") else None


def picture(steps: list[str]) -> str:
    """Draw steps as an SVG, one text element for each line."""
    rows: list[str] = []
    y, current = MARGIN + LINE, "title"
    for step in steps:
        for line in step.splitlines():
            current = style(line) or current
            for part in textwrap.wrap(line, COLUMNS, break_on_hyphens=False):
                text = part.strip()
                x = MARGIN + (len(part) - len(part.lstrip())) * CHARACTER
                rows.append(
                    f'  <text x="{x:.0f}" y="{y}" fill="{COLOURS[current]}" '
                    f'textLength="{len(text) * CHARACTER:.0f}">{escape(text)}</text>'
                )
                y += LINE
        y += LINE // 2
    width, height = COLUMNS * CHARACTER + 2 * MARGIN, y
    size = f'width="{width:.0f}" height="{height}" viewBox="0 0 {width:.0f} {height}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{FONTS}" font-size="{SIZE}" '
        'role="img">\n'
        "  <title>A terminal: the demo of gatekeeper-py</title>\n"
        f'  <rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>\n' + "\n".join(rows) + "\n</svg>\n"
    )
