"""Findings about the entries of a document with exceptions, under a policy.

They do not make the document invalid: its other entries are in effect. Only ``check`` and the guard refuse a
document with an error, because they can report it to the author.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from gatekeeper_py.core.exceptions.document import ExceptionEntry
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions, reach
from gatekeeper_py.core.images.globmap import Scan
from gatekeeper_py.core.policy.finding import MAX_FINDINGS, Finding, Severity, more_findings
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.core.policy.rules import Rule

TOO_LONG: Final = "exception-too-long"
OUTSIDE: Final = "exception-outside"
TOO_MANY: Final = "too-many"
EXPIRED: Final = "expired"
SUPERFLUOUS: Final = "exception-superfluous"


def exception_findings(policy: CompiledPolicy, exceptions: Exceptions, now: datetime) -> tuple[Finding, ...]:
    """Return what is wrong with the entries of documents at an instant: at most 100 findings, and one more.

    Entries that are too long, too many or outside every grant are errors, the others are warnings.
    """
    scan = Scan()
    found: list[Finding] = []
    for key, entry, state in exceptions.states(policy.grants, now):
        if state == "outside":
            message, proposal = _outside(policy, key)
            found.append(_finding("error", OUTSIDE, entry, message, proposal))
        elif state == "early":
            latest = format_instant(exceptions.latest_until(policy.grants, key, entry.index, now))
            message = "until is further away than the grant allows, so the exception has no effect yet"
            proposal = f"the latest until that is allowed now is {latest}"
            found.append(_finding("error", TOO_LONG, entry, message, proposal))
        elif state == "too-many":
            message = "too many live entries precede it in the document, so it has no effect"
            found.append(
                _finding("error", TOO_MANY, entry, message, "remove entries that are no longer needed")
            )
        elif state == "expired":
            message = f"the exception expired at {format_instant(entry.until)}"
            found.append(_finding("warning", EXPIRED, entry, message, "remove it"))
        elif (rule := approving_rule(policy, key, entry, scan)) is not None:
            message = f"the policy approves these images anyway, by {rule.list}[{rule.index}]"
            if policy.requires:
                message += ", and an exception does not replace a requirement"
            found.append(_finding("warning", SUPERFLUOUS, entry, message, "remove it"))
    if len(found) > MAX_FINDINGS:
        found[MAX_FINDINGS:] = [more_findings(len(found) - MAX_FINDINGS, found[MAX_FINDINGS - 1])]
    return tuple(found)


def _outside(policy: CompiledPolicy, key: DocumentKey) -> tuple[str, str]:
    if not policy.grants.of(key.source):
        message = f"the policy has no grant with source: {key.source}, so the document approves nothing"
        return message, "ask whoever owns the policy for a grant"
    return f"no grant with source: {key.source} covers any of these images here", ""


def approving_rule(
    policy: CompiledPolicy, key: DocumentKey, entry: ExceptionEntry, scan: Scan
) -> Rule | None:
    """Return an allow rule that approves all that an entry can approve, for as long as the entry lasts."""
    if any(grant.overrides for grant in policy.grants.of(key.source)):
        return None  # the entry may be needed for denied images, or for those that do not meet a requirement
    found = None
    for namespace in reach(key, entry).namespaces or (None,):
        rules = policy.allow.covering_all(entry.pattern, namespace, scan)
        found = next((rule for rule in rules if rule.until is None or rule.until >= entry.until), None)
        if found is None:
            return None
    return found


def _finding(
    severity: Severity, code: str, entry: ExceptionEntry, message: str, proposal: str = ""
) -> Finding:
    return Finding(
        severity=severity,
        code=code,
        path=f"exceptions[{entry.index}]",
        line=entry.line,
        message=message,
        proposal=proposal,
    )
