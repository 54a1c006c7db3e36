"""The validating endpoint: from decisions on images and the mode to a response (docs/policy.md, "Modes")."""

from __future__ import annotations

from functools import partial

from gatekeeper_py.core.admission import review
from gatekeeper_py.core.admission.fields import POD, POD_SPECS
from gatekeeper_py.core.admission.judgement import (
    ActivePolicy,
    Judgement,
    Outcome,
    exemption,
    judge,
    slots_to_judge,
)
from gatekeeper_py.core.admission.lookups import (
    Facts,
    IsFound,
    PodLookups,
    never_found,
    refusing_mirror,
)
from gatekeeper_py.core.admission.messages import (
    audit_list,
    denial_message,
    undeclared_warning,
    unverified_list,
    warnings_for,
)
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.admission.slot import PLACEHOLDERS
from gatekeeper_py.core.admission.steps import MANY_IMAGES, Steps, at_once, for_each
from gatekeeper_py.core.admission.workload import holds_images, known_images, pod_images
from gatekeeper_py.core.policy.document import Mode, refuses, rewrites


def validate(request: AdmissionRequest, policy: ActivePolicy, facts: Facts | None = None) -> Outcome:
    """Return the validating endpoint's answer to any request that ``review.parse`` returns. Never raises.

    ``facts`` are answers of registries. Without them, images are judged by their names alone. Pass ``Facts``
    without answers to treat every look-up as failed.
    """
    return at_once(validating(request, policy, facts))


def validating(request: AdmissionRequest, policy: ActivePolicy, facts: Facts | None = None) -> Steps[Outcome]:
    """Do the same as ``validate`` in steps: one step for each image, if the object has many images."""
    mode = policy.mode(request.namespace)
    audit = {"mode": mode, "policy": policy.revision}
    exempt = exemption(request)
    if exempt:
        response = review.allowed(request.uid, audit_annotations=audit)
        return Outcome(response=response, verdict="allowed", mode=mode, exemption=exempt)
    kind = (request.group, request.kind)
    found, any_slot = slots_to_judge(request, policy)
    after_mirror = rewrites(mode) and kind != POD
    judging = partial(judge, policy, request.namespace, after_mirror=after_mirror, obj=request.object)
    judgements = yield from for_each(partial(map, judging), found)
    if facts is not None and policy.looks_up and kind == POD:
        registries = PodLookups(request.object, policy, request.namespace, facts)
        judgements = yield from for_each(partial(map, registries.verified), judgements)
        kept = [judgement for judgement in judgements if judgement.unverified]
        if kept:
            audit["unverified"] = unverified_list(kept)
    rejected = [judgement for judgement in judgements if not judgement.approved]
    if rejected:
        return _refused(request, policy, mode, judgements, audit)
    if not any_slot and not request.sub_resource and not holds_images(kind, policy.resources):
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


def approved_images(
    request: AdmissionRequest, policy: ActivePolicy, is_found: IsFound = never_found
) -> int | None:
    """Return the number of images to judge if it is certain that ``validate`` approves all of them.

    Otherwise return ``None``, and the caller uses ``validating``. The number is 0 for an update without new
    images. An object without images and an object with many images return ``None``; ``validating`` judges
    many images in steps. This is the check of the hot path, which builds no ``Outcome``. ``is_found`` returns
    whether earlier answers show that a manifest exists.
    """
    if request.operation != "CREATE" or request.kind != POD[1] or request.group:
        return _approved_otherwise(request, policy)
    if POD in policy.resources:
        return None
    images = pod_images(request.object, MANY_IMAGES)
    if not images or exemption(request):
        return None
    namespace = request.namespace
    if policy.looks_up:
        rewrites_here = policy.rewrites_in(namespace)
        for image in images:
            decision = policy.decide(namespace, image)
            if not decision.approved or (decision.manifest is not None and not is_found(decision.manifest)):
                return None
            if rewrites_here and refusing_mirror(policy, namespace, image) is not None:
                return None
        return len(images)
    for image in images:
        if not policy.decide(namespace, image).approved:
            return None
    return len(images)


def _approved_otherwise(request: AdmissionRequest, policy: ActivePolicy) -> int | None:
    """Do the same for workloads and for updates. Of an update, only new images count."""
    kind = (request.group, request.kind)
    place = POD_SPECS.get(kind)
    namespace = request.namespace
    if place is None or policy.looks_up or kind in policy.resources:
        return None
    if kind != POD and policy.rewrites_in(namespace):
        return None  # templates are judged by the names that mirrors will give
    images = known_images(request.object, place, MANY_IMAGES)
    if not images or exemption(request) or (kind != POD and not PLACEHOLDERS.isdisjoint(images)):
        return None
    if request.operation == "UPDATE":
        before = known_images(request.old_object, place)
        if before is None:
            return None
        present = set(before)
        images = [image for image in images if image not in present]
    for image in images:
        if not policy.decide(namespace, image).approved:
            return None
    return len(images)


def _refused(
    request: AdmissionRequest,
    policy: ActivePolicy,
    mode: Mode,
    judgements: tuple[Judgement, ...],
    audit: dict[str, str],
) -> Outcome:
    rejected = [judgement for judgement in judgements if not judgement.approved]
    audit["rejected"] = audit_list(
        rejected, lambda j: f"{j.slot.path} ({j.slot.problem})" if j.slot.problem else j.slot.value
    )
    if not refuses(mode):
        response = review.allowed(request.uid, warnings=warnings_for(rejected), audit_annotations=audit)
        return Outcome(response=response, verdict="warned", mode=mode, judgements=judgements)
    message = denial_message(rejected, policy.allow, request.namespace, policy.message)
    response = review.denied(request.uid, message, audit_annotations=audit)
    return Outcome(response=response, verdict="denied", mode=mode, judgements=judgements)
