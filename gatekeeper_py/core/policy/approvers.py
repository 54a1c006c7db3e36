"""The rules and grants that may approve the images of a requirement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from gatekeeper_py.core.exceptions.grants import Grant
from gatekeeper_py.core.images.pattern import ANY, Pattern
from gatekeeper_py.core.images.scope import MAX_COMPARISONS, Scope, ScopeIndex, TooManyComparisonsError
from gatekeeper_py.core.policy.copies import copies, pairs
from gatekeeper_py.core.policy.document import PolicyDocument
from gatekeeper_py.core.policy.finding import Remark
from gatekeeper_py.core.policy.mirror import Mirrors
from gatekeeper_py.core.policy.requirements import Requirement
from gatekeeper_py.core.policy.rules import Rule


def impossible(document: PolicyDocument, mirrors: Mirrors) -> Remark | None:
    """Return the problem of a requirement of digests whose images only rules for tags approve.

    No image can meet it, because a tag never matches an image with a digest. All rules count, even expired
    ones, because the answer must not depend on the time. Requirements with ``except`` are not checked,
    because the rules may be for the images that it spares.
    """
    pinning = [each for each in document.require if each.digest and not each.excepts]
    if not pinning:
        return None
    most = MAX_COMPARISONS // 2
    approving: list[Rule | Grant] = [*document.allow, *document.exceptions]
    pinned = approvers(pinning, mirrors, approving, most, digests=True)
    hopeless = [each for each in pinning if pinned.get(each.index, each) is None]
    for index, rule in approvers(hopeless, mirrors, document.allow, most).items():
        if isinstance(rule, Rule):
            field = "signedBy" if document.require[index].signed_by else "digest"
            return Remark(
                code="require-impossible",
                path=("require", index, field),
                message=(
                    "no image can meet it: only rules for tags approve its images, and these match no image"
                    f" with a digest: {rule}"
                ),
                proposal=f"allow {rule.pattern.text.rpartition(':')[0]}@* as well",
            )
    return None


def approvers(
    requirements: Collection[Requirement],
    mirrors: Mirrors,
    approving: Sequence[Rule | Grant],
    comparisons: int,
    *,
    digests: bool = False,
) -> dict[int, Rule | Grant | None]:
    """Return for each requirement, by its index, a rule or grant that may approve one of its images.

    ``None`` is certain: nothing approves any of its images. With ``digests``, only images with a digest
    count: those of a requirement for a tag are the same images by any digest. After too many comparisons,
    the other requirements are missing.
    """
    found: dict[int, Rule | Grant | None] = {}
    comparisons //= 2  # for each of the two searches
    # Each comparison of two entries compares all their namespaces.
    for each in (requirements, approving):
        comparisons //= max((len(one.namespaces or ("",)) for one in each), default=1)
    with suppress(TooManyComparisonsError):
        for wanted in (_named, _copied):
            entries = wanted((each for each in requirements if each.index not in found), mirrors)
            if digests:
                entries = (replace(each, images=_by_digest(each.images)) for each in entries)
            found |= _search(tuple(entries), approving, comparisons)
        found |= {each.index: None for each in requirements if each.index not in found}
    return found


def _search(
    wanted: tuple[Scope, ...], approving: Sequence[Rule | Grant], comparisons: int
) -> dict[int, Rule | Grant]:
    """Return the first rule or grant that may share an image with the wanted entries, by their requirement.

    Raises ``TooManyComparisonsError``.
    """
    found: dict[int, Rule | Grant] = {}
    left = Counter(int(each.because) for each in wanted)
    index, remaining, indexed = ScopeIndex(comparisons), len(wanted), len(wanted)
    index.extend(wanted)
    for each in approving if wanted else ():
        for images in (each.pattern,) if isinstance(each, Rule) else each.images:
            for other in index.overlapping(Scope(images=images, namespaces=each.namespaces)):
                if left.pop(int(other.because), 0):
                    found[int(other.because)] = each
                    remaining = left.total()
        if not left:
            break
        if 2 * remaining <= indexed:
            # Index only what is still wanted, because the rest would be compared with every other rule.
            index, indexed = ScopeIndex(index.left), remaining
            index.extend(entry for entry in wanted if int(entry.because) in left)
    return found


def _named(requirements: Iterable[Requirement], _mirrors: Mirrors) -> Iterator[Scope]:
    """Yield the images that requirements name."""
    for each in requirements:
        for pattern in each.images:
            yield Scope(images=pattern, namespaces=each.namespaces, because=str(each.index))


def _copied(requirements: Iterable[Requirement], mirrors: Mirrors) -> Iterator[Scope]:
    """Yield the copies of these images on mirrors."""
    named = tuple(_named(requirements, mirrors))
    for order, mirror in pairs(mirrors, (each.images for each in named)):
        if mirror is not None:
            for to in mirror.targets:
                yield from copies(mirror, to, named[order])


def _by_digest(images: Pattern) -> Pattern:
    """Return the same images, each with any digest."""
    return images if images.digest is not None else replace(images, tag=None, digest=ANY)
