"""One field for an image in an object, and the notation of its path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

Parts = tuple[str | int, ...]
"""The path of a value in an object: keys and indices."""

MAX_IMAGES: Final = 1000
"""Maximum number of images in one object. Real Pods have fewer than a hundred. Without a bound, one object of
3 MB would keep the event loop busy for seconds."""

MAX_STEPS: Final = 100_000
"""Maximum number of steps along declared paths in one review: about 50 ms of work. The author of an object
chooses how many values it has, and the policy determines how many paths lead to each value. A thousand items
with ten paths in each take a quarter of these steps."""

MAX_KEY_SHOWN: Final = 200
"""Maximum number of characters that a path shows of a key. The author of an object can make its keys
megabytes long."""

PLACEHOLDERS: Final = frozenset({"auto", " "})
"""Values that Istio and OpenShift replace before a Pod is created. Only templates may hold them."""


_TOO_MANY: Final = object()
"""A placeholder that differs from every value of an object."""


class Slot(NamedTuple):
    """One field for an image.

    ``value`` is the content of the field. ``problem`` is the reason why the value cannot be judged, and empty
    if the value is text to judge. ``name`` is the name of the container or the volume. ``pulled`` is false
    if the kubelet never pulls the image (pull policy ``Never``): no registry is queried for it. ``running``
    is the digest of the running image, where an audit knows it.
    """

    parts: Parts
    noun: str
    value: Any
    name: str | None = None
    problem: str = ""
    pulled: bool = True
    running: str = ""

    @property
    def path(self) -> str:
        """The path as text, such as ``spec.containers[0].image``."""
        return path_text(self.parts)

    @property
    def written(self) -> Any:
        """The value as written in the object; ``None`` if the slot stands for too many images."""
        return None if self.value is _TOO_MANY else self.value


class MappingKey(str):
    """A key of a mapping, reached by ``{*}``. It is shown in braces, because it may hold dots."""

    __slots__ = ()


class LongKey(str):
    """A key that is longer than ``MAX_KEY_SHOWN``. A path shows only its beginning."""

    __slots__ = ()


def shown_key(key: str) -> str:
    """Return a key found in an object as a part of a path."""
    return LongKey(key) if len(key) > MAX_KEY_SHOWN else key


def path_text(parts: Iterable[str | int]) -> str:
    """Return a path as text with dots and indices."""
    text = ""
    for part in parts:
        if type(part) is str:  # nearly every one
            text += f".{part}" if text else part
        elif isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if len(part) <= MAX_KEY_SHOWN else f"{part[:MAX_KEY_SHOWN]}..."
            if isinstance(part, MappingKey):
                text += f"{{{key}}}"
            else:
                text += f".{key}" if text else key
    return text


def image_slot(
    parts: Parts, noun: str, value: Any, name: str | None = None, *, in_pod: bool, pulled: bool = True
) -> Slot | None:
    """Return the slot for the value of an image field; ``None`` when there is nothing to judge.

    ``in_pod`` chooses between the rules for Pods and those for templates.
    """
    if type(value) is str and value:
        if not in_pod and value in PLACEHOLDERS:
            return None
        return Slot(parts, noun, value, name, pulled=pulled)
    if value is None or value == "":
        if not in_pod:
            return None
        problem = "the image is missing" if value is None else "the image is empty"
        return Slot(parts, noun, value, name, problem)
    return Slot(parts, noun, value, name, f"the image is {type_name(value)}, not text")


def wrong_type(parts: Parts, noun: str, value: Any, expected: str, name: str | None = None) -> Slot:
    """Return the slot for a value of the wrong type."""
    return Slot(parts, noun, value, name, f"it is {type_name(value)}, not {expected}")


def too_many(parts: Parts, noun: str, count: int | str) -> Slot:
    """Return the slot that stands for all images of an object that has too many of them."""
    return Slot(parts, noun, _TOO_MANY, problem=f"too many images ({count}; at most {MAX_IMAGES:,})")


def too_many_steps(parts: Parts) -> Slot:
    """Return the slot that stands for all images of an object if it takes too many steps to find them."""
    problem = f"too many images (it takes more than {MAX_STEPS:,} steps to find them)"
    return Slot(parts, "image", _TOO_MANY, problem=problem)


def are_too_many(slots: list[Slot]) -> bool:
    """Return whether an object has too many images, so that its only slot stands for all of them."""
    return len(slots) == 1 and slots[0].value is _TOO_MANY


def text_or_none(value: Any) -> str | None:
    """Return a value if it is text and not empty, else ``None``."""
    return value if isinstance(value, str) and value else None


def type_name(value: Any) -> str:
    """Return the type of a JSON value in words, such as ``a list``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "a mapping"
