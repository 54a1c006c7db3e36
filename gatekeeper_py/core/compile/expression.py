r"""Match conditions: the expression that has an API server skip Pods of pre-approved images.

For each image of a Pod the expression looks at the length, then at the form with one regular expression,
then compares it with what is pre-approved and with what is excluded from that. The usual policy, a few
registries and subtrees, has its names in the expression for the form: that is one pass over the image.

What costs an API server most is not the regular expressions but each step of the evaluation, counted as it
goes. So the common Pod, without init containers, ephemeral containers and image volumes, gets by without a
list of all its images.

In a new object, an API server accepts only what the release before its own knows too (apiserver,
pkg/cel/environment). The oldest supported release is 1.30, so what is compiled uses the CEL library of
1.29 and no newer functions.

An error in a match condition counts as the webhook's failure policy, so there must be none, whatever an
API server decodes as a Pod: what may be absent or null is looked at before it is used, and every list's
and every text's length is before anything whose cost grows with it. CEL's ``&&`` and ``||`` stop at the
first term that decides. :func:`skips` says the same in Python, for tests and explanations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from gatekeeper_py.core.admission.fields import CONTAINER_LISTS, IMAGE_LISTS, IMAGE_VOLUMES, POD
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.compile.cost import Part, Text, negated
from gatekeeper_py.core.compile.entry import Entry
from gatekeeper_py.core.compile.imageset import ImageSet
from gatekeeper_py.core.compile.matching import NAMESPACE, Image, in_entries, pulls_latest
from gatekeeper_py.core.compile.preapproved import PreApproved
from gatekeeper_py.core.compile.written import COMPONENT, DIGEST, HOST, LABEL, MAX_LENGTH, PATH, TAG
from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.images.pattern import ANY, split_port

MAX_IMAGES: Final = 32
"""Maximum number of images in all four lists of a Pod together."""

MAX_VOLUMES: Final = 64
"""Most volumes hold no image, so that a Pod may have more of them."""

MAX_EXPRESSION_LENGTH: Final = 64 * 1024
"""An API server takes 100,000; it reads the whole again at each change of a webhook configuration."""

MAX_COST: Final = 800_000
"""An API server gives up at 1,000,000 for one expression, and at 2,500,000 for all conditions of a webhook
(apiserver, pkg/apis/cel/config.go)."""

_FIXED_COST: Final = 100
_VOLUME_COST: Final = 16
_ITEM_COST: Final = 20
"""What reading the object costs, one volume, and one item of the list of images, without what grows with
lengths. Rounded up from what an API server counts; a test holds the sum to be enough."""

_MAX_NAMED_FORM: Final = 780
"""Characters of one regular expression for the form and the names. Go's engine for expressions that never
look back, several times as fast as its others, takes fewer than 1,000 instructions (regexp/onepass.go): the
form has some 360, and a character of a name is at most one."""

_IMAGE: Final = Text("c.image", longest=MAX_LENGTH)
_CONTAINERS, *_OTHERS, _VOLUMES = (f"object.spec.{field.key}" for field in IMAGE_LISTS)
_OPTIONAL_SUFFIX: Final = f"(?::{TAG})?(?:@{DIGEST})?"
_SUFFIX: Final = f"(?::{TAG}(?:@{DIGEST})?|@{DIGEST})"
_PINNED: Final = f"(?::{TAG})?@{DIGEST}"


def expression(approved: PreApproved) -> Part:
    """Return the condition: true when some image of the Pod is not pre-approved.

    Something must be pre-approved. The condition is never true when everything is, whatever the request.
    """
    if approved.everything:
        return Part("false", 0)
    conditions = [
        # Not request.kind, which is the same and costs more: an API server sets both to what it decoded.
        "type(object) == map && object.kind == 'Pod' && object.apiVersion == 'v1'",
        *([f"has({NAMESPACE.text})"] if approved.by_namespace else []),
        f"has({_CONTAINERS}) && {_is_short(_CONTAINERS, MAX_IMAGES)} && size({_CONTAINERS}) > 0",
        *(f"(!has({key}) || type({key}) == list)" for key in _OTHERS),
        f"(!has({_VOLUMES}) || ({_is_short(_VOLUMES, MAX_VOLUMES)}))",
    ]
    others = [f"has({key})" for key in _OTHERS]
    others.append(f"has({_VOLUMES}) && {_VOLUMES}.exists(v, has(v.image))")
    each = is_pre_approved(approved, _IMAGE)
    text = (
        "!(" + "\n&& ".join(conditions) + "\n&& (" + " || ".join(others) + "\n"
        f"  ? {_every_image()}\n  : {_CONTAINERS}).all(c,\n"
        f"  has(c.image) && {each.text}))"
    )
    cost = _FIXED_COST + MAX_VOLUMES * _VOLUME_COST + MAX_IMAGES * (_ITEM_COST + each.cost)
    return Part(text, cost)


def fits(part: Part) -> bool:
    """Return whether an API server takes a condition, and can evaluate it for every Pod."""
    return part.cost <= MAX_COST and len(part.text) <= MAX_EXPRESSION_LENGTH


def skips(approved: PreApproved, request: AdmissionRequest) -> bool:
    """Return whether the condition is false for a request: the same rule in Python."""
    if approved.everything:
        return True
    if (request.group, request.kind) != POD or not isinstance(request.object, dict):
        return False
    if approved.by_namespace and request.namespace is None:
        return False
    spec = request.object.get("spec")
    if not isinstance(spec, dict) or not spec.get("containers"):
        return False
    if any(field.key in spec and not isinstance(spec[field.key], list) for field in IMAGE_LISTS):
        return False
    if len(spec.get(IMAGE_VOLUMES.key, ())) > MAX_VOLUMES:
        return False
    images = list(_images(spec))
    return len(images) <= MAX_IMAGES and all(
        isinstance(image, str) and approved.has(request.namespace, image) for image in images
    )


def _images(spec: dict[str, Any]) -> Iterator[Any]:
    """Yield every image of a pod spec, and ``None`` for an item without the image that it should have."""
    for field in CONTAINER_LISTS:
        for item in spec.get(field.key, ()):
            yield item.get("image") if isinstance(item, dict) else None
    for item in spec.get(IMAGE_VOLUMES.key, ()):
        if not isinstance(item, dict):
            yield None
        elif "image" in item:
            source = item["image"]
            yield source.get("reference") if isinstance(source, dict) else None


def _is_short(key: str, longest: int) -> str:
    return f"type({key}) == list && size({key}) <= {longest}"


def _every_image() -> str:
    """Return the list of all four lists, with image volumes as if they were containers.

    When it is too long, it is a list of one image that is not approved.
    """
    reference = "{'image': has(v.image.reference) ? v.image.reference : ''}"
    volumes = f"(has({_VOLUMES}) ? {_VOLUMES} : []).filter(v, has(v.image))"
    lists = [_CONTAINERS, *(f"(has({key}) ? {key} : [])" for key in _OTHERS)]
    sizes = " + ".join(f"size({each})" for each in (*lists, volumes))
    joined = "\n    + ".join((*lists, f"{volumes}.map(v, {reference})"))
    return f"({sizes} <= {MAX_IMAGES}\n    ? {joined}\n    : [{{'image': ''}}])"


def is_pre_approved(approved: PreApproved, image: Text) -> Part:
    """Return whether one image is pre-approved, by included and excluded entries."""
    excluded, suffixed = approved.excluded, any(map(_excludes_untagged, approved.excluded))
    suffix = _SUFFIX if suffixed else _OPTIONAL_SUFFIX
    named = _named_form(approved.included, suffix)
    short = Part(f"size({image.text}) <= {MAX_LENGTH}", image.cost + 1)
    parts = [short, image.matches(named or _form(approved.included, suffix))]
    if not named:
        parts.append(in_entries(approved.included, Image(image, suffixed=suffixed)))
    if excluded:
        parts.append(negated(in_entries(excluded, Image(image, suffixed=suffixed))))
    return Part("\n  && ".join(part.text for part in parts), sum(part.cost for part in parts))


def _excludes_untagged(entry: Entry) -> bool:
    """Return whether an image without a tag and without a digest is excluded, wherever it comes from."""
    images = entry.images
    anywhere = images.host == ANY and not images.segments and images.subtree
    return anywhere and entry.namespaces is None and pulls_latest(images)


def _form(included: Sequence[Entry], suffix: str) -> str:
    """Return the form of an image written in full.

    A literal registry is compared later; what matches a wildcard could be malformed.
    """
    compared = all(not is_glob(entry.images.host) for entry in included)
    return f"^{'[^/]+' if compared else HOST}/{PATH}{suffix}$"


def _named_form(included: Sequence[Entry], suffix: str) -> str:
    """Return the form with the names in it; empty when these are too many, or of too many kinds."""
    pinned = {entry.images.digest for entry in included}
    if pinned == {ANY}:
        suffix = _PINNED
    elif pinned != {None}:
        return ""
    if sum(len(entry.images.start) for entry in included) > _MAX_NAMED_FORM:
        return ""
    if not all(_is_simple(entry) for entry in included):
        return ""
    # No name begins with another, so where a text goes on decides at once which it can be.
    names = sorted(_name_regex(entry.images) for entry in included)
    form = f"^(?:{'|'.join(names)}){PATH}{suffix}$"
    return form if len(form) <= _MAX_NAMED_FORM else ""


def _is_simple(entry: Entry) -> bool:
    """Return whether an entry is a subtree in every namespace whose wildcards stand for whole parts."""
    images = entry.images
    if entry.namespaces is not None or images.tag is not None or not images.subtree:
        return False
    parts = (*split_port(images.host)[0].split("."), *images.segments)
    return all(part == ANY or not is_glob(part) for part in parts)


def _name_regex(images: ImageSet) -> str:
    name, port = split_port(images.host)
    host = "[.]".join(LABEL if label == ANY else label for label in name.split("."))
    segments = (COMPONENT if part == ANY else part.replace(".", "[.]") for part in images.segments)
    return "/".join((host + (f":{port}" if port else ""), *segments, ""))
