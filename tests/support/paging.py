"""The visible text of a page."""

from __future__ import annotations

from html.parser import HTMLParser

_ENDS = frozenset({"th", "td", "li", "p", "h2", "h3", "dd", "dt", "summary"})


class _Text(HTMLParser):
    """Collects the text of each section, with a line break after each cell, item and paragraph."""

    def __init__(self) -> None:
        super().__init__()
        self.sections: dict[str, str] = {}
        self._section = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self._section = dict(attrs)["id"] or ""
            self.sections[self._section] = ""
        if tag == "li":  # its end tag is optional
            self.handle_data("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self._section = ""
        if tag in _ENDS:
            self.handle_data("\n")

    def handle_data(self, data: str) -> None:
        if self._section:
            self.sections[self._section] += data


def sections(page: str) -> dict[str, str]:
    """Return the text of each section by its id."""
    reader = _Text()
    reader.feed(page)
    return reader.sections


def lines(section: str) -> list[str]:
    """Return the lines of a section that are not empty."""
    return [line.strip() for line in section.splitlines() if line.strip()]
