"""Choose the rules for an expression: all that have an effect, or the widest rules if not all of them fit."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from gatekeeper_py.core.compile.cost import MAX_EXPRESSION_LENGTH, fits
from gatekeeper_py.core.compile.expression import expression
from gatekeeper_py.core.compile.preapproved import NOTHING, PreApproved
from gatekeeper_py.core.images.pattern import Pattern
from gatekeeper_py.core.images.scope import Scope, ScopeIndex, TooManyComparisonsError

MAX_ENTRIES: Final = MAX_EXPRESSION_LENGTH // len("'x:1/', ")
"""Maximum number of rules that are considered. More do not fit, however short they are."""

TOO_LARGE: Final = "with it, the expression would become too long or too expensive"
EXCLUSIONS_TOO_LARGE: Final = "the denied images below it would make the expression too long or too expensive"
TOO_MANY_COMPARISONS: Final = "there are too many rules to compare it with"

_SHARE_OF_EXCLUSIONS: Final = 2
"""The exclusions of one rule may take half of the expression, so that other rules still fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The images that the rule with this index in ``allow`` approves. ``until`` is when the rule expires."""

    index: int
    entry: Scope
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The pre-approved images, and the reasons why other candidates were not chosen, by their index.

    ``until`` is when the first chosen rule expires.
    """

    approved: PreApproved = NOTHING
    problems: Mapping[int, str] = field(default_factory=dict)
    until: datetime | None = None


def choose(candidates: Iterable[Candidate], excluded: Iterable[Scope], verb: str) -> Choice:
    """Choose among candidates.

    ``verb`` is for the message about a candidate that an exclusion covers completely, for example ``covers``
    in "deny[0] b.io covers all of it".
    """
    choosing = _Choosing(ScopeIndex(), verb)
    choosing.excluded.extend(excluded)
    # Permanent rules come first: a rule that expires has no effect if a permanent one covers it.
    for candidate in sorted(candidates, key=lambda each: (each.until is not None, _widest_first(each))):
        choosing.consider(candidate)
    return choosing.result()


@dataclass(frozen=True, slots=True)
class _Kept:
    candidate: Candidate
    excluded: tuple[Scope, ...]


@dataclass(slots=True)
class _Choosing:
    excluded: ScopeIndex
    verb: str
    kept: list[_Kept] = field(default_factory=list)
    included: ScopeIndex = field(default_factory=ScopeIndex)
    problems: dict[int, str] = field(default_factory=dict)
    covered: list[tuple[int, Scope]] = field(default_factory=list)

    def consider(self, candidate: Candidate) -> None:
        """Keep a candidate, unless another one covers it or it does not fit."""
        entry = candidate.entry
        cover = self.included.covering(entry)
        if cover is not None:
            self.covered.append((candidate.index, cover))
        elif len(self.kept) >= MAX_ENTRIES:
            self.problems[candidate.index] = TOO_LARGE
        else:
            exclusion = self.excluded.covering(entry)
            if exclusion is not None:
                but = "" if exclusion.but is None else ", apart from its exceptions"
                self.problems[candidate.index] = f"{exclusion.because} {self.verb} all of it{but}"
                return
            try:
                excluded = _coarse_enough(entry, list(self.excluded.overlapping(entry)))
            except TooManyComparisonsError:
                self.problems[candidate.index] = TOO_MANY_COMPARISONS
                return
            if excluded is None:
                self.problems[candidate.index] = EXCLUSIONS_TOO_LARGE
                return
            self.included.add(entry)
            self.kept.append(_Kept(candidate, excluded))

    def result(self) -> Choice:
        self.kept.sort(key=lambda each: _widest_first(each.candidate))
        numbers = range(1, len(self.kept) + 1)
        fitting = bisect_left(numbers, True, key=lambda number: not _fits(self.kept[:number]))
        for left_out in self.kept[fitting:]:
            self.problems[left_out.candidate.index] = TOO_LARGE
        included = {each.candidate.entry: each.candidate.index for each in self.kept}
        for index, cover in self.covered:
            problem = self.problems.get(included[cover])
            if problem is not None:
                self.problems[index] = problem
        ends = [each.candidate.until for each in self.kept[:fitting]]
        return Choice(
            approved=_assembled(self.kept[:fitting]),
            problems=self.problems,
            until=min((end for end in ends if end is not None), default=None),
        )


def _fits(kept: Sequence[_Kept]) -> bool:
    return fits(expression(_assembled(kept)))


def _widest_first(candidate: Candidate) -> tuple[bool, int, bool, bool, str]:
    """Order registries first, then subtrees by depth, then repositories. The text decides between equals."""
    entry = candidate.entry
    images = entry.images
    return (
        not images.subtree,
        len(images.segments),
        images.qualifier is not None,
        entry.namespaces is not None,
        str(entry),
    )


def _assembled(kept: Sequence[_Kept]) -> PreApproved:
    """Return the kept entries and their exclusions. The result does not depend on the order of the rules."""
    return PreApproved(
        included=tuple(sorted((each.candidate.entry for each in kept), key=str)),
        excluded=tuple(_without_covered({entry for each in kept for entry in each.excluded})),
    )


def _without_covered(entries: Iterable[Scope]) -> Iterator[Scope]:
    index = ScopeIndex()
    for entry in sorted(entries, key=_wide_first):
        if index.covering(entry) is None:
            index.add(entry)
            yield entry


def _wide_first(entry: Scope) -> tuple[bool, int, int, bool, str]:
    """Order entries so that each one comes after those that cover it."""
    images = entry.images
    stars = str(images).count("*")
    return (not images.subtree, len(images.segments), -stars, images.qualifier is not None, str(entry))


def _coarse_enough(entry: Scope, excluded: list[Scope]) -> tuple[Scope, ...] | None:
    """Return the exclusions of an entry, widened if they would take more than half of the expression.

    Returns ``None`` if even the widened ones would.
    """
    for coarsen in (_as_it_is, _every_version, _first_part):
        coarse = [wider for each in excluded for wider in coarsen(each, entry)]
        found = tuple(dict.fromkeys(coarse))
        if not found or _is_modest(entry, found):
            return found
    return None


def _is_modest(entry: Scope, excluded: tuple[Scope, ...]) -> bool:
    return fits(expression(PreApproved(included=(entry,), excluded=excluded)), _SHARE_OF_EXCLUSIONS)


def _as_it_is(each: Scope, _: Scope) -> Iterator[Scope]:
    yield each


def _every_version(each: Scope, entry: Scope) -> Iterator[Scope]:
    wider = each.unqualified()
    yield each if wider.covers(entry) else wider


def _first_part(each: Scope, entry: Scope) -> Iterator[Scope]:
    """Widen an exclusion to everything under its first path segment below the entry's own path."""
    depth = len(entry.images.segments) + 1
    images = each.images
    if not images.literal or len(images.segments) < depth:
        yield from _every_version(each, entry)
        return
    here = Pattern(host=images.host, segments=images.segments[:depth])
    for subtree in (False, True):
        yield replace(each, images=replace(here, subtree=subtree), namespaces=None)
