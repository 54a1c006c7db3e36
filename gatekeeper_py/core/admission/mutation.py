"""The mutating endpoint: patch the images of a Pod to their mirrors (docs/policy.md, "Modes")."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import orjson

from gatekeeper_py.core.admission import review
from gatekeeper_py.core.admission.fields import POD, is_in_pod_list
from gatekeeper_py.core.admission.judge import Judge, Subject, Verdict
from gatekeeper_py.core.admission.messages import audit_list, rewrite_warnings, unverified_list
from gatekeeper_py.core.admission.outcome import Exemption, Judging, Outcome, exemption, slots_to_judge
from gatekeeper_py.core.admission.review import AdmissionRequest, PatchOperation
from gatekeeper_py.core.admission.world import BY_NAME, World
from gatekeeper_py.core.names import ORIGINAL_IMAGES
from gatekeeper_py.core.policy.document import Mode
from gatekeeper_py.core.policy.policy import CompiledPolicy

MAX_ANNOTATIONS_BYTES: Final = 256 * 1024
"""An API server refuses an object whose annotations are larger, keys and values together (apimachinery,
pkg/api/validation/objectmeta.go, ``TotalAnnotationSizeLimitB``)."""

TOO_LARGE: Final = "the annotation that records it would be too large"

_ENCODE: Final = json.JSONEncoder(separators=(",", ":")).encode


def mutate(request: AdmissionRequest, policy: CompiledPolicy, world: World = BY_NAME) -> Outcome:
    """Return the mutating endpoint's answer, which is never a denial. Only Pods are patched.

    A patch replaces images, records the original images in an annotation, and adds the pull secrets of
    mirrors.
    """
    return mutating(request, policy, world).outcome()


def mutating(request: AdmissionRequest, policy: CompiledPolicy, world: World = BY_NAME) -> Judging:
    """Return the parts of ``mutate``, for a caller that runs them in steps."""
    mode = policy.mode(request.namespace)
    exempt = exemption(request)
    conclude = partial(_conclude, request, policy, mode, exempt)
    if (
        exempt
        or not mode.rewrites
        or (request.group, request.kind) != POD
        or not _is_patchable(request.object)
    ):
        return Judging((), lambda _: None, conclude)
    found, _ = slots_to_judge(request, policy)
    if POD in policy.resources:
        # A policy may declare paths for Pods too. Only images in the Pod's own lists are rewritten.
        found = [slot for slot in found if is_in_pod_list(slot.parts)]
    return Judging(found, Judge(policy, Subject(request.namespace, mode), world).rewrite, conclude)


def _conclude(
    request: AdmissionRequest,
    policy: CompiledPolicy,
    mode: Mode,
    exempt: Exemption,
    planned: tuple[Verdict, ...],
) -> Outcome:
    audit = {"mode": mode.name, "policy": policy.revision}
    if policy.looks_up and any(each.unverified for each in planned):
        audit["unverified"] = unverified_list([each for each in planned if each.unverified])
    rewritten = tuple(each for each in planned if each.rewritten is not None)
    record = _record(request.object, rewritten) if rewritten else None
    if record is None:
        # Images are rewritten only if the rewrite can be recorded. An API server would refuse a Pod with too
        # large annotations, and without the record nobody could see the original images. The validating
        # webhook judges the images as they are.
        stay = tuple(_left_alone(each) for each in planned)
        response = review.allowed(request.uid, warnings=rewrite_warnings(stay), audit_annotations=audit)
        return Outcome(response=response, verdict="allowed", mode=mode, exemption=exempt, kept=stay)
    audit["rewritten"] = audit_list(rewritten, lambda j: f"{j.slot.value} -> {j.rewritten}")
    response = review.patched(
        request.uid,
        (*_patch(request.object, rewritten, record), *_pull_secrets(request, rewritten, policy)),
        warnings=rewrite_warnings(planned),
        audit_annotations=audit,
    )
    kept = tuple(each for each in planned if each.problem)
    return Outcome(response=response, verdict="mutated", mode=mode, images=rewritten, kept=kept)


def _is_patchable(obj: Any) -> bool:
    """Return whether a Pod's metadata and annotations are of the types that a patch relies on."""
    if not isinstance(obj, dict):
        return False
    metadata = obj.get("metadata")
    if metadata is None:
        return True
    if not isinstance(metadata, dict):
        return False
    annotations = metadata.get("annotations")
    return annotations is None or isinstance(annotations, dict)


def _pull_secrets(
    request: AdmissionRequest, rewritten: tuple[Verdict, ...], policy: CompiledPolicy
) -> Iterator[PatchOperation]:
    """Yield operations that add to a new Pod the pull secrets of the mirrors that were used.

    A secret that the Pod already names is not added again.
    """
    if request.operation != "CREATE":
        return  # an API server refuses to change them later (pkg/apis/core/validation, ValidatePodUpdate)
    secrets = {
        secret
        for each in rewritten
        if each.mirror is not None and (secret := policy.pull_secret(each.mirror)) is not None
    }
    if not secrets:
        return
    present = request.object["spec"].get("imagePullSecrets")
    if present is not None and not isinstance(present, list):
        return  # the API server refuses such a Pod later; the patch must not fail first
    names = (entry.get("name") for entry in present or () if isinstance(entry, dict))
    named = {name for name in names if isinstance(name, str)}
    added = [{"name": name} for name in sorted(secrets - named)]
    if present is None:
        yield {"op": "add", "path": "/spec/imagePullSecrets", "value": added}
    else:
        for entry in added:
            yield {"op": "add", "path": "/spec/imagePullSecrets/-", "value": entry}


def _left_alone(each: Verdict) -> Verdict:
    if each.rewritten is None:
        return each
    return each._replace(rewritten=None, problem=TOO_LARGE)


def _record(obj: dict[str, Any], rewritten: tuple[Verdict, ...]) -> str | None:
    """Return the annotation that records the original images.

    Return ``None`` if all annotations together would become too large.
    """
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    recorded = _recorded(annotations[ORIGINAL_IMAGES]) if ORIGINAL_IMAGES in annotations else {}
    originals = {each.slot.path: each.slot.value for each in rewritten}
    record = _ENCODE({**recorded, **originals})
    return record if _size({**annotations, ORIGINAL_IMAGES: record}) <= MAX_ANNOTATIONS_BYTES else None


def _size(annotations: dict[str, Any]) -> int:
    """Return an upper bound of the size of keys and values, in bytes."""
    try:
        quoted = len(orjson.dumps(annotations))
    except TypeError:  # half of a surrogate pair, which only a file can hold
        quoted = MAX_ANNOTATIONS_BYTES + 1
    if quoted <= MAX_ANNOTATIONS_BYTES:
        return quoted
    texts = (text for item in annotations.items() for text in item if isinstance(text, str))
    return len("".join(texts).encode(errors="surrogatepass"))


def _recorded(annotation: Any) -> dict[str, str]:
    """Return the record of an earlier rewrite; empty when the annotation is invalid."""
    if not isinstance(annotation, str) or len(annotation) > MAX_ANNOTATIONS_BYTES:
        return {}
    try:
        recorded = json.loads(annotation)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(recorded, dict) or not all(isinstance(v, str) for v in recorded.values()):
        return {}
    return recorded


def _patch(obj: dict[str, Any], rewritten: tuple[Verdict, ...], record: str) -> Iterator[PatchOperation]:
    """Yield operations that cannot fail, because each path was just read from the object."""
    for each in rewritten:
        path = review.pointer(each.slot.parts)
        yield {"op": "replace", "path": path, "value": each.rewritten}
    metadata = obj.get("metadata")
    if metadata is None:
        yield {"op": "add", "path": "/metadata", "value": {"annotations": {ORIGINAL_IMAGES: record}}}
    elif metadata.get("annotations") is None:
        yield {"op": "add", "path": "/metadata/annotations", "value": {ORIGINAL_IMAGES: record}}
    else:
        path = review.pointer(("metadata", "annotations", ORIGINAL_IMAGES))
        yield {"op": "add", "path": path, "value": record}
