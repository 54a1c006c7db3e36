"""One request: the images to judge in it, and the outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

from gatekeeper_py.core.admission.fields import POD, GroupKind
from gatekeeper_py.core.admission.judge import Role, Subject, Verdict
from gatekeeper_py.core.admission.review import AdmissionRequest, AdmissionResponse
from gatekeeper_py.core.admission.slot import Slot
from gatekeeper_py.core.admission.workload import changed, slots
from gatekeeper_py.core.exceptions.exceptions import Excepted
from gatekeeper_py.core.policy.document import Mode
from gatekeeper_py.core.policy.policy import CompiledPolicy

MIRROR_POD: Final = "kubernetes.io/config.mirror"
NODES_GROUP: Final = "system:nodes"

Exemption = Literal["", "operation", "deleting", "mirror-pod", "no-images", "unknown-kind"]
"""Why a review is allowed without judging an image; empty if its images are judged."""


class Outcome(NamedTuple):
    """A response, and what logs, metrics and commands report about it.

    ``kept`` are the images that were not moved to a mirror, or not pinned, each with its ``problem``.
    """

    response: AdmissionResponse
    verdict: Literal["allowed", "denied", "warned", "mutated"]
    mode: Mode
    images: tuple[Verdict, ...] = ()
    exemption: Exemption = ""
    kept: tuple[Verdict, ...] = ()

    @property
    def rejected(self) -> tuple[Verdict, ...]:
        return tuple(each for each in self.images if not each.decision.approved)

    @property
    def excepted(self) -> tuple[Excepted, ...]:
        """The exceptions that approve images."""
        return tuple(found for each in self.images if (found := each.decision.exception) is not None)


class Judging(NamedTuple):
    """The parts of judging one request, so that a caller can do other work between two images.

    ``judge`` judges the image in one slot. It returns ``None`` if the endpoint does nothing about this image.
    ``conclude`` builds the outcome from the other verdicts, in the order of ``slots``.
    """

    slots: Sequence[Slot]
    judge: Callable[[Slot], Verdict | None]
    conclude: Callable[[tuple[Verdict, ...]], Outcome]

    def outcome(self) -> Outcome:
        """Judge all images, and return the outcome."""
        judged = [*map(self.judge, self.slots)]
        if len(judged) != len(self.slots):  # a ``StopIteration`` of ``judge`` ends ``map`` without an error
            raise RuntimeError("an image was not judged")
        return self.conclude(tuple(filter(None, judged)))


def exemption(request: AdmissionRequest) -> Literal["", "operation", "deleting", "mirror-pod"]:
    """Return why a request is allowed without judging its images; empty if they must be judged."""
    if request.operation in {"DELETE", "CONNECT"}:
        return "operation"
    metadata = request.object.get("metadata") if isinstance(request.object, dict) else None
    if not isinstance(metadata, dict):
        return ""
    # On UPDATE, only the API server sets deletionTimestamp; on CREATE, a user could forge it.
    if request.operation == "UPDATE" and isinstance(metadata.get("deletionTimestamp"), str):
        return "deleting"
    if NODES_GROUP in request.groups and (request.group, request.kind) == POD:
        annotations = metadata.get("annotations")
        if isinstance(annotations, dict) and MIRROR_POD in annotations:
            return "mirror-pod"
    return ""


def role_of(kind: GroupKind) -> Role:
    """Return the role of the images in objects of a kind. Everything but a Pod is a template."""
    return "pod" if kind == POD else "template"


def subject_of(request: AdmissionRequest, policy: CompiledPolicy) -> Subject:
    """Return the context of the images of a request."""
    namespace = request.namespace
    return Subject(namespace, policy.mode(namespace), role_of((request.group, request.kind)))


def slots_to_judge(request: AdmissionRequest, policy: CompiledPolicy) -> tuple[list[Slot], list[Slot]]:
    """Return the slots to judge (on UPDATE, only the new ones), and the other slots of the object."""
    kind = (request.group, request.kind)
    if request.operation == "UPDATE":
        is_looked_up = policy.looks_up and kind == POD
        return changed(kind, request.object, request.old_object, policy.resources, is_looked_up=is_looked_up)
    return slots(kind, request.object, policy.resources), []
