"""The expressions as an API server's own code evaluates them, against two models in Python.

These tests need Go (`make go-test`).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.compile import expression as cel
from gatekeeper_py.core.compile.cost import MAX_COST, fits
from gatekeeper_py.core.compile.exclusions import SPELLING
from gatekeeper_py.core.compile.fastpath import ENDPOINTS, compile_fastpath
from gatekeeper_py.core.compile.preapproved import PreApproved
from gatekeeper_py.core.compile.written import MAX_LENGTH, TAG
from property.fastpath_strategies import accepted, images_near, namespaces, policies
from property.strategies import Document
from support.builders import INSTANT, container, pod, policy_text, review
from support.evaluating import COST_LIMIT, Evaluator, RefusedError
from support.skipping import objection, pre_approved, scope, skips

pytestmark = pytest.mark.timeout(
    900
)  # the first run compiles packages that the control plane's build has not compiled

DATA: Final = Path(__file__).parents[2] / "data"
DIGEST: Final = "@sha256:" + "7c" * 32
DOCUMENTS: Final[dict[str, Document]] = {
    "named": {"allow": ["a.io", "b.io:5000/team/**"], "deny": ["*/**:latest"]},
    "listed": {"allow": ["a.io", "b.io:5000/team/**", "c.io/x/app", "d.io@*"], "deny": ["a.io/old/**"]},
    "by-namespace": {
        "allow": ["a.io", {"image": "b.io", "namespaces": ["team-*", "shop"]}],
        "deny": [{"image": "a.io/x", "namespaces": ["team-*"]}],
    },
    "many": {
        "allow": [
            "a.io",
            *(f"r{number}.io/team/**" for number in range(9)),
            *(f"r{number}.io" for number in range(10, 20)),
            "c.io/x:v1",
            f"c.io/y{DIGEST}",
            "*.corp.io/team-*/**:v*",
        ]
    },
}
"""Policies whose expressions have different forms. Each pre-approves ``GOOD``."""


def document(form: str) -> Document:
    return {"apiVersion": "gatekeeper-py/v1", "kind": "ImagePolicy", "mode": "enforce", **DOCUMENTS[form]}


APPROVED: Final[dict[str, PreApproved]] = {
    form: compile_fastpath(parse_policy(json.dumps(document(form))), INSTANT).approved["validating"]
    for form in DOCUMENTS
}
GOOD: Final = "a.io/y:1"
EVIL: Final = "evil.io/x:1"
DIFFERENTIAL: Final = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def expression(form: str = "listed") -> str:
    return cel.expression(APPROVED[form]).text


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [container(GOOD)], **fields}}


def of_pod(obj: Any, **more: Any) -> dict[str, Any]:
    return review(obj, kind=("", "Pod"), **more)


@DIFFERENTIAL
@given(policies, namespaces, st.data())
def test_the_api_server_and_the_model_agree_on_images(
    evaluator: Evaluator, a_document: Document, namespace: str, data: st.DataObject
) -> None:
    """A skipped Pod would have been allowed without a warning or a change."""
    fast_path = compile_fastpath(accepted(a_document), INSTANT)
    review_document = of_pod(pod(*images_near(fast_path, data)), namespace=namespace)
    for endpoint in ENDPOINTS:
        condition = fast_path.expression(endpoint)
        if condition is None:
            continue
        try:
            answer = evaluator.evaluate(condition, review_document)
        except UnicodeEncodeError:
            event("not JSON")
            return
        assert answer.error == ""
        assert answer.cost <= MAX_COST
        assert answer.matches is not skips(fast_path.approved[endpoint], wire.parse(review_document))
        if not answer.matches:
            event(f"{endpoint} skipped")
            assert objection(a_document, review_document, endpoint, fast_path.valid_until) == ""


IMAGES = [
    GOOD,
    GOOD,
    "b.io:5000/team/x",
    "c.io/x/app",
    f"d.io/x{DIGEST}",
    "d.io/x",
    "a.io/old/x:1",
    "a.io/x",
    "b.io/x:1",
    EVIL,
    "nginx",
    "",
    "a.io/x\n",
]
KEYS = [
    "containers", "initContainers", "ephemeralContainers", "volumes", "image", "reference", "name", "spec",
]  # fmt: skip
scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(IMAGES) | st.text(max_size=4)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=8,
)


def or_odd(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 14).flatmap(lambda roll: values if roll == 0 else strategy)


image_texts = or_odd(st.sampled_from(IMAGES[:5]))
containers = or_odd(
    st.lists(
        or_odd(st.fixed_dictionaries({"image": image_texts}, optional={"name": st.just("c")})), max_size=3
    )
)
volumes = or_odd(
    st.lists(
        or_odd(
            st.fixed_dictionaries(
                {"name": st.just("v")},
                optional={"image": or_odd(st.fixed_dictionaries({"reference": image_texts}))},
            )
        ),
        max_size=3,
    )
)
specs = or_odd(
    st.fixed_dictionaries(
        {"containers": containers},
        optional={"initContainers": containers, "ephemeralContainers": containers, "volumes": volumes},
    )
)
objects = or_odd(st.fixed_dictionaries({"spec": specs}))


@pytest.mark.parametrize("form", APPROVED)
@DIFFERENTIAL
@given(objects, st.sampled_from(["CREATE", "UPDATE", "DELETE", "CONNECT"]), namespaces)
def test_no_pod_is_an_error(
    evaluator: Evaluator, form: str, obj: Any, operation: str, namespace: str
) -> None:
    """For any Pod, the expression and the model agree, and there is no evaluation error."""
    review_document = of_pod(obj if isinstance(obj, dict) else None, operation=operation, namespace=namespace)
    try:
        answer = evaluator.evaluate(expression(form), review_document)
    except RefusedError:
        event("not decoded")  # nor would an API server
        return
    assert answer.error == ""
    sent = of_pod(answer.sent, operation=operation, namespace=namespace)
    assert answer.matches is not skips(APPROVED[form], wire.parse(sent))
    # API servers before 1.37 make a mapping of the Pod that they decoded.
    older = evaluator.evaluate(expression(form), sent, typed=False)
    assert (older.error, older.matches) == ("", answer.matches)
    if not answer.matches:
        event("skipped")
        assert objection(document(form), sent, "validating") == ""


@pytest.mark.parametrize(
    ("lists", "skipped"),
    [
        pytest.param({"containers": 32}, True, id="32-containers"),
        pytest.param({"containers": 33}, False, id="33-containers"),
        pytest.param({"containers": 16, "initContainers": 16}, True, id="32-in-two-lists"),
        pytest.param({"containers": 16, "initContainers": 17}, False, id="33-in-two-lists"),
        pytest.param({"containers": 1, "volumes": 31}, True, id="31-image-volumes"),
        pytest.param({"containers": 1, "volumes": 32}, False, id="32-image-volumes-and-a-container"),
        pytest.param({"containers": 1, "others": 64}, True, id="64-volumes"),
        pytest.param({"containers": 1, "others": 65}, False, id="65-volumes"),
        pytest.param({"containers": 1, "volumes": 31, "others": 33}, True, id="both-kinds-of-volumes"),
    ],
)
def test_a_pod_with_few_images_and_volumes_is_skipped(
    evaluator: Evaluator, lists: dict[str, int], *, skipped: bool
) -> None:
    items = {key: [container(GOOD)] * count for key, count in lists.items() if key.endswith("ontainers")}
    image_volume = {"name": "i", "image": {"reference": GOOD}}
    volumes = [image_volume] * lists.get("volumes", 0) + [{"name": "e"}] * lists.get("others", 0)
    review_document = of_pod(spec(volumes=volumes, **items))
    answer = evaluator.evaluate(expression(), review_document)
    assert (answer.matches, answer.error) == (not skipped, "")
    assert skips(APPROVED["listed"], wire.parse(review_document)) is skipped


def test_a_request_without_a_namespace_calls_the_webhook(evaluator: Evaluator) -> None:
    """Pods always have a namespace. Older API servers report an error for a missing field."""
    review_document = of_pod(pod(GOOD), namespace=None)
    answer = evaluator.evaluate(expression("by-namespace"), review_document)
    assert (answer.matches, answer.error) == (True, "")


REVIEWS: Final = DATA / "reviews"
BROAD: Final = policy_text(
    "mirrors: [{from: docker.io, to: registry.corp.io/dockerhub}]",
    allow="[registry.corp.io, ghcr.io, quay.io]",
)


@pytest.mark.parametrize("name", sorted(path.name for path in REVIEWS.iterdir()))
def test_the_golden_reviews(evaluator: Evaluator, name: str) -> None:
    """Objects as an API server sends them, under a policy that approves most of their registries."""
    given_review = json.loads((REVIEWS / name / "request.json").read_text())
    request = {"object": None, "oldObject": None, **given_review["request"]}
    review_document = {**given_review, "request": request}
    fast_path = compile_fastpath(parse_policy(BROAD), INSTANT)
    a_document = {
        **document("named"),
        "allow": ["registry.corp.io", "ghcr.io", "quay.io"],
        "deny": [],
        "mirrors": [{"from": "docker.io", "to": "registry.corp.io/dockerhub"}],
    }
    for endpoint in ENDPOINTS:
        condition = fast_path.expression(endpoint)
        assert condition is not None
        answer = evaluator.evaluate(condition, review_document, typed=request["kind"]["kind"] == "Pod")
        assert answer.error == ""
        assert answer.matches is not skips(fast_path.approved[endpoint], wire.parse(review_document))
        if not answer.matches:
            assert objection(a_document, review_document, endpoint) == ""


def test_some_golden_reviews_are_skipped() -> None:
    approved = compile_fastpath(parse_policy(BROAD), INSTANT).approved["validating"]
    requests = (json.loads((path / "request.json").read_text()) for path in REVIEWS.iterdir())
    assert {skips(approved, wire.parse(request)) for request in requests} == {
        True,
        False,
    }


def full(reference: str) -> dict[str, Any]:
    """Return a Pod with the maximum number of images in its four lists, and as many other volumes."""
    each = cel.MAX_POD_IMAGES // 4
    listed = [container(reference)] * each
    image_volumes = [{"name": "i", "image": {"reference": reference}}] * each
    others = [{"name": "e"}] * (cel.MAX_VOLUMES - each)
    return spec(
        containers=listed,
        initContainers=listed,
        ephemeralContainers=listed,
        volumes=[*others, *image_volumes],
    )


def longest(start: str) -> str:
    """Return the most expensive image with this prefix."""
    suffix = f":{'t' * 60}{DIGEST}"
    return f"{start}{'x' * (MAX_LENGTH - len(start) - len(suffix))}{suffix}"


WIDE_POLICIES: Final[dict[str, tuple[PreApproved, str]]] = {
    "one": (pre_approved("a.io"), "a.io/"),
    "a-few": (
        pre_approved(*(f"registry-{n}.corp.io/team/**" for n in range(20))),
        "registry-7.corp.io/team/",
    ),
    "many-depths": (
        pre_approved(*(f"r{n}.io/" + "x/" * (n % 8) + "**" + "@*" * (n % 2) for n in range(200))),
        "r199.io/" + "x/" * 7,
    ),
    "many-rules": (
        pre_approved(*(f"registry-{n}.corp.io/team/**" for n in range(1900))),
        "registry-1899.corp.io/team/",
    ),
    # An API server charges nothing for the size of a set, so half of the calculated cost is still realistic.
    "many-short-rules": (pre_approved(*(f"{n:x}.io" for n in range(2000))), "7cf.io/"),
    "repositories": (
        pre_approved(*(f"r.io/{n}/{'x' * 50}/app" for n in range(800))),
        f"r.io/799/{'x' * 50}/app",
    ),
    "wildcards": (pre_approved(*(f"a.io/team-{n}*/**" for n in range(60))), "a.io/team-59/"),
    "tags": (
        pre_approved(*(f"a.io/**:v{n}*" for n in range(40)), "a.io/z/**"),
        f"a.io/{'y' * 120}:v39{'t' * 110}",
    ),
    "exclusions": (
        pre_approved("a.io", excluded=[f"a.io/team-{n}*/**" for n in range(60)]),
        "a.io/",
    ),
    "namespaces": (
        pre_approved(*(scope(f"a{n}.io", f"n{n}", f"x-*-{n}") for n in range(120)), scope("z.io", "shop")),
        "z.io/",
    ),
    "digests": (
        pre_approved("z.io", *(f"a.io/x{n}@sha256:{n:064x}" for n in range(600))),
        "z.io/",
    ),
}


@pytest.mark.parametrize("name", WIDE_POLICIES)
def test_the_cost_is_within_what_was_calculated(evaluator: Evaluator, name: str) -> None:
    """The test uses the largest evaluated Pod, in which only the last image is not pre-approved."""
    approved, start = WIDE_POLICIES[name]
    part = cel.expression(approved)
    assert fits(part)
    if start.endswith("/"):
        image = longest(start)
    else:
        image = start if ":" in start else f"{start}:{'t' * 60}{DIGEST}"
    obj = full(image)
    answer = evaluator.evaluate(part.text, of_pod(obj))
    assert (answer.matches, answer.error) == (False, "")
    assert answer.cost <= part.cost <= MAX_COST < COST_LIMIT
    obj["spec"]["volumes"][-1] = {"name": "i", "image": {"reference": longest("none.io/" + "y/" * 8)}}
    refused = evaluator.evaluate(part.text, of_pod(obj))
    assert (refused.matches, refused.error) == (True, "")
    assert refused.cost <= part.cost
    assert max(answer.cost, refused.cost) > part.cost / 6  # so that the calculated bound is realistic


@pytest.mark.parametrize("key", ["containers", "initContainers", "ephemeralContainers", "volumes"])
def test_very_long_lists_cost_nothing(evaluator: Evaluator, key: str) -> None:
    item = {"name": "v", "image": {"reference": GOOD}} if key == "volumes" else container(GOOD)
    answer = evaluator.evaluate(expression(), of_pod(spec(**{key: [item] * 5000})))
    assert (answer.matches, answer.error) == (True, "")
    assert answer.cost < 120


def test_many_volumes_are_not_looked_through(evaluator: Evaluator) -> None:
    """Without the bound, many volumes would exceed the calculated cost, and finally cause an error."""
    review_document = of_pod(spec(volumes=[{"name": "e"}] * 5000, initContainers=[container(GOOD)]))
    mutant = expression().replace(" && size(object.spec.volumes) <= 64", "")
    assert evaluator.evaluate(expression(), review_document).cost < 120
    assert evaluator.evaluate(mutant, review_document).cost > 10_000


def test_a_very_long_image_costs_nothing(evaluator: Evaluator) -> None:
    answer = evaluator.evaluate(expression(), of_pod(pod("a.io/" + "x" * 1_000_000)))
    assert (answer.matches, answer.error) == (True, "")
    assert answer.cost < 200


def test_the_usual_policy_is_one_regular_expression(evaluator: Evaluator) -> None:
    """The cost of a few registries without a floating tag, for a Pod with three containers."""
    part = cel.expression(APPROVED["named"])
    assert part.text.count(".matches(") == 1
    answer = evaluator.evaluate(part.text, of_pod(pod(GOOD, GOOD, GOOD)))
    assert answer.matches is False
    assert answer.cost < 300


LONGEST: Final = longest("a.io/")
SHORT: Final = " && size(object.spec.{0}) <= 32"
IS_LIST: Final = "type(object.spec.{0}) == list && "
JOINED: Final = "\n    + (has(object.spec.{0}) ? object.spec.{0} : [])"
IMAGE_VOLUME: Final = {"name": "i", "image": {"reference": EVIL}}
INIT_EVIL: Final = of_pod(spec(initContainers=[container(EVIL)]))
DEBUG_EVIL: Final = of_pod(spec(ephemeralContainers=[container(EVIL)]))
VOLUME_EVIL: Final = of_pod(spec(volumes=[IMAGE_VOLUME]))
PAIR: Final = "c.image.startsWith('a.io/') || c.image.startsWith('b.io:5000/team/')"

WRONGLY_SKIPPED: Final[dict[str, tuple[str, str, str, dict[str, Any]]]] = {
    "kind": ("listed", "object.kind == 'Pod'", "true", review(
        {**spec(), "template": {"spec": {"containers": [container(EVIL)]}}}, kind=("", "PodTemplate"))),
    "group": ("listed", "object.apiVersion == 'v1'", "true", review(
        {"spec": {"containers": [container(GOOD)], "more": {"containers": [container(EVIL)]}}},
        kind=("example.com", "Pod"))),
    "containers": ("listed", ": object.spec.containers)", ": [])", of_pod(pod(GOOD, EVIL))),
    "containers-among-others": ("listed", "? object.spec.containers\n", "? []\n", of_pod(
        pod(GOOD, EVIL, initContainers=[container(GOOD)]))),
    "init-containers": ("listed", JOINED.format("initContainers"), "", INIT_EVIL),
    "init-containers-seen": ("listed", "(has(object.spec.initContainers) || has", "(has", INIT_EVIL),
    "ephemeral-containers": ("listed", JOINED.format("ephemeralContainers"), "", DEBUG_EVIL),
    "ephemeral-containers-seen": ("listed", " || has(object.spec.ephemeralContainers)", "", DEBUG_EVIL),
    "volumes": ("listed", "+ (has(object.spec.volumes) ? object.spec.volumes : [])", "+ []", VOLUME_EVIL),
    "volumes-seen": ("listed", "object.spec.volumes.exists(v, has(v.image))", "false", VOLUME_EVIL),
    "image-volumes": ("listed", ".filter(v, has(v.image)).map", ".filter(v, !has(v.image)).map", VOLUME_EVIL),
    "too-many-images": ("listed", ": [{'image': ''}])", ": [])", of_pod(
        spec(containers=[container(EVIL)] * 20, initContainers=[container(EVIL)] * 20))),
    "every-image": ("listed", ").all(c,", ").exists(c,", of_pod(pod(GOOD, EVIL))),
    "length": ("listed", "size(c.image) <= 255", "true", of_pod(pod("a.io/" + "x" * 256))),
    "form": ("listed", "c.image.matches('^[^/]+/", "'a.io/x'.matches('^[^/]+/", of_pod(pod("a.io/x y"))),
    "start": ("listed", "'^[^/]+/[a-z0-9]+(", "'[^/]+/[a-z0-9]+(", of_pod(pod("a.io/BAD/a.io/x"))),
    "end": ("listed", "{64})?$'", "{64})?'", of_pod(pod("a.io/x\n"))),
    "pinned": ("listed", "c.image.contains('@')", "true", of_pod(pod("d.io/x"))),
    "comparison": ("listed", f"({PAIR}", f"(true || {PAIR}", of_pod(pod(EVIL))),
    "whole-segments": ("listed", "'b.io:5000/team/'", "'b.io:5000/team'", of_pod(pod("b.io:5000/teams/x"))),
    "repository": ("listed", "'^[^/]+/[^:@]+') in", "'^[^/]+/[^:@/]+/[^:@/]+') in", of_pod(
        pod("c.io/x/app/y"))),
    "excluded": ("listed", "!(c.image.startsWith('a.io/old/'))", "true", of_pod(pod("a.io/old/x:1"))),
    "strict-host": ("many", "'^[a-z0-9]+(?:-+[a-z0-9]+)*(?:[.]", "'^[a-z0-9-]*(?:[.]", of_pod(
        pod("-x.corp.io/team-a/x:v1"))),
    "wildcard-start": ("many", "matches('^[a-z0-9-]*[.]corp", "matches('[a-z0-9-]*[.]corp", of_pod(
        pod("evil.io/x.corp.io/team-a/x:v1"))),
    "wildcard-label": ("many", "'^[a-z0-9-]*[.]corp[.]io", "'^.*[.]corp[.]io", of_pod(
        pod("evil.io/x/y.corp.io/team-a/x:v1"))),
    "wildcard-segment": ("many", "/team-[a-z0-9._-]*/[^:@]+", "/te[a-z0-9._-]*/[^:@]+", of_pod(
        pod("x.corp.io/tests/x:v1"))),
    "wildcard-end": ("many", ":v[A-Za-z0-9_.-]*$'", ":v[A-Za-z0-9_.-]*'", of_pod(
        pod(f"x.corp.io/team-a/x:v1{DIGEST}"))),
    "depth": ("many", "'^(?:[^/]+/){2}') in ['r0.io/team/'", "'^(?:[^/]+/){1}') in ['r0.io/'", of_pod(
        pod("r0.io/x"))),
    "one-tag": ("many", "c.image in ['c.io/x:v1']", "c.image.startsWith('c.io/x')", of_pod(pod("c.io/x:v2"))),
    "one-digest": ("many", " + c.image.find('@.*$')) in ['c.io/y", ") in ['c.io/y', 'c.io/y", of_pod(
        pod("c.io/y@sha256:" + "8d" * 32))),
    "one-namespace": ("by-namespace", "request.namespace == 'shop'", "true", of_pod(
        pod("b.io/x:1"), namespace="other")),
    "namespaces": ("by-namespace", "startsWith('team-'))", "startsWith('tea'))", of_pod(
        pod("b.io/x:1"), namespace="teapot")),
    "named-start": ("named", "'^(?:a[.]io/", "'(?:a[.]io/", of_pod(pod("evil.io/a.io/x:1"))),
    "named-end": ("named", "{64})$'", "{64})'", of_pod(pod("a.io/x:1\n"))),
    "named-dot": ("named", "a[.]io/", "a.io/", of_pod(pod("axio/x:1"))),
    "named-segment": ("named", "/team/)", "/team)/?", of_pod(pod("b.io:5000/teams/x:1"))),
    "named-together": ("named", "(?:a[.]io/|b[.]io:5000/team/)", "a[.]io/|b[.]io:5000/team/", of_pod(
        pod("a.io/BAD:1"))),
    "named-latest": ("named", "!(c.image.endsWith(':latest'))", "true", of_pod(pod("a.io/x:latest"))),
    "named-suffix": ("named", f"(?::{TAG}(?:@", f"(?:(?::{TAG})?(?:@", of_pod(pod("a.io/x"))),
}  # fmt: skip
"""Each key names a part of the expression. The values are the form, the text of the part, its replacement,
and a Pod that is wrongly skipped without the part."""

THEN_AN_ERROR: Final[dict[str, tuple[str, str, dict[str, Any], bool]]] = {
    "object": ("type(object) == map && ", "", of_pod(None, operation="DELETE"), True),
    "containers-absent": ("has(object.spec.containers) && ", "", of_pod({"spec": {}}), False),
    "containers-none": (IS_LIST.format("containers"), "", of_pod({"spec": {}}), True),
    **{
        f"{k}-null": (IS_LIST.format(k), "", of_pod(spec(**{k: None})), False)
        for k in ("containers", "volumes")
    },
    **{
        f"{k}-null": (f"type(object.spec.{k}) == list", "true", of_pod(spec(**{k: None})), False)
        for k in ("initContainers", "ephemeralContainers")
    },
    "containers-long": (SHORT.format("containers"), "", of_pod(
        spec(containers=[container(LONGEST)] * 3000)), True),
    "image-absent": ("has(c.image) && ", "", of_pod(spec(containers=[{"name": "c"}])), True),
    "volume-without-image": (".filter(v, has(v.image)).map", ".map", of_pod(
        spec(volumes=[{"name": "empty"}], initContainers=[container(GOOD)])), True),
    "reference-absent": ("has(v.image.reference) ? v.image.reference : ''", "v.image.reference", of_pod(
        spec(volumes=[{"name": "i", "image": {}}])), True),
}  # fmt: skip
"""Each key names a part of the expression. The values are the text of the part, its replacement, a request
that causes an error without the part, and whether an API server accepts that request. Today API servers
refuse the others when they decode them."""


@pytest.mark.parametrize("name", WRONGLY_SKIPPED)
def test_each_part_of_the_expression_is_needed(evaluator: Evaluator, name: str) -> None:
    """API servers call the webhook with the part. Without it, they wrongly skip a Pod."""
    form, removed, instead, review_document = WRONGLY_SKIPPED[name]
    typed = review_document["request"]["kind"] == {"group": "", "version": "v1", "kind": "Pod"}
    mutant = expression(form).replace(removed, instead)
    assert mutant != expression(form)
    assert evaluator.evaluate(expression(form), review_document, typed=typed).matches is True
    assert evaluator.evaluate(mutant, review_document, typed=typed).matches is False
    assert objection(document(form), review_document, "validating") != ""


@pytest.mark.parametrize("name", THEN_AN_ERROR)
def test_each_test_of_a_type_is_needed(evaluator: Evaluator, name: str) -> None:
    """The expression has a result with the test. Without it there is an error, which refuses the Pod."""
    removed, instead, review_document, typed = THEN_AN_ERROR[name]
    mutant = expression().replace(removed, instead)
    assert mutant != expression()
    answer = evaluator.evaluate(expression(), review_document, typed=typed)
    assert answer.error == ""
    assert evaluator.evaluate(mutant, review_document, typed=typed).error != ""


@pytest.mark.parametrize(
    ("name", "pattern", "image"),
    [
        ("aliases", "*.docker.io", "index.docker.io/library/x"),
        ("aliases", "registry.*.docker.com", "registry.hub.docker.com/library/x"),
        ("short-names", "docker.*/x", "docker.io/x"),
    ],
)
def test_an_image_that_is_read_as_another_image_is_excluded(
    evaluator: Evaluator, name: str, pattern: str, image: str
) -> None:
    approved = compile_fastpath(parse_policy(policy_text(allow=f"['{pattern}']")), INSTANT).approved[
        "validating"
    ]
    excluded = set(SPELLING[name](parse_policy(policy_text()), INSTANT))
    assert excluded & set(approved.excluded)
    mutant = replace(approved, excluded=tuple(each for each in approved.excluded if each not in excluded))
    review_document = of_pod(pod(image))
    assert evaluator.evaluate(cel.expression(approved).text, review_document).matches is True
    assert evaluator.evaluate(cel.expression(mutant).text, review_document).matches is False
    assert (
        objection({**document("named"), "allow": [pattern], "deny": []}, review_document, "validating") != ""
    )


def test_a_pod_with_nothing_to_run_calls_the_webhook(evaluator: Evaluator) -> None:
    """A Pod without containers is unusual, even if its images are fine."""
    mutant = expression().replace("size(object.spec.containers) > 0", "true")
    review_document = of_pod(spec(containers=[]))
    assert evaluator.evaluate(expression(), review_document).matches is True
    assert evaluator.evaluate(mutant, review_document).matches is False
