"""A YAML document, read one node at a time.

A subset of YAML 1.2 with its core schema: one document, no anchors, aliases, tags or duplicate keys,
and keys are text. The reader pulls libyaml's events for three reasons: only events show explicit tags and
anchors, nesting can be bounded while reading, and nothing is built for parts that are not kept. So a document
needs memory only for the parts that the caller keeps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, Literal

import yaml
from yaml.error import MarkedYAMLError, YAMLError
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.finding import Mark, Path, Remark, Remarks
from gatekeeper_py.core.policy.limits import MAX_LEVELS
from gatekeeper_py.core.policy.parse.syntax import TOO_DEEP, syntax_problem

_NULL: Final = re.compile(r"|~|null|Null|NULL")
_BOOL: Final = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT: Final = re.compile(r"[-+]?[0-9]{1,18}|0o[0-7]{1,18}|0x[0-9a-fA-F]{1,15}")
_FLOAT: Final = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)

_FIRST: Final = frozenset("~nNtTfF+-.0123456789")
"""The first characters of scalars that are not text. An empty scalar is not text either: it is null."""

_TAG_DIRECTIVE: Final = re.compile(r"(?:\A\ufeff?|\n)%TAG\b")
"""Directives are refused before libyaml reads them, because libyaml compares each directive with all earlier
ones, which takes quadratic time. Tags are refused anyway."""


class Unreadable(Exception):
    """The rest of the text cannot be read; ``remark`` says why."""

    def __init__(self, mark: Mark, message: str, proposal: str = "", code: str = "yaml-syntax") -> None:
        super().__init__(message)
        self.remark = Remark(code=code, path=(), message=message, proposal=proposal, mark=mark)


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = _Unknown()
"""The value of an alias, of a tagged scalar, or of a field with a problem. The problem is already reported,
so nothing else about the value is reported."""


class Node:
    """One node: a scalar with its ``value``, or the start of a mapping or of a list.

    The content of a collection is read with ``Reader.entries`` or ``Reader.items``.
    """

    __slots__ = ("_event", "kind", "value")

    def __init__(self, kind: Literal["scalar", "mapping", "list"], event: Any, value: Any = None) -> None:
        self.kind = kind
        self.value = value
        self._event = event

    @property
    def mark(self) -> Mark:
        """Where the node begins."""
        mark = _mark(self._event)
        literal = self.kind == "scalar" and getattr(self._event, "style", None) == "|"
        return Mark(mark.line, mark.column, literal=True) if literal else mark


def value_of(node: Node) -> Any:
    """Return a scalar's value, and an empty collection for a collection."""
    return node.value if node.kind == "scalar" else {} if node.kind == "mapping" else []


class Reader:
    """Reads the first document of ``text``; problems of YAML itself go to ``remarks``.

    ``path`` is the path of the node that was read last. Collections are read in the order of the text. If a
    caller does not read all of a node, the rest is skipped when the caller asks for the next sibling.
    """

    def __init__(self, text: str, remarks: Remarks) -> None:
        self.path: list[str | int] = []
        self._remarks = remarks
        self._text = text
        self._level = 0
        self._ended = False
        self._key_event: Any = None
        if "%TAG" in text and (directive := _TAG_DIRECTIVE.search(text)) is not None:
            mark = Mark(text.count("\n", 0, directive.end()) + 1, 1)
            raise Unreadable(mark, "a %TAG directive, and tags are refused", "leave it out", "yaml-tag")
        # PyYAML's libyaml (0.2.5 and later) reads 10,000 rules 30 times faster than a Python parser. The
        # older libyaml in ruamel's extension refuses a:b inside [] and {}, which YAML 1.2 allows.
        self._events = yaml.parse(text, Loader=yaml.CSafeLoader)

    @property
    def key_mark(self) -> Mark:
        """Where the key that was read last begins."""
        return _mark(self._key_event)

    def root(self) -> Node | None:
        """Return the document's node, ``None`` when the text holds no document."""
        self._next()  # the start of the stream
        self._ended = isinstance(self._next(), StreamEndEvent)
        return None if self._ended else self._node(self._next())

    def finish(self, proposal: str = "keep one policy a file") -> None:
        """Read to the end of the document. A second one is a problem."""
        self._skip_to(0)
        while not self._ended:
            event = self._next()
            self._ended = isinstance(event, StreamEndEvent | DocumentStartEvent)
            if isinstance(event, DocumentStartEvent):
                self._report("second-document", (), event, "a second document", proposal)

    def entries(self) -> Iterator[tuple[str, Node]]:
        """Yield each key of the mapping that was read last, with the node of its value."""
        level = self._level
        lines: dict[str, int] = {}
        while not isinstance(event := self._next(), MappingEndEvent):
            key = self._key(event)
            if key is None:
                self._skip_node()
            elif key in lines:
                message = f"{escape(key, 60)} is given twice; the first one is in line {lines[key]}"
                self._report("duplicate-key", (*self.path, key), event, message, "keep one of the two")
                self._skip_node()
            else:
                lines[key] = event.start_mark.line + 1
                self.path.append(key)
                self._refuse_extras(event)
                self._key_event = event
                yield key, self._node(self._next())
                self._skip_to(level)
                self.path.pop()

    def items(self) -> Iterator[Node]:
        """Yield the node of each item of the list that was read last."""
        level = self._level
        index = 0
        while not isinstance(event := self._next(), SequenceEndEvent):
            self.path.append(index)
            yield self._node(event)
            self._skip_to(level)
            self.path.pop()
            index += 1

    def _node(self, event: Any) -> Node:
        if isinstance(event, ScalarEvent):
            if event.tag is None and event.anchor is None:
                return Node("scalar", event, event.value if event.style else _resolve(event.value))
            self._refuse_extras(event)
            known = event.value if event.style else _resolve(event.value)
            return Node("scalar", event, UNKNOWN if event.tag is not None else known)
        self._refuse_extras(event)
        if isinstance(event, AliasEvent):
            return Node("scalar", event, UNKNOWN)
        return Node("mapping" if isinstance(event, MappingStartEvent) else "list", event)

    def _key(self, event: Any) -> str | None:
        """Return the text of a key; report a key that is not text, and return ``None``."""
        if isinstance(event, ScalarEvent):
            key = event.value if event.style or event.tag is not None else _resolve(event.value)
            if isinstance(key, str):
                return key
            self._report("wrong-type", (*self.path, event.value), event, "a key must be text", "quote it")
        elif isinstance(event, AliasEvent):
            self.path.append(f"*{event.anchor}")
            self._refuse_extras(event)
            self.path.pop()
        else:
            self._report("wrong-type", tuple(self.path), event, "a key must be text", "quote it")
            self._skip_quietly(self._level - 1)
        return None

    def _refuse_extras(self, event: Any) -> None:
        """Report an alias, an anchor or a tag."""
        if event.anchor is None and event.tag is None:  # every alias has an anchor
            return
        path = tuple(self.path)
        if isinstance(event, AliasEvent):
            message = f"an alias (*{escape(str(event.anchor), 60)}), and aliases are refused"
            proposal = "write the value out, or quote a pattern that begins with *"
            self._report("yaml-alias", path, event, message, proposal)
            return
        if event.anchor is not None:
            message = f"an anchor (&{escape(event.anchor, 60)}), and anchors are refused"
            self._report("yaml-anchor", path, event, message, "leave it out")
        if event.tag is not None:
            message = f"a tag ({escape(event.tag, 60)}), and tags are refused"
            self._report("yaml-tag", path, event, message, "leave it out, and quote text")

    def _skip_node(self) -> None:
        """Read past a node without reporting problems in it."""
        level = self._level
        self._next()
        self._skip_quietly(level)

    def _skip_quietly(self, level: int) -> None:
        while self._level > level:
            self._next()

    def _skip_to(self, level: int) -> None:
        """Read past everything that a caller left unread. Report anchors, aliases and tags in it."""
        while self._level > level:
            event = self._next()
            if isinstance(event, NodeEvent):
                self._refuse_extras(event)

    def _next(self) -> Any:
        try:
            event = next(self._events)
        except MarkedYAMLError as problem:
            why = syntax_problem(problem, self._text)
            raise Unreadable(why.mark, why.message, why.proposal) from None
        except (YAMLError, UnicodeError) as problem:
            # This happens only if the characters of the text were not checked before.
            reason = escape(str(problem).partition("\n")[0])
            raise Unreadable(Mark(1, 1), f"not YAML: {reason}") from None
        if isinstance(event, CollectionStartEvent):
            if self._level >= MAX_LEVELS:
                raise Unreadable(_mark(event), TOO_DEEP)
            self._level += 1
        elif isinstance(event, CollectionEndEvent):
            self._level -= 1
        return event

    def _report(self, code: str, path: Path, event: Any, message: str, proposal: str) -> None:
        self._remarks.add(Remark(code=code, path=path, message=message, proposal=proposal, mark=_mark(event)))


def _mark(event: Any) -> Mark:
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)


def _resolve(text: str) -> str | int | float | bool | None:
    """Return the value of a plain scalar by the core schema: null, a boolean, a number, or else text."""
    if text and text[0] not in _FIRST:
        return text
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text, 0) if text.startswith(("0o", "0x")) else int(text)
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text
