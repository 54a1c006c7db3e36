"""The frame of a page: head, style, navigation and sections.

A page loads nothing. Its Content-Security-Policy allows only its own style and script, by their hashes. If a
text became markup by mistake, the browser would apply none of its scripts and styles.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from gatekeeper_py.http.page.markup import Html, join, tag


def _content(name: str) -> str:
    """Return the text of a file of this package."""
    # importlib.resources would do the same, but importing it takes half a megabyte in each server.
    return Path(__file__).with_name(name).read_text("utf-8")


STYLE: Final = _content("style.css")
FILTER_SCRIPT: Final = _content("filter.js")


def _hash(content: str) -> str:
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"'sha256-{digest}'"


CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(FILTER_SCRIPT)}; "
    "base-uri 'none'; form-action 'none'"
)


class Section(NamedTuple):
    """A part of a page with a heading. The navigation shows ``name``; links use ``id_``."""

    id_: str
    heading: str
    body: Html
    name: str = ""


def document(
    *,
    title: str,
    lead: Html,
    sections: Sequence[Section],
    footer: Html,
) -> str:
    """Return a whole page.

    The script only filters lists; the page is complete without it.
    """
    head = join(
        (
            Html('<meta charset="utf-8">'),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("meta", name="referrer", content="no-referrer"),
            tag("meta", http_equiv="Content-Security-Policy", content=CONTENT_SECURITY_POLICY),
            tag("title", title),
            tag("style", Html(STYLE)),
        )
    )
    links = (tag("a", section.name or section.heading, href=f"#{section.id_}") for section in sections)
    body = join(
        (
            tag("a", "Skip to the content", href="#content", class_="skip"),
            tag("header", tag("h1", title), lead, tag("nav", *links, aria_label="Sections")),
            tag("main", *map(_section, sections), id="content"),
            tag("footer", footer),
            tag("script", Html(FILTER_SCRIPT)),
        )
    )
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{body}\n</body>\n</html>\n'


def _section(section: Section) -> Html:
    heading = tag("h2", section.heading, id=f"{section.id_}-heading")
    return tag("section", heading, section.body, id=section.id_, aria_labelledby=f"{section.id_}-heading")


def filtered(items: Html, *, noun: str) -> Html:
    """Return a list in an element to which the script adds an input field that filters the items."""
    return tag("div", items, class_="filtered", data_noun=noun)


def figures(values: Iterable[tuple[str, str, str]]) -> Html:
    """Return key figures: value, name, and a class for its colour."""
    return tag(
        "dl",
        *(
            tag("div", tag("dt", name), tag("dd", value), class_=style or None)
            for value, name, style in values
        ),
        class_="figures",
    )


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str | Html]],
    *,
    caption: str,
    numbers: Iterable[int] = (),
) -> Html:
    """Return a table. On a narrow screen each row becomes a block that repeats the headings.

    ``numbers`` are the columns that are aligned to the right.
    """
    right = frozenset(numbers)
    head = tag(
        "tr",
        *(
            tag("th", each, scope="col", class_="n" if i in right else None)
            for i, each in enumerate(headings)
        ),
    )
    lines = (
        tag(
            "tr",
            *(
                tag(
                    "th" if not i else "td",
                    cell,
                    scope="row" if not i else None,
                    role="rowheader" if not i else "cell",
                    class_="n" if i in right else None,
                    data_h=headings[i] if i else None,
                )
                for i, cell in enumerate(row)
            ),
            role="row",
        )
        for row in rows
    )
    return tag(
        "table",
        tag("caption", caption, class_="unseen"),
        tag("thead", head),
        tag("tbody", *lines, role="rowgroup"),
        role="table",
        class_="bars" if right else None,
    )
