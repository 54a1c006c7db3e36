"""Deny rules for an image that other references to the same content pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from operator import attrgetter

from gatekeeper_py.core.images.entry import Entry, EntryIndex, TooManyComparisonsError
from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.images.pattern import ANY, Pattern
from gatekeeper_py.core.policy.finding import Remark
from gatekeeper_py.core.policy.lint.subject import Subject, path_of, short, shown, warning
from gatekeeper_py.core.policy.mirror import copies
from gatekeeper_py.core.policy.rules import Rule


def denied_by_tag(subject: Subject) -> Iterator[Remark]:
    """Yield each deny rule for a tag whose images an allow rule approves by digest.

    Rules for ``latest``, or for a tag in every registry, are not for one image: they require fixed versions.
    """
    rules = [rule for rule in subject.live() if rule.list == "deny"]
    recalling = [rule for rule in rules if _names_tag(rule.pattern)]
    if not recalling:
        return
    allowed = _Rules(subject.approving(), subject)
    denied = _Rules((rule for rule in rules if rule.pattern.digest or not rule.exceptions), subject)
    with suppress(TooManyComparisonsError):
        for rule in recalling:
            pattern = rule.pattern
            pinned = Entry(images=replace(pattern, tag=None, digest=ANY), namespaces=rule.namespaces)
            passing = allowed.sharing(pinned)
            if passing and not denied.sharing(pinned):
                message = f"{short(pattern.text)} matches no digest, and {shown(passing[0])} approves some"
                yield warning("deny-by-tag", path_of(rule), message, "deny the digest of the image as well")


def _names_tag(pattern: Pattern) -> bool:
    tag = pattern.tag
    return tag is not None and tag != "latest" and not is_glob(tag) and not pattern.any_host


def denied_by_digest(subject: Subject) -> Iterator[Remark]:
    """Yield each deny rule for a digest of whose images, or copies of them, tags are approved unseen."""
    rules = [rule for rule in subject.live() if rule.list == "deny"]
    recalling = [rule for rule in rules if rule.pattern.digest not in {None, ANY}]
    if not recalling:
        return
    allowed = _Rules(subject.approving(), subject)
    denied = _Rules((rule for rule in rules if not (rule.pattern.qualifier or rule.exceptions)), subject)
    with suppress(TooManyComparisonsError):
        for rule in recalling:
            tags = Entry(images=replace(rule.pattern, digest=None), namespaces=rule.namespaces)
            allowed.spend(len(subject.policy.mirrors))
            on_mirrors = (copy for mirror in subject.policy.mirrors for copy in copies(mirror, tags))
            unseen = (_unseen(allowed, each) for each in (tags, *on_mirrors) if not denied.cover(each))
            if (by := next(filter(None, unseen), None)) is not None:
                message = f"{short(rule.pattern.text)} matches no tag, and {shown(by)} approves some unseen"
                verify = f"add verify: true to {by.list}[{by.index}]"
                proposal = "deny the tags as well" if is_glob(by.pattern.host) else verify
                yield warning("deny-by-digest", path_of(rule), message, proposal)


def _unseen(allowed: _Rules, tags: Entry) -> Rule | None:
    """Return the first rule that approves some of these images by tag, without a look-up."""
    for rule in allowed.sharing(tags):
        if rule.verify:
            if Entry(images=rule.pattern, namespaces=rule.namespaces).covers(tags):
                return None
        elif rule.pattern.digest is None:
            return rule
    return None


class _Rules:
    """An index of rules. Raises ``TooManyComparisonsError`` after too many comparisons."""

    def __init__(self, rules: Iterable[Rule], subject: Subject) -> None:
        self._rules = {str(rule.index): rule for rule in rules}
        most = max((len(rule.namespaces or ("",)) for rule in subject.live()), default=1)
        self._index = EntryIndex(subject.comparisons // most**2)
        for number, rule in self._rules.items():
            self._index.add(Entry(images=rule.pattern, namespaces=rule.namespaces, because=number))

    def sharing(self, entry: Entry) -> list[Rule]:
        """Return the rules that may have an image in common with an entry, in the order of the document."""
        found = (self._rules[each.because] for each in self._index.overlapping(entry))
        return sorted(found, key=attrgetter("index"))

    def cover(self, entry: Entry) -> bool:
        return self._index.covering(entry) is not None

    def spend(self, number: int) -> None:
        self._index.left -= number
        if self._index.left < 0:
            raise TooManyComparisonsError
