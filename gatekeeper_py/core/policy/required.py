"""The requirements of a policy as of an instant, found by image."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain
from typing import Final

from gatekeeper_py.core.images.globmap import GlobMap
from gatekeeper_py.core.images.image import Image
from gatekeeper_py.core.images.index import VALUES_EACH
from gatekeeper_py.core.images.manifest import SIGNATURE, Manifest
from gatekeeper_py.core.names import MAX_NAMESPACE_LENGTH
from gatekeeper_py.core.policy.copies import Copies, in_parts, in_steps
from gatekeeper_py.core.policy.keys import Key
from gatekeeper_py.core.policy.mirror import Mirror
from gatekeeper_py.core.policy.requirements import Requirement
from gatekeeper_py.core.policy.rules import Rule, Sparing, live_at

COST: Final = 4
"""Time to check whether an image meets a requirement, as a number of comparisons with patterns."""

SIGNED_COST: Final = 20
"""The same for a requirement of a signature."""


class Requirements:
    """All requirements, with the keys that are live. Requirements follow mirrors, as deny rules do.

    Entries of ``except`` that have ended at ``instant`` do not count. If it is ``None``, all count. The code
    that creates the object must run ``adding``.
    """

    __slots__ = (
        "_fingerprints",
        "_instant",
        "_names",
        "_own",
        "_scoped",
        "all",
        "by_namespace",
        "copies",
        "keys",
        "signed_hosts",
    )

    def __init__(
        self,
        requirements: tuple[Requirement, ...],
        mirrors: Iterable[Mirror],
        instant: datetime | None,
        keys: Mapping[str, Key],
    ) -> None:
        self.all = requirements
        self.keys = keys
        self.by_namespace = False
        """Whether some requirement, or an entry of its ``except``, is for certain namespaces only."""
        self.signed_hosts: frozenset[str] = frozenset()
        """The registries of the requirements with ``signed_by``."""
        self._fingerprints: dict[int, tuple[str, ...]] = {}
        """Of the requirements with ``signed_by``: the sorted fingerprints of the keys that are live."""
        self.copies = Copies(mirrors, _rules(requirements), instant)
        self._instant = instant
        self._own = Sparing()
        # A requirement has up to 1,000 names for all of its patterns. So they have an index of their own.
        self._names: GlobMap[list[int]] = GlobMap()
        self._scoped: set[int] = set()
        """The requirements for certain namespaces only."""

    @classmethod
    def compiling(
        cls,
        requirements: tuple[Requirement, ...],
        mirrors: Iterable[Mirror],
        instant: datetime,
        keys: Mapping[str, Key],
    ) -> Generator[None, None, Requirements]:
        """Index the requirements in steps of about 0.1 ms."""
        made = cls(requirements, mirrors, instant, keys)
        yield from in_steps(made.adding())
        yield from in_steps(made.copies.work())
        return made

    def adding(self) -> Iterator[int]:
        """Index everything but the copies in steps. Yields the work of each (``STEP_WORK``)."""
        signed = set[str]()
        for requirement in self.all:
            for pattern in requirement.images:
                self._own.rules.add(pattern, None, requirement.index)
                yield 10
            for each in live_at(requirement.excepts, self._instant):
                for names in in_parts(each.namespaces):
                    self._own.excepts.add(each.pattern, names, requirement.index)
                    yield 10 + 4 * len(names or ())
                self.by_namespace = self.by_namespace or each.namespaces is not None
            for name in requirement.namespaces or ():
                self._names.setdefault(name, []).append(requirement.index)
                yield 10
            if requirement.namespaces is not None:
                self.by_namespace = True
                self._scoped.add(requirement.index)
            if requirement.signed_by:
                live = {key.fingerprint for key in self.signers(requirement)}
                self._fingerprints[requirement.index] = tuple(sorted(live))
                yield 10 + 4 * len(live)
            for host in requirement.hosts if requirement.signed_by else ():
                signed.add(host)
                yield 1
        self.signed_hosts = frozenset(signed)

    def matching(self, image: Image, namespace: str | None) -> tuple[Requirement, ...]:
        """Return the requirements of an image or of a name that it mirrors, in the order of the document."""
        if not self.all:
            return ()
        found = self._own.found(image, namespace)
        found |= self.copies.indexes(image, namespace)
        elsewhere = found & self._scoped
        if elsewhere and namespace is not None:
            elsewhere.difference_update(chain.from_iterable(self._names.matching(namespace)))
        return tuple(self.all[index] for index in sorted(found - elsewhere))

    def scanned(self) -> int:
        """Return how many comparisons one image needs at most, without copies.

        A requirement that matches counts as several, because it is checked. Those that one image matches are
        no more than those for its name, and no more than those for its namespace and for all namespaces.
        """
        rules, names = self._own.rules, self._names
        by_image = rules.scanned(self._cost) + names.scanned(
            MAX_NAMESPACE_LENGTH, lambda found: len(found) // VALUES_EACH
        )
        by_namespace = rules.scanned(lambda index: 1 if index in self._scoped else self._cost(index))
        by_namespace += names.scanned(
            MAX_NAMESPACE_LENGTH, lambda found: sum(map(self._cost, found)) // VALUES_EACH
        )
        return min(by_image, by_namespace) + self._own.excepts.scanned()

    def scanned_on_mirrors(self) -> int:
        """Return how many copies one image is compared with at most."""
        return self.copies.scanned(self._cost)

    def _cost(self, index: int) -> int:
        """Return the cost of a requirement that matches: the time to check it (``PatternMap.scanned``)."""
        return VALUES_EACH * (SIGNED_COST if self.all[index].signed_by else COST)

    def signers(self, requirement: Requirement) -> tuple[Key, ...]:
        """Return the live keys of which one must have signed the images of a requirement."""
        return tuple(self.keys[name] for name in requirement.signed_by if name in self.keys)

    def signature(self, requirement: Requirement, manifest: Manifest) -> Manifest:
        """Return the look-up of the signature that a requirement needs."""
        keys = tuple(sorted({key.fingerprint for key in self.signers(requirement)}))
        return manifest._replace(kind=SIGNATURE, keys=keys, signatures=requirement.signatures)


def _rules(requirements: Iterable[Requirement]) -> Iterator[Rule]:
    """Yield a rule for each pattern of each requirement, without its namespaces."""
    for each in requirements:
        for pattern in each.images:
            yield Rule(list="require", index=each.index, pattern=pattern, excepts=each.excepts)
