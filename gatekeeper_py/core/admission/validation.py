"""The validating endpoint: from decisions on images and the mode to a response (docs/policy.md, "Modes")."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import attrgetter
from typing import Final

from gatekeeper_py.core.admission import review
from gatekeeper_py.core.admission.fields import POD, POD_SPECS
from gatekeeper_py.core.admission.judge import Judge, Verdict, refusing_mirror
from gatekeeper_py.core.admission.messages import (
    audit_list,
    denial_message,
    exception_list,
    exception_warnings,
    rollout_warnings,
    signed_list,
    undeclared_warning,
    unmet_list,
    unmet_warnings,
    unverified_list,
    warnings_for,
)
from gatekeeper_py.core.admission.outcome import (
    Exemption,
    Judging,
    Outcome,
    exemption,
    slots_to_judge,
    subject_of,
)
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.admission.slot import MAX_IMAGES, PLACEHOLDERS
from gatekeeper_py.core.admission.workload import holds_images, known_images, pod_images, rolled_out
from gatekeeper_py.core.admission.world import BY_NAME, NOTHING_KNOWN, World
from gatekeeper_py.core.images.manifest import Lookup, manifest_of
from gatekeeper_py.core.policy.decision import Decision
from gatekeeper_py.core.policy.document import Mode
from gatekeeper_py.core.policy.policy import CompiledPolicy

_REASON: Final = attrgetter("decision.reason")


def validate(request: AdmissionRequest, policy: CompiledPolicy, world: World = BY_NAME) -> Outcome:
    """Return the validating endpoint's answer to any request that ``review.parse`` returns. Never raises."""
    return validating(request, policy, world).outcome()


def validating(request: AdmissionRequest, policy: CompiledPolicy, world: World = BY_NAME) -> Judging:
    """Return the parts of ``validate``, for a caller that runs them in steps.

    Templates are judged without registries. Each Pod is judged with look-ups when it is created.
    """
    subject = subject_of(request, policy)
    exempt = exemption(request)
    found, kept = ([], []) if exempt else slots_to_judge(request, policy)
    rolled = []
    if kept and subject.role == "template":
        kind = (request.group, request.kind)
        rolled = rolled_out(kind, request.object, request.old_object, kept)
    any_slot = bool(found or kept)
    return Judging(
        found + rolled if rolled else found,
        Judge(policy, subject, world if subject.role == "pod" else BY_NAME).verdict,
        partial(_conclude, request, policy, subject.mode, exempt, any_slot, len(found)),
    )


def _conclude(
    request: AdmissionRequest,
    policy: CompiledPolicy,
    mode: Mode,
    exempt: Exemption,
    any_slot: bool,  # noqa: FBT001 - partial passes it by position
    new: int,
    verdicts: tuple[Verdict, ...],
) -> Outcome:
    """Build the outcome. The first ``new`` verdicts can refuse the object, the others only warn."""
    audit = {"mode": mode.name, "policy": policy.revision}
    unmet = []
    if policy.requires:
        kept = [each for each in verdicts if each.unverified]
        if kept:
            audit["unverified"] = unverified_list(kept)
        signed = [each for each in verdicts if each.signatures]
        if signed:
            audit["signed"] = signed_list(signed)
        unmet = [each for each in verdicts[:new] if each.warned]
        if unmet:
            audit["unmet"] = unmet_list(unmet)
    stuck = []
    if new < len(verdicts):
        stuck = [each for each in verdicts[new:] if not each.approved]
        verdicts = verdicts[:new]
    excepted = []
    if "exception" in map(_REASON, verdicts):  # rarely, and this costs less than a loop
        excepted = [each for each in verdicts if each.decision.exception]
        audit["exceptions"] = exception_list(excepted)
    rejected = [each for each in verdicts if not each.decision.approved]
    if rejected or stuck:
        return _rejected(request, policy, mode, verdicts, rejected, stuck, unmet, excepted, audit)
    kind = (request.group, request.kind)
    warnings = _warnings((), unmet, excepted) if unmet or excepted else ()
    if not exempt and not any_slot and not request.sub_resource and not holds_images(kind, policy.resources):
        exempt = "unknown-kind"
        warnings = (undeclared_warning(f"{request.kind}.{request.group}" if request.group else request.kind),)
    response = review.allowed(request.uid, warnings=warnings, audit_annotations=audit)
    return Outcome(
        response=response,
        verdict="warned" if unmet else "allowed",
        mode=mode,
        images=verdicts,
        exemption=exempt or ("" if verdicts else "no-images"),
    )


def certainly_approved(
    request: AdmissionRequest,
    policy: CompiledPolicy,
    world: World = NOTHING_KNOWN,
    most: int = MAX_IMAGES,
) -> list[str] | None:
    """Return the images to judge if it is certain that ``validate`` approves all of them.

    Otherwise return ``None``, and the caller uses ``validating``. The list is empty for an update without new
    images. For an object without images or with more images than ``most``, return ``None``, and also if an
    exception approves an image, because users see a warning about it. The hot path uses this check, because
    it builds no ``Outcome``. ``world`` has the earlier answers of registries.
    """
    if request.operation != "CREATE" or request.kind != POD[1] or request.group:
        return _approved_otherwise(request, policy, most)
    if POD in policy.resources:
        return None
    images = pod_images(request.object, most)
    if not images or exemption(request):
        return None
    namespace, recalls = request.namespace, policy.deny.recalls
    mode = policy.mode(namespace) if policy.looks_up else None
    for image in images:
        decision = policy.decide_by_rules(namespace, image)
        if not decision.approved or (decision.requirements and not _certainly_met(decision, recalls, world)):
            return None
        if mode is not None and refusing_mirror(policy, namespace, mode, image) is not None:
            return None
    return images


def _certainly_met(decision: Decision, recalls: bool, world: World) -> bool:  # noqa: FBT001
    """Return whether it is certain that an image meets all its requirements, and that no digest is denied.

    If a requirement needs a signature, return ``False``: ``validate`` must name the key in an audit
    annotation.
    """
    parsed = decision.parsed
    if parsed is None or any(each.signed_by for each in decision.requirements):
        return False
    if parsed.digest is None and (recalls or any(each.digest for each in decision.requirements)):
        return False
    if not any(each.exists for each in decision.requirements):
        return True
    return world.answer(Lookup((manifest_of(parsed),))).answer.status == "found"


def _approved_otherwise(request: AdmissionRequest, policy: CompiledPolicy, most: int) -> list[str] | None:
    """Do the same for workloads and for updates. Of an update, only new images count.

    The policy must approve the other images of a workload, too, because the update may make Pods of them.
    """
    kind = (request.group, request.kind)
    place = POD_SPECS.get(kind)
    namespace = request.namespace
    if place is None or policy.looks_up or kind in policy.resources:
        return None
    if kind != POD and policy.mode(namespace).rewrites:
        return None  # templates are judged by the names that mirrors will give
    images = known_images(request.object, place, most)
    if not images or exemption(request) or (kind != POD and not PLACEHOLDERS.isdisjoint(images)):
        return None
    new = images
    if request.operation == "UPDATE":
        before = known_images(request.old_object, place)
        if before is None:
            return None
        present = set(before)
        new = [image for image in images if image not in present]
        if kind == POD:
            images = new
    for image in images:
        decision = policy.decide_by_rules(namespace, image)
        if not decision.approved or (
            decision.requirements and not _certainly_met(decision, False, NOTHING_KNOWN)
        ):
            return None
    return new


def _rejected(
    request: AdmissionRequest,
    policy: CompiledPolicy,
    mode: Mode,
    verdicts: tuple[Verdict, ...],
    rejected: list[Verdict],
    stuck: list[Verdict],
    unmet: list[Verdict],
    excepted: list[Verdict],
    audit: dict[str, str],
) -> Outcome:
    """Deny the object, or warn. ``stuck`` are the kept images whose new Pods the policy rejects."""
    if stuck and not mode.refuses:
        rejected += stuck
    if rejected:
        audit["rejected"] = audit_list(
            rejected, lambda j: f"{j.slot.path} ({j.slot.problem})" if j.slot.problem else j.slot.value
        )
        if mode.refuses:
            message = denial_message(rejected, policy.allow, request.namespace, policy.message)
            response = review.denied(request.uid, message, audit_annotations=audit)
            return Outcome(response=response, verdict="denied", mode=mode, images=verdicts)
    warned = rollout_warnings(stuck) if mode.refuses else warnings_for(rejected) if mode.warns else ()
    unmet = [each for each in unmet if each.approved] if unmet else unmet
    warnings = _warnings(warned, unmet, excepted) if unmet or excepted else warned
    response = review.allowed(request.uid, warnings=warnings, audit_annotations=audit)
    verdicts = (*verdicts, *stuck)
    return Outcome(
        response=response,
        verdict="warned" if warned or unmet else "allowed",
        mode=mode,
        images=verdicts,
    )


def _warnings(
    first: tuple[str, ...], unmet: Sequence[Verdict], excepted: Sequence[Verdict]
) -> tuple[str, ...]:
    """Return the first warnings, those about unmet requirements, and those about exceptions."""
    if unmet:
        first += unmet_warnings(unmet, len(first))
    return first + exception_warnings(excepted, len(first)) if excepted else first
