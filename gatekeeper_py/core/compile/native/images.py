"""The images of an object as CEL: all of them, and those that are new.

Derived from the one table of image fields (``core/admission/fields``).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from gatekeeper_py.core.admission.fields import CONTAINERS, IMAGE_LISTS, WORKLOAD_KINDS
from gatekeeper_py.core.admission.slot import PLACEHOLDERS
from gatekeeper_py.core.compile.cost import quoted
from gatekeeper_py.core.compile.native.decision import MAX_CHARACTERS, MAX_NEW_IMAGES
from gatekeeper_py.core.compile.native.objects import Variable

MAX_COMPARED_IMAGES: Final = 250_000
"""Maximum number of comparisons between new and old images. Above it, every image counts as new."""


def changed_images() -> Iterator[Variable]:
    """Yield the variables up to ``changed``, the images that must be judged, and ``few``.

    On UPDATE these are the images that the old object does not have. ``few`` is true when they are within
    ``MAX_NEW_IMAGES`` and ``MAX_CHARACTERS``.
    """
    yield Variable("spec", _pod_spec("object"))
    yield Variable("oldSpec", _pod_spec("oldObject"))
    before = _images("variables.oldSpec")
    yield Variable("before", f"request.operation == 'UPDATE' && oldObject != null ? {before} : []")
    yield Variable("found", _images("variables.spec"))
    yield Variable(
        "changed",
        "variables.found == variables.before ? [] : "
        f"size(variables.found) * size(variables.before) > {MAX_COMPARED_IMAGES} ? variables.found : "
        "variables.found.filter(i, !(i in variables.before))",
    )
    yield Variable(
        "few",
        f"size(variables.changed) <= {MAX_NEW_IMAGES}"
        f" && size(variables.changed.join('')) <= {MAX_CHARACTERS}",
    )


def _pod_spec(whole: str) -> str:
    """Return an expression for the pod spec of an object, an empty mapping without one."""
    by_path: dict[tuple[str, ...], list[str]] = {}
    for kind in WORKLOAD_KINDS:
        by_path.setdefault(kind.pod_spec, []).append(kind.kind)
    *others, usual = sorted(by_path, key=lambda path: len(by_path[path]))
    text = ""
    for path in others:
        names = ", ".join(map(quoted, by_path[path]))
        text += f"{whole}.kind in [{names}] ? {_optional(whole, path)} : "
    return f"{text}{_optional(whole, usual)}"


def _optional(whole: str, path: tuple[str, ...]) -> str:
    # Unwrap the optional here, because CEL gives a variable that holds an optional the type of a list.
    return f"dyn({whole})" + "".join(f".?{field}" for field in path) + ".orValue({})"


def _images(spec: str) -> str:
    """Return an expression for the images of a pod spec: a list of texts.

    A missing image, and a Pod without containers, gives an empty text. For templates, empty texts are
    dropped, and so are the placeholders that something replaces before it creates a Pod.
    """
    lists = [
        _in_lists([_items(spec, field.key) for field in fields], path)
        for path, fields in groupby(IMAGE_LISTS, key=lambda field: field.path)
    ]
    lists.append(f"({_is_list(spec, CONTAINERS.key)} ? [] : [''])")
    absent = ", ".join(map(quoted, ("", *sorted(PLACEHOLDERS))))
    found = "\n+ ".join(lists)
    return f"({found}).filter(i, object.kind == 'Pod' || !(i in [{absent}]))"


def _in_lists(lists: list[str], path: tuple[str, ...]) -> str:
    """Return an expression for the images of lists whose items have the image at the same path."""
    *source, last = path
    # Only an item with an image directly in it must have one (see ``fields.ImageList``).
    filtered = f".filter(c, has(c.{source[0]}))" if source else ""
    holder = ".".join(("c", *source))
    return f"({' + '.join(lists)}){filtered}.map(c, string({holder}.?{last}.orValue('')))"


def _items(spec: str, key: str) -> str:
    return f"({_is_list(spec, key)} ? {spec}.{key} : [])"


def _is_list(spec: str, key: str) -> str:
    """Return the condition that a pod spec has a list. An API server decodes missing containers as null."""
    return f"type({spec}.?{key}.orValue('')) == list"
