"""Decide about one image. No other module does (docs/policy.md, "How an image is judged").

The names of the image decide first. Then an image with an approved name must meet each requirement that
matches it. Requirements and the answers of registries can refuse an image, but they never approve an image
whose name is rejected. In a mode that rewrites, a template is judged by the images that its Pods will have.
No function does I/O: callers pass the answers of registries in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final, Literal, NamedTuple

from gatekeeper_py.core.admission.slot import Slot
from gatekeeper_py.core.admission.world import NOT_LOOKED_UP, World
from gatekeeper_py.core.exceptions.exceptions import Excepted
from gatekeeper_py.core.images.image import parse_image
from gatekeeper_py.core.images.manifest import MISSING, OTHER_KEY, Answer, Lookup, Manifest, manifest_of
from gatekeeper_py.core.images.reference import InvalidReference, parse_reference
from gatekeeper_py.core.policy.decision import Decision, Reason, because, denied_at
from gatekeeper_py.core.policy.document import Mode
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.core.policy.mirror import Rewrite
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.core.policy.problems import listed
from gatekeeper_py.core.policy.requirements import Requirement

SOME_DIGEST: Final = f"sha256:{'0' * 64}"
"""Stands for a digest that is not known yet."""

UNPINNED: Final = "is unpinned: it needs a digest"
NEVER_PINNED: Final = "is unpinned: no rule approves it with a digest"

Role = Literal["pod", "template"]
"""A template has the images of Pods that do not exist yet."""


class Subject(NamedTuple):
    """The context of an image."""

    namespace: str | None
    mode: Mode
    role: Role = "pod"


class Signature(NamedTuple):
    """A valid signature: the name of the key that made it, and how the registry holds it.

    In a saved audit, ``form`` may be one that only a newer version knows.
    """

    by: str
    form: str

    def __str__(self) -> str:
        return f"signed by {self.by} ({self.form})"


Met = Literal["met", "unmet", "error"]


class Checked(NamedTuple):
    """One requirement that matches an image, and whether the image meets it.

    ``requirement`` is its index in the document. ``met`` is ``None`` if it is not known: no registry was
    queried, or the query failed and the requirement keeps such images; then ``reason`` is ``unverified``.
    ``detail`` says in words why the image does not meet the requirement or was not verified. ``warns`` is
    whether the requirement only causes a warning.
    """

    requirement: int
    met: bool | None
    reason: Reason | Literal[""] = ""
    detail: str = ""
    signature: Signature | None = None
    warns: bool = False

    @property
    def result(self) -> Met:
        """The result for metrics. A requirement without a look-up counts as met."""
        if self.reason == "unverified":
            return "error"
        return "unmet" if self.met is False else "met"

    @property
    def in_words(self) -> str:
        """Whether the image meets the requirement, for a person."""
        if self.met is None:
            state = f"unknown: {self.detail}" if self.reason else "not looked up"
        else:
            state = "met" if self.met else f"unmet{' (warning)' if self.warns else ''}: {self.detail}"
        return f"require[{self.requirement}] {state}" + (f", {self.signature}" if self.signature else "")

    def as_json(self) -> dict[str, Any]:
        signature = None
        if self.signature is not None:
            signature = {
                "by": self.signature.by,
                "form": self.signature.form,
                "subject": None,
                "issuer": None,
            }
        shown = {"index": self.requirement, "met": self.met, "reason": self.reason or None}
        return shown | {"detail": self.detail or None, "signature": signature, "warns": self.warns}


class Verdict(NamedTuple):
    """One slot and the decision about it: the only record of a judged image. All reports are views of it.

    ``rewritten`` is the image after the rewrite, if that image was judged or patched in, and ``mirror`` the
    index of the mirror that replaced it. ``use`` is an approved image to use instead, if a mirror has one.
    ``problem`` is the reason why no mirror replaces the image, or why it gets no digest although a
    requirement needs one. ``unverified`` is the reason why the image could not be verified, if it is kept
    in spite of that. ``requirements`` are those that match the image.
    """

    slot: Slot
    decision: Decision
    rewritten: str | None = None
    mirror: int | None = None
    use: str | None = None
    problem: str = ""
    unverified: str = ""
    requirements: tuple[Checked, ...] = ()

    @property
    def signatures(self) -> tuple[Signature, ...]:
        """The valid signatures that requirements need."""
        return tuple(each.signature for each in self.requirements if each.signature is not None)

    @property
    def warned(self) -> tuple[Checked, ...]:
        """The requirements that the image does not meet, and that only cause a warning."""
        return tuple(each for each in self.requirements if each.warns and each.met is False)

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
            "requirements": [each.as_json() for each in self.requirements],
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
            judged = [self._required(each) for each in self._in_pods(verdict)]
            return next((each for each in judged if each.approved), judged[0])
        if not decision.approved and (plan := policy.plan(namespace, slot.value)) is not None:
            verdict = Verdict(slot, decision, use=self._use(plan))
        if policy.looks_up and slot.pulled and (plan := self._refusing_mirror(slot)) is not None:
            verdict = self._verified_on_mirror(verdict, plan)
        return self._required(verdict) if verdict.decision.requirements else verdict

    def _in_pods(self, verdict: Verdict) -> list[Verdict]:
        """Return a verdict on each image that the Pods of a template may have: at least one."""
        namespace, slot = self.subject.namespace, verdict.slot
        plan = self.policy.plan(namespace, slot.value)
        if plan is None or (plan.mirror.verify and not slot.pulled):
            return [verdict]
        images = self._candidates(plan) if plan.mirror.verify else (plan.image,)
        moved = [
            Verdict(slot, self.policy.decide(namespace, image), rewritten=image, mirror=plan.mirror.index)
            for image in images
            if image is not None and image != slot.value
        ]
        return moved or [verdict]

    def rewrite(self, slot: Slot) -> Verdict | None:
        """Return what an image becomes in a mode that rewrites; ``None`` if it stays, without a problem.

        If a mirror keeps an image that no target has, the image is still pinned if a requirement needs it.
        If a look-up found a digest that a deny rule matches, the verdict has the decision on that digest.
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
        if plan is not None and plan.candidates:
            return self._on_mirror(stays, plan) if asks else stays
        if plan is None or plan.image is None or plan.image == image:
            stays = self._pinned(stays, image) if asks else stays
            return stays if plan is None or not plan.problem else stays._replace(problem=plan.problem)
        if not asks:
            return Verdict(slot, stays.decision, rewritten=plan.image, mirror=plan.mirror.index)
        return self._pinned(stays._replace(mirror=plan.mirror.index), plan.image)

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

    def _required(self, verdict: Verdict) -> Verdict:
        """Check all requirements of an image with an approved name; reject it if it does not meet one.

        All are checked even if the image is rejected anyway, so that all look-ups are known after the first
        decision. The first one in the document that is not met is the reason for the rejection.
        """
        slot, decision = verdict.slot, verdict.decision
        image = self._image(slot, decision) if decision.requirements else None
        if image is None:
            return verdict
        checked = tuple(self._checked(each, image) for each in decision.requirements)
        kept = next((each.detail for each in checked if each.met is None and each.reason), "")
        verdict = verdict._replace(requirements=checked, unverified=kept)
        at_digest = self._at_digest(decision, image.digest)
        if at_digest is not None and not at_digest.approved:
            return verdict._replace(decision=at_digest)
        if not verdict.approved:
            return verdict
        unmet = [each for each in checked if each.met is False and not each.warns]
        if unmet:
            first, *others = unmet
            why = because(self.policy.require.all[first.requirement])
            detail = f"{first.detail}{why}{others_unmet(len(others))}"
            rejected = _rejected(decision, first.reason or "unverified", detail)
            return verdict._replace(decision=self._excepted(rejected, image.digest if at_digest else ""))
        return verdict if at_digest is None else verdict._replace(decision=at_digest)

    def _excepted(self, rejected: Decision, denied: str) -> Decision:
        """Return the decision with exceptions. ``denied`` is the digest that was found, if it is denied.

        Then one grant must override both the deny rule and the requirement, and exceptions must match the
        image as written, too.
        """
        namespace, parsed = self.subject.namespace, rejected.parsed
        decision = self.policy.excepted(namespace, rejected)
        if not denied or parsed is None or not decision.approved:
            return decision
        at_digest = replace(rejected, parsed=parsed.pinned(denied))
        return replace(self.policy.excepted(namespace, at_digest), parsed=parsed)

    def _at_digest(self, decision: Decision, digest: str) -> Decision | None:
        """Return the decision on an image with a digest that was found; ``None`` if no deny rule matches it.

        An exception may still approve the image, which needs what its name needs as written.
        """
        namespace = self.subject.namespace
        denied = denied_at(self.policy.denied_origins, decision, digest, namespace)
        if denied is None:
            return None
        excepted = self.policy.excepted(namespace, denied)
        return replace(excepted, parsed=decision.parsed, requirements=decision.requirements)

    def _image(self, slot: Slot, decision: Decision) -> _Image | None:
        """Return what is known about an image that has requirements."""
        if decision.parsed is None:
            return None
        manifest = manifest_of(decision.parsed)
        mode, required = self.subject.mode, decision.requirements
        asks = slot.pulled and (
            any(each.exists and not each.signed_by for each in required)
            or (not manifest.by_digest and any(each.looks_up for each in required))
            or (not manifest.by_digest and mode.rewrites and self._may_pin(manifest, required))
        )
        answer = self.world.answer(Lookup((manifest,))).answer if asks else None
        digest = manifest.reference if manifest.by_digest else slot.running
        digest = digest or (answer.digest if answer is not None else "")
        return _Image(decision.image, manifest, answer, digest, slot.pulled, bool(slot.running))

    def _may_pin(self, manifest: Manifest, required: Iterable[Requirement]) -> bool:
        """Return whether the mutating webhook may look up a digest that a requirement needs."""
        return any(each.digest for each in required) and manifest.host in self.policy.looked_up_hosts

    def _checked(self, requirement: Requirement, image: _Image) -> Checked:
        """Return whether an image meets one requirement."""
        _, manifest, answer, digest, pulled, runs = image
        vouched = bool(requirement.signed_by)
        met: bool | None = True
        if requirement.digest and not manifest.by_digest and not (vouched and runs):
            if not (pulled and self.subject.mode.rewrites):
                return _unmet(requirement, "unpinned", self._unpinned(image))
            problem = self._unpinnable(requirement, image)
            if problem is not None:
                return problem
            met = None
        if not pulled:
            met = None if requirement.looks_up else met
            return Checked(requirement.index, met, warns=requirement.warns)
        if vouched:
            return self._signed(
                requirement, manifest if manifest.by_digest else manifest._replace(reference=digest)
            )
        if not requirement.exists or answer is None or answer.status == "found":
            unknown = requirement.exists and answer is not None and not answer.digest
            return Checked(requirement.index, None if unknown else met, warns=requirement.warns)
        if answer.status == "missing":
            return _unmet(requirement, "absent", _absent((manifest,)))
        return _failed(requirement, answer)

    def _unpinnable(self, requirement: Requirement, image: _Image) -> Checked | None:
        """Return why a Pod's image has no digest in a mode that rewrites; ``None`` if it will have one.

        It will have one if a caller that queries no registry judges it before the mutating webhook writes it.
        """
        name, manifest, answer, _, _, _ = image
        if answer is None:
            detail = f"{UNPINNED}, and {manifest.host} is not listed under registries"
            return _unmet(requirement, "unpinned", detail)
        if answer.status == "found" and not answer.digest:
            will_be = self._approves(f"{name}@{SOME_DIGEST}")
            return None if will_be else _unmet(requirement, "unpinned", NEVER_PINNED)
        if answer.status == "error" and not requirement.signed_by:
            return _failed(requirement, answer)
        if answer.status == "missing" and requirement.exists:
            return _unmet(requirement, "absent", _absent((manifest,)))
        return _unmet(requirement, "unpinned", self._unpinned(image))

    def _unpinned(self, image: _Image) -> str:
        """Return that an image needs a digest, and which one if the policy approves the image with it."""
        if not image.digest:
            return UNPINNED
        approved = self._approves(f"{image.name}@{image.digest}")
        return f"is unpinned: add @{image.digest}" if approved else NEVER_PINNED

    def _signed(self, requirement: Requirement, manifest: Manifest) -> Checked:
        """Return whether a live key of the requirement signed the digest of an image."""
        answer = self._signature(requirement, manifest)
        name = self._signer(requirement, answer.key) if answer.status == "found" else ""
        if name:
            signature = Signature(name, answer.form) if answer.form else None
            return Checked(
                requirement.index, signature and True, signature=signature, warns=requirement.warns
            )
        if answer.status == "error":
            return _failed(requirement, answer)
        return _unmet(requirement, "unsigned", f"{self._unsigned(requirement, answer)} (unsigned)")

    def _signature(self, requirement: Requirement, manifest: Manifest) -> Answer:
        """Return the answer about the signature of a digest."""
        wanted = self.policy.require.signature(requirement, manifest)
        if not wanted.keys:
            return MISSING  # without a live key, nothing is signed
        answer = self.world.answer(Lookup((wanted.located,))).answer
        about_it = answer.key in wanted.keys and answer.digest == wanted.reference
        # Not an error: ``onError: keep`` would then approve an answer about another key or digest.
        return Answer("missing", cause=OTHER_KEY) if answer.status == "found" and not about_it else answer

    def _signer(self, requirement: Requirement, fingerprint: str) -> str:
        """Return the name of the requirement's live key with a fingerprint; empty without one."""
        signers = self.policy.require.signers(requirement)
        return next((key.name for key in signers if key.fingerprint == fingerprint), "")

    def _unsigned(self, requirement: Requirement, answer: Answer) -> str:
        """Return why an image counts as unsigned, for a sentence about the image."""
        live = tuple(key.name for key in self.policy.require.signers(requirement))
        if not live:
            return f"is not signed by an unexpired key: {listed(requirement.signed_by)} expired"
        if answer.cause == OTHER_KEY:
            expired = tuple(name for name in requirement.signed_by if name not in live)
            return "is signed, but by another key" + (f"; {listed(expired)} expired" if expired else "")
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
                denied = replace(
                    new.decision,
                    image=written.image,
                    parsed=written.parsed,
                    requirements=written.requirements,
                )
                return verdict._replace(decision=denied)
        manifests = tuple(map(_manifest, self._candidates(plan)))
        if not manifests:
            return verdict
        answer = self.world.answer(Lookup(manifests)).answer
        if answer.status == "missing" and plan.mirror.on_missing == "deny":
            return verdict._replace(decision=_rejected(written, "absent", _absent(manifests)))
        if answer.status == "error" and plan.mirror.on_error == "deny":
            return verdict._replace(decision=_rejected(written, "unverified", _unverified(answer)))
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
        """Return the image with its digest, or without if it must not or cannot be pinned.

        ``image`` is the new name, or the image as written. ``found`` is the digest that the look-up on a
        mirror found. If ``pin`` is true, add this digest. Otherwise, look the digest up if a requirement
        needs one. Pin only a digest that has all required signatures; otherwise, ``problem`` is the reason.
        """
        namespace, moved = self.subject.namespace, image != stays.slot.value
        as_is = stays._replace(rewritten=image) if moved else stays
        decision = self.policy.decide(namespace, image)
        parsed = decision.parsed
        if not decision.approved or parsed is None or parsed.digest is not None:
            return as_is
        manifest = manifest_of(parsed)
        digest = found if pin else ""
        if not digest and self._may_pin(manifest, decision.requirements):
            answer = self.world.answer(Lookup((manifest,))).answer
            digest = answer.digest
            found = digest or found
            if answer.status != "found" and any(
                each.digest and not each.warns for each in decision.requirements
            ):
                cause = answer.cause or f"{manifest.host} does not have it"
                as_is = as_is._replace(problem=f"its digest is unknown: {cause}")
        denied = self._at_digest(decision, found)
        if denied is not None and not denied.approved:
            return stays._replace(problem="its digest is denied", decision=denied)
        # A rule for a tag never matches a digest. If the policy would reject the pinned image, do not pin it.
        pinned = f"{image}@{digest}"
        if not digest or not (final := self.policy.decide(namespace, pinned)).approved:
            return as_is
        required = dict.fromkeys((*decision.requirements, *final.requirements))
        problem = next(filter(None, (self._unvouched(each, manifest, digest) for each in required)), "")
        return as_is._replace(problem=problem) if problem else stays._replace(rewritten=pinned)

    def _unvouched(self, requirement: Requirement, manifest: Manifest, digest: str) -> str:
        """Return why a digest lacks the signature that a requirement needs; empty if it does not."""
        if not requirement.signed_by:
            return ""
        checked = self._signed(requirement, manifest._replace(reference=digest))
        return f"it {checked.detail}" if checked.met is False and not checked.warns else ""


class _Image(NamedTuple):
    """What is known about an image that has requirements.

    ``name`` is the image to pull, after a rewrite. ``answer`` is the one about ``manifest``, or ``None`` if
    no look-up is needed or allowed. ``digest`` is that of the name, of the running image or of the answer;
    empty if none of them is known. ``pulled`` is as in ``Slot``, and ``runs`` is whether the digest is that
    of the running image.
    """

    name: str
    manifest: Manifest
    answer: Answer | None
    digest: str
    pulled: bool
    runs: bool


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


def others_unmet(count: int) -> str:
    """Return the end of a sentence about an unmet requirement, with the number of the others."""
    return f"; {count} more unmet requirement{'s' if count > 1 else ''}" if count else ""


def _unmet(requirement: Requirement, reason: Reason, detail: str) -> Checked:
    return Checked(requirement.index, met=False, reason=reason, detail=detail, warns=requirement.warns)


def _failed(requirement: Requirement, answer: Answer) -> Checked:
    """Return what a requirement makes of an error: it keeps the image, refuses it, or warns."""
    if requirement.warns or requirement.on_error == "deny":
        return _unmet(requirement, "unverified", _unverified(answer))
    return Checked(requirement.index, None, "unverified", answer.cause)


def _absent(manifests: Iterable[Manifest]) -> str:
    hosts = ", ".join(dict.fromkeys(manifest.host for manifest in manifests))
    return f"does not exist in {hosts} (absent)"


def _unverified(answer: Answer) -> str:
    return f"could not be verified: {answer.cause} (unverified)"


def _rejected(decision: Decision, reason: Reason, detail: str) -> Decision:
    # Drop the ruling on the names: exceptions are looked for again.
    return replace(decision, approved=False, reason=reason, detail=detail, ruling=None)


def _manifest(image: str) -> Manifest:
    """Return the manifest of an image whose name the policy approves. Such an image always parses."""
    return manifest_of(parse_image(image))
