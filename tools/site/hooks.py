"""Hooks of MkDocs (see ``mkdocs.yml``). Users read the pages on a code host too, so both must work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\[([^\]\n]*(?:\n[^\]\n]*)?)\]\((\.\./[^)\s]+)\)")

CODE = re.compile(r"`[^`]*`")


def slug(title: str, separator: str) -> str:
    """Return the anchor that code hosts give a heading."""
    return re.sub(r"[^\w -]", "", title.strip().lower()).replace(" ", separator)


def in_words(markdown: str, folder: Path) -> str:
    """Replace links to files outside the site by their text and path.

    ``folder`` is the folder of the page. Raises ValueError for a link to a file that does not exist.
    """

    def words(link: re.Match[str]) -> str:
        text, target = link.groups()
        file = (folder / target.partition("#")[0]).resolve()
        if file.is_relative_to(ROOT / "docs"):
            return link[0]
        if not file.exists():
            raise ValueError(f"a link leads to {target}, which does not exist")
        path = str(file.relative_to(ROOT))
        plain = text.strip("`")
        return f"`{path}`" if path.endswith(plain) else f"{text} (`{path}` in the repository)"

    return LINK.sub(words, markdown)


def unescaped(markdown: str) -> str:
    r"""Replace ``\|`` by ``|`` in code in tables. Code hosts need the backslash, but MkDocs would show it."""

    def code(span: re.Match[str]) -> str:
        return span[0].replace("\\|", "|")

    lines = markdown.split("\n")
    return "\n".join(CODE.sub(code, line) if line.startswith("|") else line for line in lines)


def on_config(config: Any) -> Any:
    """Give headings the same anchors as on a code host."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slug
    return config


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Adapt a page to the site."""
    return unescaped(in_words(markdown, Path(page.file.abs_src_path).parent))
