"""Build HTML from parts. Text is escaped unless it is already ``Html``, so no value can become markup."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Final

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
