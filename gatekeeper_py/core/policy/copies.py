"""Rules on mirrors: a rule for an original image applies to the same image on each mirror, too.

A rule for ``m.io/team/app`` and a mirror from ``m.io/team`` to ``r.io/hub`` give a copy of the rule for
``r.io/hub/app``. So an image is looked up once in the copies, whatever the number of mirrors.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Final, TypeVar

from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.images.globmap import GlobTree
from gatekeeper_py.core.images.image import Image, image_of
from gatekeeper_py.core.images.index import PatternMap
from gatekeeper_py.core.images.pattern import ANY, Pattern, Prefix, host_matches
from gatekeeper_py.core.images.reference import (
    DOCKER_HUB,
    MAX_REPOSITORY_LENGTH,
    OFFICIAL_NAMESPACE,
    Location,
    Reference,
    parse_reference,
)
from gatekeeper_py.core.images.scope import NO_LIMIT, Scope
from gatekeeper_py.core.policy.mirror import Mirror
from gatekeeper_py.core.policy.rules import Rule, RuleSet

STEP_WORK: Final = 200
"""Work of one step of compiling: a rule or a pattern counts as 10, a copy as 40, and a namespace as 4."""

STEP_NAMES: Final = 10
"""Maximum number of names of namespaces that are added in one step."""

E = TypeVar("E", bound=Scope)
Result = TypeVar("Result")

_Place = tuple[int, int, int]
"""Where a copy comes from: number of segments of the target, index of the mirror, index of the rule."""


def at_once(steps: Generator[None, None, Result]) -> Result:
    """Run all steps of compiling without pauses between them, and return the result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


class Copies:
    """Rules on mirrors, with an index of their copies.

    A rule may be among ``rules`` several times with different patterns. Its ``except`` spares the images of
    all of them. Entries of ``except`` that have ended at ``instant`` do not count. If it is ``None``, all
    count.
    """

    __slots__ = ("_copied", "_excepts", "_instant", "_listed", "_mirrors", "_rules")

    def __init__(self, mirrors: Iterable[Mirror], rules: Iterable[Rule], instant: datetime | None) -> None:
        self._listed = rules
        self._mirrors = tuple(mirrors)
        self._instant = instant
        self._rules: dict[int, Rule] = {}
        """The rules with copies, by their index in the document."""
        self._copied: PatternMap[tuple[_Place, int]] = PatternMap()
        """Each copy with the maximum length of a repository: if it is longer, its origin cannot exist."""
        self._excepts: PatternMap[_Place] = PatternMap()
        """The copies of the live entries of ``except``."""

    def work(self) -> Iterator[int]:
        """Add all copies in steps. Yields the work of each (``STEP_WORK``)."""
        return (10 + (30 + 4 * number if number else 0) for _, number in self.adding())

    def adding(self) -> Iterator[tuple[Rule, int]]:
        """Add all copies in steps. Yields a rule and the number of its copies in this step.

        A rule and each entry of its ``except`` count once for each namespace and each target of a mirror.
        """
        listed: list[Rule] = []
        done = set[tuple[Prefix, _Place]]()
        for order, mirror in pairs(self._mirrors, _patterns(self._listed, listed)):
            rule = listed[order]
            if mirror is None:
                yield rule, 0
                continue
            self._rules[rule.index] = rule
            for to in mirror.targets:
                place = len(to.segments), mirror.index, rule.index
                copied = tuple(_copies(mirror, to, rule.pattern))
                # A pair without a copy counts, too, because finding it out takes as long.
                for names in in_parts(rule.namespaces):
                    for images, longest in copied:
                        self._copied.add(images, names, (place, longest))
                    yield rule, len(names or ("",))
                spares = copied and (to, place) not in done
                for each in rule.excepts_at(self._instant) if spares else ():
                    done.add((to, place))
                    originals = tuple(_copies(mirror, to, each.pattern))
                    for names in in_parts(each.namespaces):
                        for images, _ in originals:
                            self._excepts.add(images, names, place)
                        yield rule, len(names or ("",))

    def matching(self, image: Image, namespace: str | None) -> Iterator[tuple[Rule, Location]]:
        """Yield each rule that matches an origin of an image, with this origin.

        The origins of the mirrors with the shortest ``to`` come first, then in the order of the document.
        """
        last: tuple[int, int] | None = None
        origin: Location | None = None
        for depth, index, number in sorted(self._places(image, namespace)):
            if (depth, index) != last:
                last, origin = (depth, index), self._mirrors[index].origin(image.location.segments[depth:])
            if origin is not None:
                yield self._rules[number], origin

    def indexes(self, image: Image, namespace: str | None) -> set[int]:
        """Return the indexes of the rules that match an origin of an image.

        The origins, of which there may be a thousand, are not computed.
        """
        return {number for _, _, number in self._places(image, namespace)}

    def _places(self, image: Image, namespace: str | None) -> set[_Place]:
        copies = list(self._copied.matching(image, namespace)) if self._mirrors else ()
        length = len("/".join(image.location.segments)) if copies else 0
        found = {place for place, longest in copies if length <= longest}
        if found:
            found.difference_update(self._excepts.matching(image, namespace))
        return found

    def scanned(self, cost: Callable[[int], int] = lambda _: 1) -> int:
        """Return how many copies one image is compared with at most (``PatternMap.scanned``).

        ``cost`` is that of a rule that matches, by its index.
        """
        return self._copied.scanned(lambda copy: cost(copy[0][2])) + self._excepts.scanned()


class MirroredRules:
    """Rules, with their copies on mirrors."""

    __slots__ = ("copies", "rules")

    def __init__(self, mirrors: Iterable[Mirror], rules: RuleSet) -> None:
        self.rules = rules
        self.copies = Copies(mirrors, rules, rules.instant)

    @classmethod
    def compiling(cls, mirrors: Iterable[Mirror], rules: RuleSet) -> Generator[None, None, MirroredRules]:
        """Copy the rules in steps of about 0.1 ms."""
        made = cls(mirrors, rules)
        yield from in_steps(made.copies.work())
        return made

    def matching(self, image: Image, namespace: str | None) -> Iterator[tuple[Rule, Location]]:
        """Yield each name of an image that a rule matches, with the first such rule.

        The image's own name is the first one. The names of its origins follow (``Copies.matching``).
        """
        own = self.rules.find(image, namespace)
        if own is not None:
            yield own, image.location
        last: Location | None = None
        for rule, origin in self.copies.matching(image, namespace):
            if origin is not last:
                last = origin
                yield rule, origin


def _patterns(rules: Iterable[Rule], listed: list[Rule]) -> Iterator[Pattern]:
    """Yield the patterns of rules, and append each rule to ``listed``."""
    for rule in rules:
        listed.append(rule)
        yield rule.pattern


def in_steps(work: Iterable[int]) -> Generator[None, None, None]:
    """Run an iterator that yields the amount of work that it did, in steps of ``STEP_WORK``."""
    done = 0
    for amount in work:
        done += amount
        if done > STEP_WORK:
            done = 0
            yield


def in_parts(names: tuple[str, ...] | None) -> Iterator[tuple[str, ...] | None]:
    """Yield the names of namespaces in parts, because adding one takes 10 microseconds."""
    if names is None:
        yield None
        return
    for start in range(0, len(names), STEP_NAMES):
        yield names[start : start + STEP_NAMES]


def pairs(mirrors: Iterable[Mirror], rules: Iterable[Pattern]) -> Iterator[tuple[int, Mirror | None]]:
    """Yield the order of each rule that may match below the ``from`` of a mirror, with this mirror.

    Some pairs on Docker Hub share no image. Runs in steps: a step without a result yields ``None`` as the
    mirror.
    """
    mirrors = tuple(mirrors)
    hosts = {mirror.source.host for mirror in mirrors}
    trees: dict[str, GlobTree[list[int]]] = {}
    matching: PatternMap[GlobTree[list[int]]] = PatternMap()
    for order, pattern in enumerate(rules if mirrors else ()):
        host, segments = pattern.host, pattern.segments
        if is_glob(host) or host in hosts:
            tree = trees.get(host)
            if tree is None:
                tree = trees[host] = GlobTree()
                matching.add(Pattern(host=host, subtree=True), None, tree)
            # No path has an empty segment, so a rule without a subtree matches nothing below its path.
            tree.setdefault(segments if pattern.subtree else (*segments, ""), list).append(order)
        yield order, None
    for mirror in mirrors:
        seen = set[int]()
        # An official image on Docker Hub has a longer path than ``from``.
        paths = dict.fromkeys(each.segments for each in (mirror.source, mirror.whole) if each is not None)
        some = image_of(Reference(raw="", registry=mirror.source.host, repository="x"))
        for tree in matching.matching(some, None):
            for order in (order for path in paths for orders in tree.around(path) for order in orders):
                if order not in seen:
                    seen.add(order)
                    yield order, mirror


def copies(mirror: Mirror, to: Prefix, originals: E) -> Iterator[E]:
    """Yield entries for the copies of an entry's images below one target of a mirror.

    ``longest`` of an entry excludes repositories whose originals would be longer than the grammar allows.
    """
    for images, longest in _copies(mirror, to, originals.images):
        yield replace(originals, images=images, longest=longest)


def _copies(mirror: Mirror, to: Prefix, originals: Pattern) -> Iterator[tuple[Pattern, int]]:
    """Yield the images below one target whose origin is in a set, with the maximum length of a repository."""
    if not host_matches(originals.host, mirror.source.host):
        return
    whole = mirror.whole
    if to.segments and whole is not None and originals.has_repository(whole):
        yield replace(originals, host=to.host, segments=to.segments, subtree=False), NO_LIMIT
    for path, subtree, added in _paths_below(mirror.source, originals):
        images = replace(originals, host=to.host, segments=to.segments + path, subtree=subtree)
        yield images, min(MAX_REPOSITORY_LENGTH - added + to.path_length, NO_LIMIT)


def _paths_below(source: Prefix, originals: Pattern) -> Iterator[tuple[tuple[str, ...], bool, int]]:
    """Yield the paths of the copies of some images, relative to the target, and whether each is a subtree.

    With each path, yield the number of characters that the repository of the original has in addition.
    """
    if (source.host, source.segments) != (DOCKER_HUB, ()):
        rest = originals.after(source.segments)
        if rest is not None and (rest.segments or rest.subtree):
            yield rest.segments, rest.subtree, source.path_length
        return
    # The source is the whole of Docker Hub. There, one segment is an official image: library/ precedes it.
    official = originals.after((OFFICIAL_NAMESPACE,))
    if official is not None and official.subtree and not official.segments:
        yield (ANY,), False, _official_length(source)
    elif official is not None and len(official.segments) == 1 and not official.subtree:
        yield official.segments, False, _official_length(source)
    if not originals.segments:
        yield (ANY,), True, 0
    elif originals.subtree or len(originals.segments) > 1:
        yield originals.segments, originals.subtree, 0


def _official_length(source: Prefix) -> int:
    """Return how many characters the grammar adds to the name of an official image below ``source``.

    It adds ``library/`` below some of the names of Docker Hub, and nothing below the others.
    """
    return len(parse_reference(f"{source.text}/x").repository) - 1
