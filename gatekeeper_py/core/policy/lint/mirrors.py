"""Mirrors whose images would be refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gatekeeper_py.core.images.globmap import Scan
from gatekeeper_py.core.images.pattern import ANY, Pattern, Prefix, path_matches
from gatekeeper_py.core.images.reference import DOCKER_HUB
from gatekeeper_py.core.policy.finding import Remark
from gatekeeper_py.core.policy.lint.patterns import TWO_SEGMENT_REGISTRIES
from gatekeeper_py.core.policy.lint.subject import Subject, short, shown, warning
from gatekeeper_py.core.policy.mirror import Mirror
from gatekeeper_py.core.policy.rules import Rule


def unapproved_mirrors(subject: Subject) -> Iterator[Remark]:
    """Yield each target of a mirror that no allow rule covers, whatever the rule's conditions."""
    scan = Scan(each=None, total=subject.comparisons)
    for mirror, end in ((m, to) for m in subject.policy.mirrors for to in m.targets):
        if subject.live_allow.cover(_everything_at(end, mirror), scan):
            continue
        # ``to/**`` does not match the repository ``to``, which is all that some mirrors have.
        is_repository = _may_be_repositories(mirror, end)
        has_repository = is_repository and subject.live_allow.cover(end.here, scan)
        if scan.cut:
            continue
        to = end.text
        if has_repository:
            problem = (
                f"no allow rule covers {short(to)}/**, so what is rewritten below {short(to)} is refused"
            )
            proposal = f"allow {to}/**, unless {mirror.source.text} is a single repository"
        else:
            problem = f"no allow rule covers {short(to)}, so what is rewritten there is refused"
            below = "" if _has_one_image(mirror) else "/**"
            proposal = f"allow {to}{below}"
            if is_repository:
                proposal += f"; also allow {to} if {mirror.source.text} is itself a repository"
        yield warning("mirror-unapproved", ("mirrors", mirror.index, "to"), problem, proposal)


def unapproved_pins(subject: Subject) -> Iterator[Remark]:
    """Yield mirrors with ``pin`` whose images stay unpinned because no rule approves their digests."""
    scan = Scan(each=None, total=subject.comparisons)
    for mirror in subject.policy.mirrors:
        for to in mirror.targets if mirror.pin else ():
            pinned = replace(_everything_at(to, mirror), digest=ANY)
            rules = subject.live_allow.covering_all(pinned, None, scan)
            if next(rules, None) is None and not scan.cut:
                below = "" if _has_one_image(mirror) else "/**"
                yield warning(
                    "pin-unapproved",
                    ("mirrors", mirror.index, "pin"),
                    f"no allow rule covers digests below {short(to.text)}, so images there are left unpinned",
                    f"allow {to.text}{below}@*",
                )


def denied_mirrors(subject: Subject) -> Iterator[Remark]:
    """Yield each mirror of which a deny rule refuses everything."""
    scan = Scan(each=None, total=subject.comparisons)
    for mirror in subject.policy.mirrors:
        ends = (*(mirror.targets if len(mirror.targets) == 1 else ()), mirror.source)
        rule = next((rule for end in ends for rule in _denying_all(subject, end, mirror, scan)), None)
        if rule is not None:
            yield warning(
                "deny-covers-mirror",
                ("mirrors", mirror.index),
                f"{shown(rule)} refuses all that this mirror can give, as denials follow mirrors",
                "narrow the deny rule, or remove the mirror",
            )


def _denying_all(subject: Subject, end: Prefix, mirror: Mirror, scan: Scan) -> Iterator[Rule]:
    """Yield the deny rules that refuse everything at one end of a mirror."""
    rules = subject.live_deny
    whole = _everything_at(end, mirror)
    for rule in rules.covering(rules.cover(whole, scan), (None,), None):
        # ``a.io/x/**`` does not match the repository ``a.io/x``, but a mirror from ``a.io/x`` rewrites it.
        if not _has_repository_at_source(mirror) or path_matches(
            rule.pattern.segments, end.segments, subtree=rule.pattern.subtree
        ):
            yield rule


def _has_repository_at_source(mirror: Mirror) -> bool:
    """Return whether ``from`` may name a repository as well as a path with repositories below it.

    On Docker Hub it cannot, because the path of a repository there has two segments.
    """
    return mirror.source.host != DOCKER_HUB and bool(mirror.source.segments)


def _may_be_repositories(mirror: Mirror, to: Prefix) -> bool:
    """Return whether a repository named ``from`` may exist, so that it is rewritten to ``to`` itself."""
    source = mirror.source
    is_owner = source.host in TWO_SEGMENT_REGISTRIES and len(source.segments) == 1
    shortest = 2 if to.host == DOCKER_HUB else 1
    return _has_repository_at_source(mirror) and not is_owner and len(to.segments) >= shortest


def _everything_at(end: Prefix, mirror: Mirror) -> Pattern:
    """Return what can be at one end of a mirror, as a pattern."""
    return end.here if _has_one_image(mirror) else end.below


def _has_one_image(mirror: Mirror) -> bool:
    """Return whether the mirror is of a single repository, as a path of two segments on Docker Hub is."""
    return mirror.source.host == DOCKER_HUB and len(mirror.source.segments) > 1
