"""The expressions as an API server's own code evaluates them, against our model and against the law.

Needs Go and the Go modules of the end-to-end tests' Kubernetes; is skipped without them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from budget import budget
from builders import container, pod, policy_text, review
from evaluating import COST_LIMIT, Evaluator, RefusedError, UnavailableError, build
from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.compile import expression as cel
from gatekeeper_py.core.compile.expression import Place
from gatekeeper_py.core.compile.preapproved import ENDPOINTS, compile_fastpath
from plainness import heard
from property.test_fastpath_properties import PARTS, REGISTRIES, accepted, images_of, policies, texts

pytestmark = pytest.mark.timeout(900)  # the first run compiles what the control plane's build has not

DATA: Final = Path(__file__).parents[2] / "data"
DIGEST: Final = "@sha256:" + "7c" * 32
TEXT: Final = policy_text(allow="[a.io, 'b.io:5000/team/**', c.io/x/app, 'd.io@*']")
FAST: Final = compile_fastpath(parse_policy(TEXT))
NAMED_TEXT: Final = policy_text(allow="[a.io, a.io/x/**, 'b.io:5000/team/**']")
NAMED: Final = compile_fastpath(parse_policy(NAMED_TEXT))
"""Of registries and subtrees alone, so with the names in the form."""

BOTH: Final = {"listed": (TEXT, FAST), "named": (NAMED_TEXT, NAMED)}
PLAIN: Final = "a.io/x:1"
EVIL: Final = "evil.io/x:1"
DIFFERENTIAL: Final = settings(
    max_examples=budget(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def evaluator() -> Iterator[Evaluator]:
    try:
        binary = build()
    except UnavailableError as missing:
        pytest.skip(str(missing))
    with Evaluator(binary) as running:
        yield running


def expression(form: str = "listed") -> str:
    _, fastpath = BOTH[form]
    assert fastpath.validating is not None
    return fastpath.validating


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [container(PLAIN)], **fields}}


def of_pod(obj: Any, **more: Any) -> dict[str, Any]:
    return review(obj, kind=("", "Pod"), **more)


@DIFFERENTIAL
@given(policies, st.data())
def test_the_api_server_and_the_model_agree_on_images(
    evaluator: Evaluator, a_document: dict[str, Any], data: st.DataObject
) -> None:
    """And what is skipped would have been allowed without a word."""
    fastpath = compile_fastpath(accepted(a_document))
    asked = of_pod(pod(*images_of(fastpath, data, others=texts)))
    for endpoint in ENDPOINTS:
        condition = fastpath.expression(endpoint)
        if condition is None:
            continue
        answer = evaluator.evaluate(condition, asked)
        assert answer.error == ""
        assert answer.matches is not fastpath.skips(wire.parse(asked), endpoint)
        if not answer.matches:
            event("skipped")
            assert heard(json.dumps(a_document), asked, endpoint) == ""


subtrees = st.builds(
    lambda host, parts: Place("/".join((host, *parts, ""))),
    st.sampled_from([*REGISTRIES, "foo", "localhosts", "a.iox"]),
    st.lists(st.sampled_from(PARTS), max_size=2),
)


@DIFFERENTIAL
@given(st.frozensets(subtrees, min_size=1, max_size=6), st.data())
def test_names_in_the_form_are_as_good_as_in_a_list(
    evaluator: Evaluator, places: frozenset[Place], data: st.DataObject
) -> None:
    """The places' own texts, altered, are what could be taken for one of them."""
    near = st.builds(
        "{}{}{}".format,
        st.sampled_from(sorted(place.text for place in places)),
        st.sampled_from([*PARTS, "a/b", "", "X", "-", "/a", "a//b", " a"]),
        st.sampled_from(["", ":v1", DIGEST, f":v1{DIGEST}"]) | st.sampled_from([":", DIGEST[:-1], "\n", "/"]),
    )
    image = data.draw(near)
    answer = evaluator.evaluate(cel.expression(places), of_pod(pod(image)))
    assert answer.error == ""
    assert answer.matches is (cel.holding(places, image) is None)
    event("skipped" if not answer.matches else "asked")


IMAGES = [
    PLAIN,
    PLAIN,
    "b.io:5000/team/x",
    "c.io/x/app",
    f"d.io/x{DIGEST}",
    "d.io/x",
    EVIL,
    "nginx",
    "",
    "a.io/x\n",
]
KEYS = [
    "containers",
    "initContainers",
    "ephemeralContainers",
    "volumes",
    "image",
    "reference",
    "name",
    "spec",
]
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


@pytest.mark.parametrize("form", BOTH)
@DIFFERENTIAL
@given(objects, st.sampled_from(["CREATE", "UPDATE", "DELETE", "CONNECT"]))
def test_no_pod_is_an_error(evaluator: Evaluator, form: str, obj: Any, operation: str) -> None:
    """Whatever a Pod is, the answer is the model's; an error would be the failure policy's."""
    text, fastpath = BOTH[form]
    asked = of_pod(obj if isinstance(obj, dict) else None, operation=operation)
    try:
        answer = evaluator.evaluate(expression(form), asked)
    except RefusedError:
        event("not decoded")  # nor would an API server
        return
    assert answer.error == ""
    sent = of_pod(answer.sent, operation=operation)
    assert answer.matches is not fastpath.skips(wire.parse(sent), "validating")
    # API servers before 1.37 make a mapping of the Pod that they decoded.
    older = evaluator.evaluate(expression(form), sent, typed=False)
    assert (older.error, older.matches) == ("", answer.matches)
    if not answer.matches:
        event("skipped")
        assert heard(text, sent, "validating") == ""


REVIEWS: Final = DATA / "reviews"


@pytest.mark.parametrize("name", sorted(path.name for path in REVIEWS.iterdir()))
def test_the_golden_reviews(evaluator: Evaluator, name: str) -> None:
    """Objects as an API server sends them, under a policy that approves most of their registries."""
    given_review = json.loads((REVIEWS / name / "request.json").read_text())
    request = {"object": None, "oldObject": None, **given_review["request"]}
    asked = {**given_review, "request": request}
    text = policy_text(
        "mirrors: [{from: docker.io, to: registry.corp.io/dockerhub}]",
        allow="[registry.corp.io, ghcr.io, quay.io]",
    )
    fastpath = compile_fastpath(parse_policy(text))
    for endpoint in ENDPOINTS:
        condition = fastpath.expression(endpoint)
        assert condition is not None
        answer = evaluator.evaluate(condition, asked, typed=request["kind"]["kind"] == "Pod")
        assert answer.error == ""
        assert answer.matches is not fastpath.skips(wire.parse(asked), endpoint)
        if not answer.matches:
            assert heard(text, asked, endpoint) == ""


def test_some_golden_reviews_are_skipped() -> None:
    fastpath = compile_fastpath(parse_policy(policy_text(allow="[registry.corp.io, ghcr.io, quay.io]")))
    requests = (json.loads((path / "request.json").read_text()) for path in REVIEWS.iterdir())
    assert {fastpath.skips(wire.parse(request), "validating") for request in requests} == {True, False}


def full(reference: str, *, length: int = cel.MAX_LIST_LENGTH) -> dict[str, Any]:
    """A Pod whose four lists are as long as they may be."""
    listed = [container(reference)] * length
    return spec(
        containers=listed,
        initContainers=listed,
        ephemeralContainers=listed,
        volumes=[{"name": "i", "image": {"reference": reference}}] * length,
    )


def longest(place: Place) -> str:
    """The image in a place that is dearest to look at."""
    suffix = f":{'t' * 60}{DIGEST}"
    room = cel.MAX_TEXT_LENGTH - len(place.text) - len(suffix)
    return f"{place.text}{'x' * room}{suffix}" if place.depth else f"{place.text}{suffix}"


@pytest.mark.parametrize(
    "places",
    [
        pytest.param(frozenset({Place("a.io/")}), id="one"),
        pytest.param(frozenset(Place(f"registry-{n}.corp.io/team/") for n in range(20)), id="a-few"),
        pytest.param(
            frozenset(Place(f"r{n}.io/" + "x/" * (n % 8), pinned=n % 2 == 0) for n in range(200)),
            id="many-depths",
        ),
        pytest.param(frozenset(Place(f"registry-{n}.corp.io/team/") for n in range(1900)), id="many-rules"),
        pytest.param(frozenset(Place(f"{n:x}.io/") for n in range(4000)), id="many-short-rules"),
        pytest.param(frozenset(Place(f"r.io/{n}/{'x' * 50}/app") for n in range(800)), id="repositories"),
    ],
)
def test_the_cost_is_within_what_was_calculated(evaluator: Evaluator, places: frozenset[Place]) -> None:
    """For the largest Pod that is looked at, whose last image alone is not plain."""
    assert cel.fits(places)
    obj = full(longest(max(places, key=lambda place: (place.pinned, place.depth))))
    condition = cel.expression(places)
    answer = evaluator.evaluate(condition, of_pod(obj))
    assert (answer.matches, answer.error) == (False, "")
    obj["spec"]["volumes"][-1] = {"name": "i", "image": {"reference": longest(Place("none.io/" + "y/" * 8))}}
    answer = evaluator.evaluate(condition, of_pod(obj))
    assert (answer.matches, answer.error) == (True, "")
    assert answer.cost <= cel.cost(places) <= cel.MAX_COST < COST_LIMIT
    assert answer.cost > cel.cost(frozenset({Place("a.io/")})) / 2  # so that the calculation is not idle


@pytest.mark.parametrize("key", ["containers", "initContainers", "ephemeralContainers", "volumes"])
def test_very_long_lists_cost_nothing(evaluator: Evaluator, key: str) -> None:
    item = {"name": "v", "image": {"reference": PLAIN}} if key == "volumes" else container(PLAIN)
    answer = evaluator.evaluate(expression(), of_pod(spec(**{key: [item] * 5000})))
    assert (answer.matches, answer.error) == (True, "")
    assert answer.cost < 100


def test_a_very_long_image_costs_nothing(evaluator: Evaluator) -> None:
    answer = evaluator.evaluate(expression(), of_pod(pod("a.io/" + "x" * 1_000_000)))
    assert (answer.matches, answer.error) == (True, "")
    assert answer.cost < 200


LONGEST: Final = longest(Place("a.io/"))
SHORT = " && size(object.spec.{0}) <= 32"
IS_LIST = "type(object.spec.{0}) == list && "
JOINED = "\n    + (has(object.spec.{0}) ? object.spec.{0} : [])"
LISTS = ("containers", "initContainers", "ephemeralContainers", "volumes")
IMAGE_VOLUME: Final = {"name": "i", "image": {"reference": EVIL}}
INIT_EVIL: Final = of_pod(spec(initContainers=[container(EVIL)]))
DEBUG_EVIL: Final = of_pod(spec(ephemeralContainers=[container(EVIL)]))
VOLUME_EVIL: Final = of_pod(spec(volumes=[IMAGE_VOLUME]))

WRONGLY_SKIPPED: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "kind": ("object.kind == 'Pod'", "true", review(
        {**spec(), "template": {"spec": {"containers": [container(EVIL)]}}}, kind=("", "PodTemplate"))),
    "group": ("object.apiVersion == 'v1'", "true", review(
        {"spec": {"containers": [container(PLAIN)], "more": {"containers": [container(EVIL)]}}},
        kind=("example.com", "Pod"))),
    "containers": (": object.spec.containers)", ": [])", of_pod(pod(PLAIN, EVIL))),
    "containers-among-others": ("? object.spec.containers\n", "? []\n", of_pod(
        pod(PLAIN, EVIL, initContainers=[container(PLAIN)]))),
    "init-containers": (JOINED.format("initContainers"), "", INIT_EVIL),
    "init-containers-seen": ("(has(object.spec.initContainers) || has", "(has", INIT_EVIL),
    "ephemeral-containers": (JOINED.format("ephemeralContainers"), "", DEBUG_EVIL),
    "ephemeral-containers-seen": (" || has(object.spec.ephemeralContainers)", "", DEBUG_EVIL),
    "volumes": ("(has(object.spec.volumes) ? object.spec.volumes : [])", "[]", VOLUME_EVIL),
    "volumes-seen": ("object.spec.volumes.exists(v, has(v.image))", "false", VOLUME_EVIL),
    "image-volumes": (".filter(v, has(v.image))", ".filter(v, !has(v.image))", VOLUME_EVIL),
    "every-image": (").all(c,", ").exists(c,", of_pod(pod(PLAIN, EVIL))),
    "length": ("size(c.image) <= 255", "true", of_pod(pod("a.io/" + "x" * 256))),
    "form": ("c.image.matches(", "'a.io/x'.matches(", of_pod(pod("a.io/x y"))),
    "start": ("'^(?:(?:[^.:/]*[.:]", "'(?:(?:[^.:/]*[.:]", of_pod(pod("a.io/BAD/a.io/x"))),
    "end": ("{64})?)$'", "{64})?)'", of_pod(pod("a.io/x\n"))),
    "pinned": ("c.image.contains('@')", "true", of_pod(pod("d.io/x"))),
    "whole-segments": ("'b.io:5000/team/'", "'b.io:5000/'", of_pod(pod("b.io:5000/x"))),
    "named-start": ("'^(?:a[.]io/", "'(?:a[.]io/", of_pod(pod("evil.io/a.io/x"))),
    "named-end": ("{64})?$'", "{64})?'", of_pod(pod("a.io/x\n"))),
    "named-dot": ("a[.]io/", "a.io/", of_pod(pod("axio/x"))),
    "named-segment": ("/team/)", "/team)/?", of_pod(pod("b.io:5000/teams/x"))),
    "named-together": ("(?:a[.]io/|b[.]io:5000/team/)", "a[.]io/|b[.]io:5000/team/", of_pod(pod("a.io/BAD"))),
}  # fmt: skip
"""What is taken out -> its text, what stands there instead, and a Pod that is then skipped wrongly.

``whole-segments`` is about the depth of a text: cut elsewhere it is another place. Those that begin with
``named`` are of the form with the names in it.
"""

THEN_AN_ERROR: Final[dict[str, tuple[str, str, dict[str, Any], bool]]] = {
    "object": ("type(object) == map && ", "", of_pod(None, operation="DELETE"), True),
    "containers-absent": ("has(object.spec.containers) && ", "", of_pod({"spec": {}}), False),
    "containers-none": (IS_LIST.format("containers"), "", of_pod({"spec": {}}), True),
    **{f"{k}-null": (IS_LIST.format(k), "", of_pod(spec(**{k: None})), False) for k in LISTS},
    **{
        f"{k}-long": (SHORT.format(k), "", of_pod(spec(**{k: [container(LONGEST)] * 3000})), True)
        for k in LISTS[:3]
    },
    "volumes-long": (SHORT.format("volumes"), "", of_pod(
        spec(volumes=[{"image": {"reference": LONGEST}}] * 3000)), True),
    "image-absent": ("has(c.image) && ", "", of_pod(spec(containers=[{"name": "c"}])), True),
    "volume-without-image": (".filter(v, has(v.image))", "", of_pod(
        spec(volumes=[{"name": "empty"}], initContainers=[container(PLAIN)])), True),
    "reference-absent": ("has(v.image.reference) ? v.image.reference : ''", "v.image.reference", of_pod(
        spec(volumes=[{"name": "i", "image": {}}])), True),
}  # fmt: skip
"""What is taken out -> its text, what stands there instead, a request that is then an error, and whether
an API server can be sent that; the others are refused when they are decoded, today."""


@pytest.mark.parametrize("name", WRONGLY_SKIPPED)
def test_each_part_of_the_expression_is_needed(evaluator: Evaluator, name: str) -> None:
    """With it the webhook is asked; without it the Pod is skipped, and that breaks the law."""
    removed, instead, asked = WRONGLY_SKIPPED[name]
    form = "named" if name.startswith("named") else "listed"
    typed = asked["request"]["kind"] == {"group": "", "version": "v1", "kind": "Pod"}
    mutant = expression(form).replace(removed, instead)
    if name == "whole-segments":
        mutant = mutant.replace("find('^(?:[^/]+/){2}') in", "find('^(?:[^/]+/){1}') in")
    assert mutant != expression(form)
    assert evaluator.evaluate(expression(form), asked, typed=typed).matches is True
    assert evaluator.evaluate(mutant, asked, typed=typed).matches is False
    assert heard(BOTH[form][0], asked, "validating") != ""


@pytest.mark.parametrize("name", THEN_AN_ERROR)
def test_each_test_of_a_type_is_needed(evaluator: Evaluator, name: str) -> None:
    """With it the webhook is asked; without it there is an error, which refuses the Pod."""
    removed, instead, asked, typed = THEN_AN_ERROR[name]
    mutant = expression().replace(removed, instead)
    assert mutant != expression()
    answer = evaluator.evaluate(expression(), asked, typed=typed)
    assert (answer.error, answer.matches) == ("", name != "volume-without-image")  # which is plain
    assert evaluator.evaluate(mutant, asked, typed=typed).error != ""


def test_a_name_that_begins_with_no_registry_is_asked_about(evaluator: Evaluator) -> None:
    """Even if it were listed: ``foo/app`` is an image of Docker Hub's."""
    condition = cel.expression(frozenset({Place("foo/"), Place("localhost/"), Place("foo:5000/")}))
    for image, asked in (("foo/app", True), ("localhost/app", False), ("foo:5000/app", False)):
        answer = evaluator.evaluate(condition, of_pod(pod(image)))
        assert (answer.matches, answer.error) == (asked, "")


def test_nothing_to_run_is_asked_about(evaluator: Evaluator) -> None:
    """A Pod without containers is odd, though nothing is wrong with its images."""
    mutant = expression().replace("size(object.spec.containers) > 0", "true")
    asked = of_pod(spec(containers=[]))
    assert evaluator.evaluate(expression(), asked).matches is True
    assert evaluator.evaluate(mutant, asked).matches is False
