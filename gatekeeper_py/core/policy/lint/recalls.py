"""Find deny rules for a tag or a digest that do not match the same image under another reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from gatekeeper_py.core.images.entry import Entry, EntryIndex, TooManyComparisonsError
from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.images.pattern import ANY, Pattern
from gatekeeper_py.core.policy.copies import copies
from gatekeeper_py.core.policy.finding import Remark
from gatekeeper_py.core.policy.lint.subject import Subject, path_of, shown, warning
from gatekeeper_py.core.policy.rules import Rule


def recalls(subject: Subject) -> Iterator[Remark]:
    """Yield a remark on each rule for a tag if digests stay approved, and for a digest if tags stay approved.

    Skip rules for ``latest``, or for a tag in every registry: they require fixed versions, and do not deny
    one particular image.
    """
    rules = [rule for rule in subject.live() if rule.list == "deny"]
    recalling = [rule for rule in rules if _by_tag(rule.pattern) or rule.pattern.digest not in {None, ANY}]
    if not recalling:
        return
    # Each comparison of two rules compares all their namespaces.
    names = max(len(rule.namespaces or ("",)) for rule in subject.live())
    allowed, digests, whole = (EntryIndex(subject.comparisons // names**2) for _ in range(3))
    allowed.extend(map(_entry, subject.approving()))
    digests.extend(_entry(rule) for rule in rules if rule.pattern.digest)
    whole.extend(_entry(rule) for rule in rules if not rule.pattern.qualifier and not rule.excepts)
    with suppress(TooManyComparisonsError):
        for rule in recalling:
            others = replace(rule.pattern, tag=None, digest=ANY if rule.pattern.tag else None)
            passing = replace(_entry(rule), images=others)
            if rule.pattern.tag:
                by = next(_sharing(allowed, passing, subject), None)
                known = any(each.covers_namespaces(passing) for each in digests.overlapping(passing))
                if by is not None and not known and not _denied(whole, passing):
                    message = (
                        f"{shown(rule)} does not match the image by its digest, which {shown(by)} approves"
                    )
                    yield warning("deny-by-tag", path_of(rule), message, "deny the digest as well")
                continue
            # A mirror costs about as much as ten comparisons.
            allowed.left -= 10 * len(subject.policy.mirrors)
            if allowed.left <= 0:
                return
            ends = ((mirror, to) for mirror in subject.policy.mirrors for to in mirror.targets)
            on_mirrors = (copy for mirror, to in ends for copy in copies(mirror, to, passing))
            tags = (each for each in (passing, *on_mirrors) if not _denied(whole, each))
            by = next(filter(None, (_unseen(_sharing(allowed, each, subject), each) for each in tags)), None)
            if by is not None:
                message = f"{shown(rule)} does not match tags, which {shown(by)} approves without a look-up"
                verify = f"add verify: true to {by.list}[{by.index}]"
                proposal = "deny the tags as well" if is_glob(by.pattern.host) else verify
                yield warning("deny-by-digest", path_of(rule), message, proposal)


def _by_tag(pattern: Pattern) -> bool:
    return pattern.tag not in {None, "latest"} and not is_glob(pattern.tag or "") and not pattern.any_host


def _entry(rule: Rule) -> Entry:
    return Entry(images=rule.pattern, namespaces=rule.namespaces, because=str(rule.index))


def _denied(whole: EntryIndex, entry: Entry) -> bool:
    """Return whether a deny rule matches all of an entry, in all of its namespaces."""
    return any(each.covers(entry) for each in whole.overlapping(entry))


def _sharing(allowed: EntryIndex, entry: Entry, subject: Subject) -> Iterator[Rule]:
    """Yield the allow rules that may have an image in common with an entry, in the order of the document."""
    indices = sorted({int(each.because) for each in allowed.overlapping(entry)})
    return (subject.policy.allow[index] for index in indices)


def _unseen(rules: Iterator[Rule], tags: Entry) -> Rule | None:
    """Return the first rule that approves some of these images by tag, and does not look them up."""
    for rule in rules:
        if rule.verify and _entry(rule).covers(tags):
            return None
        if not rule.verify and rule.pattern.digest is None:
            return rule
    return None
