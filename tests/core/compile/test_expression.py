"""The Python model of the expression, its forms, and the limits of its length and cost."""

from __future__ import annotations

from typing import Any, Final

import pytest

from builders import container, pod, review
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.compile import expression as cel
from gatekeeper_py.core.compile.cost import EXPRESSION_LENGTH_LIMIT
from gatekeeper_py.core.compile.preapproved import EVERYTHING
from gatekeeper_py.core.images.entry import Entry
from skipping import entry, pre_approved

APPROVED: Final = pre_approved("a.io")
GOOD, BAD = "a.io/x:1", "evil.io/x:1"
IMAGE_VOLUME: Final = {"name": "i", "image": {"reference": GOOD}}


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [container(GOOD)], **fields}}


@pytest.mark.parametrize(
    ("obj", "skipped"),
    [
        pytest.param(pod(GOOD), True, id="pre-approved"),
        pytest.param(pod(GOOD, GOOD), True, id="two-of-them"),
        pytest.param(pod(GOOD, BAD), False, id="one-is-not"),
        pytest.param(spec(initContainers=[container(GOOD)]), True, id="init-container"),
        pytest.param(spec(initContainers=[container(BAD)]), False, id="other-init-container"),
        pytest.param(spec(ephemeralContainers=[container(GOOD)]), True, id="ephemeral-container"),
        pytest.param(spec(ephemeralContainers=[container(BAD)]), False, id="other-ephemeral-container"),
        pytest.param(spec(volumes=[IMAGE_VOLUME, {"name": "empty"}]), True, id="image-volume"),
        pytest.param(spec(volumes=[{"image": {"reference": BAD}}]), False, id="other-image-volume"),
        pytest.param(spec(volumes=[{"image": {}}]), False, id="image-volume-without-reference"),
        pytest.param(spec(volumes=[{"image": None}]), False, id="image-volume-null"),
        pytest.param(spec(volumes=[{"image": GOOD}]), False, id="image-volume-as-text"),
        pytest.param(spec(volumes=["x"]), False, id="volume-as-text"),
        pytest.param(spec(volumes=None), False, id="volumes-null"),
        pytest.param(spec(initContainers=None), False, id="init-containers-null"),
        pytest.param(spec(initContainers={}), False, id="init-containers-as-mapping"),
        pytest.param(spec(initContainers=[]), True, id="no-init-containers"),
        pytest.param(spec(containers=[]), False, id="no-containers"),
        pytest.param(spec(containers=None), False, id="containers-null"),
        pytest.param(spec(containers={"a": 1}), False, id="containers-as-mapping"),
        pytest.param(spec(containers=["x"]), False, id="container-as-text"),
        pytest.param(spec(containers=[{"name": "x"}]), False, id="image-missing"),
        pytest.param(spec(containers=[container(None)]), False, id="image-null"),
        pytest.param(spec(containers=[container("")]), False, id="image-empty"),
        pytest.param(spec(containers=[container(7)]), False, id="image-as-number"),
        pytest.param(spec(containers=[container([GOOD])]), False, id="image-as-list"),
        pytest.param(spec(containers=[container(GOOD)] * 32), True, id="32-containers"),
        pytest.param(spec(containers=[container(GOOD)] * 33), False, id="33-containers"),
        pytest.param(
            spec(containers=[container(GOOD)] * 16, initContainers=[container(GOOD)] * 16),
            True,
            id="32-in-two-lists",
        ),
        pytest.param(
            spec(containers=[container(GOOD)] * 16, initContainers=[container(GOOD)] * 17),
            False,
            id="33-in-two-lists",
        ),
        pytest.param(
            spec(volumes=[*[{"name": "x"}] * 32, *[IMAGE_VOLUME] * 31]), True, id="31-image-volumes"
        ),
        pytest.param(spec(volumes=[IMAGE_VOLUME] * 32), False, id="32-image-volumes-and-a-container"),
        pytest.param(spec(volumes=[{"name": "x"}] * 64), True, id="64-volumes"),
        pytest.param(spec(volumes=[{"name": "x"}] * 65), False, id="65-volumes"),
        pytest.param({"spec": {}}, False, id="containers-missing"),
        pytest.param({"spec": None}, False, id="spec-null"),
        pytest.param({"spec": [1]}, False, id="spec-as-list"),
        pytest.param({}, False, id="spec-missing"),
        pytest.param(None, False, id="no-object"),
        pytest.param("x", False, id="object-as-text"),
    ],
)
def test_a_pod_is_skipped_or_sent_to_the_webhook(obj: Any, skipped: bool) -> None:  # noqa: FBT001
    request = wire.parse(review(obj, kind=("", "Pod")))
    assert cel.skips(APPROVED, request) is skipped
    assert cel.skips(EVERYTHING, request)


@pytest.mark.parametrize("kind", [("apps", "Pod"), ("", "PodTemplate"), ("apps", "Deployment")])
def test_only_pods_are_skipped(kind: tuple[str, str]) -> None:
    assert not cel.skips(APPROVED, wire.parse(review(pod(GOOD), kind=kind)))


@pytest.mark.parametrize(
    ("namespace", "skipped"), [("shop", True), ("team-a", True), ("other", False), (None, False)]
)
def test_a_pod_in_a_namespace(namespace: str | None, skipped: bool) -> None:  # noqa: FBT001
    approved = pre_approved(entry("a.io", "shop", "team-*"))
    assert cel.skips(approved, wire.parse(review(pod(GOOD), namespace=namespace))) is skipped


def test_without_a_namespace_a_pod_is_skipped_only_where_namespaces_do_not_matter() -> None:
    review_document = wire.parse(review(pod(GOOD), namespace=None))
    assert cel.skips(APPROVED, review_document)
    assert not cel.skips(pre_approved("a.io", entry("b.io", "shop")), review_document)


@pytest.mark.parametrize(
    ("patterns", "excluded", "form"),
    [
        pytest.param(["a.io"], [], "^(?:a[.]io/)[a-z0-9]+", id="registry"),
        pytest.param(["b.io/t/**", "a.io"], [], "^(?:a[.]io/|b[.]io/t/)[a-z0-9]+", id="subtree"),
        pytest.param(["*.a.io:5000"], [], "^(?:[a-z0-9]+(?:-+[a-z0-9]+)*[.]a[.]io:5000/)", id="whole-label"),
        pytest.param(
            ["a.io/*/**"], [], "^(?:a[.]io/[a-z0-9]+(?:(?:[.]|__?|-+)[a-z0-9]+)*/)", id="whole-segment"
        ),
        pytest.param(
            ["a.io@*", "b.io@*"],
            [],
            "(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?@sha256:[0-9a-f]{64}$",
            id="pinned",
        ),
        pytest.param(
            ["a.io"], ["*/**:latest"], "(?:@sha256:[0-9a-f]{64})?|@sha256:[0-9a-f]{64})$", id="tag-or-digest"
        ),
        pytest.param(["a.io"], ["a.io/**:latest"], "127})?(?:@sha256:[0-9a-f]{64})?$", id="tag-or-none"),
    ],
)
def test_a_few_names_stand_in_the_form(patterns: list[str], excluded: list[str], form: str) -> None:
    """An API server evaluates them faster there."""
    part = cel.expression(pre_approved(*patterns, excluded=excluded))
    assert form in part.text
    assert part.text.count(".matches(") == 1 + (excluded == ["a.io/**:latest"])
    assert cel.fits(part)


@pytest.mark.parametrize(
    ("patterns", "comparison"),
    [
        pytest.param(
            ["a.io", "b.io/x"],
            "c.image.startsWith('a.io/') || c.image.find('^[^/]+/[^:@]+') in ['b.io/x']",
            id="a-repository",
        ),
        pytest.param(
            ["a.io", "b.io@*"], "(c.image.contains('@') && c.image.startsWith('b.io/'))", id="one-pinned"
        ),
        pytest.param(
            ["a.io/x:v1", "a.io/y:latest"], "c.image in ['a.io/x:v1', 'a.io/y', 'a.io/y:latest']", id="tags"
        ),
        pytest.param(["a.io/team-*/**"], "^[^/]+/[a-z0-9]+", id="part-of-a-segment"),
        pytest.param(["eu-*.a.io"], "^[a-z0-9]+(?:-+[a-z0-9]+)*(?:[.]", id="part-of-a-label"),
        pytest.param(["a.io/**:v*"], "c.image.matches('^a[.]io/[^:@]+:v[A-Za-z0-9_.-]*$')", id="tag-glob"),
        pytest.param(
            [f"{'x' * 20}{n}.corp.io" for n in range(40)],
            "c.image.find('^(?:[^/]+/){1}') in ['xxx",
            id="too-many",
        ),
        pytest.param(
            [f"{'x.' * 10}{n}.io" for n in range(30)],
            "c.image.find('^(?:[^/]+/){1}') in ['x.x",
            id="too-long-when-written",
        ),
    ],
)
def test_other_names_are_compared(patterns: list[str], comparison: str) -> None:
    part = cel.expression(pre_approved(*patterns))
    assert comparison in part.text
    assert cel.fits(part)


def test_namespaces_are_compared_with_the_requests() -> None:
    part = cel.expression(pre_approved("a.io", entry("b.io", "shop"), excluded=[entry("a.io/x", "t-*", "u")]))
    assert "&& has(request.namespace)" in part.text
    assert "(c.image.startsWith('a.io/') || (request.namespace == 'shop' && c.image" in part.text
    assert "!((request.namespace == 'u' || request.namespace.startsWith('t-')) && c.image" in part.text


@pytest.mark.parametrize(
    ("excluded", "comparison"),
    [
        pytest.param(
            entry("*/**:latest", "shop"),
            "!(request.namespace == 'shop' && (c.image.endsWith(':latest')"
            " || c.image.matches('^[^/]+/[^:@]+$')))",
            id="latest-in-one-namespace",
        ),
        pytest.param(
            entry("*/**:dev", "a", "b"),
            "!(request.namespace in ['a', 'b'] && c.image.endsWith(':dev'))",
            id="another-tag",
        ),
        pytest.param(
            entry("a.io/x", "*-a", "a-*-b", "*a*"),
            "(request.namespace.endsWith('-a') || request.namespace.matches('^.*a.*$') ||"
            " request.namespace.matches('^a-.*-b$'))",
            id="globs-of-namespaces",
        ),
    ],
)
def test_an_exclusion_compares_its_namespaces(excluded: Entry, comparison: str) -> None:
    assert comparison in cel.expression(pre_approved("a.io", excluded=[excluded])).text


def test_the_bounds_are_of_length_and_of_cost() -> None:
    """Many wildcards exceed the cost limit first; many names exceed the length limit first."""
    wildcards = cel.expression(pre_approved(*(f"a.io/x{number}-*/**" for number in range(300))))
    assert wildcards.cost > cel.MAX_COST
    assert len(wildcards.text) < cel.MAX_EXPRESSION_LENGTH
    names = cel.expression(pre_approved(*(f"a.io/{number:x}{'x' * 200}/**" for number in range(500))))
    assert names.cost < cel.MAX_COST
    assert len(names.text) > cel.MAX_EXPRESSION_LENGTH
    assert not cel.fits(wildcards)
    assert not cel.fits(names)
    assert cel.MAX_EXPRESSION_LENGTH < EXPRESSION_LENGTH_LIMIT


def test_the_expression_is_false_when_every_pod_is_skipped() -> None:
    assert cel.expression(EVERYTHING) == ("false", 0, False)
