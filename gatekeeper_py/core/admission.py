"""Validate and mutate: slots x decisions x mode -> response (docs/policy.md, "Modes")."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, Protocol

from gatekeeper_py.core import review
from gatekeeper_py.core.decision import Decision
from gatekeeper_py.core.messages import (
    audit_list,
    denial_message,
    rewrite_warnings,
    undeclared_warning,
    warnings_for,
)
from gatekeeper_py.core.mirror import Rewrite
from gatekeeper_py.core.resourcepath import ResourcePath
from gatekeeper_py.core.review import AdmissionRequest, AdmissionResponse, PatchOperation
from gatekeeper_py.core.rules import RuleSet
from gatekeeper_py.core.schema import Mode
from gatekeeper_py.core.workload import POD, GroupKind, Slot, changed, holds_images, pod_images, slots

ORIGINAL_IMAGES: Final = "gatekeeper-py/original-images"
MIRROR_POD: Final = "kubernetes.io/config.mirror"
NODES_GROUP: Final = "system:nodes"

Verdict = Literal["allowed", "denied", "warned", "mutated"]


class Judge(Protocol):
    """A compiled policy, or a snapshot that remembers its decisions."""

    @property
    def revision(self) -> str: ...

    @property
    def message(self) -> str: ...

    @property
    def allow(self) -> RuleSet: ...

    @property
    def resources(self) -> Mapping[GroupKind, tuple[ResourcePath, ...]]: ...

    def mode(self, namespace: str | None) -> Mode: ...

    def decide(self, namespace: str | None, image: str) -> Decision: ...

    def plan(self, namespace: str | None, image: str) -> Rewrite | None: ...


class Judgement(NamedTuple):
    """One slot with what was decided of it.

    ``rewritten`` is the image on its mirror, when that was judged or patched in. ``use`` is an
    approved image to use instead, when a mirror has one.
    """

    slot: Slot
    decision: Decision
    rewritten: str | None = None
    mirror: int | None = None
    use: str | None = None
    problem: str = ""

    @property
    def approved(self) -> bool:
        return self.decision.approved


class Outcome(NamedTuple):
    """A response, and what the log, the metrics and the commands tell of it."""

    response: AdmissionResponse
    verdict: Verdict
    mode: Mode
    judgements: tuple[Judgement, ...] = ()
    exemption: Literal["", "operation", "deleting", "mirror-pod", "no-images", "unknown-kind"] = ""

    @property
    def rejected(self) -> tuple[Judgement, ...]:
        return tuple(judgement for judgement in self.judgements if not judgement.approved)


def validate(request: AdmissionRequest, policy: Judge) -> Outcome:
    """The validating endpoint's answer. Total over any request that ``review.parse`` gives."""
    mode = policy.mode(request.namespace)
    audit = {"mode": mode, "policy": policy.revision}
    exempt = _exemption(request)
    if exempt:
        response = review.allowed(request.uid, audit_annotations=audit)
        return Outcome(response=response, verdict="allowed", mode=mode, exemption=exempt)
    kind = (request.group, request.kind)
    found = _slots_to_judge(request, policy)
    after_mirror = mode == "mutate" and kind != POD
    judgements = tuple(_judge(policy, request.namespace, s, after_mirror=after_mirror) for s in found)
    rejected = [judgement for judgement in judgements if not judgement.approved]
    if rejected:
        return _refused(request, policy, mode, judgements, audit)
    if not found and not request.sub_resource and not _known(request, policy):
        warning = undeclared_warning(f"{request.kind}.{request.group}" if request.group else request.kind)
        response = review.allowed(request.uid, warnings=(warning,), audit_annotations=audit)
        return Outcome(response=response, verdict="allowed", mode=mode, exemption="unknown-kind")
    response = review.allowed(request.uid, audit_annotations=audit)
    return Outcome(
        response=response,
        verdict="allowed",
        mode=mode,
        judgements=judgements,
        exemption="" if found else "no-images",
    )


def approved_images(request: AdmissionRequest, policy: Judge) -> int | None:
    """The number of images of a new Pod that ``validate`` allows because all of them are approved.

    ``None`` in every other case. For who has to answer the common one and to say no more of it.
    """
    if request.operation != "CREATE" or request.kind != POD[1] or request.group or POD in policy.resources:
        return None
    images = pod_images(request.object)
    if not images or _exemption(request):
        return None
    namespace = request.namespace
    for image in images:
        if not policy.decide(namespace, image).approved:
            return None
    return len(images)


def mutate(request: AdmissionRequest, policy: Judge) -> Outcome:
    """The mutating endpoint's answer: never a denial, a patch only of a Pod's images."""
    mode = policy.mode(request.namespace)
    audit = {"mode": mode, "policy": policy.revision}
    unpatched = review.allowed(request.uid, audit_annotations=audit)
    exempt = _exemption(request)
    if exempt or mode != "mutate" or (request.group, request.kind) != POD:
        return Outcome(response=unpatched, verdict="allowed", mode=mode, exemption=exempt)
    if not _patchable(request.object):
        return Outcome(response=unpatched, verdict="allowed", mode=mode)
    planned = tuple(_plans(request, policy))
    rewritten = tuple(judgement for judgement in planned if judgement.rewritten is not None)
    warnings = rewrite_warnings(planned)
    if not rewritten:
        response = review.allowed(request.uid, warnings=warnings, audit_annotations=audit)
        return Outcome(response=response, verdict="allowed", mode=mode)
    audit["rewritten"] = audit_list(rewritten, lambda j: f"{j.slot.value} -> {j.rewritten}")
    response = review.patched(
        request.uid, _patch(request.object, rewritten), warnings=warnings, audit_annotations=audit
    )
    return Outcome(response=response, verdict="mutated", mode=mode, judgements=rewritten)


def _exemption(request: AdmissionRequest) -> Literal["", "operation", "deleting", "mirror-pod"]:
    """Why a request is allowed without a look at its images."""
    if request.operation in {"DELETE", "CONNECT"}:
        return "operation"
    metadata = request.object.get("metadata") if isinstance(request.object, dict) else None
    if not isinstance(metadata, dict):
        return ""
    # The API server sets it on UPDATE only; on CREATE a user could forge it.
    if request.operation == "UPDATE" and isinstance(metadata.get("deletionTimestamp"), str):
        return "deleting"
    annotations = metadata.get("annotations")
    if (
        (request.group, request.kind) == POD
        and isinstance(annotations, dict)
        and MIRROR_POD in annotations
        and NODES_GROUP in request.groups
    ):
        return "mirror-pod"
    return ""


def _slots_to_judge(request: AdmissionRequest, policy: Judge) -> list[Slot]:
    kind = (request.group, request.kind)
    if request.operation == "UPDATE":
        return changed(kind, request.object, request.old_object, policy.resources)
    return slots(kind, request.object, policy.resources)


def _judge(policy: Judge, namespace: str | None, slot: Slot, *, after_mirror: bool) -> Judgement:
    image = slot.value
    if slot.problem:
        shown = image if isinstance(image, str) else ""
        decision = Decision(image=shown, approved=False, reason="invalid", detail=slot.problem)
        return Judgement(slot, decision)
    decision = policy.decide(namespace, image)
    if decision.approved and not after_mirror:
        return Judgement(slot, decision)
    plan = policy.plan(namespace, image)
    if plan is None or plan.image is None:
        return Judgement(slot, decision)
    mirrored = policy.decide(namespace, plan.image)
    if after_mirror:
        return Judgement(slot, mirrored, rewritten=plan.image, mirror=plan.mirror.index)
    return Judgement(slot, decision, use=plan.image if mirrored.approved else None)


def _refused(
    request: AdmissionRequest,
    policy: Judge,
    mode: Mode,
    judgements: tuple[Judgement, ...],
    audit: dict[str, str],
) -> Outcome:
    rejected = [judgement for judgement in judgements if not judgement.approved]
    audit["rejected"] = audit_list(
        rejected, lambda j: f"{j.slot.path} ({j.slot.problem})" if j.slot.problem else j.slot.value
    )
    if mode == "warn":
        response = review.allowed(request.uid, warnings=warnings_for(rejected), audit_annotations=audit)
        return Outcome(response=response, verdict="warned", mode=mode, judgements=judgements)
    message = denial_message(rejected, policy.allow, request.namespace, policy.message)
    response = review.denied(request.uid, message, audit_annotations=audit)
    return Outcome(response=response, verdict="denied", mode=mode, judgements=judgements)


def _known(request: AdmissionRequest, policy: Judge) -> bool:
    """Whether images of this object's kind were found, or could have been."""
    kind = (request.group, request.kind)
    return holds_images(kind, policy.resources) or bool(slots(kind, request.object, policy.resources))


def _patchable(obj: Any) -> bool:
    """Whether a Pod's metadata and annotations are of the types that a patch relies on."""
    if not isinstance(obj, dict):
        return False
    metadata = obj.get("metadata")
    if metadata is None:
        return True
    if not isinstance(metadata, dict):
        return False
    annotations = metadata.get("annotations")
    return annotations is None or isinstance(annotations, dict)


def _plans(request: AdmissionRequest, policy: Judge) -> Iterator[Judgement]:
    for slot in _slots_to_judge(request, policy):
        # Declared paths of custom resources may name Pods too; only the Pod's own lists are ours.
        if slot.problem or slot.noun == "image":
            continue
        plan = policy.plan(request.namespace, slot.value)
        if plan is not None and (plan.image is not None or plan.problem):
            decision = policy.decide(request.namespace, slot.value)
            yield Judgement(
                slot, decision, rewritten=plan.image, mirror=plan.mirror.index, problem=plan.problem
            )


def _patch(obj: dict[str, Any], rewritten: tuple[Judgement, ...]) -> Iterator[PatchOperation]:
    """Operations that cannot fail: each path was just read from the object."""
    for judgement in rewritten:
        path = review.pointer(judgement.slot.parts)
        yield {"op": "replace", "path": path, "value": judgement.rewritten}
    originals = {judgement.slot.path: judgement.slot.value for judgement in rewritten}
    metadata = obj.get("metadata")
    annotations = metadata.get("annotations") if metadata is not None else None
    recorded = _recorded(annotations.get(ORIGINAL_IMAGES)) if annotations is not None else {}
    value = json.dumps({**recorded, **originals}, separators=(",", ":"))
    if metadata is None:
        yield {"op": "add", "path": "/metadata", "value": {"annotations": {ORIGINAL_IMAGES: value}}}
    elif annotations is None:
        yield {"op": "add", "path": "/metadata/annotations", "value": {ORIGINAL_IMAGES: value}}
    else:
        path = review.pointer(("metadata", "annotations", ORIGINAL_IMAGES))
        yield {"op": "add", "path": path, "value": value}


def _recorded(annotation: Any) -> dict[str, str]:
    """What an earlier rewrite recorded; nothing when the annotation is garbage."""
    if not isinstance(annotation, str):
        return {}
    try:
        recorded = json.loads(annotation)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(recorded, dict) or not all(isinstance(v, str) for v in recorded.values()):
        return {}
    return recorded
