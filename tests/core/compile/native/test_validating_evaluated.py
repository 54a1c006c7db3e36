"""A native ValidatingAdmissionPolicy as an API server's own code evaluates it, against the webhook's answer.

These tests need Go (`make go-test`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from gatekeeper_py.core import Policy, admission, parse_policy
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.admission.fields import POD_SPECS
from gatekeeper_py.core.admission.outcome import MIRROR_POD, NODES_GROUP
from gatekeeper_py.core.admission.workload import slots
from gatekeeper_py.core.admission.world import Answers
from gatekeeper_py.core.compile.fastpath import compile_fastpath
from gatekeeper_py.core.compile.native.decision import MAX_CHARACTERS, MAX_NEW_IMAGES
from gatekeeper_py.core.compile.native.objects import Options
from gatekeeper_py.core.compile.native.selection import CannotExpress
from gatekeeper_py.core.compile.native.validating import validating_policy
from gatekeeper_py.core.images.manifest import Lookup, Resolution, found
from gatekeeper_py.core.policy.document import MODES
from property.fastpath_strategies import accepted, images_near, namespaces, policies
from property.strategies import any_text, images, varied_images
from support import naive
from support.budget import budget
from support.builders import INSTANT, NAMESPACE, WORKLOADS, container, pod, policy_text, review, workload
from support.evaluating import Evaluator
from support.natively import Document, Verdict, undated, validated

pytestmark = pytest.mark.timeout(
    900
)  # the first run compiles packages that the control plane's build has not compiled

ROOT: Final = Path(__file__).parents[4]
VECTORS: Final[list[str]] = [
    vector["input"]
    for vector in json.loads((ROOT / "tests/data/references.json").read_text(encoding="utf-8"))["vectors"]
    if vector["input"]
]
REALISTIC: Final = (
    *sorted((ROOT / "examples/policies").glob("*.yaml")),
    ROOT / "tools/installation/manifests/policy/policy.yaml",
)
LATER: Final = (timedelta(), timedelta(days=1), timedelta(days=40), timedelta(days=3650))
DIFFERENTIAL: Final = settings(max_examples=budget(300), suppress_health_check=[HealthCheck.too_slow])
GOOD: Final = "a.io/y:1"
EVIL: Final = "evil.io/x:1"
DIGEST: Final = "sha256:" + "0" * 64

overrides: Final = st.lists(
    st.fixed_dictionaries(
        {
            "names": st.lists(st.sampled_from(["shop", "team-*", "*-b", "*"]), min_size=1, max_size=2),
            "mode": st.sampled_from(list(MODES)),
        },
        optional={"until": st.sampled_from(["2026-02-01", "2026-03-02", "2026-04-01T00:00:00Z"])},
    ),
    max_size=3,
)


def compiled(policy: Policy, *, backstop: bool = False, now: datetime = INSTANT) -> tuple[Document, ...]:
    return validating_policy(policy, now, Options(exempt=("kube-system",), backstop=backstop))


def of(text: str, *, backstop: bool = False) -> tuple[Document, ...]:
    return compiled(parse_policy(text), backstop=backstop)


def drawn_review(data: st.DataObject, policy: Policy, namespace: str) -> Document:
    """Draw a review of a Pod or a workload; on UPDATE the old object has some of its images."""
    kind = data.draw(st.sampled_from(["Pod", "Pod", "Pod", *WORKLOADS]), label="kind")
    drawn = images_near(compile_fastpath(policy, INSTANT), data)
    shown = [image for image in drawn if _is_unicode(image)] or [GOOD]
    spec: dict[str, Any] = {}
    if data.draw(st.booleans()):
        place = data.draw(st.sampled_from(["initContainers", "ephemeralContainers", "volumes"]))
        last = data.draw(st.sampled_from(shown))
        spec[place] = (
            [{"name": "v", "image": {"reference": last}}, {"name": "e", "emptyDir": {}}]
            if place == "volumes"
            else [container(last, "i")]
        )
    make = pod if kind == "Pod" else partial(workload, kind)
    if data.draw(st.booleans(), label="update"):
        old = make(*data.draw(st.lists(st.sampled_from(shown), max_size=2)))
        return review(make(*shown, **spec), operation="UPDATE", old=old, namespace=namespace)
    return review(make(*shown, **spec), namespace=namespace)


def images_of(obj: Document | None) -> set[str]:
    if obj is None:
        return set()
    kind = next(kind for kind in POD_SPECS if kind[1] == obj["kind"])
    return {slot.value for slot in slots(kind, obj, {})}


def _is_unicode(image: str) -> bool:
    try:
        image.encode()
    except UnicodeEncodeError:
        return False
    return True


@DIFFERENTIAL
@given(policies, st.sampled_from(list(MODES)), overrides, namespaces, st.data())
def test_the_native_policy_rejects_exactly_what_the_webhook_rejects(
    evaluator: Evaluator,
    a_document: Document,
    mode: str,
    exceptions: list[Document],
    namespace: str,
    data: st.DataObject,
) -> None:
    """A Pod gets the verdict that the second implementation gives its images."""
    document = undated({**a_document, "mode": mode, "namespaces": exceptions})
    policy = accepted(document)
    try:
        documents = compiled(policy)
    except CannotExpress:
        event("refused")
        return
    review_document = drawn_review(data, policy, namespace)
    outcome = admission.validate(wire.parse(review_document), policy.at(INSTANT))
    event(outcome.verdict)
    answer = validated(evaluator, documents, review_document)
    # Only the webhook warns of images that an update of a workload keeps.
    kept = images_of(review_document["request"]["oldObject"])
    unmet = [each for each in outcome.images if not each.approved or each.warned]
    counts = any(each.slot.value not in kept for each in unmet)
    assert answer.verdict == (outcome.verdict if counts else "allowed"), answer
    if (
        review_document["request"]["kind"]["kind"] == "Pod"
        and review_document["request"]["operation"] == "CREATE"
    ):
        judged = [str(judgement.slot.value) for judgement in outcome.images]
        questions = [naive.Question(document, image, INSTANT, namespace) for image in judged]
        answers = list(map(naive.validate, questions))
        approved = all(each.approved and not each.warned for each in answers)
        assert approved is (answer.verdict == "allowed")


def _answer(_: Lookup) -> Resolution:
    return Resolution(found(DIGEST), 0)


@DIFFERENTIAL
@given(policies, st.sampled_from(list(MODES)), overrides, namespaces, st.booleans(), st.data())
def test_a_backstop_never_rejects_what_the_webhook_allows(
    evaluator: Evaluator,
    a_document: Document,
    mode: str,
    exceptions: list[Document],
    namespace: str,
    looks_up: bool,  # noqa: FBT001
    data: st.DataObject,
) -> None:
    """This holds at every instant from its compilation on."""
    document = {**a_document, "mode": mode, "namespaces": exceptions}
    if looks_up:
        document["mirrors"] = [{**mirror, "verify": True} for mirror in document["mirrors"]]
    policy = accepted(document)
    documents = compiled(policy, backstop=True)
    review_document = drawn_review(data, policy, namespace)
    answer = validated(evaluator, documents, review_document)
    for later in LATER:
        outcome = admission.validate(
            wire.parse(review_document), policy.at(INSTANT + later), Answers(_answer)
        )
        event(f"{outcome.verdict}, backstop {answer.verdict}")
        if outcome.verdict == "allowed":
            assert answer.verdict == "allowed"
        if outcome.verdict == "warned":
            assert answer.verdict != "denied"


@settings(max_examples=budget(150))
@given(st.lists(images | varied_images | any_text.filter(_is_unicode), min_size=1, max_size=4))
def test_every_image_is_read_as_the_webhook_reads_it(evaluator: Evaluator, drawn: list[str]) -> None:
    assert_read_alike(evaluator, [image for image in drawn if image] or [GOOD])


ODD: Final = (
    "[::1]:5000/x", "[::1]:0443/x", "[::1]/x", "a.io:65536/x", "a.io:65535/x", "a.io:00001/x", "a.io:0/x",
    "docker.io:443/x", "Docker.IO/x", "DOCKER.io/library/x", "a.io/" + "x" * 255, "a.io/" + "x" * 256,
    "index.docker.io/" + "x" * 247, "index.docker.io/" + "x" * 248, "registry-1.docker.io/" + "x" * 255,
    "x" * 247, "x" * 248, "x" * 300, "sha256:abc", "sha256:" + "a" * 64, "a" * 64, "a" * 4096, "a.io/x" * 600,
    "localhost/x", "Localhost/x", "foo_bar.com/x", "a.io//x", "a.io/x:", "a.io/x@", " a.io/x", "a.io/x\n",
    "a.io/x@sha512:" + "a" * 128, "a.io/x@sha512:" + "a" * 64, "a.io/x@sha384:" + "a" * 96, "\u0430.io/x",
)  # fmt: skip


def test_the_vectors_of_the_ecosystem_are_read_alike(evaluator: Evaluator) -> None:
    for image in (*VECTORS, *ODD):
        assert_read_alike(evaluator, [image])


READING: Final = """
allow: ['*.io', 'a1b.io:5000', docker.io, localhost, 'foo:5000/']
deny: ['docker.io/library/*', 'a.io/**:latest', '[::1]:5000/x']
"""


def assert_read_alike(evaluator: Evaluator, written: list[str]) -> None:
    """Compare the names that a message shows with the names that rules are compared with."""
    document = yaml.safe_load(READING)
    policy = parse_policy(json.dumps({**yaml.safe_load(policy_text()), **document}))
    for image in written:
        answer = validated(evaluator, compiled(policy), review(pod(image)))
        assert (answer.verdict == "allowed") is naive.approved(document, image, NAMESPACE, INSTANT), image
        assert (answer.verdict == "allowed") is policy.at(INSTANT).decide(NAMESPACE, image).approved, image


@pytest.mark.parametrize("path", REALISTIC, ids=lambda path: path.stem)
def test_realistic_policies(evaluator: Evaluator, path: Path) -> None:
    """Each policy can be expressed unless one of its rules expires; then its backstop can."""
    text = path.read_text(encoding="utf-8")
    policy = parse_policy(text)
    dated = any(rule.until is not None for rule in (*policy.allow, *policy.deny))
    documents = compiled(policy, backstop=dated)
    for image in (*VECTORS[:20], "registry.corp.example/app:1", "registry.corp.example/app"):
        for namespace in ("shop", "sandbox-ana"):
            review_document = review(pod(image), namespace=namespace)
            outcome = admission.validate(wire.parse(review_document), policy.at(INSTANT))
            assert validated(evaluator, documents, review_document).verdict == outcome.verdict


ANNOTATED: Final = {"name": "web", "annotations": {MIRROR_POD: "x"}}
DELETED: Final = {"name": "web", "deletionTimestamp": "2026-03-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("review_document", "verdict"),
    [
        pytest.param(review(pod(GOOD)), "allowed", id="approved"),
        pytest.param(review(pod(EVIL)), "denied", id="unlisted"),
        pytest.param(review(pod()), "allowed", id="nothing-to-judge"),
        pytest.param(review(pod() | {"spec": {}}), "denied", id="no-containers-in-a-pod"),
        pytest.param(review(pod() | {"spec": None}), "denied", id="no-spec-in-a-pod"),
        pytest.param(review(pod(None)), "denied", id="missing-in-a-pod"),
        pytest.param(review(pod("")), "denied", id="empty-in-a-pod"),
        pytest.param(review(pod(" ")), "denied", id="placeholder-in-a-pod"),
        pytest.param(review(pod("auto")), "denied", id="placeholder-of-istio-in-a-pod"),
        pytest.param(review(workload("Deployment", "auto", " ", "", GOOD)), "allowed", id="in-a-template"),
        pytest.param(review(workload("CronJob", EVIL)), "denied", id="deep-template"),
        pytest.param(review(workload("PodTemplate", EVIL)), "denied", id="shallow-template"),
        pytest.param(
            review({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}),
            "allowed",
            id="no-spec",
        ),
        pytest.param(
            review(pod(GOOD, volumes=[{"name": "v", "image": {}}])), "denied", id="volume-without-reference"
        ),
        pytest.param(
            review(pod(GOOD, volumes=[{"name": "v", "image": {"reference": EVIL}}])), "denied", id="volume"
        ),
        pytest.param(review(pod(EVIL), operation="UPDATE", old=pod(EVIL)), "allowed", id="unchanged"),
        pytest.param(review(pod(GOOD, EVIL), operation="UPDATE", old=pod(GOOD)), "denied", id="added"),
        pytest.param(review(pod(EVIL), operation="UPDATE"), "denied", id="update-without-old"),
        pytest.param(
            review(
                pod(GOOD, ephemeralContainers=[container(EVIL, "e")]),
                operation="UPDATE",
                old=pod(GOOD),
                sub_resource="ephemeralcontainers",
            ),
            "denied",
            id="ephemeral",
        ),
        pytest.param(
            review(pod(EVIL, metadata=DELETED), operation="UPDATE", old=pod(GOOD)),
            "allowed",
            id="being-deleted",
        ),
        pytest.param(review(pod(EVIL, metadata=DELETED)), "denied", id="forged-deletion"),
        pytest.param(
            review(pod(EVIL, metadata=ANNOTATED), groups=(NODES_GROUP,)), "allowed", id="mirror-pod-of-a-node"
        ),
        pytest.param(review(pod(EVIL, metadata=ANNOTATED)), "denied", id="forged-mirror-pod"),
        pytest.param(
            review(workload("Deployment", EVIL) | {"metadata": ANNOTATED}, groups=(NODES_GROUP,)),
            "denied",
            id="only-pods-are-mirror-pods",
        ),
    ],
)
def test_the_policy_and_the_webhook_return_the_same_verdict(
    evaluator: Evaluator, review_document: Document, verdict: str
) -> None:
    text = policy_text(allow="[a.io]")
    assert validated(evaluator, of(text), review_document).verdict == verdict
    outcome = admission.validate(wire.parse(review_document), parse_policy(text).at(INSTANT))
    assert outcome.verdict == verdict


@pytest.mark.parametrize(
    ("count", "verdict"),
    [
        pytest.param(500, "allowed", id="compared"),
        # The images have another order and are too many to compare, so all count as new.
        pytest.param(501, "denied", id="too-many-to-compare"),
    ],
)
def test_updates_of_large_objects(evaluator: Evaluator, count: int, verdict: str) -> None:
    before = [f"evil.io/x{number}" for number in range(count)]
    documents = of(policy_text(allow="[a.io]"))

    def update(*now: str) -> Document:
        return review(workload("Deployment", *now), operation="UPDATE", old=workload("Deployment", *before))

    assert validated(evaluator, documents, update(*before)).verdict == "allowed"
    assert validated(evaluator, documents, update(*reversed(before))).verdict == verdict
    assert validated(evaluator, documents, update(*before[1:], EVIL)).verdict == "denied"


MANY_RULES: Final = policy_text(
    "deny: [" + ", ".join(f"'*.d{number}.io/x-*'" for number in range(60)) + ", '*/**:latest']\n"
    "mirrors: [{from: docker.io, to: a.io/hub}, {from: quay.io, to: a.io/quay}]\n",
    allow="[" + ", ".join(f"'*.r{number}.io/team-*/**:v*'" for number in range(60)) + ", a.io]",
    mode="mutate",
)


@pytest.mark.parametrize("kind", ["Pod", "Deployment"])
@pytest.mark.parametrize(
    ("count", "length", "message"),
    [
        pytest.param(MAX_NEW_IMAGES, MAX_CHARACTERS // MAX_NEW_IMAGES, "", id="all-that-may-be"),
        pytest.param(MAX_NEW_IMAGES + 1, 20, "more than 100 new images", id="too-many"),
        pytest.param(3, 4000, "10,000 characters", id="too-long"),
    ],
)
def test_the_worst_object_is_judged_within_the_cost_limits(
    evaluator: Evaluator, kind: str, count: int, length: int, message: str
) -> None:
    written = []
    for number in range(count):
        start = f"x.r{number % 60}.io/team-x/{number:03}" if number % 2 else f"u{number:03}/"
        written.append(start + "y" * (length - len(start)))
    review_document = review(pod(*written) if kind == "Pod" else workload(kind, *written))
    documents = of(MANY_RULES)
    answer = validated(evaluator, documents, review_document)
    assert answer.verdict == "denied"
    assert message in answer.message
    if message:
        # A backstop cannot judge it, so it does not reject it.
        assert validated(evaluator, of(MANY_RULES, backstop=True), review_document) == Verdict("allowed")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        pytest.param(
            ["nginx"], "not approved: nginx (docker.io/library/nginx); ask #platform", id="canonical"
        ),
        pytest.param([EVIL, GOOD], f"not approved: {EVIL}; ask #platform", id="only-what-is-rejected"),
        pytest.param(["\u200b"], "an image with unusual characters; ask #platform", id="unusual"),
        pytest.param([""], "not approved: an empty image; ask #platform", id="empty"),
        pytest.param(
            [f"evil.io/{number}" for number in range(7)],
            "not approved: evil.io/0, evil.io/1, evil.io/2, evil.io/3, evil.io/4 and 2 more; ask #platform",
            id="many",
        ),
        pytest.param(["evil.io/" + "x" * 240], f"not approved: evil.io/{'x' * 192}; ask #platform", id="cut"),
        pytest.param(
            [f"EVIL{number}.io/" + "x" * 240 for number in range(5)], "; ask #platform", id="the-longest"
        ),
    ],
)
def test_the_message_names_the_images(evaluator: Evaluator, written: list[str], message: str) -> None:
    documents = of(policy_text("message: 'ask #platform'\n", allow="[a.io]"))
    answer = validated(evaluator, documents, review(pod(*written)))
    assert answer.verdict == "denied"
    assert answer.message.endswith(message)
    assert len(answer.message.encode()) < 5 * 1024


def test_a_namespace_in_warn_is_warned(evaluator: Evaluator) -> None:
    documents = of(policy_text("namespaces: [{names: ['dev-*'], mode: warn}]\n", allow="[a.io]"))
    assert validated(evaluator, documents, review(pod(EVIL), namespace="dev-1")).verdict == "warned"
    assert validated(evaluator, documents, review(pod(EVIL), namespace="prod")).verdict == "denied"


@pytest.mark.parametrize(
    ("image", "verdict", "message"),
    [
        pytest.param(GOOD, "denied", f"not approved: {GOOD} without a digest", id="without-a-digest"),
        pytest.param(f"A.io/y@{DIGEST}", "allowed", "", id="with-a-digest"),
        pytest.param("a.io/x", "warned", "without a digest: a.io/x", id="only-a-warning"),
        pytest.param("a.io/hub/y", "warned", "without a digest: a.io/hub/y", id="of-the-origin"),
        pytest.param(f"a.io/x:1@{DIGEST}", "allowed", "", id="no-warning"),
    ],
)
@pytest.mark.parametrize("make", [pod, partial(workload, "CronJob")], ids=["pod", "template"])
def test_requirements_of_a_digest(
    evaluator: Evaluator, make: Callable[[str], Document], image: str, verdict: str, message: str
) -> None:
    text = policy_text(
        "mirrors: [{from: docker.io, to: a.io/hub}]\n"
        "require: [{images: [a.io/y], digest: true},"
        " {images: [a.io/x, docker.io/library/y], digest: true, mode: warn}]\n",
        allow="[a.io]",
    )
    review_document = review(make(image))
    assert validated(evaluator, of(text), review_document) == (verdict, message)
    assert admission.validate(wire.parse(review_document), parse_policy(text).at(INSTANT)).verdict == verdict


def test_templates_are_judged_by_the_names_on_mirrors(evaluator: Evaluator) -> None:
    documents = of(policy_text("mirrors: [{from: docker.io, to: a.io/hub}]\n", allow="[a.io]", mode="mutate"))
    template, as_written = review(workload("Deployment", "nginx")), review(pod("nginx"))
    assert validated(evaluator, documents, template) == Verdict("allowed")
    assert validated(evaluator, documents, as_written).verdict == "denied"
