"""The mutating endpoint: patch the images of a Pod to their mirrors (docs/policy.md, "Modes")."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from gatekeeper_py.core.admission import review
from gatekeeper_py.core.admission.fields import POD
from gatekeeper_py.core.admission.judgement import ActivePolicy, Judgement, Outcome, exemption, slots_to_judge
from gatekeeper_py.core.admission.lookups import Facts, PodLookups, no_facts
from gatekeeper_py.core.admission.messages import audit_list, rewrite_warnings
from gatekeeper_py.core.admission.review import AdmissionRequest, PatchOperation
from gatekeeper_py.core.names import ORIGINAL_IMAGES
from gatekeeper_py.core.policy.document import rewrites


def mutate(request: AdmissionRequest, policy: ActivePolicy, facts: Facts | None = None) -> Outcome:
    """Return the mutating endpoint's answer: never a denial, a patch only of a Pod's images.

    ``facts`` are what registries said; without them, what has to be looked up could not be verified.
    """
    mode = policy.mode(request.namespace)
    audit = {"mode": mode, "policy": policy.revision}
    unpatched = review.allowed(request.uid, audit_annotations=audit)
    exempt = exemption(request)
    if exempt or not rewrites(mode) or (request.group, request.kind) != POD:
        return Outcome(response=unpatched, verdict="allowed", mode=mode, exemption=exempt)
    if not _patchable(request.object):
        return Outcome(response=unpatched, verdict="allowed", mode=mode)
    planned = tuple(_plans(request, policy, facts or no_facts()))
    rewritten = tuple(judgement for judgement in planned if judgement.rewritten is not None)
    warnings = rewrite_warnings(planned)
    if not rewritten:
        response = review.allowed(request.uid, warnings=warnings, audit_annotations=audit)
        return Outcome(response=response, verdict="allowed", mode=mode)
    audit["rewritten"] = audit_list(rewritten, lambda j: f"{j.slot.value} -> {j.rewritten}")
    response = review.patched(
        request.uid,
        (*_patch(request.object, rewritten), *_pull_secrets(request.object, rewritten, policy)),
        warnings=warnings,
        audit_annotations=audit,
    )
    return Outcome(response=response, verdict="mutated", mode=mode, judgements=rewritten)


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


def _plans(request: AdmissionRequest, policy: ActivePolicy, facts: Facts) -> Iterator[Judgement]:
    registries = PodLookups(request.object, policy, request.namespace, facts)
    for slot in slots_to_judge(request, policy)[0]:
        # Declared paths of custom resources may name Pods too; only the Pod's own lists are ours.
        if slot.problem or slot.noun == "image":
            continue
        decision = policy.decide(request.namespace, slot.value)
        if decision.reason in {"denied", "invalid"}:
            continue
        plan = policy.plan(request.namespace, slot.value)
        image, problem = registries.new_image(slot, plan)
        if image is not None or problem:
            moved = plan is not None and (image is None or not image.startswith(f"{slot.value}@"))
            mirror = plan.mirror.index if plan is not None and moved else None
            yield Judgement(slot, decision, rewritten=image, mirror=mirror, problem=problem)


def _pull_secrets(
    obj: dict[str, Any], rewritten: tuple[Judgement, ...], policy: ActivePolicy
) -> Iterator[PatchOperation]:
    """Add the pull secrets of the mirrors that were used, unless the Pod names them already."""
    wanted = {
        secret
        for judgement in rewritten
        if judgement.mirror is not None and (secret := policy.pull_secret(judgement.mirror)) is not None
    }
    present = obj["spec"].get("imagePullSecrets")
    if present is not None and not isinstance(present, list):
        return  # the API server refuses such a Pod, and a patch must not fail before it does
    named = {entry.get("name") for entry in present or () if isinstance(entry, dict)}
    added = [{"name": name} for name in sorted(wanted - named)]
    if present is None and added:
        yield {"op": "add", "path": "/spec/imagePullSecrets", "value": added}
    elif present is not None:
        for entry in added:
            yield {"op": "add", "path": "/spec/imagePullSecrets/-", "value": entry}


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
