"""Decide about one image. No other module does (docs/policy.md, "How an image is judged").

The names of the image decide first. Then the answers of registries can refuse an image whose name is
approved, but they never approve an image whose name is rejected. In a mode that rewrites, a template is
judged by the images that its Pods will have. No function does I/O: callers pass the answers of registries in.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

from gatekeeper_py.core.admission.slot import Slot
from gatekeeper_py.core.admission.world import NOT_LOOKED_UP, World
from gatekeeper_py.core.exceptions.exceptions import Excepted
from gatekeeper_py.core.images.manifest import MISSING, OTHER_KEY, Answer, Lookup, Manifest, manifest_of
from gatekeeper_py.core.images.reference import InvalidReference, locate, parse_reference
from gatekeeper_py.core.policy.decision import Decision, Reason, denied_at
from gatekeeper_py.core.policy.document import Mode
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.core.policy.mirror import Rewrite
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.core.policy.problems import listed
from gatekeeper_py.core.policy.rules import Rule

Role = Literal["pod", "template"]
"""A template has the images of Pods that do not exist yet."""


class Subject(NamedTuple):
    """The context of an image."""

    namespace: str | None
    mode: Mode
    role: Role = "pod"


@dataclass(frozen=True, slots=True)
class Signature:
    """A valid signature: the name of the key that made it, and how the registry holds it.

    In a saved audit, ``form`` may be one that only a newer version knows.
    """

    key: str
    form: str

    def __str__(self) -> str:
        return f"signed by {self.key} ({self.form})"


class Verdict(NamedTuple):
    """One slot and the decision about it: the only record of a judged image. All reports are views of it.

    ``rewritten`` is the image after the rewrite, if that image was judged or patched in, and ``mirror`` the
    index of the mirror that replaced it. ``use`` is an approved image to use instead, if a mirror has one.
    ``problem`` is the reason why no mirror replaces the image, or why it gets no digest although its rule
    requires a signature. ``unverified`` is the reason why the image could not be verified, if it is kept in
    spite of that. ``signature`` is the valid signature that a rule with ``signedBy`` requires.
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

    @property
    def in_words(self) -> Literal["approved", "rejected"]:
        return "approved" if self.decision.approved else "rejected"

    @property
    def image(self) -> str:
        """The image before a rewrite; empty if the field is missing or not text."""
        return self.slot.value if isinstance(self.slot.value, str) else ""

    @property
    def canonical(self) -> str | None:
        """The whole name of the image before a rewrite; ``None`` if the image is invalid."""
        if self.decision.reason == "invalid":
            return None
        try:
            return parse_reference(self.image).canonical
        except InvalidReference:  # an earlier version saved the verdict
            return None

    def as_json(self, *names: str) -> dict[str, Any]:
        """Return the fields with these names, as all reports show them. Omit a missing exception."""
        fields: dict[str, Any] = {
            "path": self.slot.path,
            "image": self.slot.written,
            "canonical": self.canonical,
            "verdict": self.in_words,
            "reason": self.decision.reason,
            "detail": self.decision.detail,
            "rewritten": self.rewritten,
            "exception": exception_as_json(self.decision.exception),
            "signature": self.signature and asdict(self.signature),
        }
        return {name: fields[name] for name in names if name != "exception" or fields[name] is not None}


def exception_as_json(found: Excepted | None) -> dict[str, Any] | None:
    """Return an exception as all reports show it."""
    if found is None:
        return None
    names = ("source", "namespace", "index", "image", "until", "reason", "owner", "grant")
    also = {"also": [exception_as_json(each) for each in found.also]} if found.also else {}
    return {name: getattr(found, name) for name in names} | {"until": format_instant(found.until)} | also


class Judge(NamedTuple):
    """Judges the images of one subject by one policy in one world."""

    policy: CompiledPolicy
    subject: Subject
    world: World

    def verdict(self, slot: Slot) -> Verdict:
        """Judge the value of one slot."""
        if slot.problem:
            shown = slot.value if isinstance(slot.value, str) else ""
            decision = Decision(image=shown, approved=False, reason="invalid", detail=slot.problem)
            return Verdict(slot, decision)
        policy, (namespace, mode, role), _ = self
        decision = policy.decide(namespace, slot.value)
        verdict = Verdict(slot, decision)
        if decision.reason in {"denied", "invalid"}:  # no mirror rewrites these, and no registry is queried
            return verdict
        if role == "template" and mode.rewrites:
            new = self.rewrite(slot)
            if new is not None and new.rewritten is not None:
                decision = policy.decide(namespace, new.rewritten)
                verdict = Verdict(slot, decision, rewritten=new.rewritten, mirror=new.mirror)
        elif not decision.approved and (plan := policy.plan(namespace, slot.value)) is not None:
            verdict = Verdict(slot, decision, use=self._use(plan))
        return self._verified(verdict) if policy.looks_up and slot.pulled else verdict

    def rewrite(self, slot: Slot) -> Verdict | None:
        """Return what an image becomes in a mode that rewrites; ``None`` if it stays, without a problem.

        If a mirror keeps an image that no target has, the image is still pinned if its rule has ``pin``. If a
        look-up found a digest that a deny rule matches, the verdict has the decision on that digest.
        """
        if slot.problem:
            return None
        policy, subject, _ = self
        plan = policy.plan(subject.namespace, slot.value)
        if plan is None and not policy.looks_up:
            return None
        new = self._rewritten(slot, plan)
        return new if new.rewritten is not None or new.problem else None

    def _rewritten(self, slot: Slot, plan: Rewrite | None) -> Verdict:
        policy, image = self.policy, slot.value
        asks = policy.looks_up and slot.pulled
        stays = Verdict(slot, policy.decide(self.subject.namespace, image))
        if plan is not None and plan.image is None and not plan.candidates:
            return stays._replace(problem=plan.problem)
        if plan is not None and plan.mirror.verify:
            return self._on_mirror(stays, plan) if asks else stays
        if plan is None or plan.image is None or plan.image == image:
            return self._pinned(stays, image) if asks else stays
        if not asks:
            return Verdict(slot, stays.decision, rewritten=plan.image, mirror=plan.mirror.index)
        return self._pinned(stays._replace(mirror=plan.mirror.index), plan.image)

    def answer(self, manifest: Manifest) -> Answer:
        """Return the answer to the look-up that a rule requires.

        If a signature is required, look up the signature of the digest. For a tag, look up the digest first.
        """
        if manifest.kind.found_approves or not manifest.by_digest:
            return self.world.answer(Lookup((manifest.pulled,))).answer
        return self._signature(manifest)

    def _use(self, plan: Rewrite) -> str | None:
        """Return the first image on a mirror whose name is approved, to propose it."""
        if plan.candidates:
            return next(iter(self._candidates(plan)), None)
        return plan.image if plan.image is not None and self._approves(plan.image) else None

    def _approves(self, image: str) -> bool:
        return self.policy.decide(self.subject.namespace, image).approved

    def _candidates(self, plan: Rewrite) -> tuple[str, ...]:
        """Return the images on the targets of a mirror, without those whose names the policy rejects."""
        return tuple(filter(self._approves, plan.candidates))

    def _verified(self, verdict: Verdict) -> Verdict:
        """Refine the verdict with what registries hold.

        An approval can become a rejection (``absent``, ``unverified``, ``unpinned``, ``unsigned``,
        ``denied``). If the image stays approved in spite of an error, the field ``unverified`` of the verdict
        holds the cause. A rejected image stays rejected, but a look-up on its mirror can change the reason.
        """
        decision = verdict.decision
        plan = self._refusing_mirror(verdict.slot)
        if plan is not None:
            verdict = self._verified_on_mirror(verdict, plan)
        manifest = decision.manifest
        if manifest is None or decision.rule is None:
            return verdict
        if verdict.slot.running and not manifest.kind.found_approves and not manifest.by_digest:
            manifest = manifest._replace(reference=verdict.slot.running)
        # Request the rule's own look-up even if the mirror refuses the image, so that all look-ups are known
        # after the first decision.
        answer = self.answer(manifest)
        at_digest = self._at_digest(decision, manifest.reference if manifest.by_digest else answer.digest)
        if at_digest is not None and not at_digest.approved:
            return verdict._replace(decision=at_digest)
        if at_digest is not None and at_digest.manifest is not None and verdict.approved:
            # This grant overrides only ``deny``. An unsigned image needs one that overrides both.
            verdict = verdict._replace(decision=at_digest)
        verdict = self._answered(verdict, decision.rule, manifest, answer)
        if at_digest is not None and verdict.approved:
            verdict = verdict._replace(decision=at_digest)
        return verdict

    def _answered(self, verdict: Verdict, rule: Rule, manifest: Manifest, answer: Answer) -> Verdict:
        """Return the verdict after the answer of the registry, by the fields of the image's rule."""
        if verdict.approved and not manifest.kind.found_approves:
            return self._signed(verdict, rule, manifest, answer)
        if answer.status == "found" or not verdict.approved:
            return verdict
        if answer.status == "missing":
            return verdict._replace(decision=_absent(verdict.decision, (manifest,)))
        if rule.on_error == "deny":
            return verdict._replace(decision=_unverified(verdict.decision, answer))
        return verdict._replace(unverified=answer.cause)

    def _at_digest(self, decision: Decision, digest: str) -> Decision | None:
        """Return the decision on an image with a digest that was found; ``None`` if no deny rule matches it.

        An exception may still approve the image. The image needs the signature that its name needs as
        written, even if the rule is for a tag, which matches no digest.
        """
        namespace = self.subject.namespace
        denied = denied_at(self.policy.denied_origins, decision.reference, digest, namespace)
        if denied is None:
            return None
        excepted = self.policy.excepted(namespace, denied, decision.rule)
        return replace(excepted, reference=decision.reference)

    def _signed(self, verdict: Verdict, rule: Rule, manifest: Manifest, answer: Answer) -> Verdict:
        """Refuse an image whose digest no live key of its rule signed, unless an exception approves it."""
        decision = verdict.decision
        if not manifest.by_digest and manifest.keys and self._will_be_pinned(answer):
            answer = self._signature(manifest)
        elif not manifest.by_digest:
            # A signature is for a digest. Approving the tag would approve what the tag names tomorrow.
            known = f"add @{answer.digest}" if answer.digest else "it needs a digest"
            return self._unmet(verdict, _rejected(decision, "unpinned", f"is unpinned: {known}"))
        if answer.status == "found" and (name := self._signer(rule, answer.key)):
            return verdict._replace(signature=Signature(name, answer.form)) if answer.form else verdict
        if answer.status != "error":
            detail = f"{self._unsigned(rule, answer)} (unsigned)"
            return self._unmet(verdict, _rejected(decision, "unsigned", detail))
        if rule.on_error == "keep":
            return verdict._replace(unverified=answer.cause)
        return self._unmet(verdict, _unverified(decision, answer))

    def _unmet(self, verdict: Verdict, rejected: Decision) -> Verdict:
        """Reject an image without the required signature, unless an exception approves it."""
        if verdict.decision.reason == "allowed":
            # For an exception, ``with_exceptions`` already checked whether its grant overrides the signature.
            rejected = self.policy.excepted(self.subject.namespace, rejected)
        return verdict._replace(decision=rejected)

    def _will_be_pinned(self, answer: Answer) -> bool:
        """Return whether a digest will be written that is not known here."""
        return self.subject.mode.rewrites and answer.status == "found" and not answer.digest

    def _signature(self, manifest: Manifest) -> Answer:
        """Return the answer about the signature of a digest."""
        if not manifest.keys:
            return MISSING  # without a live key, nothing is signed
        answer = self.world.answer(Lookup((manifest.located,))).answer
        about_it = answer.key in manifest.keys and answer.digest == manifest.reference
        # Not an error: ``onError: keep`` would then approve an answer about another key or digest.
        return Answer("missing", cause=OTHER_KEY) if answer.status == "found" and not about_it else answer

    def _signer(self, rule: Rule, fingerprint: str) -> str:
        """Return the name of the rule's live key with a fingerprint; empty without one."""
        signers = self.policy.allow.signers(rule)
        return next((key.name for key in signers if key.fingerprint == fingerprint), "")

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

    def _refusing_mirror(self, slot: Slot) -> Rewrite | None:
        """Return the rewrite of a Pod's image if its mirror can refuse the image (``refusing_mirror``)."""
        namespace, mode, role = self.subject
        return refusing_mirror(self.policy, namespace, mode, slot.value) if role == "pod" else None

    def _verified_on_mirror(self, verdict: Verdict, plan: Rewrite) -> Verdict:
        """Refuse an image that was not rewritten if ``on_missing`` or ``on_error`` of its mirror is ``deny``.

        ``on_missing`` applies if all targets lack the image. ``on_error`` applies if a target could not be
        queried and no other target has the image. Also refuse an image if it was not rewritten because a
        deny rule matches the digest that was found.
        """
        written = verdict.decision
        if self.policy.deny.recalls:
            new = self.rewrite(verdict.slot)
            if new is not None and new.decision.reason == "denied":
                denied = replace(new.decision, image=written.image, reference=written.reference)
                return verdict._replace(decision=denied)
        manifests = tuple(map(_manifest, self._candidates(plan)))
        if not manifests:
            return verdict
        answer = self.world.answer(Lookup(manifests)).answer
        if answer.status == "missing" and plan.mirror.on_missing == "deny":
            return verdict._replace(decision=_absent(written, manifests))
        if answer.status == "error" and plan.mirror.on_error == "deny":
            return verdict._replace(decision=_unverified(written, answer))
        return verdict

    def _on_mirror(self, stays: Verdict, plan: Rewrite) -> Verdict:
        """Return what an image becomes in mutate mode if its mirror has ``verify``."""
        mirror, image, images = plan.mirror, stays.slot.value, self._candidates(plan)
        if not images:
            return self._pinned(stays, image)
        moved = stays._replace(mirror=mirror.index)
        resolution = self.world.answer(Lookup(tuple(map(_manifest, images))))
        answer, candidate, _ = resolution
        if answer.status == "found":
            return self._pinned(moved, images[candidate], answer.digest, pin=mirror.pin)
        if resolution is NOT_LOOKED_UP and mirror.on_missing == "keep":
            # If no target has the image, the image's own rule can pin it. Request that look-up now, so that
            # all look-ups are known after the first decision.
            self._pinned(stays, image)
        missing = answer.status == "missing"
        choice = mirror.on_missing if missing else mirror.on_error
        if choice == "rewrite":
            return self._pinned(moved, images[0])
        problem = "no mirror has it" if missing else f"no mirror could be queried: {answer.cause}"
        if choice == "deny":
            return stays._replace(problem=problem)
        return self._pinned(stays, image)._replace(
            problem=problem, unverified="" if missing else answer.cause
        )

    def _pinned(self, stays: Verdict, image: str, found: str = "", *, pin: bool = False) -> Verdict:
        """Return the image with its digest, or unchanged if it must not or cannot be pinned.

        ``image`` is the new name, or the image as written. ``found`` is the digest that the look-up on a
        mirror found. If ``pin`` is true, add this digest. Otherwise, if the image's rule has ``pin``, look up
        the digest. If a signature is required, pin only a digest with a valid signature; otherwise,
        ``problem`` is the reason.
        """
        namespace, moved = self.subject.namespace, image != stays.slot.value
        as_is = stays._replace(rewritten=image) if moved else stays
        decision = self.policy.decide(namespace, image)
        rule, manifest, reference = decision.rule, decision.manifest, decision.reference
        if not decision.approved or reference is None:
            return as_is
        if reference.digest is not None:
            problem = self._unvouched(decision, reference.digest) if moved else ""
            return stays._replace(problem=problem) if problem else as_is
        digest = found if pin else ""
        if not digest and rule is not None and rule.pin and manifest is not None:
            answer = self.answer(manifest)
            digest = answer.digest
            found = digest or found
            if not digest and rule.signed_by:
                known = f": {answer.cause}" if answer.cause else f", as {manifest.host} does not have it"
                # A world that assumes answers knows no digest, but whether it is signed.
                unsigned = self._unvouched(decision, "") if answer.status == "found" else ""
                if unsigned or answer.status != "found":
                    return stays._replace(problem=unsigned or f"its digest is not known{known}")
        denied = self._at_digest(decision, found)
        if denied is not None and not denied.approved:
            return stays._replace(problem="its digest is denied", decision=denied)
        # A rule for a tag never matches a digest. If the policy would reject the pinned image, do not pin it.
        pinned = f"{image}@{digest}"
        if not digest or not (final := self.policy.decide(namespace, pinned)).approved:
            return as_is
        problem = self._unvouched(decision, digest) or self._unvouched(final, digest)
        return stays._replace(problem=problem) if problem else stays._replace(rewritten=pinned)

    def _unvouched(self, decision: Decision, digest: str) -> str:
        """Return why an image with this digest lacks a required signature; empty if it does not."""
        rule, manifest = decision.rule, decision.manifest
        if rule is None or manifest is None or manifest.kind.found_approves:
            return ""
        answer = self._signature(manifest._replace(reference=digest))
        if answer.status == "error":
            return f"its signature could not be verified: {answer.cause}"
        return f"it {self._unsigned(rule, answer)}" if answer.status == "missing" else ""


def judge(policy: CompiledPolicy, subject: Subject, slot: Slot, world: World) -> Verdict:
    """Return what becomes of one image."""
    return Judge(policy, subject, world).verdict(slot)


def refusing_mirror(policy: CompiledPolicy, namespace: str | None, mode: Mode, image: str) -> Rewrite | None:
    """Return the rewrite of an image if its mirror has ``deny`` for images that it lacks or cannot look up.

    Such a mirror refuses even an image that an ``allow`` rule approves as written. If a deny rule may match a
    digest that a look-up finds, every mirror can refuse an image: return any rewrite.
    """
    if not mode.rewrites:
        return None
    plan = policy.plan(namespace, image)
    if plan is None or policy.deny.recalls:
        return plan
    return plan if "deny" in {plan.mirror.on_missing, plan.mirror.on_error} else None


def _absent(decision: Decision, manifests: tuple[Manifest, ...]) -> Decision:
    hosts = ", ".join(dict.fromkeys(manifest.host for manifest in manifests))
    return _rejected(decision, "absent", f"does not exist in {hosts} (absent)")


def _unverified(decision: Decision, answer: Answer) -> Decision:
    return _rejected(decision, "unverified", f"could not be verified: {answer.cause} (unverified)")


def _rejected(decision: Decision, reason: Reason, detail: str) -> Decision:
    # Drop the ruling on the names: ``_unmet`` looks for exceptions again.
    return replace(decision, approved=False, reason=reason, detail=detail, ruling=None)


def _manifest(image: str) -> Manifest:
    """Return the manifest of an image whose name the policy approves. Such an image always parses."""
    reference = parse_reference(image)
    return manifest_of(reference, locate(reference))
