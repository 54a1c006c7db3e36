"""The expression's model in Python, and the bounds within which it is kept."""

from __future__ import annotations

from typing import Any

import pytest

from builders import container, pod, review
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.compile import expression as cel
from gatekeeper_py.core.compile.expression import Place

DIGEST = "@sha256:" + "7c" * 32
PLACES = frozenset(
    {
        Place("a.io/"),
        Place("b.io:5000/team/"),
        Place("c.io/x/app"),
        Place("d.io/", pinned=True),
        Place("localhost/"),
        Place("foo:5000/"),
        Place("foo/"),
        Place("localhosts/"),
    }
)
"""The last two are no registries, and nothing lies in them."""


@pytest.mark.parametrize(
    ("image", "place"),
    [
        pytest.param("a.io/x", "a.io/", id="registry"),
        pytest.param("a.io/x/y/z:v1", "a.io/", id="deep-with-a-tag"),
        pytest.param(f"a.io/x:v1{DIGEST}", "a.io/", id="tag-and-digest"),
        pytest.param("a.io/" + "x" * 250, "a.io/", id="255-characters"),
        pytest.param("b.io:5000/team/app", "b.io:5000/team/", id="port"),
        pytest.param("c.io/x/app", "c.io/x/app", id="repository"),
        pytest.param("c.io/x/app:v1", "c.io/x/app", id="repository-with-a-tag"),
        pytest.param(f"c.io/x/app{DIGEST}", "c.io/x/app", id="repository-with-a-digest"),
        pytest.param(f"d.io/x{DIGEST}", "d.io/", id="pinned"),
        pytest.param("localhost/x", "localhost/", id="localhost"),
        pytest.param("foo:5000/x", "foo:5000/", id="dotless-with-a-port"),
        pytest.param("foo/x", None, id="dotless-without-a-port"),
        pytest.param("localhosts/x", None, id="nearly-localhost"),
        pytest.param("a.io/" + "x" * 251, None, id="256-characters"),
        pytest.param("a.io", None, id="registry-alone"),
        pytest.param("a.io/", None, id="nothing-below"),
        pytest.param("A.io/x", None, id="upper-case-registry"),
        pytest.param("a.io/X", None, id="upper-case-repository"),
        pytest.param("a.io:443/x", None, id="default-port"),
        pytest.param("b.io:05000/team/app", None, id="port-with-a-zero"),
        pytest.param("b.io/team/app", None, id="port-missing"),
        pytest.param("b.io:5000/team", None, id="subtree-wants-one-more"),
        pytest.param("b.io:5000/teams/app", None, id="longer-segment"),
        pytest.param("c.io/x/app/y", None, id="below-a-repository"),
        pytest.param("c.io/x/apple", None, id="longer-repository"),
        pytest.param("d.io/x", None, id="not-pinned"),
        pytest.param("d.io/x@sha256:7c", None, id="short-digest"),
        pytest.param("d.io/x@sha512:" + "7c" * 64, None, id="sha512"),
        pytest.param(f"d.io/x{DIGEST.upper()}", None, id="upper-case-digest"),
        pytest.param("a.io/x@v1", None, id="no-digest"),
        pytest.param("a.io/x:", None, id="empty-tag"),
        pytest.param("a.io/x:" + "v" * 129, None, id="long-tag"),
        pytest.param("a.io/x\n", None, id="final-newline"),
        pytest.param("a.io/x\0", None, id="nul"),
        pytest.param(" a.io/x", None, id="leading-space"),
        pytest.param("a.io/é", None, id="not-ascii"),
        pytest.param("a.io/x:é", None, id="not-ascii-tag"),
        pytest.param("a.io/x:\u0663", None, id="arabic-digit"),
        pytest.param("\uff41.io/x", None, id="full-width-letter"),
        pytest.param("a.io/\u212a", None, id="kelvin-sign"),
        pytest.param("a.io//x", None, id="empty-segment"),
        pytest.param("a.io/x___y", None, id="three-underscores"),
        pytest.param("a.io/$(IMAGE)", None, id="variable"),
        pytest.param("evil.io/a.io/x", None, id="registry-in-the-path"),
        pytest.param("evil.io:80@a.io/x", None, id="registry-after-at"),
        pytest.param("a.io\\@evil.io/x", None, id="backslash"),
        pytest.param("https://a.io/x", None, id="scheme"),
        pytest.param("a.io/x') || true || ('", None, id="text-of-an-expression"),
        pytest.param("", None, id="empty"),
        pytest.param("nginx", None, id="short-name"),
    ],
)
def test_what_lies_in_a_place(image: str, place: str | None) -> None:
    held = cel.holding(PLACES, image)
    assert (None if held is None else held.text) == place


@pytest.mark.parametrize(
    ("place", "covered"),
    [
        pytest.param(Place("a.io/"), True, id="itself"),
        pytest.param(Place("a.io/x/y/"), True, id="below"),
        pytest.param(Place("a.io/x"), True, id="repository-below"),
        pytest.param(Place("a.io/x", pinned=True), True, id="pinned-below"),
        pytest.param(Place("d.io/x", pinned=True), True, id="pinned-below-pinned"),
        pytest.param(Place("d.io/x"), False, id="below-pinned"),
        pytest.param(Place("d.io/"), False, id="pinned-is-narrower"),
        pytest.param(Place("b.io:5000/"), False, id="above"),
        pytest.param(Place("b.io:5000/team"), False, id="root-of-a-subtree"),
        pytest.param(Place("c.io/x/app/"), False, id="below-a-repository"),
    ],
)
def test_what_covers_a_place(place: Place, covered: bool) -> None:  # noqa: FBT001
    assert (cel.covering(PLACES, place) is not None) is covered


GOOD, BAD = "a.io/x:1", "evil.io/x:1"
IMAGE_VOLUME = {"name": "i", "image": {"reference": GOOD}}


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [container(GOOD)], **fields}}


@pytest.mark.parametrize(
    ("obj", "skipped"),
    [
        pytest.param(pod(GOOD), True, id="plain"),
        pytest.param(pod(GOOD, GOOD), True, id="two-plain"),
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
        pytest.param(spec(volumes=[{"name": "x"}] * 33), False, id="33-volumes"),
        pytest.param({"spec": {}}, False, id="containers-missing"),
        pytest.param({"spec": None}, False, id="spec-null"),
        pytest.param({"spec": [1]}, False, id="spec-as-list"),
        pytest.param({}, False, id="spec-missing"),
        pytest.param(None, False, id="no-object"),
        pytest.param("x", False, id="object-as-text"),
    ],
)
def test_which_pods_are_skipped(obj: Any, skipped: bool) -> None:  # noqa: FBT001
    request = wire.parse(review(obj, kind=("", "Pod")))
    assert cel.skips(PLACES, request) is skipped


@pytest.mark.parametrize("kind", [("apps", "Pod"), ("", "PodTemplate"), ("apps", "Deployment")])
def test_only_pods_are_skipped(kind: tuple[str, str]) -> None:
    assert not cel.skips(PLACES, wire.parse(review(pod(GOOD), kind=kind)))


@pytest.mark.parametrize(
    ("places", "in_the_form"),
    [
        pytest.param({Place("a.io/")}, ["a[.]io/"], id="registry"),
        pytest.param({Place("b.io/team/"), Place("a.io/")}, ["a[.]io/", "b[.]io/team/"], id="subtree"),
        pytest.param({Place("a.io/x/"), Place("a.io/")}, ["a[.]io/"], id="one-covers-the-other"),
        pytest.param({Place("a.io/"), Place("foo/")}, ["a[.]io/"], id="no-registry-is-left-out"),
        pytest.param({Place("foo/")}, None, id="no-registry"),
        pytest.param({Place("a.io/"), Place("b.io/x")}, None, id="a-repository"),
        pytest.param({Place("a.io/"), Place("b.io/", pinned=True)}, None, id="a-digest-wanted"),
        pytest.param({Place(f"{'x' * 20}{n}.corp.io/") for n in range(15)}, True, id="fifteen"),
        pytest.param({Place(f"{'x.' * 10}{n}.io/") for n in range(30)}, None, id="too-long-when-written"),
        pytest.param({Place(f"{'x' * 20}{n}.corp.io/") for n in range(40)}, None, id="too-many"),
    ],
)
def test_a_few_names_stand_in_the_form(places: set[Place], in_the_form: list[str] | bool | None) -> None:  # noqa: FBT001
    """An API server is quicker with them there; otherwise they are in lists."""
    condition = cel.expression(frozenset(places))
    assert (" in [" not in condition) is (in_the_form is not None)
    if isinstance(in_the_form, list):
        assert f"c.image.matches('^(?:{'|'.join(in_the_form)})[a-z0-9]+" in condition
    assert cel.fits(frozenset(places))


def test_the_bounds_are_of_length_and_of_cost() -> None:
    """Many short rules cost too much before they are too long, few long ones are too long."""
    short = frozenset(Place(f"{number:x}.io/") for number in range(6000))
    assert cel.cost(short) > cel.MAX_COST
    assert not cel.fits(short)
    long = frozenset(Place(f"a.io/{number:x}{'x' * 200}/") for number in range(500))
    assert cel.cost(long) < cel.MAX_COST
    assert len(cel.expression(long)) > cel.MAX_EXPRESSION_LENGTH
    assert not cel.fits(long)
    assert cel.fits(PLACES)
