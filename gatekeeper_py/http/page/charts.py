"""Charts as inline SVG. Colours come from classes of the style sheet; every number is also text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from gatekeeper_py.http.page.document import Html, join, tag

WIDTH: Final = 1000
"""Width of a bar in units of its ``viewBox``. The style sheet stretches the bar to the available space."""


class Part(NamedTuple):
    """One part of a whole. ``style`` is ``bad``, ``good``, ``mute`` or ``change``, as in the style sheet."""

    name: str
    amount: int
    style: str


def share_bar(parts: Sequence[Part], whole: int, *, label: str = "") -> Html:
    """Return a horizontal bar whose full width is ``whole``. Without a label, screen readers skip the bar."""
    rectangles = []
    left = 0
    for part in parts:
        if not part.amount or not whole:
            continue
        # Even a part of one in 10,000 is visible: it may be the one rejected image.
        width = max(round(WIDTH * part.amount / whole), 6)
        left = min(left, WIDTH - width)
        rectangles.append(tag("rect", x=left, y=0, width=width, height=10, class_=f"f-{part.style}"))
        left += width
    spoken = {"role": "img", "aria_label": label} if label else {"aria_hidden": "true"}
    return tag(
        "svg", *rectangles, class_="bar", viewBox=f"0 0 {WIDTH} 10", preserveAspectRatio="none", **spoken
    )


def legend(parts: Sequence[Part]) -> Html:
    """Return the parts with their colours and counts, as a list."""
    items = (
        tag(
            "li",
            tag(
                "svg",
                tag("rect", width=10, height=10, class_=f"f-{part.style}"),
                class_="key",
                viewBox="0 0 10 10",
                aria_hidden="true",
            ),
            f"{part.name} ",
            tag("strong", f"{part.amount:,}"),
        )
        for part in parts
    )
    return tag("ul", *items, class_="legend")


def columns(bars: Sequence[Part], *, label: str) -> Html:
    """Return a column chart; each column has its name below it and its count above it.

    Screen readers read ``label`` instead of the drawing, so the label must contain the counts.
    """
    highest = max((bar.amount for bar in bars), default=0)
    step, height = 44, 120
    drawn: list[Html] = []
    for index, bar in enumerate(bars):
        size = round((height - 20) * bar.amount / highest) if highest else 0
        size = max(size, 2) if bar.amount else 0
        middle = index * step + step / 2
        drawn += (
            tag(
                "rect",
                x=index * step + 6,
                y=height - size,
                width=step - 12,
                height=size,
                class_=f"f-{bar.style}",
            ),
            tag("text", bar.name, x=middle, y=height + 16, class_="axis"),
        )
        if bar.amount:
            drawn.append(tag("text", short(bar.amount), x=middle, y=height - size - 5, class_="axis"))
    width, whole = max(len(bars), 1) * step, height + 22
    return tag(
        "svg",
        join(drawn),
        class_="columns",
        viewBox=f"0 0 {width} {whole}",
        width=width,
        height=whole,
        role="img",
        aria_label=label,
    )


def short(count: int) -> str:
    """Return a count in at most five characters, e.g. ``12.3k``."""
    for size, suffix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            number = f"{count / size:.1f}" if count < 100 * size else f"{count // size}"
            return f"{number.removesuffix('.0')}{suffix}"
    return str(count)
