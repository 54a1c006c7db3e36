"""The mirrors of a policy as a native MutatingAdmissionPolicy with its binding.

It changes a Pod exactly as the mutating webhook does: the same images, the same annotation with the
originals, the same pull secrets. Only the warnings are missing, because a native policy cannot give any. If
it cannot be sure, it changes nothing, and the Pod is judged as it was written.

CEL cannot parse JSON. So an existing annotation with earlier originals is handled by its form:

- in the form that this policy and the webhook write: merged with the new originals,
- certainly not a JSON object: replaced,
- anything else, such as JSON with blanks: no image is rewritten.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from gatekeeper_py.core.admission.fields import IMAGE_LISTS, POD, WORKLOAD_KINDS, ImageList
from gatekeeper_py.core.admission.mutation import MAX_ANNOTATIONS_BYTES
from gatekeeper_py.core.admission.review import pointer
from gatekeeper_py.core.compile.cost import Part, Text, quoted
from gatekeeper_py.core.compile.native import decision
from gatekeeper_py.core.compile.native.canonical import steps
from gatekeeper_py.core.compile.native.decision import (
    MAX_EXPRESSIONS,
    NAME,
    REJECTED,
    affordable,
    fitting,
    verdicts,
)
from gatekeeper_py.core.compile.native.images import bounded, images_before, is_list
from gatekeeper_py.core.compile.native.objects import (
    ApiObject,
    Options,
    Variable,
    conditions,
    constraints,
    policy_and_binding,
)
from gatekeeper_py.core.compile.native.rewriting import MAX_MIRRORS, as_written, rewritten
from gatekeeper_py.core.compile.native.selection import (
    ALL_TOO_LARGE,
    TOO_LARGE,
    CannotExpress,
    Obstacle,
    Selection,
    select,
)
from gatekeeper_py.core.names import ORIGINAL_IMAGES
from gatekeeper_py.core.policy.mirror import Mirror
from gatekeeper_py.core.policy.policy import Policy

POLICY_NAME: Final = "gatekeeper-py-mirrors"
PODS: Final = tuple(kind for kind in WORKLOAD_KINDS if (kind.group, kind.kind) == POD)

MAX_RECORD_LENGTH: Final = 10_000
"""Maximum length of an existing annotation that is merged: about a hundred images."""

_RECORDED: Final = "[]^-~ !#-Z[]*"
"""Characters that JSON does not escape: printable ASCII without the quote and the backslash."""
_PAIR: Final = f'"{_RECORDED}":"{_RECORDED}"'
_OWN_FORM: Final = f"^[{{](?:{_PAIR}(?:,{_PAIR})*)?[}}]$"
_PERHAPS_JSON: Final = "^[ \\t\\n\\r]*[{]"
_ANNOTATIONS: Final = "object.metadata.annotations"
_SECRETS: Final = "object.spec.imagePullSecrets"


def mutating_policy(policy: Policy, now: datetime, options: Options) -> tuple[ApiObject, ...]:
    """Compile the mirrors of a policy as of an instant: a native policy and its binding.

    Empty when the policy rewrites nothing. Raises ``CannotExpress``.
    """
    selection = select(policy, now, backstop=False)
    if not selection.mirrors or selection.always("mutate") is False:
        return ()
    spec = {
        "failurePolicy": "Ignore",
        "reinvocationPolicy": "IfNeeded",
        "matchConstraints": constraints(PODS, options),
        "matchConditions": list(conditions(selection.mode_condition("mutate"))),
        "variables": [variable._asdict() for variable in _variables(selection, now)],
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": _patch(selection)}}],
    }
    return policy_and_binding("MutatingAdmissionPolicy", POLICY_NAME, policy, options, spec)


def _variables(selection: Selection, now: datetime) -> Iterator[Variable]:
    """Yield all variables of the policy.

    Each item of ``planned`` has the image as written, the new image, its path, its pointer and its secret.
    """
    yield from images_before(PODS)
    fields = "\n+ ".join(map(_image_fields, IMAGE_LISTS))
    yield Variable("changed", f"({fields}).filter(p, p[0] != '' && !(p[0] in variables.before))")
    yield bounded("variables.changed.map(p, p[0])")
    unclear = ["variables.few"]
    known = decision.recognised(selection.policy, "mutating", now, "p[0]")
    if known is not None:
        unclear.append(f"!({known.text})")
    carried = "[p[0], p[0], p[1], p[2]]"
    yield Variable("unclear", f"variables.changed.filter(p, {' && '.join(unclear)}).map(p, {carried})")
    yield from steps("variables.unclear", more=2)
    *first, last = verdicts("denied", "variables.canonical", _denials(selection), more=2)
    yield from (*first, last)
    new = f"p[4] == '' ? {_moved(selection).text} : ['', '']"
    moved = f"{last.reference}.map(p, [[p[0], p[2], p[3]], {new}])"
    yield Variable("moved", f"{moved}.filter(p, p[1][0] != '')")
    yield Variable("planned", "variables.moved.map(p, [p[0][0], p[1][0], p[0][1], p[0][2], p[1][1]])")
    yield from _record()


def _image_fields(field: ImageList) -> str:
    """Return an expression for the images of one list, each with its path and its JSON pointer."""
    first, *rest = field.path
    items = f"({is_list('variables.spec', field.key)} ? variables.spec.{field.key} : [])"
    image = f"string(c.?{first}{''.join(f'.?{each}' for each in rest)}.orValue(''))"
    path = f"'spec.{field.key}[' + string(i) + '].{'.'.join(field.path)}'"
    target = f"'/spec/{field.key}/' + string(i) + '/{'/'.join(field.path)}'"
    return f"{items}.transformList(i, c, [{image}, {path}, {target}])"


def _denials(selection: Selection) -> list[tuple[str, Part]]:
    """Return the conditions under which an image is denied, so that no mirror rewrites it."""
    found = fitting(selection.denied(), decision.denies, NAME, MAX_EXPRESSIONS)
    if found.remaining:
        raise CannotExpress([Obstacle(part=found.remaining[0].because, why=TOO_LARGE)])
    return [(REJECTED, part) for part in found.parts]


def _moved(selection: Selection) -> Part:
    """Return an expression for the image on its mirror and the pull secret that it needs."""

    def result(mirror: Mirror, name: Text) -> str:
        return f"[{as_written(mirror, name)}, {quoted(mirror.image_pull_secret or '')}]"

    part = None
    if len(selection.mirrors) <= MAX_MIRRORS:
        part = affordable(lambda name: rewritten(selection.mirrors, name, result, unchanged="['', '']"))
    if part is None:
        raise CannotExpress([Obstacle(part="mirrors", why=ALL_TOO_LARGE)])
    return part


def _record() -> Iterator[Variable]:
    """Yield the variables up to ``annotationText``, the new annotation, and ``writable``.

    ``writable`` is whether the annotation can be written. If it cannot, nothing is rewritten.
    """
    yield Variable("annotation", f"object.metadata.?annotations[?{quoted(ORIGINAL_IMAGES)}].orValue('')")
    short = f"size(variables.annotation) <= {MAX_RECORD_LENGTH}"
    yield Variable("own", f"{short} && variables.annotation.matches({quoted(_OWN_FORM)})")
    pairs = "variables.annotation.substring(2, size(variables.annotation) - 2).split('\",\"')"
    no_rewrites = "[['', '']].filter(r, false)"  # an empty list whose type is known
    yield Variable(
        "earlier",
        f"variables.own && size(variables.annotation) > 2 ? {pairs}.map(r, r.split('\":\"')) : {no_rewrites}",
    )
    yield Variable("paths", "variables.earlier.map(r, r[0])")
    again = "variables.planned.filter(p, p[2] == r[0]).map(p, p[0])"
    kept = f"variables.earlier.map(r, [r[0], ({again} + [r[1]])[0]])"
    new = "variables.planned.filter(p, !(p[2] in variables.paths)).map(p, [p[2], p[0]])"
    yield Variable("pairs", f"{kept} + {new}")
    text = "variables.pairs.map(r, '\"' + r[0] + '\":\"' + r[1] + '\"').join(',')"
    yield Variable("annotationText", f"'{{' + {text} + '}}'")
    others = (
        f"(has({_ANNOTATIONS}) ? {_ANNOTATIONS}.map(k, k == {quoted(ORIGINAL_IMAGES)} ? ''"
        f" : k + {_ANNOTATIONS}[k]).join('') : '')"
    )
    size = f"size(bytes({others})) + size(bytes(variables.annotationText))"
    known = "variables.own && variables.paths.all(k, variables.paths.filter(x, x == k).size() == 1)"
    garbage = f"{short} && !variables.annotation.matches({quoted(_PERHAPS_JSON)})"
    yield Variable(
        "writable",
        f"({known} || {garbage}) && {size} <= {MAX_ANNOTATIONS_BYTES - len(ORIGINAL_IMAGES)}",
    )


def _patch(selection: Selection) -> str:
    """Return the expression for the JSON patch."""
    key = pointer(("metadata", "annotations", ORIGINAL_IMAGES))
    images = "variables.planned.map(p, JSONPatch{op: 'replace', path: p[3], value: p[1]})"
    annotation = (
        f"[has({_ANNOTATIONS})\n"
        f"  ? JSONPatch{{op: 'add', path: {quoted(key)}, value: variables.annotationText}}\n"
        f"  : JSONPatch{{op: 'add', path: '/metadata/annotations',"
        f" value: {{{quoted(ORIGINAL_IMAGES)}: variables.annotationText}}}}]"
    )
    parts = [images, annotation]
    secrets = sorted({each.image_pull_secret for each in selection.mirrors if each.image_pull_secret})
    if secrets:
        parts.append(_pull_secrets(secrets))
    return "size(variables.planned) == 0 || !variables.writable ? [] : " + "\n+ ".join(parts)


def _pull_secrets(secrets: list[str]) -> str:
    """Return an expression for the operations that add the pull secrets of the mirrors that are used.

    An API server refuses to change them after a Pod was created.
    """
    used = "variables.planned.exists(p, p[4] == n)"
    named = f"has({_SECRETS}) && {_SECRETS}.exists(s, s.?name.orValue('') == n)"
    missing = f"[{', '.join(map(quoted, secrets))}].filter(n, {used} && !({named}))"
    each = "JSONPatch{op: 'add', path: '/spec/imagePullSecrets/-', value: {'name': n}}"
    names = f"{missing}.map(n, {{'name': n}})"
    whole = f"JSONPatch{{op: 'add', path: '/spec/imagePullSecrets', value: {names}}}"
    none = f"request.operation != 'CREATE' || {missing}.size() == 0"
    return f"({none} ? []\n  : has({_SECRETS}) ? {missing}.map(n, {each})\n  : [{whole}])"
