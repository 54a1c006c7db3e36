"""The look-ups in registries that a review needs, and how their answers change the decision on an image.

The webhook decides at least twice about a review that needs look-ups, with the same snapshot of the policy.
The first decision lists the look-ups that are needed (``Facts.missing``). The next decision uses their
answers. It may need others: a signature is looked up by the digest that an earlier look-up found. All
functions are pure: the answers are arguments.

The rule (docs/registries.md): the webhook always judges the name of an image, and a look-up never approves an
image whose name the policy rejects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, Final, NamedTuple

from gatekeeper_py.core.admission.fields import CONTAINERS, POD
from gatekeeper_py.core.admission.judgement import (
    ActivePolicy,
    Judgement,
    NewImage,
    Signature,
    approved_candidates,
    exemption,
    slots_to_judge,
)
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.admission.slot import Slot, is_never_pulled
from gatekeeper_py.core.images.manifest import (
    MISSING,
    OTHER_KEY,
    Answer,
    Lookup,
    Manifest,
    Resolution,
    failed,
    manifest_of,
)
from gatekeeper_py.core.images.reference import MAX_IMAGE_LENGTH, locate, parse_reference
from gatekeeper_py.core.policy.decision import Decision, Reason, denied_at
from gatekeeper_py.core.policy.mirror import Rewrite
from gatekeeper_py.core.policy.problems import listed
from gatekeeper_py.core.policy.rules import Rule

ResolveCached = Callable[[Lookup], Resolution | None]
"""Resolves a look-up from earlier answers; returns ``None`` if a registry must be queried first."""

IsFound = Callable[[Manifest], bool]
"""Returns whether earlier answers show that a manifest exists: ``ResolveCached`` for the hot path."""


NOT_LOOKED_UP: Final = Resolution(failed("no registry was queried"))

MAX_ROUNDS: Final = 3
"""Maximum number of rounds of look-ups for one review: those in mirrors, that of the digest of an image that
no mirror has, and that of the digest's signature."""

MAX_LOOKED_AHEAD: Final = 32
"""Maximum number of images of a workload whose signatures are looked up before its Pods exist."""


class Facts:
    """The answers that one review may use.

    ``missing`` collects the look-ups without an answer, ``used`` the answers that were returned.
    ``resolved`` has the answers that were obtained for this review. ``resolve_cached`` is called for every
    look-up that is not in ``resolved``. With ``pins``, the mutating webhook is assumed to write digests.
    """

    def __init__(
        self,
        resolve_cached: ResolveCached,
        resolved: Mapping[Lookup, Resolution] | None = None,
        *,
        pins: bool = False,
    ) -> None:
        self.pins = pins
        self.missing: list[Lookup] = []
        self.used: dict[Lookup, Resolution] = {}
        self._resolve_cached = resolve_cached
        self._resolved = resolved or {}

    def get(self, candidates: tuple[Manifest, ...]) -> Resolution:
        """Return the answer for these candidates, or ``NOT_LOOKED_UP`` if there is none yet."""
        lookup = Lookup(candidates)
        resolution = self._resolved.get(lookup) or self._resolve_cached(lookup)
        if resolution is None:
            self.missing.append(lookup)
            return NOT_LOOKED_UP
        self.used[lookup] = resolution
        return resolution


def facts_by_name(policy: ActivePolicy, namespace: str | None) -> Facts:
    """Return the facts for a caller that judges without registries.

    They assume that every image exists and has a valid signature. So the caller rejects only what the webhook
    rejects regardless of what registries answer: an image that needs a signature, but has no live key, or no
    digest (in mutate mode, the webhook may write the digest).
    """
    return Facts(_assumed, pins=policy.mode(namespace).rewrites)


def _assumed(lookup: Lookup) -> Resolution:
    manifest = lookup.candidates[0]
    digest, key = (manifest.reference, manifest.keys[0]) if manifest.keys else ("", "")
    return Resolution(Answer("found", digest=digest, key=key), 0)


def facts_assuming(*, signed: bool) -> Facts:
    """Return the facts for a caller that assumes that every image exists, and that all or none are signed."""
    return Facts(_assumed, pins=True) if signed else Facts(_unsigned)


def _unsigned(lookup: Lookup) -> Resolution:
    return _assumed(lookup) if lookup.candidates[0].kind.found_approves else Resolution(MISSING)


def never_found(_manifest: Manifest) -> bool:
    """Return ``False`` for every manifest: the ``IsFound`` of a caller without registries."""
    return False


def final_facts(answers: Mapping[Lookup, Resolution]) -> Facts:
    """Return the facts for the second decision on a request.

    The first decision determines which answers are needed. ``answers`` holds the answers that it used, and
    those that it lacked. No other answer is read, so an answer that expires in between cannot change the
    decision. The second decision may need more look-ups than the first one: an image on a mirror is pinned
    only when it is known which candidate exists. So an answer about several manifests also serves as the
    answer about the manifest that was found, or about each of them if all are missing.
    """
    single: dict[Lookup, Resolution] = {}
    for (candidates,), (answer, candidate, _) in answers.items():
        if answer.status == "found":
            single[Lookup((candidates[candidate],))] = Resolution(answer, 0)
        elif answer.status == "missing":
            single |= {Lookup((manifest,)): Resolution(answer) for manifest in candidates}
    return Facts({**single, **answers}.get)


class PodLookups(NamedTuple):
    """The answers of registries about the images of one Pod, under one policy."""

    pod: Any
    policy: ActivePolicy
    namespace: str | None
    facts: Facts

    def verified(self, judgement: Judgement) -> Judgement:
        """Refine the judgement of one image with the answer of its registry.

        An approval can become a rejection (``absent``, ``unverified``, ``denied``). If the image stays
        approved in spite of an error, the field ``unverified`` of the judgement holds the cause. A rejected
        image stays rejected, but a look-up on its mirror can change the reason to one of these three.
        """
        slot, decision = judgement.slot, judgement.decision
        if slot.problem or decision.reason in {"denied", "invalid"} or is_never_pulled(self.pod, slot):
            return judgement
        plan = refusing_mirror(self.policy, self.namespace, slot.value)
        if plan is not None:
            judgement = self._verified_on_mirror(judgement, plan)
        manifest = decision.manifest
        if manifest is None or decision.rule is None:
            return judgement
        # Request the rule's own look-up even if the mirror refuses the image, so that all look-ups are known
        # after the first decision.
        answer = self.answer(manifest)
        at_digest = self._at_digest(decision, manifest.reference if manifest.by_digest else answer.digest)
        if at_digest is not None and not at_digest.approved:
            return judgement._replace(decision=at_digest)
        if at_digest is not None and at_digest.manifest is not None and judgement.approved:
            # The grant does not override the signature, and no other may: one must override both.
            judgement = judgement._replace(decision=at_digest)
        judgement = self._answered(judgement, decision.rule, manifest, answer)
        if at_digest is not None and judgement.approved:
            judgement = judgement._replace(decision=at_digest)
        return judgement

    def _answered(self, judgement: Judgement, rule: Rule, manifest: Manifest, answer: Answer) -> Judgement:
        """Return the judgement after the answer of the registry, by the fields of the image's rule."""
        if judgement.approved and not manifest.kind.found_approves:
            return self._signed(judgement, rule, manifest, answer)
        if answer.status == "found" or not judgement.approved:
            return judgement
        if answer.status == "missing":
            return judgement._replace(decision=_absent(judgement.decision, (manifest,)))
        if rule.on_error == "deny":
            return judgement._replace(decision=_unverified(judgement.decision, answer))
        return judgement._replace(unverified=answer.cause)

    def _at_digest(self, decision: Decision, digest: str) -> Decision | None:
        """Return the decision on an image with a digest that was found; ``None`` if no deny rule matches it.

        An exception may still approve the image.
        """
        denied = denied_at(self.policy.denied_origins, decision.reference, digest, self.namespace)
        if denied is None:
            return None
        return replace(self.policy.excepted(self.namespace, denied), reference=decision.reference)

    def _signed(self, judgement: Judgement, rule: Rule, manifest: Manifest, answer: Answer) -> Judgement:
        """Refuse an image whose digest no live key of its rule signed, unless an exception approves it."""
        decision = judgement.decision
        if not manifest.by_digest and manifest.keys and self.facts.pins:
            return judgement
        if not manifest.by_digest:
            # A signature is for a digest. Approving the tag would approve what the tag names tomorrow.
            known = f"add @{answer.digest}" if answer.digest else "it needs a digest"
            rejected = _rejected(decision, "unpinned", f"is unpinned: {known}")
        elif answer.status == "found" and (name := self._signer(rule, answer.key)):
            return judgement._replace(signature=Signature(name, answer.form))
        elif answer.status != "error":
            rejected = _rejected(decision, "unsigned", f"{self._unsigned(rule, answer)} (unsigned)")
        elif rule.on_error == "keep":
            return judgement._replace(unverified=answer.cause)
        else:
            rejected = _unverified(decision, answer)
        if decision.reason == "allowed":
            # For an exception, ``with_exceptions`` already checked whether its grant overrides the signature.
            rejected = self.policy.excepted(self.namespace, rejected)
        return judgement._replace(decision=rejected)

    def _signer(self, rule: Rule, fingerprint: str) -> str:
        """Return the name of the rule's live key with a fingerprint; empty without one."""
        signers = self.policy.allow.signers(rule)
        return next((key.name for key in signers if key.fingerprint == fingerprint), "")

    def answer(self, manifest: Manifest) -> Answer:
        """Return the answer to the look-up that a rule requires.

        If a signature is required, look up the signature of the digest. For a tag, look up the digest first.
        """
        if manifest.kind.found_approves or not manifest.by_digest:
            return self.facts.get((manifest.pulled,)).answer
        if not manifest.keys:
            return MISSING  # without a live key, nothing is signed
        answer = self.facts.get((manifest.located,)).answer
        about_it = answer.key in manifest.keys and answer.digest == manifest.reference
        # Not an error: ``onError: keep`` would then approve an answer about another key or digest.
        return Answer("missing", cause=OTHER_KEY) if answer.status == "found" and not about_it else answer

    def _unsigned(self, rule: Rule, answer: Answer) -> str:
        """Return why an image counts as unsigned, for a sentence about the image."""
        if answer.cause == OTHER_KEY:
            return "is signed, but by another key"
        if not rule.signed_by:
            return "needs a signature, and its rule names no key"
        live = tuple(key.name for key in self.policy.allow.signers(rule))
        if not live:
            return f"is not signed by a key that is live, and {listed(rule.signed_by)} expired"
        return f"is not signed by {listed(live)}" + (f"; {answer.cause}" if answer.cause else "")

    def _verified_on_mirror(self, judgement: Judgement, plan: Rewrite) -> Judgement:
        """Refuse an image that was not rewritten if ``on_missing`` or ``on_error`` of its mirror is ``deny``.

        ``on_missing`` applies if all targets lack the image. ``on_error`` applies if a target could not be
        queried and no other target has the image. Also refuse an image if it was not rewritten because a
        deny rule matches the digest that was found.
        """
        recalls, written = self.policy.denied_origins.deny.recalls, judgement.decision
        if recalls and (denied := self.new_image(judgement.slot, plan).denied) is not None:
            denied = replace(denied, image=written.image, reference=written.reference)
            return judgement._replace(decision=denied)
        manifests = tuple(map(_manifest, approved_candidates(self.policy, self.namespace, plan)))
        if not manifests:
            return judgement
        answer = self.facts.get(manifests).answer
        if answer.status == "missing" and plan.mirror.on_missing == "deny":
            return judgement._replace(decision=_absent(judgement.decision, manifests))
        if answer.status == "error" and plan.mirror.on_error == "deny":
            return judgement._replace(decision=_unverified(judgement.decision, answer))
        return judgement

    def new_image(self, slot: Slot, plan: Rewrite | None) -> NewImage:
        """Return what an image becomes in mutate mode. ``plan`` is the policy's rewrite, if a mirror applies.

        If a mirror keeps an image that no target has, the image is still pinned if its rule has ``pin``.
        """
        image: str = slot.value
        never = is_never_pulled(self.pod, slot)
        if plan is not None and plan.image is None and not plan.candidates:
            return NewImage(problem=plan.problem)
        if plan is not None and plan.mirror.verify:
            return NewImage() if never else self._on_mirror(image, plan)
        target = image if plan is None or plan.image is None else plan.image
        if target == image:
            return NewImage() if never else self._pinned(image, moved=False)
        return NewImage(target) if never else self._pinned(target)

    def _on_mirror(self, image: str, plan: Rewrite) -> NewImage:
        """Return what an image becomes in mutate mode if its mirror has ``verify``."""
        mirror, images = plan.mirror, approved_candidates(self.policy, self.namespace, plan)
        if not images:
            return self._pinned(image, moved=False)
        resolution = self.facts.get(tuple(map(_manifest, images)))
        answer, candidate, _ = resolution
        if answer.status == "found":
            return self._pinned(images[candidate], answer.digest, pin=mirror.pin)
        if resolution is NOT_LOOKED_UP and mirror.on_missing == "keep":
            # If no target has the image, the image's own rule can pin it. Request that look-up now, so that
            # all look-ups are known after the first decision.
            self._pinned(image, moved=False)
        missing = answer.status == "missing"
        choice = mirror.on_missing if missing else mirror.on_error
        if choice == "rewrite":
            return self._pinned(images[0])
        problem = "no mirror has it" if missing else f"no mirror could be queried: {answer.cause}"
        if choice == "deny":
            return NewImage(problem=problem)
        return self._pinned(image, moved=False)._replace(
            problem=problem, unverified="" if missing else answer.cause
        )

    def _pinned(self, image: str, found: str = "", *, pin: bool = False, moved: bool = True) -> NewImage:
        """Return the image with its digest, or unchanged if it must not or cannot be pinned.

        ``found`` is the digest that the look-up on a mirror found. If ``pin`` is true, add this digest.
        Otherwise, if the image's rule has ``pin``, look up the digest. If a signature is required, pin only a
        digest with a valid signature; otherwise, ``problem`` is the reason. ``moved`` is false for an image
        as written: if such an image stays unchanged, the result has the image ``None``.
        """
        decision = self.policy.decide(self.namespace, image)
        as_is = NewImage(image if moved else None)
        rule, manifest, reference = decision.rule, decision.manifest, decision.reference
        if not decision.approved or reference is None:
            return as_is
        if reference.digest is not None:
            problem = self._unvouched(decision, reference.digest) if moved else ""
            return NewImage(problem=problem) if problem else as_is
        digest = found if pin else ""
        if not digest and rule is not None and rule.pin and manifest is not None:
            answer = self.answer(manifest)
            digest = answer.digest
            found = digest or found
            if not digest and rule.signed_by:
                known = f": {answer.cause}" if answer.cause else f", as {manifest.host} does not have it"
                return NewImage(problem=f"its digest is not known{known}")
        denied = self._at_digest(decision, found)
        if denied is not None and not denied.approved:
            return NewImage(problem="its digest is denied", denied=denied)
        # A rule for a tag never matches a digest. If the policy would reject the pinned image, do not pin it.
        pinned = f"{image}@{digest}"
        if not digest or not (final := self.policy.decide(self.namespace, pinned)).approved:
            return as_is
        problem = self._unvouched(decision, digest) or self._unvouched(final, digest)
        return NewImage(problem=problem) if problem else NewImage(pinned)

    def _unvouched(self, decision: Decision, digest: str) -> str:
        """Return why an image with this digest lacks a required signature; empty if it does not."""
        rule, manifest = decision.rule, decision.manifest
        if rule is None or manifest is None or manifest.kind.found_approves:
            return ""
        answer = self.answer(manifest._replace(reference=digest))
        if answer.status == "error":
            return f"its signature could not be verified: {answer.cause}"
        return f"it {self._unsigned(rule, answer)}" if answer.status == "missing" else ""

    def look_ahead(self, image: str) -> None:
        """Request the look-ups for a container with this image, if the image must be signed."""
        rewrites = self.policy.mode(self.namespace).rewrites
        plan = self.policy.plan(self.namespace, image) if rewrites else None
        names: Iterable[str] = (image,)
        if plan is not None:
            names = filter(None, (image, plan.image, *plan.candidates))
        decisions = (self.policy.decide(self.namespace, name) for name in names)
        if not any(each.rule is not None and each.rule.signed_by for each in decisions):
            return
        slot = Slot((), CONTAINERS.noun, image)
        if rewrites:
            slot = slot._replace(value=self.new_image(slot, plan).image or image)
        self.verified(Judgement(slot, self.policy.decide(self.namespace, slot.value)))


def images_ahead(request: AdmissionRequest, policy: ActivePolicy) -> tuple[str, ...]:
    """Return the new images of a workload, if the policy requires signatures of some images.

    The webhook approves a workload by the names of its images. The review of the workload starts the look-ups
    of signatures in the background, so that its Pods find the answers. These look-ups need only the images,
    not the object, which may be large.
    """
    if not policy.allow.keys or (request.group, request.kind) == POD or exemption(request):
        return ()
    found = slots_to_judge(request, policy)[0]
    images = (slot.value for slot in found if not slot.problem and not is_never_pulled(request.object, slot))
    distinct = dict.fromkeys(image for image in images if len(image) <= MAX_IMAGE_LENGTH)
    return tuple(islice(distinct, MAX_LOOKED_AHEAD))


def lookups_ahead(
    images: Iterable[str], policy: ActivePolicy, namespace: str | None, facts: Facts
) -> tuple[Lookup, ...]:
    """Return the look-ups that Pods with these images will need for signatures, and that ``facts`` lack.

    The look-up of a signature needs a digest, which another look-up finds. So the caller calls this function
    again with the answers until it returns nothing.
    """
    pods = PodLookups(None, policy, namespace, facts)
    for image in images:
        pods.look_ahead(image)
    return tuple(dict.fromkeys(facts.missing))


def refusing_mirror(policy: ActivePolicy, namespace: str | None, image: str) -> Rewrite | None:
    """Return the rewrite of an image if its mirror has ``deny`` for images that it lacks or cannot look up.

    Such a mirror refuses even an image that an ``allow`` rule approves as written. If a deny rule may match a
    digest that a look-up finds, every mirror can refuse such an image: return its rewrite, too.
    """
    if not policy.mode(namespace).rewrites:
        return None
    plan = policy.plan(namespace, image)
    if plan is None or policy.denied_origins.deny.recalls:
        return plan
    return plan if "deny" in {plan.mirror.on_missing, plan.mirror.on_error} else None


def _absent(decision: Decision, manifests: tuple[Manifest, ...]) -> Decision:
    hosts = ", ".join(dict.fromkeys(manifest.host for manifest in manifests))
    return _rejected(decision, "absent", f"does not exist in {hosts} (absent)")


def _unverified(decision: Decision, answer: Answer) -> Decision:
    return _rejected(decision, "unverified", f"could not be verified: {answer.cause} (unverified)")


def _rejected(decision: Decision, reason: Reason, detail: str) -> Decision:
    # No exception changes this, so the messages must not mention any.
    return replace(decision, approved=False, reason=reason, detail=detail, ruling=None)


def _manifest(image: str) -> Manifest:
    """Return the manifest of an image whose name the policy approves. Such an image always parses."""
    reference = parse_reference(image)
    return manifest_of(reference, locate(reference))
