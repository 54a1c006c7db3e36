"""Explain a decision: the parsed image, the rule that decided, and the nearest other rules."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from gatekeeper_py.core.admission.fields import CONTAINERS
from gatekeeper_py.core.admission.judge import Judge, Subject, Verdict
from gatekeeper_py.core.admission.slot import Slot
from gatekeeper_py.core.admission.world import BY_NAME, World
from gatekeeper_py.core.images.image import Image
from gatekeeper_py.core.images.reference import Location
from gatekeeper_py.core.policy.decision import Decision
from gatekeeper_py.core.policy.document import Mode
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.core.policy.keys import Key
from gatekeeper_py.core.policy.mirror import Rewrite
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.core.policy.rules import Rule

MAX_NEAREST: Final = 3
Effect = Literal["admitted", "warned", "refused"]

_STAGES: Final = ("host", "path", "tag", "digest", "namespace", "until")


@dataclass(frozen=True, slots=True, kw_only=True)
class NearMiss:
    """A rule that did not match, and the reason in words."""

    rule: Rule
    missed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything about one image in one namespace.

    ``verdict`` is that on a Pod with the image, and ``new`` what mutate mode would make of the image, with
    the decision on the rewritten image. ``matched_as`` is the folded name that patterns are compared with, or
    ``None`` if the image is invalid. ``effect`` is what happens in ``mode`` to a Pod with this image alone.
    """

    namespace: str | None
    verdict: Verdict
    matched_as: str | None
    origins: tuple[str, ...]
    new: Verdict | None
    rewrite_problem: str
    nearest: tuple[NearMiss, ...]
    mode: Mode
    effect: Effect

    @property
    def rewritten(self) -> str | None:
        """The image after mutate mode, or ``None`` if the image would stay as written."""
        return None if self.new is None else self.new.rewritten


def explain(policy: CompiledPolicy, namespace: str | None, image: str, world: World = BY_NAME) -> Explanation:
    """Explain what the webhook does with a Pod that has the image. Accepts any text."""
    mode = policy.mode(namespace)
    judge = Judge(policy, Subject(namespace, mode), world)
    slot = Slot((), CONTAINERS.noun, image)
    written, decision, new = judge.verdict(slot), policy.decide(namespace, image), judge.rewrite(slot)
    final = written
    if new is not None and new.rewritten is not None:
        new = new._replace(decision=policy.decide(namespace, new.rewritten))
        if mode.rewrites:  # then the webhook judges the image that it wrote
            final = judge.verdict(slot._replace(value=new.rewritten))
        if written.decision.reason == "unpinned" and final.approved:
            written = final._replace(slot=slot, decision=decision)
    plan = policy.plan(namespace, image)
    parsed = decision.parsed
    nearest: tuple[NearMiss, ...] = ()
    if parsed is not None:
        # An exception must match the name that its rule matched: the image, or its original.
        named = parsed if decision.origin is None else parsed.at(_location(decision.origin))
        nearest = _nearest(_missed(policy, decision), namespace, named)
    return Explanation(
        namespace=namespace,
        verdict=written,
        matched_as=None if parsed is None else parsed.name,
        origins=() if parsed is None else tuple(o.name for o in policy.mirrors.origins(parsed.location)),
        new=new,
        rewrite_problem=(new.problem if new is not None else "") or _excepted(plan),
        nearest=nearest,
        mode=mode,
        effect=_effect(final, mode),
    )


def _effect(verdict: Verdict, mode: Mode) -> Effect:
    """Return what happens to a Pod whose only image has this verdict."""
    if not verdict.approved:
        return "refused" if mode.refuses else "warned"
    return "warned" if verdict.warned else "admitted"


def _excepted(plan: Rewrite | None) -> str:
    """Return which mirror leaves an image as written because its ``except`` matches, empty if none does."""
    is_excepted = plan is not None and plan.image is None and not plan.problem and not plan.candidates
    return f"the except of mirrors[{plan.mirror.index}] matches it" if plan and is_excepted else ""


def _missed(policy: CompiledPolicy, decision: Decision) -> tuple[Rule, ...]:
    """Return the rules of which one could have approved a rejected image."""
    if decision.reason == "unlisted":
        return policy.policy.allow
    return decision.rule.excepts if decision.reason == "denied" and decision.rule is not None else ()


def _location(name: str) -> Location:
    host, *segments = name.split("/")
    return Location(host, tuple(segments))


def _nearest(rules: tuple[Rule, ...], namespace: str | None, image: Image) -> tuple[NearMiss, ...]:
    """Return the nearest rules: those that failed at the latest check, the most similar ones first."""
    scored: list[tuple[int, float, int, NearMiss]] = []
    stages = {id(rule): _stage(rule, namespace, image) for rule in rules}
    # Computing the similarity is expensive, so only the rules that failed at the latest checks are compared.
    furthest = min(sorted(stages.values(), reverse=True)[:MAX_NEAREST], default=0)
    for rule in rules:
        stage = stages[id(rule)]
        if stage < furthest:
            continue
        likeness = _likeness(rule, image.name)
        missed = _in_words(rule, _STAGES[stage], namespace, image)
        scored.append((-stage, -likeness, rule.index, NearMiss(rule=rule, missed=missed)))
    return tuple(miss for *_, miss in sorted(scored, key=lambda entry: entry[:3])[:MAX_NEAREST])


def _stage(rule: Rule, namespace: str | None, image: Image) -> int:
    missed = rule.pattern.missed(image)
    if missed is not None:
        return _STAGES.index(missed)
    return _STAGES.index("until" if rule.applies_to(namespace) else "namespace")


def _likeness(rule: Rule, name: str) -> float:
    wanted = "/".join((rule.pattern.host, *rule.pattern.segments))
    return difflib.SequenceMatcher(None, wanted, name, autojunk=False).quick_ratio()


def _in_words(rule: Rule, stage: str, namespace: str | None, image: Image) -> str:
    pattern, location = rule.pattern, image.location
    if stage == "host":
        return f"the registry is {location.host}, the rule requires {pattern.host}"
    if stage == "path":
        have = "/".join(location.segments)
        want = "/".join((*pattern.segments, "**") if pattern.subtree else pattern.segments)
        hint = ""
        if not pattern.subtree and location.segments[: len(pattern.segments)] == pattern.segments:
            below = "/".join((pattern.host, *pattern.segments, "**"))
            hint = f"; {below}{pattern.qualifier or ''} would match all below it"
        return f"the repository is {have}, the rule requires {want}{hint}"
    if stage == "tag":
        shown = image.tag if image.tag is not None else "none, as runtimes ignore it beside a digest"
        return f"the tag is {shown}, the rule requires {pattern.tag}"
    if stage == "digest":
        if image.digest is None:
            return "the image is not pinned by a digest"
        return f"the digest is {image.digest}, the rule requires {pattern.digest}"
    if stage == "namespace":
        here = namespace if namespace is not None else "none"
        return f"the namespace is {here}, the rule is for {', '.join(rule.namespaces or ())}"
    return f"the rule expired at {format_instant(rule.until) if rule.until else None}"


def rule_as_json(rule: Rule | None) -> dict[str, object] | None:
    """Return a rule as ``explain --format json`` shows it."""
    if rule is None:
        return None
    shown: dict[str, object] = {"list": rule.list, "index": rule.index, "image": rule.pattern.text}
    if rule.namespaces is not None:
        shown["namespaces"] = list(rule.namespaces)
    if rule.until is not None:
        shown["until"] = format_instant(rule.until)
    fields = {
        "owner": rule.owner,
        "reason": rule.reason,
    }
    shown |= {name: value for name, value in fields.items() if value is not None}
    if rule.excepts:
        shown["except"] = [rule_as_json(each) for each in rule.excepts]
    return shown


def key_as_json(key: Key) -> dict[str, object]:
    """Return a key by its fingerprint, as ``check --format json`` and ``diff --format json`` show it."""
    shown: dict[str, object] = {"name": key.name, "kind": key.kind, "fingerprint": key.fingerprint}
    return shown if key.until is None else {**shown, "until": format_instant(key.until)}


def nearest_as_json(nearest: Iterable[NearMiss]) -> list[dict[str, object]]:
    return [{"rule": rule_as_json(miss.rule), "missed": miss.missed} for miss in nearest]
