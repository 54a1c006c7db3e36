"""Sort the tags, digests and namespaces for one repository by which entries hold for them.

Sets of entries are integers: bit n stands for entry n. So a single ``&`` of two sets yields the entries that
hold for a tag in a namespace, whatever their number.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from typing import NamedTuple

from gatekeeper_py.core.compare.entries import PolicyScope
from gatekeeper_py.core.compare.parts import NAMESPACE, TAG, Effort, GlobSet, part_classes
from gatekeeper_py.core.images.pattern import ANY


class Qualifier(NamedTuple):
    """A class of tags and digests: a member such as ``:v1``, and the entries that hold for it."""

    suffix: str
    holding: int


class NamespaceClass(NamedTuple):
    """A class of namespaces: a member, and the entries that hold in it.

    ``name`` is ``None`` for requests without a namespace.
    """

    name: str | None
    holding: int


def qualifiers(entries: Sequence[PolicyScope], effort: Effort) -> list[Qualifier]:
    """Return a member of every class of tags and digests, tags first. Raises ``TooComplex``."""
    tags = _sets(entries, lambda entry: [entry.images.tag], effort)
    digests = _sets(entries, lambda entry: [entry.images.digest], effort)
    untagged, undigested = tags.pop(None, 0), digests.pop(None, 0)
    if not tags and not digests:
        found = [Qualifier("", untagged)]
        if any(entry.role == "require" for entry in entries):  # which distinguishes tags from digests
            found.append(Qualifier(f"@{_other_digest(digests)}", untagged & undigested))
        return found
    globs = sorted(filter(None, tags))
    found = [
        Qualifier(f":{text}", _holding(tags, globs, matched, untagged) & undigested)
        for matched, text in part_classes(globs, TAG, effort)
    ]
    pinned = untagged & (undigested | digests.pop(ANY, 0))
    found += (Qualifier(f"@{text}", pinned | digests[text]) for text in sorted(filter(None, digests)))
    return [*found, Qualifier(f"@{_other_digest(digests)}", pinned)]


def namespaces(entries: Sequence[PolicyScope], names: Iterable[str], effort: Effort) -> list[NamespaceClass]:
    """Return a namespace of every class that the entries and ``names`` distinguish.

    The class of requests without a namespace comes last. Raises ``TooComplex``.
    """
    sets = _sets(entries, lambda entry: entry.namespaces or (None,), effort)
    everywhere = sets.pop(None, 0)
    globs = sorted({*filter(None, sets), *names})
    if not globs:
        return [NamespaceClass("default", everywhere)]
    found = (
        NamespaceClass(text, _holding(sets, globs, matched, everywhere))
        for matched, text in part_classes(globs, NAMESPACE, effort)
    )
    return [*found, NamespaceClass(None, everywhere)]


def _sets(
    entries: Sequence[PolicyScope], values: Callable[[PolicyScope], Sequence[str | None]], effort: Effort
) -> dict[str | None, int]:
    """Return the set of entries for each value. Raises ``TooComplex``.

    ``effort`` bounds the memory, because a set has one bit for every entry up to its last one.
    """
    found: dict[str | None, int] = {}
    for index, entry in enumerate(entries):
        for value in values(entry):
            effort.spend(index // 64 + 1)
            found[value] = found.get(value, 0) | 1 << index
    return found


def _holding(sets: dict[str | None, int], globs: Sequence[str], matched: GlobSet, always: int) -> int:
    """Return the entries that hold for a class: those with one of its globs, and those that always hold."""
    for index in matched:
        always |= sets.get(globs[index], 0)
    return always


def _other_digest(known: Container[str | None]) -> str:
    """Return a digest that no rule names."""
    number = 0
    while f"sha256:{number:064x}" in known:
        number += 1
    return f"sha256:{number:064x}"
