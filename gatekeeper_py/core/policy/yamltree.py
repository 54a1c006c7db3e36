"""YAML text -> plain values that remember their lines, for documents people write by hand.

A subset of YAML 1.2 with its core schema: one document, no anchors, aliases, tags or duplicate
keys, keys are text. libyaml's events are used and not its composer, because only events tell an
explicit tag or an anchor from none, and because nesting can be bounded while reading (libyaml's
time is quadratic in the depth of open brackets: 200,000 of them take two minutes).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml.error import MarkedYAMLError, YAMLError
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.finding import Finding, Severity

MAX_DEPTH: Final = 64
"""Open collections at once; a policy needs five, a manifest that holds one three."""

Path = tuple[str | int, ...]
"""Keys and indices from the top of a document."""

_NULL: Final = re.compile(r"|~|null|Null|NULL")
_BOOL: Final = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT: Final = re.compile(r"[-+]?[0-9]{1,18}|0o[0-7]{1,18}|0x[0-9a-fA-F]{1,15}")
_FLOAT: Final = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)

_TAG_DIRECTIVE: Final = re.compile(r"(?:\A\ufeff?|[\n\r\x85\u2028\u2029])%TAG\b")
"""Tags are refused anyway, and libyaml compares each directive with all before it: quadratic."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the text, both from 1. ``literal`` is set where a ``|`` block scalar starts."""

    line: int
    column: int
    literal: bool = False


class YamlMapping(dict[str, Any]):
    """A mapping that knows where each key and each value stands."""

    __slots__ = ("keys_at", "mark", "values_at")

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.keys_at: dict[str, Mark] = {}
        self.values_at: dict[str, Mark] = {}


class YamlList(list[Any]):
    """A list that knows where each item stands."""

    __slots__ = ("items_at", "mark")

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.items_at: list[Mark] = []


@dataclass(slots=True)
class Tree:
    """A parsed document: ``root`` is ``None`` when nothing usable was read.

    ``unknown`` holds the paths whose value could not be read, so that nothing further can be said
    about what stands there; the finding that says so is among ``findings``.
    """

    root: Any = None
    mark: Mark = field(default_factory=lambda: Mark(1, 1))
    findings: list[Finding] = field(default_factory=list)
    unknown: set[Path] = field(default_factory=set)

    def hides(self, path: Path) -> bool:
        """Whether the value at ``path`` or above it could not be read."""
        return any(path[:length] in self.unknown for length in range(len(path) + 1))

    def mark_of(self, path: Path, *, key: bool = False) -> Mark:
        """Where a path stands; the nearest known place above it when it does not exist.

        With ``key``, where the last part's key stands and not its value.
        """
        value, mark = self.root, self.mark
        for position, part in enumerate(path):
            last = position == len(path) - 1
            if isinstance(value, YamlMapping) and part in value:
                at_key = key and last
                mark = (value.keys_at if at_key else value.values_at)[str(part)]
            elif isinstance(value, YamlList) and isinstance(part, int) and part < len(value):
                mark = value.items_at[part]
            else:
                break
            value = value[part]
        return mark

    def finding(
        self,
        severity: Severity,
        code: str,
        path: Path,
        message: str,
        proposal: str = "",
        *,
        key: bool = False,
    ) -> Finding:
        """A finding about a path; with ``key``, about its last part's key and not its value."""
        return located(severity, code, path, self.mark_of(path, key=key), message, proposal)

    def value_at(self, path: Path) -> Any:
        """The value at a path, ``None`` when there is none."""
        value = self.root
        for part in path:
            in_list = isinstance(value, list) and isinstance(part, int) and part < len(value)
            if not in_list and not (isinstance(value, dict) and part in value):
                return None
            value = value[part]
        return value


def located(
    severity: Severity, code: str, path: Path, mark: Mark, message: str, proposal: str = ""
) -> Finding:
    """A finding about a path that stands at a mark."""
    return Finding(
        severity=severity,
        code=code,
        path=path_text(path),
        line=mark.line,
        column=mark.column,
        message=message,
        proposal=proposal,
    )


def path_text(path: Sequence[str | int]) -> str:
    """A path as people write it: ``allow[2].image``; always one line of printable ASCII."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{escape(part)}" if text else escape(part)
    return text


def parse_yaml(text: str) -> Tree:
    """Parse one document; the problems are in the tree's ``findings``."""
    tree = Tree()
    # The plain search first: the expression takes 80 ms for 4 MB in one step of the interpreter.
    directive = _TAG_DIRECTIVE.search(text) if "%TAG" in text else None
    if directive is not None:
        mark = Mark(text.count("\n", 0, directive.end()) + 1, 1)
        _unreadable(tree, mark, "yaml-tag", "a %TAG directive, and tags are refused", "leave it out")
        return tree
    try:
        _build(tree, _events(text))
    except _TooDeep as problem:
        _unreadable(tree, problem.mark, "yaml-syntax", f"more than {MAX_DEPTH} levels deep")
    except MarkedYAMLError as problem:
        place = problem.problem_mark or problem.context_mark
        mark = Mark(place.line + 1, place.column + 1) if place is not None else Mark(1, 1)
        said = [part for part in (problem.context, problem.problem) if part]
        _unreadable(tree, mark, "yaml-syntax", f"not YAML: {': '.join(said) or 'unreadable'}")
    except (YAMLError, UnicodeError) as problem:
        line = _line_of_bad_character(text)
        reason = str(problem).splitlines()[0] if str(problem) else "unreadable"
        _unreadable(tree, Mark(line, 1), "yaml-syntax", f"not YAML: {reason}")
    return tree


class _TooDeep(Exception):
    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark


def _events(text: str) -> Iterator[Any]:
    # PyYAML's libyaml (0.2.5 and later) reads 10,000 rules 30 times faster than a Python parser. The
    # older libyaml in ruamel's extension refuses a:b inside [] and {}, which YAML 1.2 allows.
    yield from yaml.parse(text, Loader=yaml.CSafeLoader)


def _report(tree: Tree, path: Path, mark: Mark, code: str, message: str, proposal: str = "") -> None:
    finding = located("error", code, path, mark, message, proposal)
    tree.findings.append(finding)


def _unreadable(tree: Tree, mark: Mark, code: str, message: str, proposal: str = "") -> None:
    """Report what ends the reading: of a part of a document nothing can be said."""
    tree.unknown.add(())
    _report(tree, (), mark, code, message, proposal)


@dataclass(slots=True)
class _Open:
    """A collection being read, and the key that waits for its value."""

    value: YamlMapping | YamlList
    path: Path
    key: str | None = None
    key_mark: Mark | None = None
    discard: bool = False


def _build(tree: Tree, events: Iterator[Any]) -> None:
    documents = 0
    stack: list[_Open] = []
    for event in events:
        mark = Mark(event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, DocumentStartEvent):
            documents += 1
            if documents > 1:
                _report(tree, (), mark, "second-document", "a second document", "keep one policy a file")
                return
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            stack.pop()
        elif isinstance(event, MappingStartEvent | SequenceStartEvent):
            if len(stack) >= MAX_DEPTH:
                raise _TooDeep(mark)
            empty = YamlMapping(mark) if isinstance(event, MappingStartEvent) else YamlList(mark)
            path, discard = _place(tree, stack, empty, mark, event)
            stack.append(_Open(empty, path, discard=discard))
        elif isinstance(event, ScalarEvent):
            literal = event.style == "|"
            _place(tree, stack, _scalar(event), Mark(mark.line, mark.column, literal), event)
        elif isinstance(event, AliasEvent):
            _place(tree, stack, None, mark, event)
    if tree.root is None and not tree.findings:
        _unreadable(tree, Mark(1, 1), "empty-document", "the document is empty")


def _place(tree: Tree, stack: list[_Open], value: Any, mark: Mark, event: Any) -> tuple[Path, bool]:
    """Put a value where it belongs; answers its path and whether it was discarded."""
    if not stack:
        tree.root, tree.mark = value, mark
        _check_event(tree, (), mark, event)
        return (), False
    parent = stack[-1]
    if isinstance(parent.value, YamlList):
        path: Path = (*parent.path, len(parent.value))
        parent.value.append(value)
        parent.value.items_at.append(mark)
        if not parent.discard:
            _check_event(tree, path, mark, event)
        return path, parent.discard
    if parent.key_mark is None:
        return _take_key(tree, parent, value, mark, event)
    key, key_mark = parent.key, parent.key_mark
    parent.key, parent.key_mark = None, None
    if key is None:
        return parent.path, True
    path = (*parent.path, key)
    if key in parent.value:
        if not parent.discard:
            _report(tree, path, key_mark, "duplicate-key", f"{escape(key)} is given twice")
        return path, True
    parent.value[key] = value
    parent.value.keys_at[key], parent.value.values_at[key] = key_mark, mark
    if not parent.discard:
        _check_event(tree, path, mark, event)
    return path, parent.discard


def _take_key(tree: Tree, parent: _Open, value: Any, mark: Mark, event: Any) -> tuple[Path, bool]:
    parent.key_mark = mark
    parent.key = value if isinstance(value, str) else None
    if parent.discard:
        return parent.path, True
    if parent.key is not None:
        _check_event(tree, (*parent.path, parent.key), mark, event)
    elif isinstance(event, AliasEvent):
        _check_event(tree, (*parent.path, f"*{event.anchor}"), mark, event)
    else:
        path = (*parent.path, event.value) if isinstance(event, ScalarEvent) else parent.path
        _report(tree, path, mark, "wrong-type", "a key must be text", "quote it")
    return parent.path, True


def _check_event(tree: Tree, path: Path, mark: Mark, event: Any) -> None:
    if isinstance(event, AliasEvent):
        tree.unknown.add(path)
        _report(tree, path, mark, "yaml-alias", f"an alias (*{event.anchor})", "write it out")
        return
    if event.anchor is not None:
        _report(tree, path, mark, "yaml-anchor", f"an anchor (&{event.anchor})", "write the value out")
    if event.tag is not None:
        if isinstance(event, ScalarEvent):
            tree.unknown.add(path)
        _report(tree, path, mark, "yaml-tag", f"a tag ({escape(event.tag)})", "quote text instead")


def _scalar(event: Any) -> Any:
    """Resolve a scalar by YAML 1.2's core schema; only plain ones are other than text."""
    text: str = event.value
    if event.style or event.tag is not None:
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


_UNREADABLE: Final = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]"
)


def _line_of_bad_character(text: str) -> int:
    """The line of the first character that YAML refuses, as the reader's errors have no line."""
    match = _UNREADABLE.search(text)
    return 1 if match is None else text.count("\n", 0, match.start()) + 1
