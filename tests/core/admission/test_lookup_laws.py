"""The results of mutate and validate agree with a model that was written from docs/registries.md alone."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import naive
from budget import budget
from builders import INSTANT, pod, policy_document, review, workload
from calling import mutate as stored
from calling import validate as judged
from calling import validated
from gatekeeper_py.core import CompiledPolicy, admission, parse_policy
from gatekeeper_py.core.admission import Outcome
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.admission.world import Answers, answers_so_far
from gatekeeper_py.core.images.manifest import MISSING, Answer, failed, found, resolve

Document = dict[str, Any]
Truth = Callable[[str], Answer]

HUB: Final = "docker.io"
DIGEST: Final = "sha256:" + "a" * 64
IMAGES: Final = [
    "docker.io/library/nginx:1",
    "docker.io/library/bad:1",
    "docker.io/library/kept:1",
    f"docker.io/library/nginx:1@sha256:{'c' * 64}",
    "r.io/hub/library/nginx:1",
    "quay.io/x:1",
]
ANSWERS: Final = [MISSING, failed("connection refused"), found(DIGEST), found("sha256:" + "b" * 64)]


def rules(*patterns: str) -> st.SearchStrategy[Any]:
    """Strategies for rules of the same patterns, each perhaps with a look-up."""
    return st.sampled_from(patterns).flatmap(
        lambda pattern: (
            st.just(pattern)
            | st.fixed_dictionaries(
                {"image": st.just(pattern), "verify": st.just(True)},
                optional={"pin": st.just(True), "onError": st.sampled_from(["keep", "deny"])},
            )
        )
    )


choices = st.sampled_from(["keep", "deny", "rewrite"])
options: st.SearchStrategy[Document] = st.just({}) | st.fixed_dictionaries(
    {"verify": st.just(True), "onMissing": choices, "onError": choices}, optional={"pin": st.booleans()}
)
mirrors = st.fixed_dictionaries(
    {
        "from": st.just(HUB),
        "to": st.lists(st.sampled_from(["r.io/hub", "dr.io/hub"]), min_size=1, max_size=2, unique=True),
    },
    optional={"except": st.just(["docker.io/library/kept"])},
)
RECALLS: Final[list[Any]] = [
    f"docker.io/library/nginx@{DIGEST}",
    f"docker.io/library/*@{DIGEST}",
    f"r.io/hub/library/nginx@{DIGEST}",
    f"dr.io@sha256:{'b' * 64}",
    {"image": f"docker.io/**@{DIGEST}", "except": ["docker.io/library/nginx"]},
    {"image": f"docker.io/**@{DIGEST}", "except": ["docker.io/library/nginx:1"]},
    {"image": f"docker.io/**@{DIGEST}", "until": "2020-01-01"},
    {"image": f"docker.io/**@{DIGEST}", "namespaces": ["other"]},
    {"image": "r.io/**", "except": ["r.io/**:1"]},
    "r.io/**@*",
]
documents = st.builds(
    lambda allow, deny, mirror, more, mode: policy_document(allow, deny, [{**mirror, **more}], mode=mode),
    st.lists(rules("docker.io/library/**", "docker.io/library/*:1", "r.io", "dr.io"), min_size=1, max_size=3),
    st.lists(st.sampled_from(["docker.io/library/bad", *RECALLS]), max_size=2),
    mirrors,
    options,
    st.sampled_from(["mutate", "mutate", "mutate", "enforce"]),
)


def compiled(document: Document) -> CompiledPolicy:
    return parse_policy(json.dumps(document)).at(INSTANT)


def approved(document: Document, image: str) -> bool:
    return naive.approved(document, image, "shop", INSTANT)


def denied(document: Document, image: str) -> bool:
    return not approved({**document, "allow": ["docker.io", "r.io", "dr.io", "quay.io"]}, image)


def rule_of(document: Document, image: str) -> Document:
    """Return the first rule that matches an image. A bare pattern is returned as an empty rule."""
    seen = naive.read(image)
    assert seen is not None
    rule = next(each for each in document["allow"] if naive.matches(each, seen))
    return rule if isinstance(rule, dict) else {}


def mirrored(document: Document, image: str) -> Document | None:
    """Return the mirror that applies to an image."""
    (mirror,) = document["mirrors"]
    excepted = "library/kept" in image and "except" in mirror
    return mirror if image.startswith(f"{HUB}/") and not excepted else None


def candidates(document: Document, mirror: Document, image: str) -> list[str]:
    images = [to + image.removeprefix(HUB) for to in mirror["to"]]
    return [each for each in images if approved(document, each)]


def answer_of(images: list[str], truth: Truth) -> Answer:
    """Return the first answer with status found, else the first error, else missing."""
    answers = [truth(image) for image in images]
    ranked = sorted(answers, key=lambda answer: ["found", "error", "missing"].index(answer.status))
    return ranked[0]


class Recalled(Exception):
    """A deny rule matches the digest that was looked up."""


def judged_at(document: Document, image: str, digest: str) -> None:
    """Deny rules also apply to ``name@digest`` for a digest that a look-up found, and to its origin."""
    if digest and "@" not in image and denied(document, f"{image}@{digest}"):
        raise Recalled


def pinned(document: Document, image: str, digest: str) -> str:
    judged_at(document, image, digest)
    fits = digest and "@" not in image and approved(document, image)
    return f"{image}@{digest}" if fits and approved(document, f"{image}@{digest}") else image


def pinned_by_rule(document: Document, image: str, truth: Truth) -> str:
    if not approved(document, image) or "pin" not in rule_of(document, image):
        return image
    return pinned(document, image, truth(image).digest)


def written(document: Document, image: str, truth: Truth) -> tuple[str, bool]:
    """Return the image in the stored Pod, and whether it was kept after an error of its mirrors."""
    (mirror,) = document["mirrors"]
    if document["mode"] != "mutate" or denied(document, image):
        return image, False
    if mirrored(document, image) is None:
        excepted = image.startswith(HUB)
        return (image if excepted else pinned_by_rule(document, image, truth)), False
    if not mirror.get("verify"):
        return pinned_by_rule(document, mirror["to"][0] + image.removeprefix(HUB), truth), False
    usable = candidates(document, mirror, image)
    if not usable:
        return pinned_by_rule(document, image, truth), False
    answer = answer_of(usable, truth)
    if answer.status == "found":
        target = next(each for each in usable if truth(each).status == "found")
        judged_at(document, target, answer.digest)
        if mirror.get("pin"):
            return pinned(document, target, answer.digest), False
        return pinned_by_rule(document, target, truth), False
    choice = mirror["onError" if answer.status == "error" else "onMissing"]
    if choice == "rewrite":
        return pinned_by_rule(document, usable[0], truth), False
    if choice == "deny":
        return image, False
    try:
        return pinned_by_rule(document, image, truth), answer.status == "error"
    except Recalled as recall:
        raise Recalled(answer.status == "error") from recall


def reason(document: Document, image: str, truth: Truth) -> tuple[str, bool]:
    """Return the validating endpoint's reason, and whether the image is kept after a registry's error."""
    if denied(document, image):
        return "denied", False
    try:
        written(document, image, truth)
        if approved(document, image) and rule_of(document, image):
            judged_at(document, image, truth(image).digest)
    except Recalled:
        return "denied", False
    (mirror,) = document["mirrors"]
    if document["mode"] == "mutate" and mirrored(document, image) and mirror.get("verify"):
        usable = candidates(document, mirror, image)
        answer = answer_of(usable, truth) if usable else found(DIGEST)
        if answer.status == "missing" and mirror["onMissing"] == "deny":
            return "absent", False
        if answer.status == "error" and mirror["onError"] == "deny":
            return "unverified", False
    if not approved(document, image):
        return "unlisted", False
    rule = rule_of(document, image)
    answer = truth(image) if rule else found(DIGEST)
    if answer.status == "missing":
        return "absent", False
    if answer.status == "error" and rule.get("onError") == "deny":
        return "unverified", False
    return "allowed", answer.status == "error"


def decided(endpoint: Callable[..., Outcome], image: str, policy: CompiledPolicy, truth: Truth) -> Outcome:
    """Decide on a Pod with one image as the webhook does: again once the look-ups have answers ``truth``."""
    request = wire.parse(review(pod(image)))
    first = Answers(lambda _lookup: None)
    endpoint(request, policy, first)
    known = answers_so_far(
        {lookup: resolve(tuple(map(truth, map(str, lookup.candidates)))) for lookup in first.missing}
    )
    outcome = endpoint(request, policy, known)
    assert not known.missing
    return outcome


def check(document: Document, policy: CompiledPolicy, image: str, truth: Truth) -> str:
    """Compare both endpoints with the model. Return the reason of the verdict."""
    try:
        new, kept = written(document, image, truth)
    except Recalled as recall:
        new, kept = image, recall.args == (True,)
    mutated = decided(admission.mutate, image, policy, truth)
    assert [each.rewritten for each in mutated.images] == ([] if new == image else [new])
    assert ("unverified" in mutated.response.audit_annotations) is kept
    assert [each.unverified for each in mutated.kept if each.unverified] == ["connection refused"] * kept

    expected, kept = reason(document, new, truth)
    outcome = decided(admission.validate, new, policy, truth)
    assert outcome.images[0].decision.reason == expected
    assert ("unverified" in outcome.response.audit_annotations) is kept
    return expected


@settings(max_examples=budget(600))
@given(documents, st.sampled_from(IMAGES), st.data())
def test_look_ups_change_an_image_and_its_verdict_as_documented(
    document: Document, image: str, data: st.DataObject
) -> None:
    answers: dict[str, Answer] = {}

    def truth(name: str) -> Answer:
        repository, _, digest = name.partition("@")
        key = f"{repository.partition(':')[0]}@{digest}" if digest else name
        return answers.setdefault(key, data.draw(st.sampled_from(ANSWERS)))

    event(check(document, compiled(document), image, truth))


OFFICIAL: Final = "docker.io/library/**"
ALLOWED: Final[dict[str, list[Any]]] = {
    "no-look-up": [OFFICIAL, "r.io", "dr.io"],
    "no-target": [OFFICIAL],
    "second-target": ["dr.io"],
    "verify": [{"image": OFFICIAL, "verify": True}, "r.io", "dr.io"],
    "verify-or-deny": [{"image": OFFICIAL, "verify": True, "onError": "deny"}, "dr.io"],
    "pin": [{"image": OFFICIAL, "pin": True}, {"image": "r.io", "pin": True}, "dr.io"],
    "pin-by-tag": [{"image": "docker.io/library/*:1", "pin": True}, {"image": "dr.io", "pin": True}],
}
OUTCOMES: Final = ("keep", "deny", "rewrite")
MIRRORS: Final[list[Document]] = [
    {},
    *(
        {"verify": True, "onMissing": on_missing, "onError": on_error, "pin": pin}
        for on_missing, on_error, pin in itertools.product(OUTCOMES, OUTCOMES, (False, True))
    ),
]


@pytest.mark.parametrize(
    "allow",
    [
        # One of them is enough to cover all code.
        pytest.param(rules, id=name, marks=[] if name == "verify-or-deny" else pytest.mark.bulk)
        for name, rules in ALLOWED.items()
    ],
)
def test_the_documented_result_holds_for_every_answer_and_every_option(allow: list[Any]) -> None:
    """The registries of the image and of both targets each have, lack or do not return the image."""
    mirror = {"from": HUB, "to": ["r.io/hub", "dr.io/hub"]}
    for options in MIRRORS:
        document = policy_document(allow, mirrors=[{**mirror, **options}])
        policy = compiled(document)
        for answers in itertools.product(ANSWERS[:3], repeat=3):
            check(document, policy, IMAGES[0], by_host(*answers))


def by_host(hub: Answer, first: Answer, second: Answer) -> Truth:
    answers = {HUB: hub, "r.io": first, "dr.io": second}
    return lambda name: answers[name.partition("/")[0]]


pull_policies = st.sampled_from([{}, {"imagePullPolicy": "Always"}, {"imagePullPolicy": "Never"}])
targets = st.lists(
    st.sampled_from(["reg.io", "r.io/hub", "dr.io/nginx", "r.io/nginx"]), min_size=1, max_size=3, unique=True
)


@settings(max_examples=budget(400))
@given(
    documents,
    st.sampled_from([HUB, "docker.io/library/nginx"]),
    targets,
    st.lists(st.tuples(st.sampled_from(IMAGES), pull_policies), min_size=1, max_size=3),
)
def test_without_look_ups_a_template_gets_the_verdict_of_the_pod_it_creates(
    document: Document, source: str, to: list[str], containers: list[tuple[str, dict[str, str]]]
) -> None:
    """``In mutate mode every other object is judged as its pods will be``, even if mirrors look up images."""
    policy = compiled({**document, "mirrors": [{**document["mirrors"][0], "from": source, "to": to}]})
    spec = {"containers": [{"name": "c", "image": image, **more} for image, more in containers]}
    of_template = judged(review(workload("Deployment", **spec)), policy)
    new = stored(review(pod(**spec)), policy).object
    of_pod = judged(review(new), policy)
    event(f"allowed: {of_pod.allowed}, rewritten: {new['spec'] != spec}")
    assert of_template.allowed is of_pod.allowed
    reasons = [
        [each.decision.reason for each in validated(review(obj), policy).images]
        for obj in (workload("Deployment", **spec), new)
    ]
    assert reasons[0] == reasons[1]
