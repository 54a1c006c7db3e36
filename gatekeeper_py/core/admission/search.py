"""Find pod specs in custom resources, by their shape.

The author of an object chooses how many values it has. So the search counts images before it allocates
anything for them, and it returns pod specs with at most ``MAX_IMAGES`` images in all.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from gatekeeper_py.core.admission.fields import CONTAINERS, IMAGE_LISTS
from gatekeeper_py.core.admission.slot import MAX_IMAGES, Parts, Slot, shown_key, too_many

MAX_SHAPE_DEPTH: Final = 32
"""Number of levels below the object that are searched for pod specs."""

Link = tuple[Any, "str | int"] | None
"""The path to a value: the link of its parent, and its own key. ``None`` is the path to the object itself.
Values share the links of their parents, because most paths are never needed in full."""

_NESTED: Final = frozenset({dict, list})


def count_images(spec: dict[str, Any]) -> int:
    """Count the images of a pod spec without allocating anything for them.

    Every item of a list counts as an image, and so does a value that should be a list but is not. In
    ``volumes``, whose items need not hold an image, an item counts only if it has the image field or is not a
    mapping. If ``volumes`` has more than ``MAX_IMAGES`` items, all of them count.
    """
    total = 0
    for key, source in _LISTS:
        items = spec.get(key)
        if items is None:
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


_LISTS: Final = tuple((field.key, field.path[0] if len(field.path) > 1 else "") for field in IMAGE_LISTS)
"""The key of each list, and the field that an item must have to count (empty if all items count)."""


def too_many_in(spec: dict[str, Any], parts: Parts, count: int, noun: str = "") -> Slot:
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
    specs = _Specs()
    if type(obj) is dict:
        if CONTAINERS.key in obj:
            specs.look_at(obj, None)
        for key, item in obj.items():
            if key != "metadata" and type(item) in _NESTED:
                _walk(item, (None, key), MAX_SHAPE_DEPTH - 1, specs)
    if specs.images > MAX_IMAGES:
        link, first = specs.found[0]
        return PodSpecs([], too_many_in(first, _parts(link), specs.images, "image"))
    return PodSpecs([(_parts(link), spec) for link, spec in specs.found])


def _walk(value: Any, link: Link, levels: int, specs: _Specs) -> None:
    """Visit a mapping or a list, and every mapping that is at most ``levels`` levels below it."""
    if type(value) is dict:
        if CONTAINERS.key in value:
            specs.look_at(value, link)
        if levels:
            for key, item in value.items():
                if type(item) in _NESTED and item:
                    _walk(item, (link, key), levels - 1, specs)
    elif levels:
        for index, item in enumerate(value):
            if type(item) in _NESTED and item:
                _walk(item, (link, index), levels - 1, specs)


class _Specs:
    """The pod specs found so far. Once they hold too many images, only the number of images is updated."""

    def __init__(self) -> None:
        self.images = 0
        self.found: list[tuple[Link, dict[str, Any]]] = []

    def look_at(self, mapping: dict[str, Any], link: Link) -> None:
        """Keep a mapping with the field ``containers`` if it is a pod spec that holds images."""
        containers = mapping[CONTAINERS.key]
        if type(containers) is not list:
            return
        if containers and type(containers[0]) is not dict and dict not in set(map(type, containers)):
            return
        images = count_images(mapping)
        if images:
            self.images += images
            if self.images <= MAX_IMAGES or not self.found:
                self.found.append((link, mapping))


def _parts(link: Link) -> Parts:
    return tuple(shown_key(part) if isinstance(part, str) else part for part in link_parts(link))


def link_parts(link: Link) -> Parts:
    """Return the path to a value."""
    parts: list[str | int] = []
    while link is not None:
        link, key = link
        parts.append(key)
    return tuple(reversed(parts))
