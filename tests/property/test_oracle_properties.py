"""The judge agrees with a second implementation of the language (``naive``) on random policies and worlds."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any, Final

import pytest

from gatekeeper_py.core.admission import BY_NAME, Answers, Judge, Subject
from gatekeeper_py.core.admission.judge import Verdict
from gatekeeper_py.core.admission.slot import Slot
from gatekeeper_py.core.images.manifest import (
    EXISTENCE,
    MISSING,
    OTHER_KEY,
    Answer,
    Lookup,
    Manifest,
    Resolution,
    failed,
    found,
    resolve,
)
from gatekeeper_py.core.policy.document import PolicyError
from gatekeeper_py.core.policy.policy import CompiledPolicy, parse_policy
from support import naive
from support.budget import budget
from support.builders import INSTANT, PUBLIC_KEYS, exceptions_of, policy_document

DIGESTS: Final = tuple(f"sha256:{letter * 64}" for letter in "ab")
ABSENT: Final = f"sha256:{'c' * 64}"
IMAGES: Final = (
    "nginx", "nginx:1", f"nginx@{DIGESTS[0]}", f"nginx:1@{DIGESTS[1]}", f"nginx@{ABSENT}",
    "index.docker.io/a/b:2", "docker.io/a/b", "r.io/hub/library/nginx", "r.io/hub/library/nginx:1",
    f"r.io/hub/library/nginx@{DIGESTS[0]}", f"r.io/hub/library/nginx:1@{DIGESTS[1]}", "r.io/hub/a/b:2",
    "dr.io/hub/library/nginx", f"dr.io/hub/a/b@{DIGESTS[0]}", "r.io/x", "r.io/x:1", f"r.io/x@{DIGESTS[0]}",
    f"r.io/x:1@{DIGESTS[1]}", "r.io:443/x:1", "q.io/a/b", "q.io/a", "dr.io/qa/b:1", "r.io/q/a/b", "REG/x",
    "a//b", "localhost:5000/x", f"localhost:5000/x:1@{DIGESTS[1]}",
)  # fmt: skip
WIDE: Final = ("*.io", "*.io", "r.io", "docker.io", "*.io@*", "*.io/**:1")
LITERAL: Final = (
    "r.io", "docker.io", "dr.io", "q.io", "r.io/hub/**", "r.io/x", "r.io/x:1", "docker.io/nginx",
    "docker.io/*", "docker.io/library/nginx:*", "docker.io/a/b", "r.io/**:1", "r.io@*", "r.io/x@*",
    "q.io/a/*",
    f"r.io/**@{DIGESTS[0]}", f"docker.io/**@{DIGESTS[1]}", "r.io/hub/library/nginx",
    "localhost:5000/x",
)  # fmt: skip
PATTERNS: Final = (*WIDE, *LITERAL)
EXCEPTED: Final = (*WIDE[:1] * len(PATTERNS), *PATTERNS)
"""An entry and a grant must share an image, so both are often for all of them."""
ANYWHERE: Final = (*LITERAL, "*/**:latest", "*/**:1", f"*/**@{DIGESTS[0]}", "*/*/*/*@*")
MIRRORS: Final = (
    ("docker.io", "r.io/hub"),
    ("docker.io", ["r.io/hub", "dr.io/hub"]),
    ("docker.io/library/nginx", ["dr.io/nginx", "r.io/hub/library/nginx"]),
    ("docker.io/library/nginx", ["reg.io", "r.io/hub/library/nginx"]),
    ("q.io/a", "dr.io/qa"),
    ("q.io", "r.io/q"),
    ("localhost:5000", ["dr.io", "r.io"]),
)
CONDITIONS: Final[tuple[dict[str, Any], ...]] = (
    {"digest": True},
    {"exists": True},
    {"digest": True, "exists": True},
    {"signedBy": ["ci-2025"]},
    {"signedBy": ["ci-2025", "ci-2026"]},
    {"signedBy": ["ci-2026"], "exists": True, "digest": False},
    {"signedBy": ["ci-2026"], "signatures": "sig.io/signatures"},
)
GRANTS: Final[tuple[dict[str, Any], ...]] = (
    {"source": "namespace"},
    {"source": "installation"},
    {"source": "break-glass", "overrides": ["deny"]},
    {"source": "break-glass", "overrides": ["require"]},
    {"source": "break-glass", "overrides": ["deny", "require"]},
)
NAMES: Final = (["*"], ["shop"], ["s*", "x"], ["other"])
UNTIL: Final = (
    "2026-02-01T00:00:00Z", "2026-03-05T00:00:00Z", "2026-03-05T00:00:00Z", "2026-03-01T12:00:00Z",
    "2026-03-01T14:00:00+01:00",
)  # fmt: skip
"""Instants before, at and after ``INSTANT``, which is 12:00 UTC on 1 March 2026."""
MODES: Final = ("mutate", "mutate", "enforce", "warn")
OUTCOMES: Final = ("keep", "deny", "rewrite")


class Draw(Random):
    """Draws parts of policies and questions."""

    def happens(self, chance: float = 0.3) -> bool:
        return self.random() < chance

    def some(self, values: Any, least: int, most: int) -> list[Any]:
        return [self.choice(values) for _ in range(self.randint(least, most))]

    def optional(self, **fields: Any) -> dict[str, Any]:
        """Return a few of these fields, each with one of its values."""
        return {name: self.choice(values) for name, values in fields.items() if self.happens()}

    def rule(self, patterns: tuple[str, ...]) -> Any:
        fields = {"image": self.choice(patterns), **self.optional(namespaces=NAMES, until=UNTIL)}
        return fields if len(fields) > 1 else fields["image"]

    def restricting(self) -> dict[str, Any]:
        """Return the fields ``except`` and ``namespaces`` of a deny rule or a requirement, or none."""
        excepts = [self.rule(ANYWHERE) for _ in range(self.randint(1, 2))]
        return self.optional(namespaces=NAMES, **{"except": [excepts]})

    def requirement(self) -> dict[str, Any]:
        condition = self.choice(CONDITIONS)
        anywhere = condition == CONDITIONS[0] and self.happens(0.5)
        return {
            "images": ["*/**"] if anywhere else self.some((*LITERAL[:4], *LITERAL), 1, 2),
            **condition,
            **self.restricting(),
            **self.optional(onError=["keep", "deny"], mode=["warn"]),
        }

    def mirror(self, ends: tuple[str, Any]) -> dict[str, Any]:
        verifying: dict[str, Any] = {}
        if self.happens(0.7):
            verifying = {self.choice(["verify", "pin"]): True}
            verifying |= self.optional(onMissing=OUTCOMES, onError=OUTCOMES)
        excepts = [self.some(ANYWHERE, 1, 1)]
        return {"from": ends[0], "to": ends[1], **verifying, **self.optional(**{"except": excepts})}

    def mirrors(self) -> list[dict[str, Any]]:
        ends = self.some(MIRRORS, 0, 2)
        return [self.mirror(each) for each in {source: (source, to) for source, to in ends}.values()]

    def grant(self) -> dict[str, Any]:
        more = self.optional(namespaces=NAMES, most=[1, 2])
        head = {"images": self.some(EXCEPTED, 1, 2), "longest": self.choice(["1d", "14d", "14d"])}
        return {**self.choice(GRANTS), **head, **more}

    def document(self) -> dict[str, Any]:
        allow = self.some(WIDE, 1, 2) + [self.rule(PATTERNS) for _ in range(self.randint(0, 2))]
        deny = [
            {"image": self.choice(ANYWHERE), **self.restricting()} for _ in range(self.choice([0, 0, 1, 2]))
        ]
        overrides = [{"names": self.choice(NAMES), "mode": self.choice(MODES), **self.optional(until=UNTIL)}]
        ended = self.optional(until=UNTIL)
        lists = {
            "require": [self.requirement() for _ in range(self.randint(0, 3))],
            "exceptions": [self.grant() for _ in range(self.choice([0, 2, 4]))],
            "registries": [{"host": host} for host in ("docker.io", "q.io") if self.happens()],
            "namespaces": overrides if self.happens() else [],
            "keys": [
                {"name": name, "key": key, **(ended if name == "ci-2026" else {})}
                for name, key in PUBLIC_KEYS.items()
            ],
        }
        written = {name: entries for name, entries in lists.items() if entries}
        return policy_document(allow, deny, self.mirrors(), mode=self.choice(MODES), **written)

    def entry(self, **more: Any) -> dict[str, Any]:
        head = {"image": self.choice(EXCEPTED), "until": self.choice((*UNTIL, *UNTIL[1:3])), "reason": "r"}
        return {**head, **self.optional(**more)}

    def exceptions(self) -> naive.Documents:
        more: dict[tuple[str, str], dict[str, Any]] = {
            ("namespace", "shop"): {},
            ("installation", "gatekeeper"): {"namespaces": NAMES},
            ("break-glass", "gatekeeper"): {"namespaces": NAMES},
        }
        return {
            key: [self.entry(**fields) for _ in range(self.randint(1, 3))]
            for key, fields in more.items()
            if self.happens(0.7)
        }


class Registries:
    """What registries hold. Each seed is another world."""

    def __init__(self, seed: int, trouble: float) -> None:
        self.seed = seed
        self.trouble = trouble

    def exists(self, image: str) -> Any:
        """Return the digest of an image, ``None`` if it is missing, or ``Error``."""
        draw = Draw(f"{self.seed} {image}")
        if draw.happens(self.trouble):
            return naive.Error
        if draw.happens(self.trouble) or ABSENT in image:
            return None
        return image.partition("@")[2] or draw.choice(DIGESTS)

    def signers(self, repository: str, digest: str) -> Any:
        """Return the names of the keys that signed a digest, or ``Error``."""
        draw = Draw(f"{self.seed} {repository} {digest}")
        if draw.happens(self.trouble):
            return naive.Error
        return [name for name in (*PUBLIC_KEYS, "stranger") if draw.happens(0.6)]

    def for_oracle(self, lookup: naive.LookUp) -> Any:
        name, _, digest = lookup.image.partition("@")
        exists = lookup.kind == "exists"
        answer = self.exists(lookup.image) if exists else self.signers(lookup.signatures or name, digest)
        if answer is naive.Error:
            raise naive.Error
        return answer

    def for_judge(self, policy: CompiledPolicy) -> Answers:
        prints = {key.name: key.fingerprint for key in policy.policy.document.keys}

        def answer(manifest: Manifest) -> Answer:
            exists = manifest.kind is EXISTENCE
            held = self.exists(str(manifest)) if exists else self.signers(manifest.name, manifest.reference)
            if held is naive.Error:
                return failed("down")
            if exists:
                return found(held) if held else MISSING
            key = next((prints[name] for name in held if prints.get(name) in manifest.keys), "")
            if not key:
                return Answer("missing", cause=OTHER_KEY if held else "")
            return Answer("found", manifest.reference, key=key, form="bundle")

        def resolved(lookup: Lookup) -> Resolution:
            return resolve(tuple(map(answer, lookup.candidates)))

        return Answers(resolved)


def too_many(world: Any, lookups: frozenset[naive.LookUp]) -> str:
    """Return which look-ups the judge made though nobody may ask, empty without one."""
    allowed = set()
    for each in lookups:
        name, _, digest = each.image.partition("@")
        allowed.add((each.kind, f"{each.signatures or name}@{digest}" if digest else each.image))
    made = {
        ("exists" if each.kind is EXISTENCE else "signed", str(each))
        for lookup in getattr(world, "used", ())
        for each in lookup.candidates
    }
    return f"lookups: {made - allowed}" if made - allowed else ""


def question_of(draw: Draw, document: Any, exceptions: Any) -> tuple[naive.Question, Registries | None]:
    """Return a question about a policy, with registries that answer or none."""
    registries = Registries(draw.getrandbits(32), draw.choice([0, 0.1, 0.4])) if draw.happens(0.8) else None
    question = naive.Question(
        document,
        draw.choice(IMAGES),
        INSTANT,
        draw.choice(["shop", "shop", "other", None]),
        documents=exceptions,
        pulled=draw.happens(0.9),
        template=draw.happens(0.2),
        world=None if registries is None else registries.for_oracle,
    )
    return question, registries


def compared(
    policy: CompiledPolicy, question: naive.Question, registries: Registries | None
) -> tuple[str, str]:
    """Judge and rewrite an image. Return the reason of the verdict, and a difference, empty without one."""
    mode = policy.mode(question.namespace)
    judge = Judge(
        policy,
        Subject(question.namespace, mode, "template" if question.template else "pod"),
        BY_NAME if registries is None or question.template else registries.for_judge(policy),
    )
    slot = Slot((), "image", question.image, pulled=question.pulled)
    verdict, expected = judge.verdict(slot), naive.validate(question)
    plan = policy.plan(question.namespace, question.image)
    on_mirror = () if plan is None else (plan.image, *plan.candidates)
    if expected.reason == "denied" and any(
        each and policy.decide(question.namespace, each).exception for each in on_mirror
    ):
        return expected.reason, ""  # a denied digest of an excepted name on a mirror: not compared
    difference = unequal(verdict, expected) or too_many(judge.world, expected.lookups)
    if difference or question.template or not mode.rewrites:
        return expected.reason, difference
    if registries is None and question.pulled and plan is not None and plan.mirror.verify:
        return expected.reason, ""
    judge = judge._replace(world=BY_NAME if registries is None else registries.for_judge(policy))
    new, planned = judge.rewrite(slot), naive.mutate(question)
    written = None if new is None else new.rewritten
    if not naive.same(written, planned.written):
        return expected.reason, f"written: {new and shown(new)}\nnot {planned}"
    return expected.reason, too_many(judge.world, planned.lookups)


def unequal(verdict: Verdict, expected: naive.Judgement) -> str:
    """Return how a verdict differs from that of the oracle."""
    reason = verdict.decision.reason
    if verdict.approved is not expected.approved or reason not in {expected.reason, *expected.also}:
        return f"verdict: {reason} {shown(verdict)}\nnot {expected}"
    if (
        reason == "denied"
        or reason != expected.reason
        or (verdict.requirements and not expected.requirements)
    ):
        return ""
    ours = [(each.requirement, each.met, each.warns) for each in verdict.requirements]
    theirs = [
        (each.number, None if each.reason == "unverified" and each.met else each.met, each.warn)
        for each in expected.requirements
    ]
    if ours != theirs:
        return f"requirements: {shown(verdict)}\nnot {expected}"
    for each, other in zip(verdict.requirements, expected.requirements, strict=True):
        if each.reason not in {other.reason, *other.also}:
            return f"requirement-reason: {shown(verdict)}\nnot {expected}"
    return ""


def shown(verdict: Verdict) -> str:
    return f"{verdict.decision.detail} -> {verdict.rewritten} ({verdict.problem})\n{verdict.requirements}"


@pytest.mark.timeout(600)
@pytest.mark.hypothesis  # hypothesis does not draw the examples, but a long run has more of them, too
def test_the_judge_agrees_with_an_independent_oracle() -> None:
    reasons = Counter[str]()
    for seed in range(budget(8_000)):
        draw = Draw(seed)
        document, exceptions = draw.document(), draw.exceptions()
        try:
            policy = parse_policy(json.dumps(document)).at(INSTANT, exceptions_of(exceptions))
        except PolicyError as error:
            if error.findings[0].code != "require-impossible":
                raise
            continue
        for _ in range(8):
            question, registries = question_of(draw, document, exceptions)
            reason, difference = compared(policy, question, registries)
            reasons[reason] += 1
            assert not difference, f"{seed}: {question}\n{difference}"
    assert len(reasons) == 9
