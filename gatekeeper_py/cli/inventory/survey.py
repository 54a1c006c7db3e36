"""Judge every image of a cluster as the webhook would."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any, Final, NamedTuple

from gatekeeper_py.cli.inventory.tally import Tallied, Tally, Usage, interned
from gatekeeper_py.core import admission
from gatekeeper_py.core.admission import BY_NAME, Subject, Verdict, World
from gatekeeper_py.core.admission.fields import IMAGE_LISTS, POD
from gatekeeper_py.core.admission.judge import Role
from gatekeeper_py.core.admission.outcome import subject_of
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.admission.slot import Parts, Slot
from gatekeeper_py.core.images.reference import InvalidReference, check_digest
from gatekeeper_py.core.policy.decision import Reason
from gatekeeper_py.core.policy.policy import CompiledPolicy

MAX_OWNERS: Final = 1000
"""Maximum number of owners in one audit. ``left_out`` counts the Pods of further owners."""

MAX_KEPT_IMAGES: Final = 10

_STATUSES: Final[Mapping[Parts, str]] = {
    ("spec", each.key): each.statuses for each in IMAGE_LISTS if each.statuses
}


class Survey:
    """Collects the verdicts about all images. An image in an ``exempt`` namespace has the verdict ``exempt``.

    ``warned`` collects the owners whose Pods would get warnings. ``verified`` judges the images of objects in
    the roles ``later`` whose requirements need a look-up.
    """

    def __init__(
        self,
        policy: CompiledPolicy,
        exempt: AbstractSet[str] = frozenset(),
        *,
        keep_approved: bool,
        warned: Warned | None = None,
        later: Collection[Role] = (),
    ) -> None:
        self.tally = Tally(keep_approved=keep_approved)
        self._policy = policy
        self._exempt = exempt
        self._keep_approved = keep_approved
        # Shared by all lists: if a list is read again, its owners are noted twice, but kept once.
        self._warned = warned
        self._later = later
        self._required: dict[tuple[Subject, Slot], list[tuple[Usage, ObjectReference | None]]] = {}
        """The images whose requirements need a look-up, each with its uses, and with the owner of each Pod if
        ``warned`` collects it."""

    @property
    def objects(self) -> int:
        return self.tally.objects

    def empty(self) -> Survey:
        return Survey(
            self._policy,
            self._exempt,
            keep_approved=self._keep_approved,
            warned=self._warned,
            later=self._later,
        )

    def merge(self, other: Survey) -> None:
        self.tally.merge(other.tally)
        if self._warned is not None and other._warned is not None and other._warned is not self._warned:
            self._warned.merge(other._warned)
        for key, usages in other._required.items():
            self._required.setdefault(key, []).extend(usages)

    def take(self, request: AdmissionRequest) -> None:
        self.tally.objects += 1
        outcome = admission.validate(request, self._policy)
        subject, exempt = subject_of(request, self._policy), request.namespace in self._exempt
        mode = None if exempt else outcome.mode
        owner = None if self._warned is None else _owner(request)
        for verdict in outcome.images:
            usage = Usage(request.kind, request.namespace, request.name, verdict.slot.path, mode)
            if not exempt and verdict.slot.pulled and _looks_up(verdict):
                running = _running_digest(request.object, verdict.slot) if subject.role == "pod" else ""
                slot = verdict.slot._replace(running=running)
                if subject.role in self._later:
                    key = subject, Slot((), slot.noun, slot.value, running=running)
                    self._required.setdefault(key, []).append((interned(usage), owner))
                    continue
                if running:
                    verdict = admission.judge(self._policy, subject, slot, BY_NAME)  # noqa: PLW2901
            self._add(Tallied(verdict, exempt), usage, owner)

    def verified(self, world: World) -> Survey:
        """Return a survey of the images whose requirements need a look-up, judged in a world."""
        # This method is called for each round of answers, and the caller merges only the last survey.
        warned = None if self._warned is None else Warned()
        found = Survey(self._policy, self._exempt, keep_approved=self._keep_approved, warned=warned)
        for (subject, slot), usages in self._required.items():
            verdict = admission.judge(self._policy, subject, slot, world)
            image = Tallied(verdict)
            for usage, owner in usages:
                found._add(image, usage, owner)
        return found

    def _add(self, image: Tallied, usage: Usage, owner: ObjectReference | None) -> None:
        self.tally.add(image, usage)
        if self._warned is not None and owner is not None and image.effect(usage) == "warned":
            self._warned.note(owner, image)


def _looks_up(verdict: Verdict) -> bool:
    return any(each.looks_up for each in verdict.decision.requirements)


def _running_digest(pod: Any, slot: Slot) -> str:
    """Return the digest that the kubelet reports for a container; empty if it reports none."""
    status, field = pod.get("status"), _STATUSES.get(slot.parts[:2])
    for each in (status.get(field) or ()) if isinstance(status, dict) else ():
        if isinstance(each, dict) and each.get("name") == slot.name:
            # Without @, this is the ID of the image in the runtime, which no registry knows.
            digest = str(each.get("imageID")).partition("@")[2]
            with suppress(InvalidReference):
                check_digest(digest)
                return digest
    return ""


class ObjectReference(NamedTuple):
    """The object whose controller created a Pod, for example a ReplicaSet."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


class Warned:
    """Collects owners with the images of their Pods that cause warnings, each image with the reason."""

    def __init__(self) -> None:
        self._images: dict[ObjectReference, dict[tuple[str, Reason], None]] = {}
        self.left_out = 0

    def __iter__(self) -> Iterator[tuple[ObjectReference, tuple[tuple[str, Reason], ...]]]:
        return ((owner, tuple(images)) for owner, images in self._images.items())

    def note(self, owner: ObjectReference, image: Tallied) -> None:
        """Note an image of a Pod, and the Pod's owner."""
        self._add(owner, [(image.verdict.image, image.reason)])

    def merge(self, other: Warned) -> None:
        for owner, images in other:
            self._add(owner, images)
        self.left_out += other.left_out

    def _add(self, owner: ObjectReference, images: Iterable[tuple[str, Reason]]) -> None:
        if owner not in self._images and len(self._images) >= MAX_OWNERS:
            self.left_out += 1
            return
        kept = self._images.setdefault(owner, {})
        for image in images:
            if len(kept) < MAX_KEPT_IMAGES:
                kept[image] = None


def _owner(request: AdmissionRequest) -> ObjectReference | None:
    """Return the owner of a Pod, if it has one."""
    if (request.group, request.kind) != POD:
        return None
    metadata = request.object.get("metadata") if isinstance(request.object, dict) else None
    references = metadata.get("ownerReferences") if isinstance(metadata, dict) else None
    for reference in references if isinstance(references, list) else ():
        if isinstance(reference, dict) and reference.get("controller") is True and request.namespace:
            fields = [_text(reference, key) for key in ("apiVersion", "kind", "name", "uid")]
            if all(fields):
                return ObjectReference(fields[0], fields[1], request.namespace, fields[2], fields[3])
    return None


def _text(reference: dict[str, Any], key: str) -> str:
    value = reference.get(key)
    return value if isinstance(value, str) else ""
