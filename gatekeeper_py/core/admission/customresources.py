"""Find images in custom resources: in pod specs, found by their shape, and at paths that a policy declares.

The author of an object chooses how many values it has, and the policy determines how many paths lead to each
value. So the search by shape counts images, and the search along paths counts steps, before they allocate
memory for a value. The search along paths follows all paths at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from gatekeeper_py.core.admission.fields import CONTAINERS, IMAGE_LISTS
from gatekeeper_py.core.admission.slot import (
    MAX_IMAGES,
    MAX_STEPS,
    MappingKey,
    Parts,
    Slot,
    image_slot,
    shown_key,
    too_many,
    wrong_type,
)
from gatekeeper_py.core.policy.resources import NextSteps, PathTree

MAX_SHAPE_DEPTH: Final = 32
"""Number of levels below the object that are searched for pod specs."""

MAX_COUNTED: Final = 10_000
"""Number of images after which the search by shape stops. Counting all images of the largest object would
keep the event loop busy for 0.2 s."""

Link = tuple[Any, "str | int"] | None
"""The path to a value: the link of its parent, and its own key. ``None`` is the path to the object itself.
Values share the links of their parents, because most paths are never needed in full."""

_KEY: Final = CONTAINERS.key


def count_images(spec: dict[str, Any]) -> int:
    """Count the images of a pod spec without allocating anything for them.

    Every item of a list counts as an image, and so does a value that should be a list but is not. In
    ``volumes``, whose items need not hold an image, an item counts only if it has the image field or is not a
    mapping. If ``volumes`` has more than ``MAX_IMAGES`` items, all of them count.
    """
    total = 0
    # Go through the smaller of the two: an object can have 190,000 pod specs of one key.
    for key in spec if len(spec) < len(_SOURCES) else _SOURCES:
        source, items = _SOURCES.get(key), spec.get(key)
        if source is None or items is None:
            continue
        if type(items) is not list:
            total += 1
        elif not source or len(items) > MAX_IMAGES:
            total += len(items)
        else:
            for item in items:
                if type(item) is not dict or item.get(source) is not None:
                    total += 1
    return total


_SOURCES: Final = {field.key: field.path[0] if len(field.path) > 1 else "" for field in IMAGE_LISTS}
"""For the key of each list, the field that an item must have to count (empty if all items count)."""


def too_many_in(spec: dict[str, Any], parts: Parts, count: int | str, noun: str = "") -> Slot:
    """Return a single slot that stands for all images of a pod spec, at its first list that holds an image.

    ``noun`` replaces the noun of that list.
    """
    first = next(field for field in IMAGE_LISTS if count_images({field.key: spec.get(field.key)}))
    return too_many((*parts, first.key), noun or first.noun, count)


class PodSpecs(NamedTuple):
    """Pod specs that hold images, with their paths.

    If they hold too many images, ``found`` is empty, and ``excess`` is a single slot that stands for them.
    """

    found: list[tuple[Parts, dict[str, Any]]]
    excess: Slot | None = None


def pod_specs_in(obj: Any) -> PodSpecs:
    """Find pod specs anywhere in an object of plain JSON values: mappings with a ``containers`` list.

    An empty list counts as such a list; any other list counts only if at least one item is a mapping. The
    object's own ``metadata`` is skipped, because the API defines its fields, and none of them is a template.
    """
    specs, count = _Specs(), ""
    if type(obj) is dict:
        if _KEY in obj:
            specs.look_at(obj, None)
        searched = ((key, item) for key, item in obj.items() if key != "metadata")
        try:
            _walk(searched, None, MAX_SHAPE_DEPTH - 1, specs)
            count = str(specs.images)
        except _Enough:
            count = f"more than {MAX_COUNTED:,}"
    if specs.images > MAX_IMAGES:
        link, first = specs.found[0]
        return PodSpecs([], too_many_in(first, _parts(link), count, "image"))
    return PodSpecs([(_parts(link), spec) for link, spec in specs.found])


def _walk(entries: Iterable[tuple[str | int, Any]], link: Link, levels: int, specs: _Specs) -> None:
    """Visit the entries of a mapping or a list, and every mapping that is at most ``levels`` levels below.

    It is called once for each mapping and list that is not empty: 300,000 times for the largest object.
    """
    for key, item in entries:
        kind = type(item)
        if kind is dict and item:
            below = (link, key)
            if _KEY in item:
                specs.look_at(item, below)
            if levels:
                _walk(item.items(), below, levels - 1, specs)
        elif kind is list and item and levels:
            _walk(enumerate(item), (link, key), levels - 1, specs)


class _Enough(Exception):
    """The search found more than ``MAX_COUNTED`` images."""


class _Specs:
    """The pod specs found so far. Once they hold too many images, only the number of images is updated."""

    def __init__(self) -> None:
        self.images = 0
        self.found: list[tuple[Link, dict[str, Any]]] = []

    def look_at(self, mapping: dict[str, Any], link: Link) -> None:
        """Keep a mapping with the field ``containers`` if it is a pod spec that holds images.

        Raises ``_Enough`` when more than ``MAX_COUNTED`` images are found.
        """
        containers = mapping[_KEY]
        if type(containers) is not list:
            return
        if containers and type(containers[0]) is not dict and dict not in set(map(type, containers)):
            return
        images = count_images(mapping)
        if images:
            self.images += images
            if self.images <= MAX_IMAGES or not self.found:
                self.found.append((link, mapping))
            elif self.images > MAX_COUNTED:
                raise _Enough


def _parts(link: Link) -> Parts:
    return tuple(shown_key(part) if isinstance(part, str) else part for part in link_parts(link))


def link_parts(link: Link) -> Parts:
    """Return the path to a value."""
    parts: list[str | int] = []
    while link is not None:
        link, key = link
        parts.append(key)
    return tuple(reversed(parts))


class OutOfSteps(Exception):
    """The search took too many steps.

    ``parts`` is the path of the first list or mapping whose items the search visited. If it visited none,
    ``parts`` is the path of the value that it had reached.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.parts = parts


class StepBudget:
    """The number of steps that one review may still take, in its object and its old object together."""

    def __init__(self) -> None:
        self.left = MAX_STEPS
        self._first_list: Link = None

    def spend(self, steps: int, link: Link) -> None:
        """Count steps from the value at a path. Raises ``OutOfSteps``."""
        self.left -= steps
        if self.left < 0:
            raise OutOfSteps(link_parts(self._first_list or link))

    def expand(self, steps: int, link: Link) -> None:
        """Count steps into the list or mapping at a path. Raises ``OutOfSteps``."""
        self._first_list = self._first_list or link
        self.spend(steps, link)


def images_at(obj: Any, paths: PathTree, budget: StepBudget) -> list[Slot]:
    """Find the images at declared paths, in the order of the paths and then of the document, each field once.

    An absent value holds no image. A value of a type that the path does not expect becomes a slot with a
    problem. If one step of a path leads to more than ``MAX_IMAGES`` values, the result is a single slot that
    stands for all images. Raises ``OutOfSteps``.
    """
    search = _Search(budget)
    pending = [_Reached(paths, 0, [(None, obj)], 0)]
    while pending:
        pending += search.step_down(pending.pop())
    found: dict[Parts, Slot] = {}
    for number in sorted(search.found.keys() | search.excess.keys()):
        excess = search.excess.get(number)
        if excess is not None:
            return [excess]
        for slot in search.found[number]:
            found.setdefault(slot.parts, slot)
        if len(found) > MAX_IMAGES:
            break  # the caller adds the slots from elsewhere, and reports that there are too many
    return list(found.values())


_Entry = tuple[Link, Any]
"""The path to a value, and the value."""


class _Reached(NamedTuple):
    """The values that the search reaches after ``taken`` steps of a node, in document order.

    A value of the wrong type is replaced by its problem. If several paths pass this value, only the list of
    the first path holds the problem. ``problems`` counts all problems on the way to this list, even those
    that only another list holds.
    """

    node: PathTree
    taken: int
    entries: list[_Entry | Slot]
    problems: int


class _Search:
    """A search that follows all declared paths at once. ``found`` and ``excess`` are keyed by path number."""

    def __init__(self, budget: StepBudget) -> None:
        self.found: dict[int, list[Slot]] = {}
        self.excess: dict[int, Slot] = {}
        self._budget = budget

    def step_down(self, reached: _Reached) -> list[_Reached]:
        """Record the images of a path that ends here, and return the values that the next steps reach."""
        node, taken, entries, problems = reached
        start = next((entry for entry in entries if not isinstance(entry, Slot)), None)
        if start is None:  # only problems are left; the first of all paths from here on reports them
            self.found.setdefault(node.first, []).extend(entries)  # type: ignore[arg-type]
            return []
        self._budget.spend(len(entries), start[0])
        ways = _Ways(node.next(taken))
        if node.end is not None and taken == len(node.steps):
            ends_first = ways.first is None or node.end < ways.first.first
            self._end(node.end, entries, with_problems=ends_first)
            if ends_first:
                ways.first = None
        if ways.items is not None:
            ways.into_items = self._is_bounded(reached, ways.items, list)
        if ways.values is not None:
            ways.into_values = self._is_bounded(reached, ways.values, dict)
        for entry in entries:
            if isinstance(entry, Slot):
                ways.add(ways.first, entry)
            else:
                self._step_from(entry, ways)
        return ways.reached(problems)

    def _step_from(self, entry: _Entry, ways: _Ways) -> None:
        """Follow the next steps from one value."""
        link, value = entry
        if isinstance(value, dict):
            self._into_mapping(value, link, ways)
        elif ways.if_mapping is not None:
            ways.no_mappings += 1
            ways.add(ways.if_mapping, self._wrong_type(link, value, "a mapping"))
        if isinstance(value, list):
            if ways.into_items:
                self._budget.expand(len(value), link)
                for index, item in enumerate(value):
                    ways.add(ways.items, ((link, index), item))
        elif ways.items is not None:
            ways.no_lists += 1
            ways.add(ways.items, self._wrong_type(link, value, "a list"))

    def _into_mapping(self, mapping: dict[Any, Any], link: Link, ways: _Ways) -> None:
        fields = ways.fields
        self._budget.spend(min(len(fields), len(mapping)), link)
        for name in fields if len(fields) <= len(mapping) else mapping:
            item = mapping.get(name)
            if item is not None and name in fields:
                ways.add(fields[name], ((link, name), item))
        if ways.into_values:
            self._budget.expand(len(mapping), link)
            for key, item in mapping.items():
                if item is not None:
                    ways.add(ways.values, ((link, MappingKey(key)), item))

    def _is_bounded(self, reached: _Reached, child: PathTree, expected: type[Any]) -> bool:
        """Return whether a step into lists or mappings leads to at most ``MAX_IMAGES`` values.

        If it leads to more, record a slot in ``excess``.
        """
        first: Link = None
        count = reached.problems
        self._budget.spend(len(reached.entries), None)
        for entry in reached.entries:
            if isinstance(entry, Slot):
                continue
            link, value = entry
            if isinstance(value, expected):
                count += len(value)
                first = first or link
            else:
                count += 1
        if count > MAX_IMAGES:
            self.excess[child.first] = too_many(link_parts(first), "image", count)
        return count <= MAX_IMAGES

    def _end(self, number: int, entries: list[_Entry | Slot], *, with_problems: bool) -> None:
        """Record the images at the end of a path."""
        found = self.found.setdefault(number, [])
        for entry in entries:
            if isinstance(entry, Slot):
                if with_problems:
                    found.append(entry)
                continue
            link, value = entry
            if value is not None and value != "":
                slot = image_slot(self._parts(link), "image", value, in_pod=False)
                if slot is not None:
                    found.append(slot)

    def _wrong_type(self, link: Link, value: Any, expected: str) -> Slot:
        return wrong_type(self._parts(link), "image", value, expected)

    def _parts(self, link: Link) -> Parts:
        """Return the path of a found value. This costs one step for each part of the path."""
        parts = link_parts(link)
        self._budget.spend(len(parts), link)
        return parts


class _Ways:
    """The next steps of all paths from one node, and the values that these steps reach.

    ``if_mapping`` is the child of the first path that needs a mapping here. ``first`` is the child of the
    first path of all; its list gets the problems of earlier steps. ``into_items`` and ``into_values`` are
    true if there is such a step and it leads to few enough values.
    """

    def __init__(self, steps: NextSteps) -> None:
        self.fields, self.items, self.values, self._taken = steps
        self.if_mapping = _first(next(iter(self.fields.values()), None), self.values)
        self.first = _first(self.if_mapping, self.items)
        self.into_items = self.into_values = False
        self.no_lists = self.no_mappings = 0
        self._entries: dict[PathTree, list[_Entry | Slot]] = {}

    def add(self, child: PathTree | None, entry: _Entry | Slot) -> None:
        """Add to a child's list a value that the step to it reaches, or a problem found before that step."""
        if child is not None:
            self._entries.setdefault(child, []).append(entry)

    def reached(self, problems: int) -> list[_Reached]:
        """Return the values that each step reaches. Leave out a step that leads to too many values."""
        found = []
        for child, entries in self._entries.items():
            is_open, more = True, self.no_mappings
            if child is self.items:
                is_open, more = self.into_items, self.no_lists
            elif child is self.values:
                is_open = self.into_values
            if is_open:
                found.append(_Reached(child, self._taken, entries, problems + more))
        return found


def _first(one: PathTree | None, other: PathTree | None) -> PathTree | None:
    """Return the node whose first path comes first. Either node may be ``None``."""
    if one is None or other is None:
        return one or other
    return one if one.first < other.first else other
