"""The requirements of a policy as of an instant, found by image."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from datetime import datetime

from gatekeeper_py.core.images.index import Qualifiers
from gatekeeper_py.core.images.manifest import SIGNATURE, Manifest
from gatekeeper_py.core.images.reference import Location
from gatekeeper_py.core.policy.copies import MirroredRules
from gatekeeper_py.core.policy.keys import Key
from gatekeeper_py.core.policy.mirror import Mirrors
from gatekeeper_py.core.policy.requirements import Requirement
from gatekeeper_py.core.policy.rules import RuleSet


class Requirements:
    """All requirements, with the keys that are live. Requirements follow mirrors, as deny rules do."""

    __slots__ = ("_by_order", "_mirrored", "all", "by_namespace", "keys", "signed_hosts")

    def __init__(
        self,
        requirements: tuple[Requirement, ...],
        by_order: tuple[Requirement, ...],
        mirrored: MirroredRules,
        keys: Mapping[str, Key],
    ) -> None:
        self.all = requirements
        self.keys = keys
        self.signed_hosts = frozenset(host for each in requirements if each.signed_by for host in each.hosts)
        """The registries of the requirements with ``signed_by``."""
        self.by_namespace = mirrored.rules.by_namespace
        self._by_order = by_order
        self._mirrored = mirrored

    @classmethod
    def compiling(
        cls,
        requirements: tuple[Requirement, ...],
        mirrors: Mirrors,
        instant: datetime,
        keys: Mapping[str, Key],
    ) -> Generator[None, None, Requirements]:
        """Index the requirements in steps of about 0.1 ms."""
        rules, by_order = RuleSet(instant=instant), list[Requirement]()
        for requirement in requirements:
            for rule in requirement.rules:
                rules.add(rule)
                by_order.append(requirement)
                yield
        mirrored = yield from MirroredRules.compiling(mirrors, rules)
        return cls(requirements, tuple(by_order), mirrored, keys)

    def matching(
        self, location: Location, qualifiers: Qualifiers, namespace: str | None
    ) -> tuple[Requirement, ...]:
        """Return the requirements of an image or of a name that it mirrors, in the order of the document."""
        if not self.all:
            return ()
        found = self._mirrored.orders(location, qualifiers, namespace)
        indexes = sorted({self._by_order[order].index for order in found})
        return tuple(self.all[index] for index in indexes)

    def signers(self, requirement: Requirement) -> tuple[Key, ...]:
        """Return the live keys of which one must have signed the images of a requirement."""
        return tuple(self.keys[name] for name in requirement.signed_by if name in self.keys)

    def signature(self, requirement: Requirement, manifest: Manifest) -> Manifest:
        """Return the look-up of the signature that a requirement asks for."""
        keys = tuple(sorted({key.fingerprint for key in self.signers(requirement)}))
        return manifest._replace(kind=SIGNATURE, keys=keys, signatures=requirement.signatures)
