"""Whatever a text holds, it stays text."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.core.images.reference import printable
from gatekeeper_py.http.page.charts import Part, columns, share_bar, short
from gatekeeper_py.http.page.document import (
    CONTENT_SECURITY_POLICY,
    MAX_TEXT,
    Html,
    Section,
    document,
    join,
    tag,
    text,
)


class Reader(HTMLParser):
    """Collects the tags and texts that a browser would show."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(markup: str) -> Reader:
    reader = Reader()
    reader.feed(markup)
    reader.close()
    return reader


@given(st.text())
def test_a_child_and_an_attribute_are_read_back_as_they_were_written_but_for_control_characters(
    value: str,
) -> None:
    reader = read(tag("p", value, title=value))
    assert reader.tags == [("p", {"title": printable(value)})]
    assert "".join(reader.texts) == printable(value)


@given(st.text(max_size=50))
def test_text_of_strangers_is_one_line_of_printable_ascii_without_markup(value: str) -> None:
    shown = text(value)
    assert shown.isascii()
    assert shown == "" or shown.isprintable()
    assert read(shown).tags == []


def test_long_text_is_cut() -> None:
    assert len(text("a" * 10**6)) == MAX_TEXT
    assert text("a" * 20, 10) == "aaaaaaa..."


def test_markup_is_kept_and_everything_else_is_escaped() -> None:
    assert join(("<b>", tag("i", "x"), Html("<hr>")), " & ") == "&lt;b&gt; &amp; <i>x</i> &amp; <hr>"


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        pytest.param(tag("p", class_="a", aria_label="b"), '<p class="a" aria-label="b"></p>', id="names"),
        pytest.param(tag("li", "x", hidden=True), "<li hidden>x</li>", id="true"),
        pytest.param(tag("li", "x", hidden=False, title=None), "<li>x</li>", id="false-and-none"),
        pytest.param(tag("meta", name="a", content="b"), '<meta name="a" content="b">', id="void"),
        pytest.param(tag("rect", x=1), '<rect x="1"/>', id="empty-in-svg"),
    ],
)
def test_elements(element: Html, expected: str) -> None:
    assert element == expected


def test_a_bar_shows_even_one_of_ten_thousand_and_is_never_wider_than_its_whole() -> None:
    bar = share_bar([Part("bad", 1, "bad"), Part("good", 9999, "good"), Part("none", 0, "mute")], 10_000)
    rectangles = [attributes for name, attributes in read(bar).tags if name == "rect"]
    assert len(rectangles) == 2
    assert int(rectangles[0]["width"] or 0) >= 6
    assert all(int(r["x"] or 0) + int(r["width"] or 0) <= 1000 for r in rectangles)
    assert "aria-hidden" in read(bar).tags[0][1]
    assert read(share_bar([], 0, label="nothing")).tags[0][1]["aria-label"] == "nothing"


def test_columns_have_names_and_counts() -> None:
    chart = read(columns([Part("1 ms", 1500, "good"), Part("2 ms", 0, "good")], label="latency"))
    assert chart.texts == ["1 ms", "1.5k", "2 ms"]
    assert read(columns([], label="empty")).texts == []


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0"), (999, "999"), (1000, "1k"), (12_345, "12.3k"), (250_000, "250k"), (10**9, "1G")],
)
def test_short_counts(count: int, expected: str) -> None:
    assert short(count) == expected


def test_a_page_loads_nothing_and_allows_only_its_own_style_and_script() -> None:
    page = document(
        title="<T>",
        lead=Html(""),
        sections=[Section("a", "<A>", text("b"), "C")],
        footer=Html(""),
    )
    reader = read(page)
    metas = {attrs.get("http-equiv"): attrs.get("content") for name, attrs in reader.tags if name == "meta"}
    assert metas["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert "default-src 'none'" in CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    for _, attributes in reader.tags:
        assert not {"src", "style", "action", "srcset"} & attributes.keys()
        assert attributes.get("href", "#").startswith("#")  # type: ignore[union-attr]
    assert "http" not in page.replace("http-equiv", "")


def test_a_printed_page_hides_the_links_and_the_filter_and_restyles_no_list() -> None:
    page = document(title="", lead=text(""), sections=[], footer=text(""))
    _, _, printed = page.partition("@media print{")
    rules = printed.partition("</style>")[0]
    assert rules.startswith("nav,.filter{display:none}")
    assert ".answers" not in rules
