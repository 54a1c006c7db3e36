"""The decision for one image in one namespace (docs/policy.md, "How an image is judged")."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from types import MappingProxyType
from typing import Final, Literal

from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Excepted, Exceptions, Ruling
from gatekeeper_py.core.exceptions.grants import Grants, Override
from gatekeeper_py.core.images.image import Image, image_of
from gatekeeper_py.core.images.reference import InvalidReference, escape, parse_reference
from gatekeeper_py.core.policy.copies import MirroredRules
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.core.policy.required import Requirements
from gatekeeper_py.core.policy.requirements import Requirement
from gatekeeper_py.core.policy.rules import Rule, RuleSet

Reason = Literal[
    "allowed", "denied", "unlisted", "invalid", "absent", "unverified", "unpinned", "unsigned", "exception"
]
"""``decide`` returns the first four. An unmet requirement or a look-up on a mirror can replace them with one
of the next four. ``with_exceptions`` can replace the reasons in ``OVERRIDDEN`` with ``exception``."""

OVERRIDDEN: Final[Mapping[Reason, tuple[Override, ...]]] = MappingProxyType(
    {
        "unlisted": (),
        "denied": ("deny",),
        "unpinned": ("require",),
        "absent": ("require",),
        "unsigned": ("require",),
        "unverified": ("require",),
    }
)
"""The reasons that an exception can replace, each with what its grant must override."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer for one image.

    ``detail`` is a sentence fragment of printable ASCII that says why; ``rule`` is the rule that decided,
    ``None`` when no rule matched. ``parsed`` is ``None`` when the image is invalid. ``origin`` is set when a
    deny rule matched not the image itself but the name that it mirrors. ``requirements`` are those that an
    image with an approved name must meet, in the order of the document. ``ruling`` is set when exceptions say
    something about an image that the policy rejects.
    """

    image: str
    approved: bool
    reason: Reason
    detail: str
    rule: Rule | None = None
    parsed: Image | None = None
    origin: str | None = None
    requirements: tuple[Requirement, ...] = ()
    ruling: Ruling | None = None

    @property
    def exception(self) -> Excepted | None:
        """The exception that approves the image, if the rules do not."""
        return None if self.ruling is None else self.ruling.approval

    @property
    def canonical(self) -> str | None:
        """The whole name of the image; ``None`` when it is invalid."""
        return None if self.parsed is None else self.parsed.reference.canonical


def decide(
    allow: RuleSet,
    denied_origins: MirroredRules,
    expired: RuleSet,
    require: Requirements,
    namespace: str | None,
    image: str,
) -> Decision:
    """Judge one image, which may be any text. The answer depends on the arguments alone.

    ``expired`` are allow rules that expired lately. They approve nothing, but the detail names them.
    """
    try:
        reference = parse_reference(image)
    except InvalidReference as problem:
        return Decision(
            image=image, approved=False, reason="invalid", detail=f"not an image reference: {problem}"
        )
    try:
        parsed = image_of(reference)
    except InvalidReference as problem:
        return Decision(image=image, approved=False, reason="invalid", detail=f"never approved: {problem}")
    denial = _denial(denied_origins, parsed, namespace)
    if denial is not None:
        return denial
    rule = allow.find(parsed, namespace)
    if rule is not None:
        return Decision(
            image=image,
            approved=True,
            reason="allowed",
            detail=f"{parsed.name} matches {rule}",
            rule=rule,
            parsed=parsed,
            requirements=require.matching(parsed, namespace),
        )
    rule = expired.find(parsed, namespace) if expired else None
    return Decision(
        image=image,
        approved=False,
        reason="unlisted",
        detail=f"{parsed.name} matches no rule" + ("" if rule is None else f"; {_expiry(rule)}"),
        parsed=parsed,
    )


def denied_at(
    denied_origins: MirroredRules, decision: Decision, digest: str, namespace: str | None
) -> Decision | None:
    """Return the denial of an image by a digest that a look-up found; ``None`` if no deny rule matches it.

    Also return ``None`` if the image has a digest of its own, which ``decide`` has judged, or if ``digest``
    is empty because it is not known.
    """
    parsed = decision.parsed
    if not digest or parsed is None or parsed.digest is not None:
        return None
    if not denied_origins.rules.recalls and decision.exception is None:
        return None  # a rule that matches the digest would match the name, too
    return _denial(denied_origins, parsed.pinned(digest), namespace)


def _denial(denied_origins: MirroredRules, image: Image, namespace: str | None) -> Decision | None:
    for rule, name in denied_origins.matching(image, namespace):
        return _denied(image, rule, None if name is image.location else name.name)
    return None


def with_exceptions(
    decision: Decision,
    exceptions: Exceptions,
    grants: Grants,
    allow: RuleSet,
    denied_origins: MirroredRules,
    require: Requirements,
    namespace: str | None,
    now: datetime,
) -> Decision:
    """Return the decision with exceptions for a rejected image.

    Exceptions change only rejections with the reasons in ``OVERRIDDEN``, if a grant overrides them. If the
    names of an image are denied and it does not meet a requirement, one grant must override both.
    """
    parsed, needed = decision.parsed, OVERRIDDEN.get(decision.reason)
    if not grants or parsed is None or needed is None:
        return decision
    if "require" in needed and next(denied_origins.matching(parsed, namespace), None):
        needed = ("deny", *needed)

    def judged(overriding: tuple[Override, ...]) -> Ruling:
        found: dict[Excepted, None] = {}
        for name in names_to_except(parsed, allow, denied_origins, namespace, overriding):
            ruling = exceptions.judge(grants, name, namespace, now, overriding)
            if ruling.approval is None:
                return ruling
            found[ruling.approval] = None
        first, *others = sorted(found, key=attrgetter("until"))
        return Ruling(replace(first, also=tuple(others)))

    ruling = judged(needed)
    if ruling == _SILENT:
        return decision
    found = ruling.approval
    if found is None:
        return replace(decision, ruling=ruling)
    configmap = DocumentKey(found.source, found.namespace).configmap
    where = f"exceptions[{found.index}] in the ConfigMap {configmap}"
    despite = f", although {_clause(decision)}" if needed else ""
    return Decision(
        image=decision.image,
        approved=True,
        reason="exception",
        detail=f"approved until {format_instant(found.until)} by {where}{despite}",
        parsed=parsed,
        requirements=require.matching(parsed, namespace),
        ruling=ruling,
    )


def names_to_except(
    image: Image,
    allow: RuleSet,
    denied_origins: MirroredRules,
    namespace: str | None,
    overriding: Collection[Override],
) -> Iterator[Image]:
    """Yield the names of an image that entries and grants must match to approve it.

    If the grants override deny rules, these are the names that deny rules match, among the image's own name
    and those of its origins. They include the image's own name if no allow rule approves the image, or if the
    grants override requirements.
    """
    deny = "deny" in overriding
    own = not deny or "require" in overriding or allow.find(image, namespace) is None
    if own:
        yield image
    for _, name in denied_origins.matching(image, namespace) if deny else ():
        if not own or name is not image.location:
            yield image.at(name)


def _clause(decision: Decision) -> str:
    """Return why an image was rejected. The reason of a look-up is about the image, and does not name it."""
    return decision.detail if decision.reason == "denied" else f"it {decision.detail}"


_SILENT: Final = Ruling()


def _expiry(rule: Rule) -> str:
    """Return which rule expired when, and who may renew it. A time at midnight is shown as a date."""
    at = "" if rule.until is None else format_instant(rule.until).removesuffix("T00:00:00Z")
    return f"{rule} expired {at}" + (f" (owner: {escape(rule.owner)})" if rule.owner else "")


def _denied(image: Image, rule: Rule, origin: str | None) -> Decision:
    # Without a tag and a digest, a runtime pulls latest. If the rule is for tags, show that tag, because it
    # explains why the rule matches.
    suffix = image.reference.suffix or (":latest" if rule.pattern.tag is not None else "")
    shown = f"{image.name}{suffix}"
    mirrored = "" if origin is None else f", which mirrors {origin}{suffix},"
    return Decision(
        image=image.reference.raw,
        approved=False,
        reason="denied",
        detail=f"{shown}{mirrored} is denied by {rule}{because(rule)}",
        rule=rule,
        parsed=image,
        origin=origin,
    )


def because(entry: Rule | Requirement) -> str:
    """Return the reason and the owner of a rule or a requirement, in parentheses; empty without both."""
    reason = [escape(entry.reason)] if entry.reason else []
    owner = [f"owner {escape(entry.owner)}"] if entry.owner else []
    return f" ({', '.join(reason + owner)})" if reason or owner else ""
