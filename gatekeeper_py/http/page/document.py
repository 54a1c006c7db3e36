"""Self-contained HTML pages: elements, and the frame with head, style, navigation and sections.

Text is escaped unless it is already ``Html``, so no value can become markup. A page loads nothing. Its
Content-Security-Policy allows only its own style and script, by their hashes. If a text became markup by
mistake, the browser would apply none of its scripts and styles.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from gatekeeper_py.core.images.reference import escape, printable

MAX_TEXT: Final = 600
"""Maximum number of characters of one text. The longest valid image has about 520 characters; an invalid one
may have millions."""

_VOID: Final = frozenset({"br", "meta"})
_EMPTY_IN_SVG: Final = frozenset({"rect"})
"""SVG elements without content. They are written with a closing slash, because otherwise the next element
would become their child."""

Attribute = str | int | float | bool | None


class Html(str):
    """Markup that is safe to put into a page as it is."""

    __slots__ = ()


def text(value: str, limit: int = MAX_TEXT) -> Html:
    """Return untrusted text as markup: one line of printable ASCII, cut at ``limit``, escaped.

    Control characters, and those that change the direction of text, are written as escapes.
    """
    return Html(html.escape(escape(value, limit), quote=False))


def join(parts: Iterable[str | Html], between: str = "") -> Html:
    """Concatenate the parts; text is escaped."""
    return Html(html.escape(between, quote=False).join(map(_safe, parts)))


def tag(element: str, /, *children: str | Html, **attributes: Attribute) -> Html:
    """Return an element.

    An attribute's trailing underscore is dropped (``class_``) and other underscores become hyphens. ``True``
    writes the name alone; ``None`` and ``False`` leave the attribute out.
    """
    given = "".join(_attribute(*each) for each in attributes.items())
    if element in _EMPTY_IN_SVG:
        return Html(f"<{element}{given}/>")
    start = f"<{element}{given}>"
    return Html(start if element in _VOID else f"{start}{join(children)}</{element}>")


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    written = name.rstrip("_").replace("_", "-")
    return f" {written}" if value is True else f' {written}="{html.escape(printable(str(value)))}"'


def _safe(part: str | Html) -> str:
    return part if isinstance(part, Html) else html.escape(printable(part), quote=False)


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
