"""A policy as a native ValidatingAdmissionPolicy with its binding.

For each new image of an object, the policy first evaluates the expression of the fast path. Only an image
that this expression does not recognise is brought into canonical form and compared with every rule. So the
usual image costs as little as with the fast path, and the answer is exact for every other image too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

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
    UNPINNED,
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
from gatekeeper_py.core.images.scope import Scope
from gatekeeper_py.core.policy.policy import Policy

POLICY_NAME: Final = "gatekeeper-py-images"
WARNING_NAME: Final = f"{POLICY_NAME}-warn"
UNMET_NAME: Final = f"{POLICY_NAME}-unmet"

WARN: Final = ["Warn", "Audit"]

MAX_DENIALS: Final = 2
"""Maximum number of additional expressions with the deny rules, for templates. A denied image is not
rewritten, so its name on a mirror must not count."""

MAX_IMAGES_SHOWN: Final = 5
"""Maximum number of images in a message, which an API server limits to 5 KiB."""

MAX_IMAGE_SHOWN: Final = 200
"""Maximum number of characters of an image in a message."""


def validating_policy(policy: Policy, now: datetime, options: Options) -> tuple[ApiObject, ...]:
    """Compile a policy as of an instant: native policies and bindings, in the order in which to apply them.

    Namespaces whose mode warns have a policy and a binding of their own, and so do requirements that only
    warn. Raises ``CannotExpress``.
    """
    selection = select(policy, now, backstop=options.backstop)
    body = list(_variables(selection, now, options)), list(_validations(policy, options))
    spared = selection.where(lambda mode: not mode.refuses)
    warned = selection.where(lambda mode: mode.warns)

    def documents_for(
        name: str,
        selected: Part | None,
        actions: list[str],
        variables: list[Variable],
        rejecting: list[ApiObject],
    ) -> tuple[ApiObject, ApiObject]:
        spec = {
            "failurePolicy": "Fail",
            "matchConstraints": constraints(options),
            "matchConditions": list(conditions(selected)),
            "variables": [variable._asdict() for variable in variables],
            "validations": rejecting,
        }
        return policy_and_binding(name, policy, options, spec, actions)

    documents: list[ApiObject] = []
    if spared is not True:
        documents += documents_for(POLICY_NAME, None if spared is False else negated(spared), ["Deny"], *body)
    if warned:
        documents += documents_for(WARNING_NAME, warned if isinstance(warned, Part) else None, WARN, *body)
    unmet = list(_unmet(selection, now, options))
    if unmet:
        rejected = _rejected(policy, "without a digest", "an image has no digest", reasons=False)
        documents += documents_for(UNMET_NAME, None, WARN, unmet, [rejected])
    return tuple(documents)


def _variables(selection: Selection, now: datetime, options: Options) -> Iterator[Variable]:
    """Yield the variables up to ``rejected``: lists of an image as written and its name."""
    yield from changed_images()
    denied = selection.denied()
    rewrites, *mirrored = _mirrored(selection, denied, options) or (None,)
    judging = _judging(selection, denied, options, _judged_name(selection) if mirrored else NAME)
    if rewrites is not None:
        yield rewrites
    yield from _named(selection, now, rewrites)
    yield from mirrored
    names = mirrored[-1].reference if mirrored else "variables.canonical"
    *first, last = verdicts("verdict", names, judging)
    yield from (*first, last)
    yield Variable("rejected", f"{last.reference}.filter(p, p[2] != '{APPROVED}')")


def _named(selection: Selection, now: datetime, rewrites: Variable | None = None) -> Iterator[Variable]:
    """Yield the variables up to ``canonical``: the images that the fast path does not pre-approve."""
    unclear = ["variables.few"]
    if selection.skip_templates:
        unclear.append("object.kind == 'Pod'")
    known = decision.recognised(selection.policy, now, "i")
    if known is not None:
        # What a mirror rewrites is judged by its new name.
        rewritten = "" if rewrites is None else f"{rewrites.reference} || "
        unclear.append(f"({rewritten}!({known.text}))")
    yield Variable("unclear", f"variables.changed.filter(i, {' && '.join(unclear)}).map(i, [i, i])")
    yield from steps("variables.unclear")


def _unmet(selection: Selection, now: datetime, options: Options) -> Iterator[Variable]:
    """Yield the variables up to ``rejected`` for the requirements that only warn, or nothing without one.

    A requirement with a digest follows the mirrors. Nothing is rewritten where it can be expressed.
    """
    unpinned = selection.without_digest(warns=True)
    warning = fitting(unpinned, decision.denies, NAME, MAX_EXPRESSIONS)
    if warning.remaining and not options.backstop:
        raise _too_large(warning.remaining)
    if not warning.parts:
        return
    yield from changed_images()
    yield from _named(selection, now)
    conditions = [(UNPINNED, part) for part in warning.parts]
    *first, last = verdicts("verdict", "variables.canonical", conditions)
    yield from (*first, last)
    yield Variable("rejected", f"{last.reference}.filter(p, p[2] == '{UNPINNED}')")


def _judging(
    selection: Selection, denied: tuple[Scope, ...], options: Options, name: Text
) -> list[tuple[str, Part]]:
    """Return pairs of a verdict and its condition on a name, in the order in which they decide.

    If not every rule fits, a backstop approves more.
    """
    allowed, unpinned = selection.allowed, selection.without_digest(warns=False)
    choices = [(allowed, denied, unpinned)]
    if options.backstop:
        choices += [
            (allowed, (), ()),
            (decision.every_version(allowed), (), ()),
            (decision.whole_registries(allowed), (), ()),
        ]
    left: list[Scope] = []
    for allow, *refusing in choices:
        approving = fitting(allow, decision.approves, name, MAX_EXPRESSIONS)
        conditions = [(APPROVED, part) for part in approving.parts]
        remaining = list(approving.remaining)
        for verdict, entries in zip((UNPINNED, REJECTED), reversed(refusing), strict=True):
            found = fitting(entries, decision.denies, name, MAX_EXPRESSIONS - len(conditions))
            conditions = [*((verdict, part) for part in found.parts), *conditions]
            remaining += found.remaining
        if not remaining:
            return conditions
        left = left or remaining
    raise _too_large(left)


def _too_large(entries: Iterable[Scope]) -> CannotExpress:
    parts = dict.fromkeys(entry.because for entry in entries)
    return CannotExpress(
        [Obstacle(part=part, why=TOO_LARGE) for part in parts], others="more rules do not fit"
    )


def _judged_name(selection: Selection) -> Text:
    """Return the name that is judged where mirrors rewrite: it can grow by the mirror's own name."""
    growth = max(len(mirror.to.text) for mirror in selection.mirrors)
    return NAME._replace(longest=NAME.longest + MAX_NEW_IMAGES * growth)


def _mirrored(selection: Selection, denied: tuple[Scope, ...], options: Options) -> tuple[Variable, ...]:
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
    yield _rejected(policy, "not approved", "an image is not approved")


def _rejected(policy: Policy, problem: str, short: str, *, reasons: bool = True) -> ApiObject:
    return {
        "expression": "size(variables.rejected) == 0",
        "messageExpression": _message(policy, problem, reasons=reasons),
        "message": f"{short}{_message_of(policy)}",
        "reason": "Forbidden",
    }


def _message_of(policy: Policy) -> str:
    """Return the policy's own message as the end of a sentence."""
    return f"; {policy.document.message}" if policy.document.message else ""


def _message(policy: Policy, problem: str, *, reasons: bool) -> str:
    """Return an expression for what a user reads: the first rejected images, and the policy's message.

    With ``reasons``, it marks the images that are rejected because they have no digest.
    """
    written = (
        f"p[0].matches('^[!-~]+$') ? {_cut('p[0]')}"
        " : p[0] == '' ? 'an empty image' : 'an image with unusual characters'"
    )
    name = f"({written}) + (p[1] == '' || p[1] == p[0] ? '' : ' (' + {_cut('p[1]')} + ')')"
    if reasons:
        name += f" + (p[2] == '{UNPINNED}' ? ' without a digest' : '')"
    first = ", ".join(f"variables.rejected[{index}]" for index in range(MAX_IMAGES_SHOWN))
    more = f"' and ' + string(size(variables.rejected) - {MAX_IMAGES_SHOWN}) + ' more'"
    own = _message_of(policy)
    end = f" + {quoted(own)}" if own else ""
    return (
        f"'{problem}: ' + (size(variables.rejected) <= {MAX_IMAGES_SHOWN}\n"
        f"  ? variables.rejected.map(p, {name}).join(', ')\n"
        f"  : [{first}].map(p, {name}).join(', ') + {more}){end}"
    )


def _cut(text: str) -> str:
    length = f"size({text})"
    return f"{text}.substring(0, {length} < {MAX_IMAGE_SHOWN} ? {length} : {MAX_IMAGE_SHOWN})"
