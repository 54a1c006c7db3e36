r"""The fast path's expression: which Pods need not be asked about, as an API server evaluates it.

An expression is made from *places*: literal text that the start of an image must equal. For each
image of a Pod it

* looks at its length, then at its form with one regular expression, always the same,
* cuts its name, or the beginning of its name down to some depth, out with another, and looks for
  that text in a literal list.

So the work for an image grows with the number of different depths and not with that of the rules: the
API server's CEL makes a set of a literal list, and charges its length at the most. One regular
expression with every rule in it is charged the product of its length and the image's: a thousand
rules would leave room for five images. But it is quicker while it is short, and the usual list of a
few registries and subtrees is: that is one.

What costs an API server most is not the regular expressions but each step of the evaluation, counted
as it goes. So the common Pod, without init containers, ephemeral containers and image volumes, gets by
without a list of all its images.

An error in a match condition counts as the webhook's failure policy, so there must be none, whatever
an API server decodes as a Pod: what may be absent or null is looked at before it is used, and every
list's and every text's length is before anything whose cost grows with it. CEL's ``&&`` and ``||``
stop at the first term that decides. :func:`skips` says the same in Python, for tests and explanations.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from gatekeeper_py.core.admission.fields import CONTAINER_LISTS, IMAGE_LISTS, IMAGE_VOLUMES, POD
from gatekeeper_py.core.admission.review import AdmissionRequest

MAX_TEXT_LENGTH: Final = 255
"""Of an image, everything included. The grammar's limit of 255 is on the path alone, CRI-O's on the
name with its registry: an image no longer than that is within both."""

MAX_LIST_LENGTH: Final = 32
"""Of each of a Pod's four lists, volumes without an image included."""

MAX_EXPRESSION_LENGTH: Final = 64 * 1024
"""An API server refuses a match condition of more than 100,000 characters (cel-go, parser/parser.go,
``expressionSizeCodePointLimit``); it reads the whole again at each change of a webhook configuration."""

MAX_PLACES: Final = MAX_EXPRESSION_LENGTH // len("'x:1/', ")
"""No more could fit, however short; so that what is far too much need not be written out to be measured."""

MAX_COST: Final = 800_000
"""An API server gives up, which is an error, when one expression has cost 1,000,000 (apiserver,
pkg/apis/cel/config.go, ``PerCallLimit``) or all conditions of one webhook together 2,500,000
(``RuntimeCELCostBudgetMatchConditions``)."""

_FIXED_COST: Final = 100
_IMAGE_COST: Final = 100
_CUT_COST: Final = 50
"""What reading the object costs, one item of a list, and one look for a text in a list, without what
grows with lengths. Rounded up from what an API server counts; a test holds the sum to be enough."""

_MAX_NAMED_FORM: Final = 780
"""Of the one regular expression for form and names. Go's engine for those that never look back, several
times quicker than its others, takes fewer than 1,000 instructions (regexp/onepass.go): the form is some
360, and a character of a name at most one."""

_COMPONENT: Final = r"[a-z0-9]+(?:(?:[.]|__?|-+)[a-z0-9]+)*"
_TAG: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_REGISTRY: Final = r"(?:[^.:/]*[.:][^/]*|localhost)"
_REPOSITORY: Final = rf"{_COMPONENT}(?:/{_COMPONENT})*(?::{_TAG})?(?:@sha256:[0-9a-f]{{64}})?"
_FORM: Final = f"{_REGISTRY}/{_REPOSITORY}"
"""An image written in full. What stands before the first slash is only compared, with registries; but it
must be one to a container runtime: ``foo/app`` is an image of Docker Hub's."""

_ANCHORED_FORM: Final = f"^(?:{_FORM})$"
"""For RE2, whose ``$`` is the end of the text and nothing else; Python's is not, so it never sees it."""

_WHOLE_NAME: Final = "^[^/]+/[^:@]+"
_KEYS: Final = tuple(field.key for field in IMAGE_LISTS)
_CONTAINERS, *_OTHERS, _VOLUMES = (f"object.spec.{key}" for key in _KEYS)
_FORM_IN_PYTHON: Final = re.compile(_FORM)
_REGISTRY_IN_PYTHON: Final = re.compile(_REGISTRY)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Images that are plain.

    ``text`` is ``registry/repository``, or ends with a slash and stands for every repository below.
    ``pinned`` asks for a digest.
    """

    text: str
    pinned: bool = False

    @property
    def depth(self) -> int:
        """How many parts of a name, registry included, are the text; 0 when it is the whole name."""
        return self.text.count("/") if self.text.endswith("/") else 0


Places = frozenset[Place]

_ANYWHERE: Final = Place("")

EVERYTHING: Final[Places] = frozenset({_ANYWHERE})
"""Where nobody need be asked, whatever the request is."""


def expression(places: Places) -> str:
    """True when some image of the Pod is not in ``places``, which must not be empty.

    Never true for ``EVERYTHING``, whatever the request is of.
    """
    if _ANYWHERE in places:
        return "false"
    conditions = [
        # Not request.kind, which is the same and costs more: an API server sets both to what it decoded.
        "type(object) == map && object.kind == 'Pod' && object.apiVersion == 'v1'",
        f"has({_CONTAINERS}) && {_is_short(_CONTAINERS)} && size({_CONTAINERS}) > 0",
        *(f"(!has({key}) || ({_is_short(key)}))" for key in (*_OTHERS, _VOLUMES)),
    ]
    others = [f"has({key})" for key in _OTHERS]
    others.append(f"has({_VOLUMES}) && {_VOLUMES}.exists(v, has(v.image))")
    every = [_CONTAINERS, *(_or_empty(key) for key in _OTHERS), _images_of_volumes()]
    return (
        "!(" + "\n&& ".join(conditions) + "\n&& (" + " || ".join(others) + "\n"
        "  ? " + "\n    + ".join(every) + f"\n  : {_CONTAINERS}).all(c,\n"
        f"  has(c.image) && size(c.image) <= {MAX_TEXT_LENGTH} && {_is_in(places)}))"
    )


def fits(places: Places) -> bool:
    """Whether an API server takes the expression, and can evaluate it for every Pod."""
    return cost(places) <= MAX_COST and len(expression(places)) <= MAX_EXPRESSION_LENGTH


def cost(places: Places) -> int:
    """The most that evaluating the expression can cost, as an API server counts."""
    named = _named_form(places)
    each = _IMAGE_COST + _cost_of_regex(named or _ANCHORED_FORM)
    for _, depth, texts in () if named else _groups(places):
        each += _CUT_COST + _cost_of_regex(_cut(depth)) + len(texts)
    return _FIXED_COST + len(_KEYS) * MAX_LIST_LENGTH * each


def skips(places: Places, request: AdmissionRequest) -> bool:
    """Whether the expression is false for a request: what it says, in Python."""
    if _ANYWHERE in places:
        return True
    if (request.group, request.kind) != POD or not isinstance(request.object, dict):
        return False
    spec = request.object.get("spec")
    if not isinstance(spec, dict) or not spec.get("containers"):
        return False
    for key in _KEYS:
        if key in spec and not (isinstance(spec[key], list) and len(spec[key]) <= MAX_LIST_LENGTH):
            return False
    return all(isinstance(image, str) and holding(places, image) is not None for image in _images(spec))


def holding(places: Places, image: str) -> Place | None:
    """A place that makes the image plain, ``None`` when it is not."""
    if _ANYWHERE in places:
        return _ANYWHERE
    if not is_canonical(image):
        return None
    named, _, digest = image.partition("@")
    above, _, last = named.rpartition("/")
    return covering(places, Place(f"{above}/{last.partition(':')[0]}", pinned=bool(digest)))


def covering(places: Places, place: Place) -> Place | None:
    """One of ``places`` by which all that is in ``place`` is plain; the place itself is one."""
    if _ANYWHERE in places:
        return _ANYWHERE
    parts = place.text.split("/")
    texts = (place.text, *("/".join(parts[:length]) + "/" for length in range(1, len(parts))))
    wanted = (Place(text, pinned) for text in texts for pinned in {False, place.pinned})
    return next((each for each in wanted if each in places), None)


def is_canonical(image: str) -> bool:
    """Whether an image is written in full, and is not too long for the fast path."""
    return len(image) <= MAX_TEXT_LENGTH and _FORM_IN_PYTHON.fullmatch(image) is not None


def _images(spec: dict[str, Any]) -> Iterator[Any]:
    """Every image of a pod spec, and ``None`` for what should hold one and does not."""
    for field in CONTAINER_LISTS:
        for item in spec.get(field.key, ()):
            yield item.get("image") if isinstance(item, dict) else None
    for item in spec.get(IMAGE_VOLUMES.key, ()):
        if not isinstance(item, dict):
            yield None
        elif "image" in item:
            source = item["image"]
            yield source.get("reference") if isinstance(source, dict) else None


def _is_short(key: str) -> str:
    return f"type({key}) == list && size({key}) <= {MAX_LIST_LENGTH}"


def _or_empty(key: str) -> str:
    return f"(has({key}) ? {key} : [])"


def _images_of_volumes() -> str:
    """As if image volumes were containers."""
    reference = "{'image': has(v.image.reference) ? v.image.reference : ''}"
    return f"{_or_empty(_VOLUMES)}.filter(v, has(v.image)).map(v, {reference})"


def _is_in(places: Places) -> str:
    named = _named_form(places)
    if named:
        return f"c.image.matches('{named}')"
    alternatives = "\n    || ".join(_alternative(*group) for group in _groups(places))
    return f"c.image.matches('{_ANCHORED_FORM}')\n  && ({alternatives})"


def _named_form(places: Places) -> str:
    """The form with the names in it; empty when these are too many, or are not all the same kind of place."""
    if any(place.pinned or not place.depth for place in places):
        return ""
    if sum(len(place.text) for place in places) > _MAX_NAMED_FORM:
        return ""
    # None begins with another, so where a text goes on decides at once which it can be. The form's look
    # at the registry is taken here.
    texts = [
        place.text.replace(".", "[.]")
        for place in sorted(places)
        if covering(places - {place}, place) is None
        and _REGISTRY_IN_PYTHON.fullmatch(place.text.partition("/")[0])
    ]
    form = f"^(?:{'|'.join(texts)}){_REPOSITORY}$"
    return form if texts and len(form) <= _MAX_NAMED_FORM else ""


def _groups(places: Places) -> list[tuple[bool, int, list[str]]]:
    """Texts by whether a digest is wanted and by depth."""
    groups: dict[tuple[bool, int], list[str]] = {}
    for place in sorted(places):
        groups.setdefault((place.pinned, place.depth), []).append(place.text)
    return [(pinned, depth, texts) for (pinned, depth), texts in sorted(groups.items())]


def _alternative(pinned: bool, depth: int, texts: Iterable[str]) -> str:  # noqa: FBT001 - one of a group's three
    # No text needs escaping: registries and repositories are of a-z, 0-9 and . : / _ -
    listed = ", ".join(f"'{text}'" for text in texts)
    found = f"c.image.find('{_cut(depth)}') in [{listed}]"
    return f"(c.image.contains('@') && {found})" if pinned else found


@cache
def _cut(depth: int) -> str:
    return f"^(?:[^/]+/){{{depth}}}" if depth else _WHOLE_NAME


def _cost_of_regex(regex: str) -> int:
    """Source: cel-go, interpreter/runtimecost.go, and apiserver, pkg/cel/library/cost.go."""
    return math.ceil((MAX_TEXT_LENGTH + 1) * 0.1) * math.ceil(len(regex) * 0.25)
