"""Write what users read: denials, warnings and audit annotations, bounded and on printable lines.

Source: docs/interface.md, "HTTP" (shapes and limits), and what the API server does with longer text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import islice
from typing import Final, TypeVar

from gatekeeper_py.core.admission.judge import Verdict, others_unmet
from gatekeeper_py.core.exceptions.exceptions import Excepted
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.instant import format_duration, format_minute
from gatekeeper_py.core.policy.rules import RuleSet

Subject = TypeVar("Subject")

NOT_APPROVED: Final = " is not approved"
REJECTIONS: Final = {"denied": " is denied", "invalid": " is invalid"}
"""Texts in warnings about images, by the reason for the rejection. Other reasons use ``NOT_APPROVED``."""

BY_LOOKUP: Final = frozenset({"absent", "unverified", "unpinned", "unsigned"})
"""The reasons of rejections by requirements and mirrors. Their details are for a sentence about the image."""

NEW_PODS: Final = "; new Pods will be refused"
"""The end of a warning about an update of a workload that is allowed, but cannot roll out."""

PROBLEM: Final = "not approved: "
"""Text in a denial about a value that is not an image. The problem of the value follows it."""

REST: Final = "images are not approved"
"""The end of the warning that counts the rejected images without a warning of their own."""

MAX_MESSAGE_BYTES: Final = 1024
MAX_AUDIT_BYTES: Final = 1024
MAX_AUDITED: Final = 600
"""Maximum number of characters of one image in an audit annotation, with what is said about it."""

MAX_WARNING_LENGTH: Final = 120
SHORTEST_IMAGE: Final = 24
"""Number of characters of an image that a warning shows before it cuts other texts."""

MAX_WARNINGS: Final = 10
MAX_IMAGES_SHOWN: Final = 5
ASK_FOR: Final = timedelta(days=7)
"""Duration in the command that asks for an exception, unless the grants allow only a shorter one."""

MAX_PATTERNS: Final = 5
MAX_RULES_READ: Final = 1000
MAX_NAMES_READ: Final = 1000
"""Maximum number of rules, and of names of namespaces in these rules, that are read to list the approved
patterns. They bound the cost of a denial even under a policy with 100,000 rules for other namespaces, or with
1,000 namespaces in each rule."""


def denial_message(rejected: Sequence[Verdict], allow: RuleSet, namespace: str | None, message: str) -> str:
    """Return the text of a denial, at most 1 KiB of UTF-8.

    If the text would be longer, the command that asks for an exception is dropped first, then the approved
    patterns, then lines for images. The policy's own message and the number of images that are not shown
    always stay.
    """
    # Without grants in the policy, no decision has a ruling.
    lines = [
        image_line(verdict) if verdict.decision.ruling is None else _with_exception(verdict)
        for verdict in rejected[:MAX_IMAGES_SHOWN]
    ]
    patterns = _approved_patterns(allow, namespace)
    ruled = [verdict for verdict in rejected if verdict.decision.ruling is not None]
    asking = _how_to_ask(ruled, namespace) if ruled else ""
    for shown in (f"{patterns}\n{asking}" if patterns and asking else asking or patterns, patterns, ""):
        text = _assembled(lines, len(rejected), shown, message)
        if _fits(text):
            return text
    while len(lines) > 1:
        lines.pop()
        text = _assembled(lines, len(rejected), "", message)
        if _fits(text):
            return text
    frame = len(_assembled(["-"], len(rejected), "", message).encode()) - 1
    return _assembled([_cut(lines[0], MAX_MESSAGE_BYTES - frame)], len(rejected), "", message)


def image_line(verdict: Verdict) -> str:
    """Return the line for one rejected image."""
    slot, decision = verdict.slot, verdict.decision
    name = f' "{escape(slot.name, 63)}"' if slot.name else ""
    subject = f"{slot.noun}{name} ({escape(path)})" if (path := slot.path) else slot.noun
    if slot.problem:
        return f"{subject}: {PROBLEM}{slot.problem}"
    if decision.reason in BY_LOOKUP:
        return f"{subject}: {escape(slot.value)} {decision.detail}"
    mirrored = "on its mirror, " if verdict.rewritten else ""
    use = f"; use {verdict.use}" if verdict.use else ""
    return f"{subject}: {escape(slot.value)}{NOT_APPROVED}: {mirrored}{decision.detail}{use}"


def _with_exception(verdict: Verdict) -> str:
    """Return the line for a rejected image, and one about an exception that ended lately or begins soon."""
    line, ruling = image_line(verdict), verdict.decision.ruling
    if ruling is None or ruling.missed is None:
        return line
    return f"{line}\nan exception for it {exception_text(ruling.missed)}"


def exception_text(missed: Excepted) -> str:
    """Return when an exception expired or will take effect, with its owner and its reason."""
    when = (
        f"ended {format_minute(missed.until)}" if missed.ended else f"begins {format_minute(missed.begins)}"
    )
    return f"{when} ({escape(missed.by, 60)}: {escape(missed.reason, 100)})"


def _how_to_ask(rejected: Sequence[Verdict], namespace: str | None) -> str:
    """Return the command that asks for an exception for the first image that may have one, or nothing."""
    for verdict in rejected:
        ruling, image = verdict.decision.ruling, escape(verdict.decision.image)
        # An image that had to be cut would be another one.
        if ruling is not None and ruling.longest is not None and image == verdict.decision.image:
            duration = format_duration(min(ruling.longest, ASK_FOR))
            options = f"-n {namespace} --for {duration} --reason \N{HORIZONTAL ELLIPSIS}"
            return f"ask for an exception: gatekeeper-py except {image} {options}"
    return ""


def exception_warnings(excepted: Sequence[Verdict], others: int = 0) -> tuple[str, ...]:
    """Return one warning per image that an exception approves, as far as ``others`` leave room for them."""
    room = MAX_WARNINGS - others
    return _limited(excepted, exception_line, "images are approved by exceptions", room) if room > 0 else ()


def exception_list(excepted: Sequence[Verdict]) -> str:
    """Return the audit annotation for images that exceptions approve: each with its document and entry."""
    return audit_list(excepted, _excepted_text)


def _excepted_text(verdict: Verdict) -> str:
    """Return an image and the entry that approves it, whatever the length of the image as written."""
    decision = verdict.decision
    found, image = decision.exception, decision.image
    entry = "" if found is None else f" ({found.source} {found.namespace} exceptions[{found.index}])"
    room = MAX_AUDITED - len(entry)
    if len(image) > room and decision.parsed is not None:
        # A port can have thousands of zeros before its digits. The name for matching does not have them.
        image = f"{decision.parsed.name}{decision.parsed.reference.suffix}"
    return f"{escape(image, room)}{entry}"


def exception_line(verdict: Verdict) -> str:
    """Return the line for one image that an exception approves."""
    found = verdict.decision.exception
    until = "" if found is None else f" until {format_minute(found.until)}"
    path = f"{escape(path)}: " if (path := verdict.slot.path) else ""
    return _fitted(path, escape(verdict.decision.image), f" is approved{until} by an exception")


def warnings_for(rejected: Sequence[Verdict]) -> tuple[str, ...]:
    """Return one warning per rejected image. If there are more than ten, the tenth counts the rest."""
    return _limited(rejected, _rejected_warning, REST)


def rollout_warnings(stuck: Sequence[Verdict]) -> tuple[str, ...]:
    """Return one warning per image that an update keeps in a pod template, but that Pods may not have.

    The image is cut as much as necessary, because the user knows it: the object held it before. Reasons by
    look-up are not shown, because names of keys would leave no room for the image. The denial shows them.
    """
    return _limited(stuck, lambda each: _rejected_warning(each, NEW_PODS, shortest=0), REST)


def rewrite_warnings(planned: Sequence[Verdict]) -> tuple[str, ...]:
    """Return one warning per image that was rewritten or could not be rewritten."""
    return _limited(planned, _rewrite_warning, "images were rewritten or left as written")


def finding_warnings(findings: Sequence[Finding], most: int = MAX_WARNINGS) -> tuple[str, ...]:
    """Return one warning per finding on a policy, at most ``most``. The last one may count the rest."""
    return _limited(findings, lambda finding: escape(str(finding), MAX_WARNING_LENGTH), "findings", most)


def undeclared_warning(kind: str) -> str:
    """Return the warning for an object without images: it explains how to declare image fields."""
    suffix = ": no image found; declare any under resources in the policy"
    return escape(kind, MAX_WARNING_LENGTH - len(suffix)) + suffix


def audit_list(verdicts: Sequence[Verdict], describe: Callable[[Verdict], str]) -> str:
    """Return verdicts on one line of at most 1 KiB, with a count of those that do not fit."""
    shown: list[str] = []
    size = 0
    for verdict in verdicts:
        text = escape(describe(verdict), MAX_AUDITED)
        size += len(text) + len(", ")
        if size > MAX_AUDIT_BYTES - len(" and 9999999 more"):
            break
        shown.append(text)
    left = len(verdicts) - len(shown)
    return ", ".join(shown) + (f" and {left} more" if left else "")


def unverified_list(kept: Sequence[Verdict]) -> str:
    """Return the audit annotation for images that are kept although a registry could not be queried."""
    return audit_list(kept, lambda verdict: f"{verdict.slot.value} ({verdict.unverified})")


def signed_list(signed: Sequence[Verdict]) -> str:
    """Return the audit annotation for images with valid signatures: each with the names of the keys."""
    return audit_list(signed, _signed_text)


def _signed_text(verdict: Verdict) -> str:
    return f"{verdict.slot.value} by {' and '.join(made.by for made in verdict.signatures)}"


def unmet_list(unmet: Sequence[Verdict]) -> str:
    """Return the audit annotation for images that do not meet requirements with ``mode: warn``."""
    return audit_list(unmet, lambda each: f"{each.slot.value} {_unmet_text(each)}")


def _unmet_text(verdict: Verdict) -> str:
    """Return why an image does not meet the first of its requirements with ``mode: warn``."""
    first, *others = verdict.warned
    return first.detail + others_unmet(len(others))


def unmet_warnings(unmet: Sequence[Verdict], others: int = 0) -> tuple[str, ...]:
    """Return one warning per approved image with an unmet requirement, as far as ``others`` leave room."""
    room = MAX_WARNINGS - others
    return _limited(unmet, _unmet_warning, "images do not meet a requirement", room) if room > 0 else ()


def _unmet_warning(verdict: Verdict) -> str:
    path = f"{escape(path)}: " if (path := verdict.slot.path) else ""
    shortest = 0 if verdict.warned[0].reason == "unpinned" else SHORTEST_IMAGE
    return _fitted(path, escape(verdict.slot.value), f" {_unmet_text(verdict)}", shortest)


def kept_text(verdict: Verdict) -> str:
    """Return the text that follows the name of an image that was not moved or not pinned."""
    if verdict.rewritten is None:
        verb = " is left as written: "
    elif verdict.mirror is None:
        verb = " was pinned, but not moved to a mirror: "
    else:
        verb = " was moved to its mirror, but not pinned: "
    return verb + verdict.problem


def _rejected_warning(verdict: Verdict, effect: str = "", shortest: int = SHORTEST_IMAGE) -> str:
    """Return the warning about a rejected image. ``effect`` follows the reason."""
    slot = verdict.slot
    path = f"{escape(path)}: " if (path := slot.path) else ""
    if slot.problem:
        return _fitted(path, "", slot.problem + effect, shortest)
    if verdict.decision.reason in BY_LOOKUP and not effect:
        if verdict.decision.reason == "unpinned":
            shortest = 0  # the digest to add says more than the name, which the user wrote
        return _fitted(path, escape(slot.value), f" {verdict.decision.detail}", shortest)
    reason = REJECTIONS.get(verdict.decision.reason, NOT_APPROVED)
    return _fitted(path, escape(slot.value), reason + effect, shortest)


def _rewrite_warning(verdict: Verdict) -> str:
    became = kept_text(verdict) if verdict.problem else f" was rewritten to {verdict.rewritten}"
    return _fitted(f"{escape(verdict.slot.path)}: ", escape(verdict.slot.value), became)


def _fitted(path: str, image: str, rest: str, shortest: int = SHORTEST_IMAGE) -> str:
    """Join the three texts in at most 120 characters.

    If they are longer, the image is cut first, to ``shortest`` characters, then the rest. The path is cut
    only if it is too long by itself.
    """
    room = MAX_WARNING_LENGTH - len(path) - len(rest)
    if len(image) > room:
        shortest = min(len(image), shortest)
        if room < shortest:
            rest = _cut(rest, max(MAX_WARNING_LENGTH - len(path) - shortest, 0))
            room = MAX_WARNING_LENGTH - len(path) - len(rest)
        image = _cut(image, max(room, 0))
    return (path + image + rest)[:MAX_WARNING_LENGTH]


def _limited(
    subjects: Sequence[Subject], text: Callable[[Subject], str], what: str, most: int = MAX_WARNINGS
) -> tuple[str, ...]:
    if len(subjects) <= most:
        return tuple(map(text, subjects))
    shown = subjects[: most - 1]
    return (*map(text, shown), f"{len(subjects) - len(shown)} more {what}")


def _approved_patterns(allow: RuleSet, namespace: str | None) -> str:
    """Return the first patterns that can approve images in this namespace."""
    patterns: list[str] = []
    names = 0
    for rule in islice(allow, MAX_RULES_READ):
        names += len(rule.namespaces or ())
        if names > MAX_NAMES_READ or len(patterns) > MAX_PATTERNS:
            break
        if rule.applies_to(namespace):
            patterns.append(escape(rule.pattern.text))
    if not patterns:
        return ""
    more = ", ..." if len(patterns) > MAX_PATTERNS else ""
    return f"approved: {', '.join(patterns[:MAX_PATTERNS])}{more}"


def _assembled(lines: list[str], total: int, patterns: str, message: str) -> str:
    left = total - len(lines)
    more = f"and {left} more image{'s' if left > 1 else ''} not approved" if left else ""
    return "\n".join(part for part in (*lines, more, patterns, message) if part)


def _fits(text: str) -> bool:
    return len(text.encode()) <= MAX_MESSAGE_BYTES


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: max(limit - 3, 0)] + "..."[:limit]
