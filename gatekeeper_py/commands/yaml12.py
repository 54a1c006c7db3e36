"""YAML of Kubernetes objects: a loader that reads values as kubectl does, and the lines of the values.

Policies and other documents of this project are read by ``core.policy.parse``, which refuses the aliases and
merge keys that Kubernetes objects may have, and keeps no objects.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

import yaml

from gatekeeper_py.core.admission.slot import Parts

MAX_NODES: Final = 5_000_000
"""Maximum number of values with all aliases expanded. A few lines of YAML can expand to billions."""


class Yaml12Loader(yaml.CSafeLoader):
    """Reads YAML 1.2's core schema as far as JSON has its values: null, booleans and decimal numbers.

    Any other scalar is text.
    """

    _entries = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Copy the entries of merge keys. Each line of a file can merge all entries of the line before it."""
        super().flatten_mapping(node)
        self._entries += len(node.value)
        if self._entries > MAX_NODES:
            problem = f"more than {MAX_NODES} values once merge keys are followed"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)

    def construct_mapping(self, node: yaml.MappingNode, *, deep: bool = False) -> dict[Any, Any]:  # type: ignore[override]
        """Build a mapping whose keys are text, as kubectl does; a duplicate key is an error."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, "a key is given twice", key.start_mark
                    )
                seen.add(key.value)
                key.tag = _TEXT
        return super().construct_mapping(node, deep=deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Read a decimal number. By YAML 1.1, PyYAML would read 010 as eight, and refuse 09."""
        return int(node.value)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        return finite(node.value)

    def construct_undefined(self, node: yaml.Node) -> Any:
        raise yaml.constructor.ConstructorError(None, None, "a tag is not supported", node.start_mark)


def finite(text: str) -> float:
    number = float(text)
    if math.isnan(number):
        raise ValueError("NaN is not a number that JSON or YAML can hold here")
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def described(problem: yaml.YAMLError | ValueError) -> str:
    """Describe a problem on one line, without quoting the file."""
    if isinstance(problem, yaml.MarkedYAMLError) and problem.problem_mark is not None:
        return f" at line {problem.problem_mark.line + 1}: {problem.problem}"
    if isinstance(problem, yaml.reader.ReaderError):
        return f": {problem.reason} at character {problem.position}"
    return f": {problem}"


_CORE: Final = "tag:yaml.org,2002:"
_TEXT: Final = f"{_CORE}str"
_MERGE: Final = f"{_CORE}merge"

Yaml12Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    Yaml12Loader.add_implicit_resolver(f"{_CORE}{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)
Yaml12Loader.add_constructor(f"{_CORE}int", Yaml12Loader.construct_yaml_int)
Yaml12Loader.add_constructor(f"{_CORE}float", Yaml12Loader.construct_yaml_float)
# A Kubernetes object can be written as JSON, which has none of the other types of YAML 1.1.
for _other in (None, *(f"{_CORE}{name}" for name in ("binary", "timestamp", "omap", "pairs", "set"))):
    Yaml12Loader.add_constructor(_other, Yaml12Loader.construct_undefined)


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
