"""Paths to images in custom resources, such as ``spec.steps[*].image``.

Source: docs/policy.md, "Images that are judged".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

MAX_PATH_LENGTH: Final = 512
"""Characters of one path, as of a pattern."""

_FIELD: Final = r"[^.*\[\]{}\s]+"
_PATH: Final = re.compile(rf"{_FIELD}(?:\[\*\]|\{{\*\}})*(?:\.{_FIELD}(?:\[\*\]|\{{\*\}})*)*")
_STEP: Final = re.compile(rf"(?P<field>{_FIELD})|(?P<items>\[\*\])|(?P<values>\{{\*\}})")


class InvalidResourcePath(ValueError):
    """The text is not a path to images."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step down: into a field, into every item of a list, into every value of a mapping."""

    kind: Literal["field", "items", "values"]
    field: str = ""


@dataclass(frozen=True, slots=True)
class ResourcePath:
    text: str
    steps: tuple[Step, ...]


def parse_resource_path(text: str) -> ResourcePath:
    """Parse a path of at most 512 characters. Raises ``InvalidResourcePath``."""
    if len(text) > MAX_PATH_LENGTH:
        message = f"a path has at most {MAX_PATH_LENGTH} characters, and this one has {len(text):,}"
        raise InvalidResourcePath(message)
    if not _PATH.fullmatch(text):
        message = "field names joined by ., each may be followed by [*] (every item) or {*} (every value)"
        raise InvalidResourcePath(message)
    steps = []
    for match in _STEP.finditer(text):
        if match["field"]:
            steps.append(Step("field", match["field"]))
        else:
            steps.append(Step("items" if match["items"] else "values"))
    return ResourcePath(text, tuple(steps))


_NO_FIELDS: Final[dict[str, PathTree]] = {}
"""Shared by all nodes without fields, which are most nodes, to save memory. Never modified."""


class PathTree:
    """A node of the tree of declared paths of one kind, which stores a common beginning of paths once.

    So a search takes the steps of a common beginning once for all its paths, and equal paths cost no more
    than one path. ``steps`` lead from the parent to this node. ``end`` is the number of the first path that
    ends here, ``None`` if no path does. ``first`` is the lowest number of all paths that end here or below.
    Paths are numbered in the order in which they are added.
    """

    __slots__ = ("_fields", "_items", "_values", "end", "first", "steps")

    def __init__(self, paths: Iterable[ResourcePath] = ()) -> None:
        self.steps: tuple[Step, ...] = ()
        self.end: int | None = None
        self.first = 0
        self._fields: dict[str, PathTree] = _NO_FIELDS
        self._items: PathTree | None = None
        self._values: PathTree | None = None
        for number, path in enumerate(paths):
            self.add(number, path)

    def add(self, number: int, path: ResourcePath) -> None:
        """Add a path; ``number`` must be greater than the numbers of all earlier paths."""
        node, steps, at = self, path.steps, 0
        while at < len(steps):
            child = node.child(steps[at])
            if child is None:
                node.put(_node(steps[at:], number, number))
                return
            taken = _common(child.steps, steps, at)
            if taken < len(child.steps):
                fork = _node(child.steps[:taken], None, child.first)
                node.put(fork)
                child.steps = child.steps[taken:]
                fork.put(child)
                child = fork
            node, at = child, at + taken
        if node.end is None:
            node.end = number

    def next(self, taken: int) -> NextSteps:
        """Return the next steps of the paths after the first ``taken`` of this node's ``steps``."""
        if taken == len(self.steps):
            return NextSteps(self._fields, self._items, self._values, 1)
        step = self.steps[taken]
        return NextSteps(
            {step.field: self} if step.kind == "field" else {},
            self if step.kind == "items" else None,
            self if step.kind == "values" else None,
            taken + 1,
        )

    def begins_with(self, field: str) -> bool:
        """Return whether some path begins with a field."""
        return field in self._fields

    def child(self, step: Step) -> PathTree | None:
        """Return the node below this one whose steps begin with this step."""
        if step.kind == "field":
            return self._fields.get(step.field)
        return self._items if step.kind == "items" else self._values

    def put(self, child: PathTree) -> None:
        """Insert a child or replace the one with the same first step. A field keeps its position."""
        step = child.steps[0]
        if step.kind == "field":
            if self._fields is _NO_FIELDS:
                self._fields = {}
            self._fields[step.field] = child
        elif step.kind == "items":
            self._items = child
        else:
            self._values = child


class NextSteps(NamedTuple):
    """The next steps of paths: into a field, into every item of a list, into every value of a mapping.

    ``fields`` are in the order of the first path through each. After such a step, ``taken`` of the ``steps``
    of the node that it leads to have been taken.
    """

    fields: Mapping[str, PathTree]
    items: PathTree | None
    values: PathTree | None
    taken: int


def _node(steps: tuple[Step, ...], end: int | None, first: int) -> PathTree:
    node = PathTree()
    node.steps, node.end, node.first = steps, end, first
    return node


def _common(steps: tuple[Step, ...], path: tuple[Step, ...], at: int) -> int:
    """Return how many of the first ``steps`` are also the steps of a path from the index ``at`` on."""
    most = min(len(steps), len(path) - at)
    if steps[:most] == path[at : at + most]:
        return most
    return next(count for count in range(most) if steps[count] != path[at + count])
