"""Select the parts of a policy that a native policy can express, and name the others.

The API server evaluates a native policy without a clock and without look-ups in registries. So the compiler
either produces an exact native policy, or refuses and names the rules that it cannot express. A backstop may
approve more than the policy, but never rejects an image that the policy approves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Final

from gatekeeper_py.core.compile.cost import Part, fits
from gatekeeper_py.core.compile.exclusions import scope_of, with_copies, without_digest
from gatekeeper_py.core.compile.matching import in_namespaces
from gatekeeper_py.core.images.scope import Scope
from gatekeeper_py.core.policy.document import Mode, OverrideEntry
from gatekeeper_py.core.policy.mirror import Mirror
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.core.policy.requirements import Requirement
from gatekeeper_py.core.policy.rules import Rule

MAX_SHOWN: Final = 100
"""Maximum number of obstacles that are listed. A last one counts the others."""

MAX_BRANCHES: Final = 50
"""Nested conditions in one expression. CEL's parser gives up at a depth of 250 (cel-go, parser/parser.go)."""

TOO_LARGE: Final = "the expression would become too long or too expensive"
ALL_TOO_LARGE: Final = "the expression for all of them would become too long or too expensive"
EXPIRES: Final = "it will expire, and a native policy has no clock"
UNREADABLE_PATHS: Final = "a native policy cannot read the declared image paths of"
EXCEPTS: Final = "it has except, which a native policy does not express"
SIGNED: Final = "its images must be signed, which a native policy cannot verify"
LOOKS_UP: Final = "it needs a look-up in a registry, which a native policy cannot do"
PINS: Final = "in a namespace with the mode mutate, the webhook writes the digest, which needs a look-up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """A part of the policy that a native policy cannot express. ``part`` names it as ``check`` does."""

    part: str
    why: str

    def __str__(self) -> str:
        return f"{self.part}: {self.why}"


class CannotExpress(ValueError):
    """The policy cannot be compiled; ``obstacles`` name the parts that cannot be expressed.

    ``others`` describes the obstacles that are counted but not listed.
    """

    def __init__(
        self, obstacles: Sequence[Obstacle], *, others: str = "more parts cannot be expressed"
    ) -> None:
        self.obstacles = tuple(obstacles[:MAX_SHOWN])
        if len(obstacles) > MAX_SHOWN:
            count = f"{len(obstacles) - MAX_SHOWN:,} {others}"
            self.obstacles = (*self.obstacles, Obstacle(part="policy", why=count))
        super().__init__("; ".join(map(str, self.obstacles)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The live rules, requirements, overrides and mirrors that a native policy expresses.

    With ``skip_templates``, a backstop does not judge templates, because it cannot know what their Pods will
    run once mirrors have rewritten them.
    """

    policy: Policy
    allow: tuple[Rule, ...]
    deny: tuple[Rule, ...]
    require: tuple[Requirement, ...]
    overrides: tuple[OverrideEntry, ...]
    mirrors: tuple[Mirror, ...]
    skip_templates: bool = False

    @property
    def allowed(self) -> tuple[Scope, ...]:
        return tuple(map(scope_of, self.allow))

    def denied(self) -> tuple[Scope, ...]:
        """Return what deny rules match, on mirrors too."""
        return tuple(with_copies(map(scope_of, self.deny), self.mirrors))

    def without_digest(self, *, warns: bool) -> tuple[Scope, ...]:
        """Return the images that requirements reject, or warn of, because they have no digest."""
        requirements = (each for each in self.require if each.warns is warns)
        unpinned = (entry for each in requirements for entry in without_digest(each))
        return tuple(with_copies(unpinned, self.mirrors))

    def where(self, holds: Callable[[Mode], bool]) -> Part | bool:
        """Return the condition that something holds for the mode of the request's namespace.

        The condition is ``True`` or ``False`` if the answer is the same in every namespace. Raises
        ``CannotExpress`` when there are too many overrides for one expression.
        """
        elsewhere = holds(self.policy.mode)
        if all(holds(override.mode) == elsewhere for override in self.overrides):
            return elsewhere
        # Overrides side by side that lead to the same answer are one branch.
        groups = [
            (answer, [name for override in overrides for name in override.names])
            for answer, overrides in groupby(self.overrides, lambda override: holds(override.mode))
        ]
        text, cost = "", 1
        for answer, names in groups:
            part = Part("true", 1) if "*" in names else in_namespaces(tuple(names))
            text += f"{part.text} ? {str(answer).lower()} : "
            cost += part.cost + 1
        part = Part(f"({text}{str(elsewhere).lower()})", cost, closed=True)
        if len(groups) > MAX_BRANCHES or not fits(part):
            raise CannotExpress([Obstacle(part="namespaces", why=ALL_TOO_LARGE)])
        return part


def select(policy: Policy, now: datetime, *, backstop: bool) -> Selection:
    """Return the parts of a policy that are live at an instant and can be expressed.

    A backstop

    - keeps allow rules that will expire, and leaves out deny rules that will expire or have ``except``,
    - leaves out requirements that need a look-up or have ``except``,
    - approves images by name where a mirror would look them up in a registry,
    - uses the most permissive mode that a namespace can have before and after overrides expire.

    Raises ``CannotExpress`` when the policy must be exact and cannot be.
    """
    rewrites = policy.rewriting(now).possible
    obstacles = tuple(_obstacles(policy, now, rewrites=rewrites))
    if obstacles and not backstop:
        raise CannotExpress(obstacles)
    live = _live_overrides(policy, now)
    kept = tuple(each for each in live if each.until is None or not each.mode.refuses)
    unsure = len(kept) < len(live) or any(mirror.verify for mirror in policy.mirrors)
    return Selection(
        policy=policy,
        allow=tuple(rule for rule in policy.allow if rule.lives_at(now)),
        deny=tuple(
            rule
            for rule in policy.deny
            if rule.lives_at(now) and not (backstop and (rule.until is not None or rule.excepts_at(now)))
        ),
        require=tuple(
            each for each in policy.document.require if not any(_why_not(each, now, rewrites=rewrites))
        ),
        # Keep an expiring override to a mode that refuses nothing. Drop any other: all modes that refuse
        # reject the same Pods, so the mode that applies in its place rejects no more. Templates differ,
        # because a mode that rewrites judges them by their names on mirrors; skip_templates leaves them out.
        overrides=kept,
        mirrors=tuple(policy.mirrors),
        skip_templates=unsure and len(policy.mirrors) > 0 and rewrites,
    )


def _obstacles(policy: Policy, now: datetime, *, rewrites: bool) -> Iterator[Obstacle]:
    for rule in (*policy.allow, *policy.deny):
        if rule.lives_at(now):
            reasons = (
                (EXPIRES, rule.until is not None),
                (EXCEPTS, bool(rule.excepts_at(now))),
            )
            yield from (Obstacle(part=str(rule), why=why) for why, holds in reasons if holds)
    for requirement in policy.document.require:
        for why in _why_not(requirement, now, rewrites=rewrites):
            yield Obstacle(part=str(requirement), why=why)
    for index, override in enumerate(policy.document.namespaces):
        if override.until is not None and now < override.until:
            yield Obstacle(part=f"namespaces[{index}]", why=EXPIRES)
    for mirror in policy.mirrors:
        if mirror.verify and rewrites:
            yield Obstacle(part=f"mirrors[{mirror.index}]", why=LOOKS_UP)
    for index, entry in enumerate(policy.document.resources):
        kind = f"{entry.kind}.{entry.group}" if entry.group else entry.kind
        yield Obstacle(part=f"resources[{index}]", why=f"{UNREADABLE_PATHS} {kind}")


def _why_not(requirement: Requirement, now: datetime, *, rewrites: bool) -> Iterator[str]:
    """Yield why a native policy cannot express a requirement; ``rewrites`` is whether some namespace does."""
    if requirement.signed_by:
        yield SIGNED
    elif requirement.looks_up:
        yield LOOKS_UP
    elif rewrites:
        yield PINS
    if any(each.lives_at(now) for each in requirement.excepts):
        yield EXCEPTS


def _live_overrides(policy: Policy, now: datetime) -> list[OverrideEntry]:
    return [each for each in policy.document.namespaces if each.until is None or now < each.until]
