"""Look up the signatures of a workload's images before its Pods exist.

The webhook approves a workload by the names of its images. Its review starts the look-ups of signatures in
the background, so that its Pods find the answers. These look-ups need only the images, not the object, which
may be large.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

from gatekeeper_py.core.admission.fields import CONTAINERS, POD
from gatekeeper_py.core.admission.judge import SOME_DIGEST, Judge, Subject
from gatekeeper_py.core.admission.outcome import exemption, slots_to_judge
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.admission.slot import Slot
from gatekeeper_py.core.admission.world import Answers
from gatekeeper_py.core.images.manifest import Lookup
from gatekeeper_py.core.images.reference import MAX_IMAGE_LENGTH
from gatekeeper_py.core.policy.policy import CompiledPolicy

MAX_LOOKED_AHEAD: Final = 32
"""Maximum number of images of a workload whose signatures are looked up before its Pods exist."""


def images_ahead(request: AdmissionRequest, policy: CompiledPolicy) -> tuple[str, ...]:
    """Return the new images of a workload, if the policy requires signatures of some images."""
    if not policy.require.signed_hosts or (request.group, request.kind) == POD or exemption(request):
        return ()
    found = slots_to_judge(request, policy)[0]
    images = (slot.value for slot in found if slot.pulled and not slot.problem)
    distinct = dict.fromkeys(image for image in images if len(image) <= MAX_IMAGE_LENGTH)
    return tuple(islice(distinct, MAX_LOOKED_AHEAD))


def lookups_ahead(
    images: Iterable[str], policy: CompiledPolicy, namespace: str | None, answers: Answers
) -> tuple[Lookup, ...]:
    """Return the look-ups that Pods with these images will need for signatures, and that ``answers`` lack.

    The look-up of a signature needs a digest, which another look-up finds. So the caller calls this function
    again with the answers until it returns nothing.
    """
    judge = Judge(policy, Subject(namespace, policy.mode(namespace)), answers)
    for image in images:
        if _may_need_signature(policy, judge.subject, image):
            slot = Slot((), CONTAINERS.noun, image)
            new = judge.rewrite(slot) if judge.subject.mode.rewrites else None
            judge.verdict(slot if new is None else slot._replace(value=new.rewritten or image))
    return tuple(dict.fromkeys(answers.missing))


def _may_need_signature(policy: CompiledPolicy, subject: Subject, image: str) -> bool:
    """Return whether a requirement needs a signature of the image, or of its copy on a mirror."""
    plan = policy.plan(subject.namespace, image) if subject.mode.rewrites else None
    names = (image,) if plan is None else (image, plan.image, *plan.candidates)
    # Some patterns match an image only with its digest, which the webhook may write.
    forms = (form for name in names if name for form in (name, f"{name}@{SOME_DIGEST}"))
    decisions = (policy.decide(subject.namespace, form) for form in forms)
    return any(each.signed_by for decision in decisions for each in decision.requirements)
