"""What requirements demand of an image, and whether one policy demands less than another.

A requirement refuses an image in certain states of the registries: the image does not exist, nobody with
these keys signed it, or the registry gives no answer. A policy demands less if there is a state in which the
other policy refuses the image and this policy does not.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from gatekeeper_py.core.policy.required import Requirements
from gatekeeper_py.core.policy.requirements import Requirement


class Demand(NamedTuple):
    """What one requirement demands.

    ``signers`` are the fingerprints of the live keys, or ``None`` if no signature is needed. ``signatures``
    is the repository that must hold the signatures, empty for the image's own. ``refuses_errors`` is whether
    the image is refused if a registry could not be queried.
    """

    digest: bool
    exists: bool
    refuses_errors: bool
    signers: frozenset[str] | None = None
    signatures: str = ""

    @property
    def always_refuses(self) -> bool:
        """Whether the image is refused whatever registries say, even if it has a digest."""
        return self.signers is not None and not self.signers

    @property
    def pinning(self) -> Demand:
        """The demand on an image without a digest in mutate mode, where the webhook writes the digest."""
        if not self.digest:
            return self
        refuses = self.refuses_errors or self.signers is not None
        return Demand(digest=False, exists=True, refuses_errors=refuses)

    def includes(self, other: Demand) -> bool:
        """Return whether it refuses an image in every state in which the other one does.

        The image has a digest or needs none. What is signed exists; but a signature can be known although the
        registry does not answer whether the image exists. If only other keys signed the image, just the
        demands for some of these keys refuse it, too.
        """
        if self.signers is not None and other.signers is None:
            return self.refuses_errors and not other.refuses_errors
        if self.refuses_errors < other.refuses_errors:
            return False
        if self.signers is None or other.signers is None:
            return self.exists and other.signers is None
        return self.signatures == other.signatures and self.signers <= other.signers

    def can_be_met(self, *, pinned: bool) -> bool:
        """Return whether an image meets the demand in some state. ``pinned`` is whether it has a digest."""
        return (pinned or not self.digest) and not self.always_refuses

    def can_be_unmet(self, *, pinned: bool) -> bool:
        return self.exists or (self.digest and not pinned)


def demand_of(requirement: Requirement, among: Requirements) -> Demand | None:
    """Return what a requirement demands; ``None`` if it refuses nothing, because it only warns."""
    if requirement.warns:
        return None
    return Demand(
        digest=requirement.digest,
        exists=requirement.exists,
        refuses_errors=requirement.on_error == "deny",
        signers=frozenset(key.fingerprint for key in among.signers(requirement))
        if requirement.signed_by
        else None,
        signatures=requirement.signatures,
    )


def covers(demands: Collection[Demand], demand: Demand, *, pinned: bool, pins: bool) -> bool:
    """Return whether an image is refused by ``demands`` in every state in which ``demand`` refuses it.

    ``pinned`` is whether the image has a digest, and ``pins`` whether the webhook would write one.
    """
    if demand in demands:
        return True
    if pinned:
        return _covers(demands, demand)
    if not any(each.digest for each in demands) and (demand.digest or not _covers(demands, demand)):
        return False
    return not pins or _covers([each.pinning for each in demands], demand.pinning)


def _covers(demands: Collection[Demand], demand: Demand) -> bool:
    """Return whether ``covers`` holds for an image whose digest is not demanded or present."""
    if not demand.exists:
        return True
    return any(each.always_refuses or each.includes(demand) for each in demands)
