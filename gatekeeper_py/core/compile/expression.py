r"""Match conditions: the expression with which an API server skips Pods that use only pre-approved images.

For each image of a Pod, the expression checks the length, then the form with one regular expression. Then it
compares the image with the included and the excluded entries. A usual policy has only a few registries and
subtrees. Their names become part of the regular expression for the form, so that one pass over the image is
enough.

For an API server, most of the cost is not in the regular expressions but in the steps of the evaluation,
which it counts one by one. So the expression builds no list of all images for the common Pod, which has no
init containers, ephemeral containers or image volumes.

In a new object, an API server accepts only CEL functions that the release before its own knows too
(apiserver, pkg/cel/environment). The oldest supported release is 1.30, so the expression uses the CEL library
of 1.29 and no newer functions.

After an error in a match condition, an API server applies the webhook's failure policy. So the expression
must not cause errors, whatever an API server decodes as a Pod. It checks every field that may be absent or
null before it uses the field, and the length of every list and text before any step whose cost grows with
that length. CEL's ``&&`` and ``||`` stop at the first term that decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gatekeeper_py.core.admission.fields import CONTAINERS, IMAGE_LISTS, ImageList
from gatekeeper_py.core.compile.cost import Part, Text, negated
from gatekeeper_py.core.compile.matching import NAMESPACE, Image, in_entries, pulls_latest
from gatekeeper_py.core.compile.preapproved import PreApproved
from gatekeeper_py.core.compile.written import COMPONENT, DIGEST, HOST, LABEL, MAX_LENGTH, PATH, TAG
from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.images.pattern import ANY, Pattern, split_port
from gatekeeper_py.core.images.scope import Scope

MAX_POD_IMAGES: Final = 32
"""Maximum number of images in all four lists of a Pod together."""

MAX_VOLUMES: Final = 64
"""Maximum number of volumes of a Pod. It is higher than ``MAX_POD_IMAGES``, as most volumes hold no image."""

_FIXED_COST: Final = 100
_VOLUME_COST: Final = 16
_ITEM_COST: Final = 20
"""Costs of reading the object, one volume, and one item of the list of images, without the costs that grow
with lengths. They are rounded up from the counts of an API server; a test checks that their sum is enough."""

_MAX_NAMED_FORM: Final = 780
"""Maximum length in characters of a regular expression for the form and the names. Go's one-pass engine,
which is several times as fast as its others, accepts fewer than 1,000 instructions (regexp/onepass.go). The
form has some 360 instructions, and a character of a name has at most one."""

_IMAGE: Final = Text("c.image", longest=MAX_LENGTH)
_CONTAINERS: Final = f"object.spec.{CONTAINERS.key}"
_OTHERS: Final = tuple(field for field in IMAGE_LISTS if field is not CONTAINERS)
_SPARSE: Final = tuple(field for field in _OTHERS if len(field.path) > 1)
"""The lists whose items need not hold an image."""
_OPTIONAL_SUFFIX: Final = f"(?::{TAG})?(?:@{DIGEST})?"
_SUFFIX: Final = f"(?::{TAG}(?:@{DIGEST})?|@{DIGEST})"
_PINNED: Final = f"(?::{TAG})?@{DIGEST}"


def expression(approved: PreApproved) -> Part:
    """Return the match condition, which is true if some image of the Pod is not pre-approved.

    ``approved`` must not be empty. If everything is pre-approved, the condition is false for every request.
    """
    if approved.everything:
        return Part("false", 0)
    conditions = [
        # This costs less than request.kind and is the same: an API server sets both to the kind it decoded.
        "type(object) == map && object.kind == 'Pod' && object.apiVersion == 'v1'",
        *([f"has({NAMESPACE.text})"] if approved.by_namespace else []),
        f"has({_CONTAINERS}) && {_is_short(_CONTAINERS, MAX_POD_IMAGES)} && size({_CONTAINERS}) > 0",
        *map(_is_absent_or_list, _OTHERS),
    ]
    others = map(_may_hold_images, _OTHERS)
    each = is_pre_approved(approved, _IMAGE)
    text = (
        "!(" + "\n&& ".join(conditions) + "\n&& (" + " || ".join(others) + "\n"
        f"  ? {_every_image()}\n  : {_CONTAINERS}).all(c,\n"
        f"  has(c.image) && {each.text}))"
    )
    cost = _FIXED_COST + len(_SPARSE) * MAX_VOLUMES * _VOLUME_COST + MAX_POD_IMAGES * (_ITEM_COST + each.cost)
    return Part(text, cost)


def _is_short(key: str, longest: int) -> str:
    return f"type({key}) == list && size({key}) <= {longest}"


def _is_absent_or_list(field: ImageList) -> str:
    key = f"object.spec.{field.key}"
    is_list = f"({_is_short(key, MAX_VOLUMES)})" if field in _SPARSE else f"type({key}) == list"
    return f"(!has({key}) || {is_list})"


def _may_hold_images(field: ImageList) -> str:
    """Return the condition that a list holds an image, or an item that should hold one."""
    key = f"object.spec.{field.key}"
    return f"has({key}) && {key}.exists(v, has(v.{field.path[0]}))" if field in _SPARSE else f"has({key})"


def _every_image() -> str:
    """Return an expression that joins all lists, with every item in the form of a container.

    If the joined list would be too long, its value is a list of one image that is not approved.
    """
    lists = [_CONTAINERS, *map(_holders, _OTHERS)]
    sizes = " + ".join(f"size({each})" for each in lists)
    joined = "\n    + ".join((_CONTAINERS, *(_holders(field) + _as_containers(field) for field in _OTHERS)))
    return f"({sizes} <= {MAX_POD_IMAGES}\n    ? {joined}\n    : [{{'image': ''}}])"


def _holders(field: ImageList) -> str:
    """Return an expression for the items of a list that must hold an image."""
    key = f"object.spec.{field.key}"
    items = f"(has({key}) ? {key} : [])"
    return f"{items}.filter(v, has(v.{field.path[0]}))" if field in _SPARSE else items


def _as_containers(field: ImageList) -> str:
    """Return the call that turns the items of a list into the form of containers; empty if they have it."""
    if field.path == CONTAINERS.path:
        return ""
    image = ".".join(("v", *field.path))
    return f".map(v, {{'{CONTAINERS.path[0]}': has({image}) ? {image} : ''}})"


def is_pre_approved(approved: PreApproved, image: Text) -> Part:
    """Return whether one image is pre-approved, by included and excluded entries."""
    excluded, suffixed = approved.excluded, any(map(_excludes_untagged, approved.excluded))
    suffix = _SUFFIX if suffixed else _OPTIONAL_SUFFIX
    if suffixed and any(entry.images.tag == ANY and _is_everywhere(entry) for entry in excluded):
        # An image with a digest has no effective tag.
        suffix = _PINNED
        excluded = tuple(entry for entry in excluded if entry.images.tag is None)
    named = _named_form(approved.included, suffix)
    short = Part(f"size({image.text}) <= {MAX_LENGTH}", image.cost + 1)
    parts = [short, image.matches(named or _form(approved.included, suffix))]
    if not named:
        parts.append(in_entries(approved.included, Image(image, suffixed=suffixed)))
    if excluded:
        parts.append(negated(in_entries(excluded, Image(image, suffixed=suffixed))))
    return Part("\n  && ".join(part.text for part in parts), sum(part.cost for part in parts))


def _excludes_untagged(entry: Scope) -> bool:
    """Return whether an entry excludes images without tag and digest everywhere."""
    return _is_everywhere(entry) and pulls_latest(entry.images)


def _is_everywhere(entry: Scope) -> bool:
    """Return whether an entry has images in every registry, repository and namespace."""
    images = entry.images
    return images.host == ANY and not images.segments and images.subtree and entry.namespaces is None


def _form(included: Sequence[Scope], suffix: str) -> str:
    """Return the regular expression for the form of an image written in full.

    It checks the form of the registry only if some entry has a wildcard there: a literal registry is compared
    later, but a wildcard could match a malformed registry.
    """
    compared = all(not is_glob(entry.images.host) for entry in included)
    return f"^{'[^/]+' if compared else HOST}/{PATH}{suffix}$"


def _named_form(included: Sequence[Scope], suffix: str) -> str:
    """Return the form with the names of all entries in it; empty if they are too long or not simple."""
    pinned = {entry.images.digest for entry in included}
    if pinned == {ANY}:
        suffix = _PINNED
    elif pinned != {None}:
        return ""
    if sum(len(entry.images.start) for entry in included) > _MAX_NAMED_FORM:
        return ""
    if not all(_is_simple(entry) for entry in included):
        return ""
    # No name is the beginning of another one, so each next character decides which names are still possible.
    names = sorted(_name_regex(entry.images) for entry in included)
    form = f"^(?:{'|'.join(names)}){PATH}{suffix}$"
    return form if len(form) <= _MAX_NAMED_FORM else ""


def _is_simple(entry: Scope) -> bool:
    """Return whether an entry is a subtree, for every tag and namespace, whose wildcards are whole parts."""
    images = entry.images
    if entry.namespaces is not None or images.tag is not None or not images.subtree:
        return False
    parts = (*split_port(images.host)[0].split("."), *images.segments)
    return all(part == ANY or not is_glob(part) for part in parts)


def _name_regex(images: Pattern) -> str:
    name, port = split_port(images.host)
    host = "[.]".join(LABEL if label == ANY else label for label in name.split("."))
    segments = (COMPONENT if part == ANY else part.replace(".", "[.]") for part in images.segments)
    return "/".join((host + (f":{port}" if port else ""), *segments, ""))
