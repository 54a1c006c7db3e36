"""A policy as a native ValidatingAdmissionPolicy with its binding.

For each new image of an object, the policy first evaluates the expression of the fast path. Only an image
that this expression does not recognise is brought into canonical form and compared with every rule. So the
usual image costs as little as with the fast path, and the answer is exact for every other image too.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

from gatekeeper_py.core.compile.cost import Part, Text, negated, quoted
from gatekeeper_py.core.compile.native import decision
from gatekeeper_py.core.compile.native.canonical import MAX_MIRRORS, rewritten, steps
from gatekeeper_py.core.compile.native.decision import (
    APPROVED,
    MAX_CHARACTERS,
    MAX_EXPRESSIONS,
    MAX_NEW_IMAGES,
    NAME,
    REJECTED,
    affordable,
    fitting,
    verdicts,
)
from gatekeeper_py.core.compile.native.images import changed_images
from gatekeeper_py.core.compile.native.objects import (
    ApiObject,
    Options,
    Variable,
    conditions,
    constraints,
    policy_and_binding,
)
from gatekeeper_py.core.compile.native.selection import (
    ALL_TOO_LARGE,
    TOO_LARGE,
    CannotExpress,
    Obstacle,
    Selection,
    select,
)
from gatekeeper_py.core.images.entry import Entry
from gatekeeper_py.core.policy.policy import Policy

POLICY_NAME: Final = "gatekeeper-py-images"
WARNING_NAME: Final = f"{POLICY_NAME}-warn"

MAX_DENIALS: Final = 2
"""Maximum number of additional expressions with the deny rules, for templates. A denied image is not
rewritten, so its name on a mirror must not count."""

MAX_IMAGES_SHOWN: Final = 5
"""Maximum number of images in a message, which an API server limits to 5 KiB."""

MAX_IMAGE_SHOWN: Final = 200
"""Maximum number of characters of an image in a message."""


def validating_policy(policy: Policy, now: datetime, options: Options) -> tuple[ApiObject, ...]:
    """Compile a policy as of an instant: native policies and bindings, in the order in which to apply them.

    Namespaces whose mode warns have a policy and a binding of their own. Raises ``CannotExpress``.
    """
    selection = select(policy, now, backstop=options.backstop)
    variables = [variable._asdict() for variable in _variables(selection, now, options)]
    validations = list(_validations(policy, options))
    spared = selection.where(lambda mode: not mode.refuses)
    warned = selection.where(lambda mode: mode.warns)

    def documents_for(name: str, selected: Part | None, actions: list[str]) -> tuple[ApiObject, ApiObject]:
        spec = {
            "failurePolicy": "Fail",
            "matchConstraints": constraints(options),
            "matchConditions": list(conditions(selected)),
            "variables": variables,
            "validations": validations,
        }
        return policy_and_binding(name, policy, options, spec, actions)

    documents: list[ApiObject] = []
    if spared is not True:
        documents += documents_for(POLICY_NAME, None if spared is False else negated(spared), ["Deny"])
    if warned:
        documents += documents_for(
            WARNING_NAME, warned if isinstance(warned, Part) else None, ["Warn", "Audit"]
        )
    return tuple(documents)


def _variables(selection: Selection, now: datetime, options: Options) -> Iterator[Variable]:
    """Yield the variables up to ``rejected``: lists of an image as written and its name."""
    yield from changed_images()
    denied = selection.denied()
    rewrites, *mirrored = _mirrored(selection, denied, options) or (None,)
    judging = _judging(selection, denied, options, _judged_name(selection) if mirrored else NAME)
    unclear = ["variables.few"]
    if rewrites is not None:
        yield rewrites
    if selection.skip_templates:
        unclear.append("object.kind == 'Pod'")
    known = decision.recognised(selection.policy, now, "i")
    if known is not None:
        # What a mirror rewrites is judged by its new name.
        rewritten = "" if rewrites is None else f"{rewrites.reference} || "
        unclear.append(f"({rewritten}!({known.text}))")
    yield Variable("unclear", f"variables.changed.filter(i, {' && '.join(unclear)}).map(i, [i, i])")
    yield from steps("variables.unclear")
    yield from mirrored
    yield from _judged(judging, mirrored[-1].reference if mirrored else "variables.canonical")


class _Conditions(NamedTuple):
    """Conditions on a name, in the order in which they decide: what denies it, then what approves it."""

    denying: list[Part]
    approving: list[Part]


def _judging(selection: Selection, denied: tuple[Entry, ...], options: Options, name: Text) -> _Conditions:
    """Return the conditions on a name. If not every rule fits, a backstop approves more."""
    allowed = selection.allowed
    choices: list[tuple[tuple[Entry, ...], tuple[Entry, ...]]] = [(allowed, denied)]
    if options.backstop:
        choices += [
            (allowed, ()),
            (decision.every_version(allowed), ()),
            (decision.whole_registries(allowed), ()),
        ]
    left: list[str] = []
    for allow, deny in choices:
        approving = fitting(allow, decision.approves, name, MAX_EXPRESSIONS)
        denying = fitting(deny, decision.denies, name, MAX_EXPRESSIONS - len(approving.parts))
        if not approving.remaining and not denying.remaining:
            return _Conditions(denying.parts, approving.parts)
        entries = (*approving.remaining, *denying.remaining)
        left = left or [entry.because for entry in entries]
    obstacles = [Obstacle(part=part, why=TOO_LARGE) for part in dict.fromkeys(left)]
    raise CannotExpress(obstacles, others="more rules do not fit")


def _judged(judging: _Conditions, names: str) -> Iterator[Variable]:
    """Yield the variables up to ``rejected``. Each expression decides what is still undecided."""
    if len(judging.approving) <= 1 and not judging.denying:
        approved = judging.approving[0].text if judging.approving else "false"
        yield Variable("rejected", f"{names}.filter(p, p[1] == '' || !({approved}))")
        return
    conditions = [(REJECTED, part) for part in judging.denying]
    conditions += [(APPROVED, part) for part in judging.approving]
    *first, last = verdicts("verdict", names, conditions)
    yield from (*first, last)
    yield Variable("rejected", f"{last.reference}.filter(p, p[2] != '{APPROVED}')")


def _judged_name(selection: Selection) -> Text:
    """Return the name that is judged where mirrors rewrite: it can grow by the mirror's own name."""
    growth = max(len(mirror.to.text) for mirror in selection.mirrors)
    return NAME._replace(longest=NAME.longest + MAX_NEW_IMAGES * growth)


def _mirrored(selection: Selection, denied: tuple[Entry, ...], options: Options) -> tuple[Variable, ...]:
    """Return the variables that judge templates by the names that mirrors will give to their Pods' images.

    The first variable is whether the object is such a template. Return nothing when no mirror can apply.
    """
    if selection.skip_templates or not selection.mirrors:
        return ()
    mutates = selection.where(lambda mode: mode.rewrites)
    if mutates is False:
        return ()
    template = "object.kind != 'Pod'"
    rewrites = Variable("rewrites", template if mutates is True else f"{template} && {mutates.text}")

    part = None
    denials = fitting(denied, decision.denies, NAME, MAX_DENIALS)
    if len(selection.mirrors) <= MAX_MIRRORS and not denials.remaining:
        part = affordable(lambda name: rewritten(selection.mirrors, name))
    if part is not None:
        *first, last = verdicts("denied", "variables.canonical", [(REJECTED, each) for each in denials.parts])
        new = f"{rewrites.reference} && p[2] == '' ? {part.text} : ''"
        mirrored = Variable("mirrored", f"{last.reference}.map(p, [p[0], p[1], {new}])")
        judged_by = f"{mirrored.reference}.map(p, [p[0], p[2] == '' ? p[1] : p[2]])"
        return (rewrites, *first, last, mirrored, Variable("judged", judged_by))
    if options.backstop:
        return rewrites, Variable("judged", f"{rewrites.reference} ? [] : variables.canonical")
    raise CannotExpress([Obstacle(part="mirrors", why=ALL_TOO_LARGE)])


def _validations(policy: Policy, options: Options) -> Iterator[ApiObject]:
    if not options.backstop:
        bounds = f"more than {MAX_NEW_IMAGES} new images, or {MAX_CHARACTERS:,} characters of them"
        yield {
            "expression": "variables.few",
            "message": f"not approved: {bounds}{_message_of(policy)}",
            "reason": "Forbidden",
        }
    yield {
        "expression": "size(variables.rejected) == 0",
        "messageExpression": _message(policy),
        "message": f"an image is not approved{_message_of(policy)}",
        "reason": "Forbidden",
    }


def _message_of(policy: Policy) -> str:
    """Return the policy's own message as the end of a sentence."""
    return f"; {policy.document.message}" if policy.document.message else ""


def _message(policy: Policy) -> str:
    """Return an expression for what a user reads: the first rejected images, and the policy's message."""
    written = (
        f"p[0].matches('^[!-~]+$') ? {_cut('p[0]')}"
        " : p[0] == '' ? 'an empty image' : 'an image with unusual characters'"
    )
    name = f"({written}) + (p[1] == '' || p[1] == p[0] ? '' : ' (' + {_cut('p[1]')} + ')')"
    first = ", ".join(f"variables.rejected[{index}]" for index in range(MAX_IMAGES_SHOWN))
    more = f"' and ' + string(size(variables.rejected) - {MAX_IMAGES_SHOWN}) + ' more'"
    own = _message_of(policy)
    end = f" + {quoted(own)}" if own else ""
    return (
        f"'not approved: ' + (size(variables.rejected) <= {MAX_IMAGES_SHOWN}\n"
        f"  ? variables.rejected.map(p, {name}).join(', ')\n"
        f"  : [{first}].map(p, {name}).join(', ') + {more}){end}"
    )


def _cut(text: str) -> str:
    length = f"size({text})"
    return f"{text}.substring(0, {length} < {MAX_IMAGE_SHOWN} ? {length} : {MAX_IMAGE_SHOWN})"
