"""Load the YAML of Kubernetes objects as kubectl does, and find the lines of the values.

``core.policy.parse`` reads policies and the other documents of this project. It refuses aliases and merge
keys, which Kubernetes objects may have.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from gatekeeper_py.core.admission.slot import Parts

MAX_NODES: Final = 5_000_000
"""Maximum number of values with all aliases expanded. A few lines of YAML can expand to billions."""


@dataclass(slots=True)
class Merges:
    """The number of entries that merge keys may still add to the documents of one file."""

    left: int = MAX_NODES


class TooManyValuesError(yaml.constructor.ConstructorError):
    """Merge keys add more than ``MAX_NODES`` entries."""


class DisputedMergeError(yaml.constructor.ConstructorError):
    """A merge key gives a field that stands before it. For kubectl the merge key wins, for YAML the field."""


class KeyNotTextError(yaml.constructor.ConstructorError):
    """A key of a mapping is a list or a mapping. An unquoted ``{{ x }}`` of a template is such a mapping."""


def is_syntax_error(problem: Exception) -> bool:
    """Return whether a text is not YAML that Kubernetes can read.

    A key that is not text, and a merge key that parsers read differently, count, too. Other problems are
    those of values, such as a key that is given twice.
    """
    return isinstance(problem, KeyNotTextError | DisputedMergeError) or (
        isinstance(problem, yaml.YAMLError) and not isinstance(problem, yaml.constructor.ConstructorError)
    )


class Yaml12Loader(yaml.CSafeLoader):
    """Reads YAML 1.2's core schema as far as JSON has its values: null, booleans and decimal numbers.

    Any other scalar is text.
    """

    def __init__(self, text: str, merges: Merges | None = None) -> None:
        super().__init__(text)
        self._merges = merges or Merges()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Copy the entries of merge keys. Each line of a file can merge all entries of the line before it."""
        merges = [at for at, (key, _) in enumerate(node.value) if key.tag == _MERGE]
        earlier = node.value[: merges[-1]] if merges else ()
        before = {key.value for key, _ in earlier if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE}
        own = len(node.value) - len(merges)
        super().flatten_mapping(node)
        for key, _ in node.value[: len(node.value) - own] if before else ():
            if isinstance(key, yaml.ScalarNode) and key.value in before:
                problem = "a merge key after a field that it gives, too: move the merge key up"
                raise DisputedMergeError(None, None, problem, key.start_mark)
        self._merges.left -= len(node.value)
        if self._merges.left < 0:
            problem = f"more than {MAX_NODES} values once merge keys are followed"
            raise TooManyValuesError(None, None, problem, node.start_mark)

    def construct_mapping(self, node: yaml.MappingNode, *, deep: bool = False) -> dict[Any, Any]:  # type: ignore[override]
        """Build a mapping whose keys are text, as kubectl does; a duplicate key is an error."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise KeyNotTextError(None, None, "a key is not text", key.start_mark)
            if key.tag != _MERGE:
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


def described(problem: yaml.YAMLError | ValueError, before: int = 0) -> str:
    """Describe a problem on one line, without quoting the file. ``before`` lines precede the text."""
    if isinstance(problem, yaml.MarkedYAMLError) and problem.problem_mark is not None:
        return f" at line {before + problem.problem_mark.line + 1}: {problem.problem}"
    if isinstance(problem, yaml.reader.ReaderError):
        return f": {problem.reason} at character {problem.position}"
    return f": {problem}"


_OTHER_BREAKS: Final = re.compile("[\r\x85\u2028\u2029]")
"""The characters other than LF that end a line for libyaml, and for the Go port of it in kubectl."""

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


def load_documents(text: str, merges: Merges) -> list[Any]:
    """Return the documents of a YAML stream. Raises ``YAMLError``, ``ValueError`` and ``RecursionError``."""
    loader: Callable[[str], Any] = partial(Yaml12Loader, merges=merges)
    return list(yaml.load_all(text, Loader=loader))  # type: ignore[arg-type]


def holds_object(text: str) -> bool:
    """Return whether a text is YAML with the fields of a Kubernetes object, even if it cannot be loaded."""
    return any(
        isinstance(node, yaml.MappingNode)
        and {"apiVersion", "kind"} <= {key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)}
        for node in _nodes(text)
    )


def split_documents(text: str) -> Iterator[tuple[int, str]]:
    """Yield the documents of a YAML stream that are not empty, each with the number of lines before it."""
    first = 0
    document: list[str] = []
    # Lines keep their ends, because the revision of a policy is computed from its text.
    for number, line in enumerate(_lines(text)):
        if line.rstrip() not in {"---", "..."} and not line.startswith(("--- ", "---\t", "... ", "...\t")):
            document.append(line)
            continue
        if any(map(_is_content, document)):
            yield first, "".join(document)
        # A document may begin on the line of its marker.
        rest = line[3:] if _is_content(line[3:]) else ""
        first, document = (number, [f"   {rest}"]) if rest else (number + 1, [])
    if any(map(_is_content, document)):
        yield first, "".join(document)


def _lines(text: str) -> Iterator[str]:
    """Split at LF and CRLF, and keep the line ends."""
    *lines, last = text.split("\n")
    yield from (f"{line}\n" for line in lines)
    yield last


def _is_content(line: str) -> bool:
    # Characters that look like a space to a reader may end a line, and so a comment, for a YAML parser.
    pieces = map(str.strip, _OTHER_BREAKS.split(line))
    return any(piece and not piece.startswith(("#", "%")) for piece in pieces)


class SourceText:
    """A text that was read as YAML or JSON documents.

    ``parts`` are the text, or its documents if they were read one by one, each with the number of lines
    before it. The first look-up of a line parses the text a second time, because only reports about mistakes
    need lines.
    """

    def __init__(self, name: str, parts: Sequence[tuple[int, str]]) -> None:
        self.name = name
        self._parts = parts
        self._nodes: list[tuple[int, yaml.Node | None]] | None = None

    def line_of(self, document: int, path: Parts) -> int:
        """Return the line of a value, counted from 1. If it is absent, return that of its nearest parent."""
        if self._nodes is None:
            self._nodes = [(before, node) for before, text in self._parts for node in _nodes(text) or (None,)]
        before, node = self._nodes[document] if document < len(self._nodes) else (0, None)
        return before + 1 + (0 if node is None else _found(node, path).start_mark.line)


def _nodes(text: str) -> list[yaml.Node | None]:
    """Parse the text into one node for each document.

    Return an empty list for a text that is not YAML. JSON with a key of over 1,024 characters is not YAML.
    """
    try:
        return list(yaml.compose_all(text, Loader=Yaml12Loader))
    except (yaml.YAMLError, RecursionError):
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
