"""Whether two patterns could match one image in common.

Asked with a literal place (a rule's) of a set of patterns that may hold wildcards. The answer errs on
one side only: "nothing in common" is certain, since what is built on it approves images unseen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from gatekeeper_py.core.images.glob import compiled, is_glob
from gatekeeper_py.core.images.pattern import ANY, host_matches

MAX_WILDCARDS: Final = 64
"""Wildcards side by side, of hosts or of segments, that are told apart. One more stands for everything
there, so that thousands of them cost no more than their number."""

T = TypeVar("T")


@dataclass(slots=True)
class _Node(Generic[T]):
    """One path: what matches exactly it, all below it, or something below it."""

    exact: T | None = None
    below: T | None = None
    somewhere_below: T | None = None
    children: dict[str, _Node[T]] = field(default_factory=dict)
    wildcards: dict[str, _Node[T]] = field(default_factory=dict)

    def matching(self, segment: str) -> Iterator[_Node[T]]:
        child = self.children.get(segment)
        if child is not None:
            yield child
        for glob, node in self.wildcards.items():
            if compiled(glob).matches(segment):
                yield node


class Overlaps(Generic[T]):
    """Places of images, each with what is to be told of it."""

    __slots__ = ("_hosts", "_wildcards")

    def __init__(self) -> None:
        self._hosts: dict[str, _Node[T]] = {}
        self._wildcards: dict[str, _Node[T]] = {}

    def add(self, host: str, segments: tuple[str, ...], told: T, *, subtree: bool) -> None:
        """Add what a pattern with this host and path can match, both of which may be globs."""
        node = self._root(host)
        for segment in segments:
            node.somewhere_below = _first(node.somewhere_below, told)
            branches = node.wildcards if is_glob(segment) else node.children
            if branches is node.wildcards and segment not in branches and len(branches) >= MAX_WILDCARDS:
                node.below = _first(node.below, told)
                return
            node = branches.setdefault(segment, _Node())
        if subtree:
            node.below = _first(node.below, told)
            node.somewhere_below = _first(node.somewhere_below, told)
        else:
            node.exact = _first(node.exact, told)

    def find(self, host: str, segments: tuple[str, ...], *, subtree: bool) -> T | None:
        """What is told of a place that could have an image in common with this one, which is literal.

        With ``subtree`` the images are those below ``segments``, else the one repository.
        """
        roots = [node for name, node in self._wildcards.items() if host_matches(name, host)]
        if host in self._hosts:
            roots.insert(0, self._hosts[host])
        return next(filter(None, (_found(root, segments, subtree=subtree) for root in roots)), None)

    def _root(self, host: str) -> _Node[T]:
        if not is_glob(host):
            return self._hosts.setdefault(host, _Node())
        many = host not in self._wildcards and len(self._wildcards) >= MAX_WILDCARDS
        return self._wildcards.setdefault(ANY if many else host, _Node())


def _found(root: _Node[T], segments: tuple[str, ...], *, subtree: bool) -> T | None:
    nodes = [root]
    for segment in segments:
        for node in nodes:
            if node.below is not None:
                return node.below
        nodes = [child for node in nodes for child in node.matching(segment)]
    ends = (node.somewhere_below if subtree else node.exact for node in nodes)
    return next((end for end in ends if end is not None), None)


def _first(one: T | None, other: T) -> T:
    return other if one is None else one
