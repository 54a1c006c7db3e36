"""Mirrors whose images would be refused."""

from __future__ import annotations

from collections.abc import Iterator

from gatekeeper_py.core.images.globmap import Scan
from gatekeeper_py.core.images.pattern import Pattern, Prefix
from gatekeeper_py.core.images.reference import DOCKER_HUB
from gatekeeper_py.core.policy.finding import Remark
from gatekeeper_py.core.policy.lint.subject import Subject, short, shown, warning
from gatekeeper_py.core.policy.mirror import Mirror


def unapproved_mirrors(subject: Subject) -> Iterator[Remark]:
    """Yield each mirror whose target no allow rule covers, whatever the rule's conditions."""
    scan = Scan(each=None, total=subject.comparisons)
    for mirror in subject.mirrors:
        covered = subject.live_allow.cover(_everything_at(mirror.to, mirror), scan)
        if not covered and not scan.cut:
            to = mirror.to.text
            yield warning(
                "mirror-unapproved",
                ("mirrors", mirror.index, "to"),
                f"no allow rule covers {short(to)}, so what is rewritten there is refused",
                f"allow {to}{'' if _has_one_image(mirror) else '/**'}",
            )


def denied_mirrors(subject: Subject) -> Iterator[Remark]:
    """Yield each mirror of which a deny rule refuses everything."""
    scan = Scan(each=None, total=subject.comparisons)
    for mirror in subject.mirrors:
        rule = next(
            (
                rule
                for end in (mirror.to, mirror.source)
                for rule in subject.live_deny.covering(
                    subject.live_deny.cover(_everything_at(end, mirror), scan), (None,), None
                )
            ),
            None,
        )
        if rule is not None:
            yield warning(
                "deny-covers-mirror",
                ("mirrors", mirror.index),
                f"{shown(rule)} refuses all that this mirror can give, as denials follow mirrors",
                "narrow the deny rule, or remove the mirror",
            )


def _everything_at(end: Prefix, mirror: Mirror) -> Pattern:
    """Return what can be at one end of a mirror, as a pattern."""
    subtree = not _has_one_image(mirror)
    return Pattern(text=end.text, host=end.host, segments=end.segments, subtree=subtree)


def _has_one_image(mirror: Mirror) -> bool:
    """Whether the mirror is of a single repository: on Docker Hub those have two segments."""
    return mirror.source.host == DOCKER_HUB and len(mirror.source.segments) > 1
