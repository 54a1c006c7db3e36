"""Rules and overrides that have expired or soon will."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from gatekeeper_py.core.policy.finding import Remark
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.core.policy.lint.subject import Subject, path_of, warning

EXPIRES_SOON: Final = timedelta(days=14)


def expiry(subject: Subject) -> Iterator[Remark]:
    """Yield each entry that has expired or will do so within 14 days."""
    dated = [
        (path_of(rule), rule.until) for rules in (subject.allow, subject.deny) for rule in rules if rule.until
    ]
    dated += [(("namespaces", i), entry.until) for i, entry in enumerate(subject.overrides) if entry.until]
    for path, until in dated:
        at = format_instant(until)
        if until <= subject.instant:
            yield warning("expired", (*path, "until"), f"it expired at {at}", "remove or renew it")
        elif until - subject.instant <= EXPIRES_SOON:
            yield warning("expires-soon", (*path, "until"), f"it expires at {at}", "renew it in time")
