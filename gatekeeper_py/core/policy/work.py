"""The limit on the work of judging one image, for policies with many similar wildcards.

No index helps if many globs match one image, or have the same literal pieces in another order (``*a*b*`` and
``*b*a*``). So a policy is refused if some image could take too much work. The check computes a bound from the
indexes in linear time. It judges no image.
"""

from __future__ import annotations

from typing import Final

from gatekeeper_py.core.exceptions.grants import Grant, Grants
from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.images.index import LEAF_WORK, prefix_work
from gatekeeper_py.core.images.pattern import Pattern
from gatekeeper_py.core.policy.document import OverrideEntry
from gatekeeper_py.core.policy.finding import Remark
from gatekeeper_py.core.policy.mirror import Mirrors
from gatekeeper_py.core.policy.origins import DeniedOrigins, at_once
from gatekeeper_py.core.policy.overrides import Overrides
from gatekeeper_py.core.policy.rules import Rule, RuleSet

MAX_WORK: Final = 30_000
"""Maximum work for one image, in units of ``globmap``: 3 ms. A server judges up to 32 images in one turn of
the event loop, which may take 100 ms. About a thousand wildcards that match one image reach the limit."""


def too_much_work(
    allow: tuple[Rule, ...],
    deny: tuple[Rule, ...],
    mirrors: Mirrors,
    overrides: tuple[OverrideEntry, ...],
    grants: tuple[Grant, ...] = (),
) -> Remark | None:
    """Return the problem of a policy if judging one image could take more than ``MAX_WORK``.

    All rules count, even those that have expired, because the answer must not depend on the time.
    """
    approved, denied = _indexed(allow), _indexed(deny)
    # Rules that expired lately have an index of their own (``CompiledPolicy.expired``).
    dated = tuple(rule for rule in allow if rule.until is not None)
    by_namespace = Overrides()
    for entry in overrides:
        by_namespace.add(entry)
    work = {
        "allow": approved.worst() + _depth_work(allow) + _indexed(dated).worst() + _depth_work(dated),
        "deny": denied.worst() + _depth_work(deny),
        "namespaces": by_namespace.worst(),
        "mirrors": mirrors.worst(),
        "exceptions": Grants(grants).worst(),
    }
    if sum(work.values()) <= MAX_WORK:
        # Last, because preparing the origins compares the sources of mirrors with wildcards.
        work["mirrors"] += _origin_work(mirrors, deny, denied, MAX_WORK - sum(work.values()))
    total = sum(work.values())
    if total <= MAX_WORK:
        return None
    section = max(work, key=work.__getitem__)
    return Remark(
        code="too-many-wildcards",
        path=(section,),
        message=(
            f"one image could take {total:,} steps to judge, and the limit is {MAX_WORK:,}, because it could"
            f" match too many wildcards; {section} has the largest share"
        ),
        proposal=_PROPOSALS.get(section, _PROPOSALS[""]),
    )


_PROPOSALS: Final = {
    "": "write the names out, or put different texts before the first or after the last *, as in team-a-*",
    "mirrors": "put fewer mirror targets below each other, or write deny and except with fewer wildcards",
}


def _indexed(rules: tuple[Rule, ...]) -> RuleSet:
    """Return the rules of which one image can match many: with wildcards, ``namespaces`` or ``except``."""
    return RuleSet(
        rule for rule in rules if rule.namespaces is not None or rule.excepts or _has_wildcard(rule.pattern)
    )


def _has_wildcard(pattern: Pattern) -> bool:
    return (
        is_glob(pattern.host)
        or any(map(is_glob, pattern.segments))
        or (pattern.tag is not None and is_glob(pattern.tag))
    )


def _depth_work(rules: tuple[Rule, ...]) -> int:
    """Return the work of looking up the prefixes of a path, for the rules without wildcards."""
    return prefix_work(max((len(rule.pattern.segments) for rule in rules), default=0))


def _origin_work(mirrors: Mirrors, deny: tuple[Rule, ...], indexed: RuleSet, left: int) -> int:
    """Return the work of looking the origins of an image up. ``indexed`` is ``_indexed(deny)``.

    Preparing the origins for 200,000 rules without wildcards takes long. So these rules are prepared only if
    so many mirror targets lie below each other that a simpler bound is larger than ``left``.
    """
    if not mirrors or not deny:
        return 0
    leaves = max(len(rule.pattern.segments) for rule in deny) + 3
    others = (mirrors.levels + 1) * (_depth_work(deny) + leaves * LEAF_WORK)
    work = _origins(mirrors, indexed).worst(mirrors.levels) + others
    return work if work <= left else _origins(mirrors, RuleSet(deny)).worst()


def _origins(mirrors: Mirrors, deny: RuleSet) -> DeniedOrigins:
    return at_once(DeniedOrigins.compiling(mirrors, deny))
