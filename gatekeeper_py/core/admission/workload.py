"""Find every image of an object: in the kinds of the table, by shape and at declared paths.

Source: docs/policy.md, "What is looked at".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from gatekeeper_py.core.admission.fields import CONTAINERS, IMAGE_LISTS, POD, POD_SPECS, GroupKind, ImageList
from gatekeeper_py.core.policy.resources import ResourcePath, Step

Parts = tuple[str | int, ...]
"""The path of a value in an object: keys and indices."""

MAX_SHAPE_DEPTH: Final = 32
"""Levels below the object in which a pod spec is looked for."""

PLACEHOLDERS: Final = frozenset({"auto", " "})
"""Istio's and OpenShift's, replaced before a Pod is made; only templates may hold them."""


class Slot(NamedTuple):
    """One place for an image.

    ``value`` is what stands there. ``problem`` is empty when that is text to be judged, and else
    says why it can't be. ``name`` is the container's or the volume's.
    """

    parts: Parts
    noun: str
    value: Any
    name: str | None = None
    problem: str = ""

    @property
    def path(self) -> str:
        """As people write it: ``spec.containers[0].image``."""
        return path_text(self.parts)


class MappingKey(str):
    """A mapping's key reached by ``{*}``: shown in braces, because it may hold dots."""

    __slots__ = ()


def path_text(parts: Iterable[str | int]) -> str:
    text = ""
    for part in parts:
        if type(part) is str:  # nearly every one
            text += f".{part}" if text else part
        elif isinstance(part, int):
            text += f"[{part}]"
        elif isinstance(part, MappingKey):
            text += f"{{{part}}}"
        else:
            text += f".{part}" if text else part
    return text


def slots(kind: GroupKind, obj: Any, resources: Mapping[GroupKind, Sequence[ResourcePath]]) -> list[Slot]:
    """Every place for an image in an object, also those that hold no usable one; each place once."""
    place = POD_SPECS.get(kind)
    found: list[Slot] = []
    if kind == POD:
        _pod(obj, found)
    elif place is not None:
        _template(obj, place, found)
    else:
        _by_shape(obj, (), 0, found)
    declared = resources.get(kind, ())
    if not declared or obj is None:
        return found
    by_place = {slot.parts: slot for slot in found}
    for path in declared:
        for slot in _by_path(obj, (), path.steps):
            by_place.setdefault(slot.parts, slot)
    return list(by_place.values())


def pod_images(pod: Any) -> list[str] | None:
    """The images of a Pod whose every place for one holds text, in the order of ``slots``.

    ``None`` for any other and for one with image volumes: ``slots`` has to be asked. Most Pods are of
    this kind, and the places' names, half of a decision, are needed only when something is wrong.
    """
    spec = pod.get("spec") if isinstance(pod, dict) else None
    if not isinstance(spec, dict) or spec.get("containers") is None:
        return None
    images: list[str] = []
    for key in _LISTS_OF_IMAGES:
        containers = spec.get(key)
        if containers is None:
            continue
        if not isinstance(containers, list):
            return None
        for container in containers:
            image = container.get("image") if isinstance(container, dict) else None
            if not isinstance(image, str) or not image:
                return None
            images.append(image)
    for key, source in _LISTS_OF_SOURCES:
        if not _hold_none(spec.get(key), source):
            return None
    return images


_LISTS_OF_IMAGES: Final = tuple(field.key for field in IMAGE_LISTS if len(field.path) == 1)
_LISTS_OF_SOURCES: Final = tuple((field.key, field.path[0]) for field in IMAGE_LISTS if len(field.path) > 1)


def _hold_none(items: Any, source: str) -> bool:
    """Whether no item of a list has the field ``source``, and all is of the right type."""
    if items is None:
        return True
    if not isinstance(items, list):
        return False
    return all(isinstance(item, dict) and item.get(source) is None for item in items)


def changed(
    kind: GroupKind, obj: Any, old: Any, resources: Mapping[GroupKind, Sequence[ResourcePath]]
) -> list[Slot]:
    """The slots of ``obj`` whose value is not already in ``old``.

    Images are compared as written, wherever they stood; what is no image, at its place.
    """
    before = slots(kind, old, resources) if isinstance(old, dict) else []
    images = {slot.value for slot in before if not slot.problem}
    others = {slot.parts: slot.value for slot in before if slot.problem}

    def is_present(slot: Slot) -> bool:
        if not slot.problem:
            return slot.value in images
        return slot.parts in others and _same(others[slot.parts], slot.value)

    return [slot for slot in slots(kind, obj, resources) if not is_present(slot)]


def holds_images(kind: GroupKind, resources: Mapping[GroupKind, Sequence[ResourcePath]]) -> bool:
    """Whether it is known where this kind's images would be, even if it has none now."""
    return kind in POD_SPECS or kind in resources


# The searches below add to a list: nested generators took twice as long, half of a decision.


def _pod(obj: Any, found: list[Slot]) -> None:
    if not isinstance(obj, dict):
        found.append(Slot((), "image", obj, problem="there is no Pod to judge"))
        return
    spec = obj.get("spec")
    if spec is None:
        found.append(Slot(("spec",), "image", None, problem="the Pod has no spec"))
    else:
        _pod_spec(spec, ("spec",), found, in_pod=True)


def _template(obj: Any, place: tuple[str, ...], found: list[Slot]) -> None:
    value = obj
    for depth, key in enumerate(place):
        if value is None:
            return
        if not isinstance(value, dict):
            problem = f"it is {_type_name(value)}, not a mapping"
            found.append(Slot(place[:depth], "image", value, problem=problem))
            return
        value = value.get(key)
    if value is not None:
        _pod_spec(value, place, found, in_pod=False)


def _pod_spec(spec: Any, parts: Parts, found: list[Slot], *, in_pod: bool) -> None:
    """The lists of one pod spec."""
    if not isinstance(spec, dict):
        found.append(Slot(parts, "image", spec, problem=f"it is {_type_name(spec)}, not a mapping"))
        return
    for field in IMAGE_LISTS:
        items = spec.get(field.key)
        if items is None:
            if in_pod and field is CONTAINERS:
                problem = "the Pod has no containers"
                found.append(Slot((*parts, field.key), field.noun, None, problem=problem))
        elif isinstance(items, list):
            _items(items, (*parts, field.key), field, found, in_pod=in_pod)
        else:
            problem = f"it is {_type_name(items)}, not a list"
            found.append(Slot((*parts, field.key), field.noun, items, problem=problem))


def _items(items: list[Any], parts: Parts, field: ImageList, found: list[Slot], *, in_pod: bool) -> None:
    """The images of one list; an item without the first field of a longer path holds none."""
    _, noun, path = field
    first, *rest = path
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            problem = f"it is {_type_name(item)}, not a mapping"
            found.append(Slot((*parts, index), noun, item, problem=problem))
            continue
        value = item.get(first)
        if rest:
            if value is None:
                continue
            if not isinstance(value, dict):
                problem = f"it is {_type_name(value)}, not a mapping"
                found.append(Slot((*parts, index, first), noun, value, _name(item.get("name")), problem))
                continue
            value = value.get(rest[0])
        slot = _image((*parts, index, *path), noun, value, item.get("name"), in_pod=in_pod)
        if slot is not None:
            found.append(slot)


def _image(parts: Parts, noun: str, value: Any, name: Any, *, in_pod: bool) -> Slot | None:
    """The image ``value`` at ``parts``, under the rules of Pods or templates."""
    if isinstance(value, str) and value:
        if in_pod or value not in PLACEHOLDERS:
            return Slot(parts, noun, value, _name(name))
        return None
    if value is None or value == "":
        if not in_pod:
            return None
        problem = "the image is missing" if value is None else "the image is empty"
        return Slot(parts, noun, value, _name(name), problem)
    return Slot(parts, noun, value, _name(name), f"the image is {_type_name(value)}, not text")


def _by_shape(value: Any, parts: Parts, depth: int, found: list[Slot]) -> None:
    """Pod specs anywhere in an object: mappings with a ``containers`` list, if not of other things."""
    if isinstance(value, dict):
        containers = value.get("containers")
        if isinstance(containers, list) and (
            not containers or any(isinstance(item, dict) for item in containers)
        ):
            spec: list[Slot] = []
            _pod_spec(value, parts, spec, in_pod=False)
            found += (slot._replace(noun="image") for slot in spec)
        if depth == MAX_SHAPE_DEPTH:
            return
        for key, item in value.items():
            # An object's metadata is the API's own type and holds no template.
            if isinstance(item, dict | list) and not (depth == 0 and key == "metadata"):
                _by_shape(item, (*parts, key), depth + 1, found)
    elif isinstance(value, list) and depth < MAX_SHAPE_DEPTH:
        for index, item in enumerate(value):
            if isinstance(item, dict | list):
                _by_shape(item, (*parts, index), depth + 1, found)


def _by_path(value: Any, parts: Parts, steps: tuple[Step, ...]) -> Iterator[Slot]:
    """Images at a declared path; what is absent holds none, what has another shape is refused."""
    if not steps:
        slot = _image(parts, "image", value, None, in_pod=False)
        if slot is not None:
            yield slot
        return
    step, rest = steps[0], steps[1:]
    if step.kind == "items":
        if not isinstance(value, list):
            yield Slot(parts, "image", value, problem=f"it is {_type_name(value)}, not a list")
            return
        for index, item in enumerate(value):
            yield from _by_path(item, (*parts, index), rest)
    elif not isinstance(value, dict):
        yield Slot(parts, "image", value, problem=f"it is {_type_name(value)}, not a mapping")
    else:
        fields = (
            ((MappingKey(key), item) for key, item in value.items())
            if step.kind == "values"
            else ((step.field, value.get(step.field)),)
        )
        for key, item in fields:
            if item is not None:
                yield from _by_path(item, (*parts, key), rest)


def _same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same; ``==`` takes 1 for true and gives up a thousand deep."""
    pairs = [(one, other)]
    while pairs:
        left, right = pairs.pop()
        if type(left) is not type(right):
            return False
        if isinstance(left, dict):
            if left.keys() != right.keys():
                return False
            pairs += ((item, right[key]) for key, item in left.items())
        elif isinstance(left, list):
            if len(left) != len(right):
                return False
            pairs += zip(left, right, strict=True)
        elif left != right:
            return False
    return True


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "a mapping"
