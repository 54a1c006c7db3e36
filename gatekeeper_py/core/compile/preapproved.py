"""Which images are pre-approved: the intermediate representation between a policy and an expression."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Self

from gatekeeper_py.core.compile.written import parse_full
from gatekeeper_py.core.images.image import Image
from gatekeeper_py.core.images.scope import Scope, ScopeIndex, TooManyComparisonsError


@dataclass(frozen=True, slots=True, kw_only=True)
class PreApproved:
    """Images for which a webhook is not called.

    An image is pre-approved when it is written in full, some entry of ``included`` has it and no entry of
    ``excluded`` does. With ``everything``, every image is pre-approved.
    """

    included: tuple[Scope, ...] = ()
    excluded: tuple[Scope, ...] = ()
    everything: bool = False

    def __bool__(self) -> bool:
        return self.everything or bool(self.included)

    @property
    def by_namespace(self) -> bool:
        """Whether the answer may differ between namespaces."""
        return any(entry.namespaces is not None for entry in (*self.included, *self.excluded))

    def has(self, namespace: str | None, image: str) -> bool:
        """Return whether an image is pre-approved in a namespace."""
        if self.everything:
            return True
        parsed = parse_full(image)
        if parsed is None or self.excluding(namespace, parsed) is not None:
            return False
        return self.including(namespace, parsed) is not None

    def including(self, namespace: str | None, image: Image) -> Scope | None:
        """Return the first included entry that has an image."""
        return next(_having(self.included, namespace, image), None)

    def excluding(self, namespace: str | None, image: Image) -> Scope | None:
        """Return the first excluded entry that has an image."""
        return next(_having(self.excluded, namespace, image), None)

    def joined(self, other: Self) -> Self:
        """Return a set of all images that are pre-approved in either, and perhaps more."""
        if self.everything or not other:
            return self
        if other.everything or not self:
            return other
        return replace(
            self,
            included=tuple(dict.fromkeys((*self.included, *other.included))),
            excluded=tuple(each for each in self.excluded if each in set(other.excluded)),
        )

    def covers(self, other: Self) -> bool:
        """Return whether every image pre-approved in ``other`` is so here too; only ``True`` is certain."""
        if self.everything or not other:
            return True
        if other.everything:
            return False
        try:
            return _covered(other.included, self.included) and self._excludes_no_more_than(other)
        except TooManyComparisonsError:
            return False

    def _excludes_no_more_than(self, other: Self) -> bool:
        added = frozenset(self.excluded) - frozenset(other.excluded)
        if not added:
            return True
        included, excluded = ScopeIndex(), ScopeIndex()
        included.extend(other.included)
        excluded.extend(other.excluded)
        return all(
            excluded.covering(entry) is not None or next(included.overlapping(entry), None) is None
            for entry in added
        )


NOTHING: Final = PreApproved()
EVERYTHING: Final = PreApproved(everything=True)


def _having(entries: tuple[Scope, ...], namespace: str | None, image: Image) -> Iterator[Scope]:
    return (each for each in entries if each.has(image, namespace))


def _covered(entries: tuple[Scope, ...], by: tuple[Scope, ...]) -> bool:
    left = frozenset(entries) - frozenset(by)
    if not left:
        return True
    index = ScopeIndex()
    index.extend(by)
    return all(index.covering(entry) is not None for entry in left)
