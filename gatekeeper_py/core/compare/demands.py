"""What requirements demand of an image, and whether one policy demands less than another.

A requirement refuses an image in certain states of the registries: the image does not exist, nobody with
these keys signed it, or the registry gives no answer. A policy demands less if there is a state in which the
other policy refuses the image and this policy does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.core.policy.requirements import Requirement


class Refusal(NamedTuple):
    """The states of the registries in which a demand refuses an image.

    If ``signers`` is ``None``, the image is missing. Otherwise no key with these fingerprints signed it, by
    the signatures in the repository ``signatures`` (empty for the image's own). With ``errors``, the image is
    also refused if the registry could not be queried.
    """

    errors: bool
    signers: frozenset[str] | None = None
    signatures: str = ""

    def includes(self, other: Refusal) -> bool:
        """Return whether this has all states of ``other``.

        Signatures of a missing image can be known. If no key of a set signed the image, a demand for a part
        of these keys refuses it, too.
        """
        if self.signers is not None and not self.signers:
            return True  # an empty set: no image is signed
        if self.errors < other.errors:
            return False
        if self.signers is None or other.signers is None:
            return self.signers is other.signers
        return self.signatures == other.signatures and self.signers <= other.signers


ALWAYS: Final = Refusal(errors=True, signers=frozenset())


class Demand(NamedTuple):
    """What one requirement demands.

    ``signers`` are the fingerprints of the live keys, or ``None`` if no signature is needed. ``signatures``
    is the repository that must hold the signatures, empty for the image's own. ``refuses_errors`` is whether
    the image is refused if a registry could not be queried. ``hosts`` are the registries that may be
    queried for a required digest.
    """

    digest: bool
    exists: bool
    refuses_errors: bool
    signers: frozenset[str] | None = None
    signatures: str = ""
    hosts: frozenset[str] = frozenset()

    def refusals(self, *, pinned: bool, pins: bool) -> Iterable[Refusal]:
        """Yield the states in which an image is refused.

        ``pinned`` is whether the image has a digest, and ``pins`` whether the webhook would write one. It
        writes only the digest of an image that is signed as required.
        """
        writes = self.digest and not pinned
        if writes and not pins:
            yield ALWAYS
            return
        if writes or (self.exists and self.signers is None):
            yield Refusal(self.refuses_errors or (writes and self.signers is not None))
        if self.signers is not None:
            yield Refusal(self.refuses_errors, self.signers, self.signatures)


def demand_of(requirement: Requirement, policy: CompiledPolicy) -> Demand | None:
    """Return what a requirement demands; ``None`` if it refuses nothing, because it only warns."""
    if requirement.warns:
        return None
    return Demand(
        digest=requirement.digest,
        exists=requirement.exists,
        refuses_errors=requirement.on_error == "deny",
        signers=frozenset(key.fingerprint for key in policy.require.signers(requirement))
        if requirement.signed_by
        else None,
        signatures=requirement.signatures,
        hosts=policy.looked_up_hosts if requirement.digest else frozenset(),
    )


def includes(refusals: Iterable[Refusal], others: Iterable[Refusal]) -> bool:
    """Return whether an image is refused in all states of ``others``."""
    refusals = tuple(refusals)
    return all(any(each.includes(other) for each in refusals) for other in others)
