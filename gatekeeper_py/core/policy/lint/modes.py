"""Warn about modes and dates that have no effect, a different effect than stated, or soon no effect."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from gatekeeper_py.core.policy.configmap import MODE_KEY
from gatekeeper_py.core.policy.document import Mode, rewrites
from gatekeeper_py.core.policy.finding import MODE_OVERRIDDEN, NOTHING_TO_REWRITE, Path, Remark
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.core.policy.lint.subject import Subject, path_of, warning

EXPIRES_SOON: Final = timedelta(days=14)


def overridden_mode(subject: Subject) -> Iterator[Remark]:
    """Yield one remark when the ConfigMap's key ``mode`` differs from the document's mode."""
    if subject.policy.mode != subject.policy.document.mode:
        yield warning(
            MODE_OVERRIDDEN,
            ("mode",),
            f"the ConfigMap's key {MODE_KEY} replaces this mode with {subject.policy.mode}",
            f"write mode: {subject.policy.mode} here, or remove the key {MODE_KEY} from the ConfigMap",
        )


def rewriting_without_mirrors(subject: Subject) -> Iterator[Remark]:
    """Yield each setting of a rewriting mode, when neither mirrors nor pins rewrite images."""
    if any(until is None or subject.instant < until for until in subject.policy.rewriters):
        return
    policy = subject.policy
    modes: list[tuple[Path, Mode]] = [(("mode",), policy.mode)]
    modes += [(("namespaces", i, "mode"), entry.mode) for i, entry in enumerate(policy.document.namespaces)]
    for path, mode in modes:
        if rewrites(mode):
            yield warning(
                NOTHING_TO_REWRITE,
                path,
                f"mode {mode} rewrites nothing: the policy has neither mirrors nor a rule with pin",
                "add mirrors, or write mode: enforce",
            )


def expiry(subject: Subject) -> Iterator[Remark]:
    """Yield each entry that has expired or will do so within 14 days."""
    policy = subject.policy
    dated: list[tuple[Path, datetime]] = []
    for rule in (*policy.allow, *policy.deny):
        exceptions = [((*path_of(rule), *path_of(each)), each) for each in rule.exceptions]
        dated += [(path, each.until) for path, each in ((path_of(rule), rule), *exceptions) if each.until]
    overrides = enumerate(policy.document.namespaces)
    dated += [(("namespaces", index), entry.until) for index, entry in overrides if entry.until]
    for path, until in dated:
        at = format_instant(until)
        if until <= subject.instant:
            yield warning("expired", (*path, "until"), f"it expired at {at}", "remove or renew it")
        elif until - subject.instant <= EXPIRES_SOON:
            yield warning("expires-soon", (*path, "until"), f"it expires at {at}", "renew it in time")
