"""Choose what goes into an expression: all that is of use, or the widest rules when there is no room."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from gatekeeper_py.core.compile import expression
from gatekeeper_py.core.compile.entry import Budget, Entry, EntryIndex, TooManyComparisonsError
from gatekeeper_py.core.compile.imageset import ImageSet
from gatekeeper_py.core.compile.preapproved import NOTHING, PreApproved

MAX_ENTRIES: Final = expression.MAX_EXPRESSION_LENGTH // len("'x:1/', ")
"""More could not fit, however short they are; so that they need not be written out to be measured."""

NO_ROOM: Final = "the expression has no room for more rules"
NO_ROOM_FOR_EXCLUSIONS: Final = "the expression has no room for all that is excluded from it"
TOO_MANY_COMPARISONS: Final = "there are too many rules to compare it with"

_SHARE_OF_EXCLUSIONS: Final = 2
"""What is excluded from one rule may take half of the room, so that other rules still have a place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What the rule with this index in ``allow`` would have pre-approved, until it expires."""

    index: int
    entry: Entry
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is pre-approved, and by index why a candidate is not. ``until`` is when the first one expires."""

    approved: PreApproved = NOTHING
    problems: Mapping[int, str] = field(default_factory=dict)
    until: datetime | None = None


def choose(candidates: Iterable[Candidate], excluded: Iterable[Entry], taken: str) -> Choice:
    """Choose among candidates. ``taken`` says what an exclusion does to a whole rule, after its name."""
    choosing = _Choosing(EntryIndex(budget=Budget()), taken)
    choosing.excluded.extend(excluded)
    # A rule that expires makes no difference under one that does not, which is therefore looked at first.
    for candidate in sorted(candidates, key=lambda each: (each.until is not None, _widest_first(each))):
        choosing.consider(candidate)
    return choosing.result()


@dataclass(frozen=True, slots=True)
class _Kept:
    candidate: Candidate
    excluded: tuple[Entry, ...]


@dataclass(slots=True)
class _Choosing:
    excluded: EntryIndex
    taken: str
    kept: list[_Kept] = field(default_factory=list)
    included: EntryIndex = field(default_factory=EntryIndex)
    problems: dict[int, str] = field(default_factory=dict)
    covered: list[tuple[int, Entry]] = field(default_factory=list)

    def consider(self, candidate: Candidate) -> None:
        """Keep a candidate, unless it is of no use or cannot be kept."""
        entry = candidate.entry
        cover = self.included.covering(entry)
        if cover is not None:
            self.covered.append((candidate.index, cover))
        elif len(self.kept) >= MAX_ENTRIES:
            self.problems[candidate.index] = NO_ROOM
        else:
            taking = self.excluded.covering(entry)
            if taking is not None:
                self.problems[candidate.index] = f"{taking.because} {self.taken} all of it"
                return
            try:
                excluded = _coarse_enough(entry, list(self.excluded.overlapping(entry)))
            except TooManyComparisonsError:
                self.problems[candidate.index] = TOO_MANY_COMPARISONS
                return
            if excluded is None:
                self.problems[candidate.index] = NO_ROOM_FOR_EXCLUSIONS
                return
            self.included.add(entry)
            self.kept.append(_Kept(candidate, excluded))

    def result(self) -> Choice:
        self.kept.sort(key=lambda each: _widest_first(each.candidate))
        fitting, above = 0, len(self.kept) + 1
        while above - fitting > 1:
            middle = (fitting + above) // 2
            if expression.fits(expression.expression(_assembled(self.kept[:middle]))):
                fitting = middle
            else:
                above = middle
        for left_out in self.kept[fitting:]:
            self.problems[left_out.candidate.index] = NO_ROOM
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


def _widest_first(candidate: Candidate) -> tuple[bool, int, bool, bool, str]:
    """Registries, then subtrees by depth, then repositories. Ties are broken by the text alone."""
    entry = candidate.entry
    images = entry.images
    return (
        not images.subtree,
        len(images.segments),
        images.qualified,
        entry.namespaces is not None,
        str(entry),
    )


def _assembled(kept: Sequence[_Kept]) -> PreApproved:
    """Return the kept entries, and what is excluded from them; the same whatever the rules' order."""
    return PreApproved(
        included=tuple(sorted((each.candidate.entry for each in kept), key=str)),
        excluded=tuple(_without_covered({entry for each in kept for entry in each.excluded})),
    )


def _without_covered(entries: Iterable[Entry]) -> Iterator[Entry]:
    index = EntryIndex()
    for entry in sorted(entries, key=_wide_first):
        if index.covering(entry) is None:
            index.add(entry)
            yield entry


def _wide_first(entry: Entry) -> tuple[bool, int, int, bool, str]:
    """Put no entry before one that covers it."""
    images = entry.images
    stars = str(images).count("*")
    return (not images.subtree, len(images.segments), -stars, images.qualified, str(entry))


def _coarse_enough(entry: Entry, excluded: list[Entry]) -> tuple[Entry, ...] | None:
    """Return what is excluded from an entry, or more than that when it would take too much room."""
    for coarsen in (_as_it_is, _every_version, _first_part):
        coarse = [wider for each in excluded for wider in coarsen(each, entry)]
        found = tuple(dict.fromkeys(coarse))
        if not found or _is_modest(entry, found):
            return found
    return None


def _is_modest(entry: Entry, excluded: tuple[Entry, ...]) -> bool:
    part = expression.expression(PreApproved(included=(entry,), excluded=excluded))
    return (
        part.cost <= expression.MAX_COST // _SHARE_OF_EXCLUSIONS
        and len(part.text) <= expression.MAX_EXPRESSION_LENGTH // _SHARE_OF_EXCLUSIONS
    )


def _as_it_is(each: Entry, _: Entry) -> Iterator[Entry]:
    yield each


def _every_version(each: Entry, entry: Entry) -> Iterator[Entry]:
    wider = each.unqualified()
    yield each if wider.covers(entry) else wider


def _first_part(each: Entry, entry: Entry) -> Iterator[Entry]:
    """Everything under the first part of a path below the entry's own."""
    depth = len(entry.images.segments) + 1
    images = each.images
    if not images.literal or len(images.segments) < depth:
        yield from _every_version(each, entry)
        return
    here = ImageSet(host=images.host, segments=images.segments[:depth])
    for subtree in (False, True):
        yield replace(each, images=replace(here, subtree=subtree), namespaces=None)
