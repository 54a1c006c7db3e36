"""The validating endpoint: from decisions on images and the mode to a response (docs/policy.md, "Modes")."""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import Final

from gatekeeper_py.core.admission import review
from gatekeeper_py.core.admission.fields import POD, POD_SPECS
from gatekeeper_py.core.admission.judgement import (
    ActivePolicy,
    Exemption,
    Judgement,
    Judging,
    Outcome,
    exemption,
    judge,
    slots_to_judge,
)
from gatekeeper_py.core.admission.lookups import (
    Facts,
    IsFound,
    PodLookups,
    facts_by_name,
    never_found,
    refusing_mirror,
)
from gatekeeper_py.core.admission.messages import (
    audit_list,
    denial_message,
    exception_list,
    exception_warnings,
    rollout_warnings,
    signed_list,
    undeclared_warning,
    unverified_list,
    warnings_for,
)
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.admission.slot import MAX_IMAGES, PLACEHOLDERS
from gatekeeper_py.core.admission.workload import holds_images, known_images, pod_images, rolled_out
from gatekeeper_py.core.policy.document import Mode

_REASON: Final = attrgetter("decision.reason")


def validate(request: AdmissionRequest, policy: ActivePolicy, facts: Facts | None = None) -> Outcome:
    """Return the validating endpoint's answer to any request that ``review.parse`` returns. Never raises.

    ``facts`` are answers of registries. Without them, images are judged by their names alone. Pass ``Facts``
    without answers to treat every look-up as failed.
    """
    return validating(request, policy, facts).outcome()


def validating(request: AdmissionRequest, policy: ActivePolicy, facts: Facts | None = None) -> Judging:
    """Return the parts of ``validate``, for a caller that runs them in steps."""
    mode = policy.mode(request.namespace)
    exempt = exemption(request)
    found, kept = ([], []) if exempt else slots_to_judge(request, policy)
    kind = (request.group, request.kind)
    is_pod = kind == POD
    rolled = rolled_out(kind, request.object, request.old_object, kept) if kept and not is_pod else []
    after_mirror = not is_pod and mode.rewrites
    by_name = partial(judge, policy, request.namespace, after_mirror=after_mirror, obj=request.object)
    any_slot = bool(found or kept)
    conclude = partial(_conclude, request, policy, mode, exempt, any_slot, len(found))
    if rolled and policy.looks_up:
        # Whatever registries answer, an image that needs a signature must have a digest and a live key.
        known = facts_by_name(policy, request.namespace)
        in_new_pods, pods = set(map(id, rolled)), PodLookups(request.object, policy, request.namespace, known)
        return Judging(
            found + rolled,
            lambda slot: pods.verified(by_name(slot)) if id(slot) in in_new_pods else by_name(slot),
            conclude,
        )
    if facts is None or not is_pod or not policy.looks_up:
        return Judging(found + rolled if rolled else found, by_name, conclude)
    registries = PodLookups(request.object, policy, request.namespace, facts)
    return Judging(found, lambda slot: registries.verified(by_name(slot)), conclude)


def _conclude(
    request: AdmissionRequest,
    policy: ActivePolicy,
    mode: Mode,
    exempt: Exemption,
    any_slot: bool,  # noqa: FBT001 - partial passes it by position
    new: int,
    judgements: tuple[Judgement, ...],
) -> Outcome:
    """Build the outcome. The first ``new`` judgements can refuse the object, the others only warn."""
    audit = {"mode": mode.name, "policy": policy.revision}
    if policy.looks_up:
        kept = [judgement for judgement in judgements if judgement.unverified]
        if kept:
            audit["unverified"] = unverified_list(kept)
        signed = [judgement for judgement in judgements if judgement.signature]
        if signed:
            audit["signed"] = signed_list(signed)
    stuck = []
    if new < len(judgements):
        stuck = [judgement for judgement in judgements[new:] if not judgement.approved]
        judgements = judgements[:new]
    excepted = []
    if "exception" in map(_REASON, judgements):  # rarely, and this costs less than a loop
        excepted = [judgement for judgement in judgements if judgement.decision.exception]
        audit["exceptions"] = exception_list(excepted)
    rejected = [judgement for judgement in judgements if not judgement.decision.approved]
    if rejected or stuck:
        return _rejected(request, policy, mode, judgements, rejected, stuck, excepted, audit)
    kind = (request.group, request.kind)
    warnings = exception_warnings(excepted) if excepted else ()
    if not exempt and not any_slot and not request.sub_resource and not holds_images(kind, policy.resources):
        exempt = "unknown-kind"
        warnings = (undeclared_warning(f"{request.kind}.{request.group}" if request.group else request.kind),)
    response = review.allowed(request.uid, warnings=warnings, audit_annotations=audit)
    return Outcome(
        response=response,
        verdict="allowed",
        mode=mode,
        judgements=judgements,
        exemption=exempt or ("" if judgements else "no-images"),
    )


def approved_images(
    request: AdmissionRequest,
    policy: ActivePolicy,
    is_found: IsFound = never_found,
    most: int = MAX_IMAGES,
) -> list[str] | None:
    """Return the images to judge if it is certain that ``validate`` approves all of them.

    Otherwise return ``None``, and the caller uses ``validating``. The list is empty for an update without new
    images. For an object without images or with more images than ``most``, return ``None``, and also if an
    exception approves an image, because users see a warning about it. The hot path uses this check, because
    it builds no ``Outcome``. ``is_found`` returns whether earlier answers show that a manifest exists.
    """
    if request.operation != "CREATE" or request.kind != POD[1] or request.group:
        return _approved_otherwise(request, policy, most)
    if POD in policy.resources:
        return None
    images = pod_images(request.object, most)
    if not images or exemption(request):
        return None
    namespace = request.namespace
    if policy.looks_up:
        rewrites_here, recalls = policy.mode(namespace).rewrites, policy.denied_origins.deny.recalls
        for image in images:
            decision = policy.decide_by_rules(namespace, image)
            manifest = decision.manifest
            # If an answer needs a key, ``validate`` must name the key in an audit annotation.
            if not decision.approved or (
                manifest is not None
                and (recalls or not (manifest.kind.found_approves and is_found(manifest)))
            ):
                return None
            if rewrites_here and refusing_mirror(policy, namespace, image) is not None:
                return None
        return images
    for image in images:
        if not policy.decide_by_rules(namespace, image).approved:
            return None
    return images


def _approved_otherwise(request: AdmissionRequest, policy: ActivePolicy, most: int) -> list[str] | None:
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
        if not policy.decide_by_rules(namespace, image).approved:
            return None
    return new


def _rejected(
    request: AdmissionRequest,
    policy: ActivePolicy,
    mode: Mode,
    judgements: tuple[Judgement, ...],
    rejected: list[Judgement],
    stuck: list[Judgement],
    excepted: list[Judgement],
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
            return Outcome(response=response, verdict="denied", mode=mode, judgements=judgements)
    warned = rollout_warnings(stuck) if mode.refuses else warnings_for(rejected) if mode.warns else ()
    warnings = warned + exception_warnings(excepted, len(warned)) if excepted else warned
    response = review.allowed(request.uid, warnings=warnings, audit_annotations=audit)
    judgements = (*judgements, *stuck)
    return Outcome(
        response=response, verdict="warned" if warned else "allowed", mode=mode, judgements=judgements
    )
