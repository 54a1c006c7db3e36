"""Warn about modes and dates that have no effect, a different effect than stated, or soon no effect."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from gatekeeper_py.core.policy.configmap import MODE_KEY
from gatekeeper_py.core.policy.document import ENFORCE, Mode, OverrideEntry, PolicyDocument
from gatekeeper_py.core.policy.finding import MODE_OVERRIDDEN, NOTHING_TO_REWRITE, Path, Remark
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.core.policy.keys import Key
from gatekeeper_py.core.policy.lint.subject import Subject, warning
from gatekeeper_py.core.policy.rules import Rule

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
    """Yield each setting of a rewriting mode, when nothing in the policy rewrites images."""
    if subject.policy.rewrites:
        return
    policy = subject.policy
    modes: list[tuple[Path, Mode]] = [(("mode",), policy.mode)]
    modes += [(("namespaces", i, "mode"), entry.mode) for i, entry in enumerate(policy.document.namespaces)]
    for path, mode in modes:
        if mode.rewrites:
            yield warning(
                NOTHING_TO_REWRITE,
                path,
                f"mode {mode} rewrites nothing: the policy neither has mirrors nor requires digests",
                f"add mirrors, or write mode: {ENFORCE}",
            )


def unenforced(subject: Subject) -> Iterator[Remark]:
    """Yield each live override that lets every namespace only warn, if no earlier one enforces."""
    for index, entry in enumerate(subject.policy.document.namespaces):
        if entry.until is not None and entry.until <= subject.instant:
            continue
        if entry.mode.refuses:
            return
        if any(set(name) == {"*"} for name in entry.names):
            yield warning(
                "enforces-nothing",
                ("namespaces", index, "mode"),
                f"mode {entry.mode} applies to every namespace, so no image is refused anywhere",
                "name the namespaces that only warn, or enforce in an earlier entry",
            )


def expiry(subject: Subject) -> Iterator[Remark]:
    """Yield each entry that has expired or will do so within 14 days."""
    for path, entry, until in subject.policy.document.dated():
        at = format_instant(until) + _contact(entry)
        if until <= subject.instant:
            yield warning("expired", (*path, "until"), f"it expired at {at}", "remove or renew it")
        elif until - subject.instant <= EXPIRES_SOON and isinstance(entry, Key):
            message = f"signatures by {entry.name} do not count from {at} on"
            proposal = "sign with another key, and add that to keys and to signedBy"
            yield warning("key-expires-soon", (*path, "until"), message, proposal)
        elif until - subject.instant <= EXPIRES_SOON:
            yield warning("expires-soon", (*path, "until"), f"it expires at {at}", "renew it in time")


def keys(subject: Subject) -> Iterator[Remark]:
    """Yield keys that no requirement names, that repeat another key, or that cannot be used with cosign."""
    used = {name for each in subject.policy.document.require for name in each.signed_by}
    first: dict[str, str] = {}
    for index, key in enumerate(subject.policy.document.keys):
        name = first.setdefault(key.fingerprint, key.name)
        if name != key.name:
            message = f"the same key as {name}, so removing one of them revokes nothing"
            yield warning("key-repeated", ("keys", index, "key"), message, f"name {name} in signedBy instead")
        if key.name not in used:
            message = f"no requirement names {key.name} in signedBy"
            yield warning("key-unused", ("keys", index), message, "remove it, or name it")
        if key.kind == "Ed25519":
            message = "cosign signs with Ed25519 keys in a prehashed form, which neither it nor we can verify"
            yield warning("key-prehashed", ("keys", index, "key"), message, "sign with a P-256 key")


def next_finding(document: PolicyDocument, instant: datetime) -> datetime | None:
    """Return the first later instant at which an entry expires or expires soon, ``None`` without one.

    Until then the findings about the policy stay the same.
    """
    left = ((until, until - instant) for _, _, until in document.dated())
    turns = (
        until - EXPIRES_SOON if remaining > EXPIRES_SOON else until
        for until, remaining in left
        if remaining > timedelta()
    )
    return min(turns, default=None)


def _contact(entry: Rule | OverrideEntry | Key) -> str:
    """Return the owner and the reason of an entry in brackets, empty if it has neither."""
    if isinstance(entry, Key):
        return ""
    owner = entry.owner if isinstance(entry, Rule) else None
    named = (("owner", owner), ("reason", entry.reason))
    known = "; ".join(f"{name}: {text}" for name, text in named if text)
    return f" ({known})" if known else ""
