"""Judge every image of a cluster as the webhook would."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Any, Final, NamedTuple

import msgspec

from gatekeeper_py.core import admission
from gatekeeper_py.core.admission import ActivePolicy, Judgement
from gatekeeper_py.core.admission.explain import exception_as_json
from gatekeeper_py.core.admission.fields import POD
from gatekeeper_py.core.admission.judgement import Outcome
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.inventory.tally import ImageException, JudgedImage, Tally, Usage

MAX_OWNERS: Final = 1000
"""Maximum number of owners in one audit. ``left_out`` counts the Pods of further owners."""

MAX_KEPT_IMAGES: Final = 10


class Survey:
    """Collects the verdicts about all images. An image in an ``exempt`` namespace has the verdict ``exempt``.

    ``warned`` collects the owners whose Pods would get warnings.
    """

    def __init__(
        self,
        policy: ActivePolicy,
        exempt: AbstractSet[str] = frozenset(),
        *,
        keep_approved: bool,
        warned: Warned | None = None,
    ) -> None:
        self.tally = Tally(keep_approved=keep_approved)
        self._policy = policy
        self._exempt = exempt
        self._keep_approved = keep_approved
        # Shared by all instances: if a list is read again, its owners are noted twice, but kept once.
        self._warned = warned

    @property
    def objects(self) -> int:
        return self.tally.objects

    def empty(self) -> Survey:
        return Survey(self._policy, self._exempt, keep_approved=self._keep_approved, warned=self._warned)

    def merge(self, other: Survey) -> None:
        self.tally.merge(other.tally)

    def take(self, request: AdmissionRequest) -> None:
        self.tally.objects += 1
        outcome = admission.validate(request, self._policy)
        if self._warned is not None and request.namespace not in self._exempt:
            self._warned.take(request, outcome)
        for judgement in outcome.judgements:
            image = judged_image(judgement, self._policy, request.namespace)
            path = judgement.slot.path
            usage = Usage(request.kind, request.namespace, request.name, path, outcome.mode)
            if request.namespace in self._exempt:
                image, usage = image._replace(verdict="exempt"), usage._replace(mode=None)
            self.tally.add(image, usage, judgement.decision.rule)


def judged_image(judgement: Judgement, policy: ActivePolicy, namespace: str | None) -> JudgedImage:
    """Return the image of a judgement with its verdict.

    The image and its canonical form are those before a mirror rewrite.
    """
    decision = judgement.decision
    value = judgement.slot.value
    image = value if isinstance(value, str) else ""
    written = decision if judgement.rewritten is None else policy.decide(namespace, image)
    return JudgedImage(
        image=image,
        canonical=written.canonical if written.reason != "invalid" else None,
        verdict="approved" if decision.approved else "rejected",
        reason=decision.reason,
        detail=decision.detail,
        exception=msgspec.convert(exception_as_json(decision.exception), ImageException | None),
    )


class Owner(NamedTuple):
    """The object whose controller created a Pod, for example a ReplicaSet."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


class Warned:
    """Collects owners with the rejected images of their Pods."""

    def __init__(self) -> None:
        self._images: dict[Owner, dict[str, None]] = {}
        self.left_out = 0

    def __iter__(self) -> Iterator[tuple[Owner, tuple[str, ...]]]:
        return ((owner, tuple(images)) for owner, images in self._images.items())

    def take(self, request: AdmissionRequest, outcome: Outcome) -> None:
        """Note a Pod with rejected images in a namespace in mode ``warn``, if the Pod has an owner."""
        if outcome.mode != "warn" or (request.group, request.kind) != POD or not outcome.rejected:
            return
        owner = _owner(request)
        if owner is None:
            return
        if owner not in self._images and len(self._images) >= MAX_OWNERS:
            self.left_out += 1
            return
        images = self._images.setdefault(owner, {})
        for judgement in outcome.rejected:
            if len(images) < MAX_KEPT_IMAGES:
                images[judgement.decision.image] = None


def _owner(request: AdmissionRequest) -> Owner | None:
    metadata = request.object.get("metadata") if isinstance(request.object, dict) else None
    references = metadata.get("ownerReferences") if isinstance(metadata, dict) else None
    for reference in references if isinstance(references, list) else ():
        if isinstance(reference, dict) and reference.get("controller") is True and request.namespace:
            fields = [_text(reference, key) for key in ("apiVersion", "kind", "name", "uid")]
            if all(fields):
                return Owner(fields[0], fields[1], request.namespace, fields[2], fields[3])
    return None


def _text(reference: dict[str, Any], key: str) -> str:
    value = reference.get(key)
    return value if isinstance(value, str) else ""
