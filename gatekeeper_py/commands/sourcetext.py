"""The text of a file of manifests, and the lines of the values in it."""

from __future__ import annotations

import yaml

from gatekeeper_py.commands.yaml12 import Yaml12Loader
from gatekeeper_py.core.admission.slot import Parts


class SourceText:
    """A text that was read as YAML or JSON documents.

    ``starts`` are the offsets of the documents in a JSON stream, which needs no separators. The first look-up
    of a line parses the text a second time, because only reports about mistakes need lines.
    """

    def __init__(self, name: str, text: str, starts: tuple[int, ...] = ()) -> None:
        self.name = name
        self._text = text
        self._starts = starts
        self._nodes: list[yaml.Node | None] | None = None

    def line_of(self, document: int, parts: Parts) -> int:
        """Return the line of a value, counted from 1. If it is absent, return that of its nearest parent."""
        start = self._starts[document] if self._starts else 0
        line = self._text.count("\n", 0, start) + 1
        if self._nodes is None:
            self._nodes = self._composed()
        node = self._nodes[document] if document < len(self._nodes) else None
        return line if node is None else line + _found(node, parts).start_mark.line

    def _composed(self) -> list[yaml.Node | None]:
        if not self._starts:
            return _nodes(self._text)
        ends = (*self._starts[1:], len(self._text))
        documents = (self._text[start:end] for start, end in zip(self._starts, ends, strict=True))
        return [next(iter(_nodes(document)), None) for document in documents]


def _nodes(text: str) -> list[yaml.Node | None]:
    """Parse the text into one node for each document.

    Return an empty list for JSON that is not YAML, for example with a key of over 1,024 characters.
    """
    try:
        return list(yaml.compose_all(text, Loader=Yaml12Loader))
    except yaml.YAMLError:
        return []


def _found(node: yaml.Node, parts: Parts) -> yaml.Node:
    for part in parts:
        below = _below(node, part)
        if below is None:
            break
        node = below
    return node


def _below(node: yaml.Node, part: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.SequenceNode):
        return node.value[part] if isinstance(part, int) and part < len(node.value) else None
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for key, value in node.value if key.value == part), None)
