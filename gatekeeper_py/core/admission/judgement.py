"""Judge the images of an object: the step that both endpoints share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol

from gatekeeper_py.core.admission.fields import POD, GroupKind
from gatekeeper_py.core.admission.review import AdmissionRequest, AdmissionResponse
from gatekeeper_py.core.admission.slot import Slot, is_never_pulled
from gatekeeper_py.core.admission.workload import changed, slots
from gatekeeper_py.core.exceptions.exceptions import Excepted
from gatekeeper_py.core.policy.decision import Decision
from gatekeeper_py.core.policy.document import Mode
from gatekeeper_py.core.policy.mirror import Rewrite
from gatekeeper_py.core.policy.origins import DeniedOrigins
from gatekeeper_py.core.policy.resources import PathTree
from gatekeeper_py.core.policy.rules import RuleSet

MIRROR_POD: Final = "kubernetes.io/config.mirror"
NODES_GROUP: Final = "system:nodes"

Verdict = Literal["allowed", "denied", "warned", "mutated"]

Exemption = Literal["", "operation", "deleting", "mirror-pod", "no-images", "unknown-kind"]
"""Why a review is allowed without judging an image; empty if its images are judged."""


class ActivePolicy(Protocol):
    """A compiled policy, or a snapshot that caches its decisions."""

    @property
    def revision(self) -> str: ...

    @property
    def message(self) -> str: ...

    @property
    def allow(self) -> RuleSet: ...

    @property
    def resources(self) -> Mapping[GroupKind, PathTree]: ...

    @property
    def looks_up(self) -> bool: ...

    @property
    def denied_origins(self) -> DeniedOrigins: ...

    def mode(self, namespace: str | None) -> Mode: ...

    def decide(self, namespace: str | None, image: str) -> Decision: ...

    def decide_by_rules(self, namespace: str | None, image: str) -> Decision: ...

    def excepted(self, namespace: str | None, decision: Decision) -> Decision: ...

    def plan(self, namespace: str | None, image: str) -> Rewrite | None: ...

    def pull_secret(self, mirror: int) -> str | None: ...


class Signature(NamedTuple):
    """A valid signature: the name of the key that made it, and how the registry holds it."""

    key: str
    form: str

    def __str__(self) -> str:
        return f"signed by {self.key} ({self.form})"


class NewImage(NamedTuple):
    """What an image becomes in mutate mode. If ``image`` is ``None``, the image stays as written.

    ``problem`` is the reason why no mirror replaces the image, or why it gets no digest although its rule
    requires a signature. It is empty if no warning is needed. If a registry could not be queried and the
    policy keeps the image, ``unverified`` is the cause. If a look-up found a digest that a deny rule matches,
    ``denied`` is the decision on it.
    """

    image: str | None = None
    problem: str = ""
    unverified: str = ""
    denied: Decision | None = None


class Judgement(NamedTuple):
    """One slot and the decision about it.

    ``rewritten`` is the image after the rewrite, if that image was judged or patched in. ``use`` is an
    approved image to use instead, if a mirror has one. ``problem`` is the reason why no mirror replaces the
    image. ``unverified`` is the reason why the image could not be verified, if it is kept in spite of that.
    ``signature`` is the valid signature that a rule with ``signedBy`` requires.
    """

    slot: Slot
    decision: Decision
    rewritten: str | None = None
    mirror: int | None = None
    use: str | None = None
    problem: str = ""
    unverified: str = ""
    signature: Signature | None = None

    @property
    def approved(self) -> bool:
        return self.decision.approved


class Outcome(NamedTuple):
    """A response, and what logs, metrics and commands report about it.

    ``kept`` are the images that no mirror replaces although a mirror applies, each with its ``problem``.
    """

    response: AdmissionResponse
    verdict: Verdict
    mode: Mode
    judgements: tuple[Judgement, ...] = ()
    exemption: Exemption = ""
    kept: tuple[Judgement, ...] = ()

    @property
    def rejected(self) -> tuple[Judgement, ...]:
        return tuple(judgement for judgement in self.judgements if not judgement.approved)

    @property
    def excepted(self) -> tuple[Excepted, ...]:
        """The exceptions that approve images."""
        return tuple(e for judgement in self.judgements if (e := judgement.decision.exception) is not None)


class Judging(NamedTuple):
    """The parts of judging one request, so that a caller can do other work between two images.

    ``judge`` judges the image in one slot. It returns ``None`` if the endpoint does nothing about this image.
    ``conclude`` builds the outcome from the other judgements, in the order of ``slots``.
    """

    slots: Sequence[Slot]
    judge: Callable[[Slot], Judgement | None]
    conclude: Callable[[tuple[Judgement, ...]], Outcome]

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
    annotations = metadata.get("annotations")
    if (
        (request.group, request.kind) == POD
        and isinstance(annotations, dict)
        and MIRROR_POD in annotations
        and NODES_GROUP in request.groups
    ):
        return "mirror-pod"
    return ""


def slots_to_judge(request: AdmissionRequest, policy: ActivePolicy) -> tuple[list[Slot], list[Slot]]:
    """Return the slots to judge (on UPDATE, only the new ones), and the other slots of the object."""
    kind = (request.group, request.kind)
    if request.operation == "UPDATE":
        is_looked_up = policy.looks_up and kind == POD
        return changed(kind, request.object, request.old_object, policy.resources, is_looked_up=is_looked_up)
    return slots(kind, request.object, policy.resources), []


def approved_candidates(policy: ActivePolicy, namespace: str | None, plan: Rewrite) -> tuple[str, ...]:
    """Return the images on the targets of a mirror, without those whose names the policy rejects."""
    return tuple(image for image in plan.candidates if policy.decide(namespace, image).approved)


def by_name(
    policy: ActivePolicy, namespace: str | None, plan: Rewrite | None, *, never_pulled: bool = False
) -> NewImage:
    """Return what an image becomes in mutate mode if no registry is queried.

    If the mirror has ``verify``, the image is rewritten to the first target where its name is approved. It
    stays as written if there is no such target, or if the image is never pulled.
    """
    if plan is None:
        return NewImage()
    if not plan.candidates:
        return NewImage(plan.image, plan.problem)
    if never_pulled:
        return NewImage()
    return NewImage(next(iter(approved_candidates(policy, namespace, plan)), None))


def judge(
    policy: ActivePolicy, namespace: str | None, slot: Slot, *, after_mirror: bool, obj: Any
) -> Judgement:
    """Judge the value of one slot. With ``after_mirror``, judge the image that mutate mode will make of it.

    ``obj`` is the object that holds the slot. It shows whether the image is never pulled. It may be ``None``
    for a slot without a path.
    """
    image = slot.value
    if slot.problem:
        shown = image if isinstance(image, str) else ""
        decision = Decision(image=shown, approved=False, reason="invalid", detail=slot.problem)
        return Judgement(slot, decision)
    decision = policy.decide(namespace, image)
    if decision.approved and not after_mirror:
        return Judgement(slot, decision)
    if decision.reason in {"denied", "invalid"}:  # no mirror rewrites these
        return Judgement(slot, decision)
    plan = policy.plan(namespace, image)
    never_pulled = after_mirror and is_never_pulled(obj, slot)
    mirrored = by_name(policy, namespace, plan, never_pulled=never_pulled).image
    if plan is None or mirrored is None:
        return Judgement(slot, decision)
    on_mirror = policy.decide(namespace, mirrored)
    if after_mirror:
        return Judgement(slot, on_mirror, rewritten=mirrored, mirror=plan.mirror.index)
    return Judgement(slot, decision, use=mirrored if on_mirror.approved else None)
