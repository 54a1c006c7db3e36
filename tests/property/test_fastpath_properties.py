"""Properties of the fast path, over policies, images and whole Pods."""

from __future__ import annotations

from typing import Final

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from budget import budget
from builders import pod, review
from gatekeeper_py.core import Policy, PolicyError, parse_policy
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.compile.preapproved import ENDPOINTS, NEVER_ASKED, FastPath, compile_fastpath
from gatekeeper_py.core.images.reference import locate, parse_reference
from plainness import heard
from property.strategies import (
    DIGESTS,
    Document,
    allow_rules,
    any_text,
    deny_rules,
    document,
    images,
    mirrors,
    text_of,
    varied_images,
)

REGISTRIES: Final = ("a.io", "b.io", "a.io:5000", "localhost", "foo:5000", "foo:443", "eu.corp.io")
PARTS: Final = ("a", "ab", "b", "x-y", "library")

plain_rules: Final = st.builds(
    "{}/{}{}{}".format,
    st.sampled_from(REGISTRIES),
    st.lists(st.sampled_from(PARTS), max_size=2).map("/".join),
    st.sampled_from(["", "", "/**"]),
    st.sampled_from(["", "", "@*"]),
).map(lambda text: text.replace("//", "/"))
"""Rules that are plain unless something else in the policy is against it."""

canonical_images: Final = st.builds(
    "{}/{}{}{}".format,
    st.sampled_from([*REGISTRIES, "foo"]),
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("/".join),
    st.sampled_from(["", ":v1", ":latest"]),
    st.sampled_from(["", "", f"@{DIGESTS[0]}", f"@{DIGESTS[2]}"]),
)
texts: Final = canonical_images | images | varied_images | any_text
_ends = st.builds(
    "{}/{}".format, st.sampled_from(REGISTRIES), st.lists(st.sampled_from(PARTS), max_size=2).map("/".join)
)
near_mirrors: Final = st.lists(st.fixed_dictionaries({"from": _ends, "to": _ends}), min_size=1, max_size=1)
policies: Final = st.builds(
    document,
    st.lists(plain_rules | plain_rules | allow_rules, min_size=1, max_size=5),
    st.one_of(st.just([]), st.lists(deny_rules | plain_rules, max_size=2)),
    st.one_of(st.just([]), near_mirrors, mirrors),
)
suffixes: Final = st.sampled_from(["", ":v1", f"@{DIGESTS[0]}", f":v1@{DIGESTS[1]}", "@sha256:0"])
examples: Final = settings(max_examples=budget(150), deadline=None)


def accepted(a_document: Document) -> Policy:
    try:
        return parse_policy(text_of(a_document))
    except PolicyError:
        assume(False)
        raise


def images_of(fastpath: FastPath, data: st.DataObject, *, others: st.SearchStrategy[str]) -> list[str]:
    """A few images, most of them under something plain if there is anything."""
    places = sorted({place.text for endpoint in ENDPOINTS for place in fastpath.places[endpoint]})
    below = st.lists(st.sampled_from(PARTS), min_size=1, max_size=2).map("/".join)
    under = st.sampled_from(places or ["a.io/"]).flatmap(
        lambda text: st.builds(
            "{}{}{}".format, st.just(text), below if text.endswith("/") else st.just(""), suffixes
        )
    )
    return data.draw(st.lists(under | under | others, min_size=1, max_size=4), label="images")


@examples
@given(policies, st.data())
def test_plainly_approved_implies_approved(a_document: Document, data: st.DataObject) -> None:
    """``plainly approved implies approved by section 4, for every namespace and mode``."""
    fastpath = compile_fastpath(accepted(a_document))
    judged = images_of(fastpath, data, others=texts)
    for endpoint in ENDPOINTS:
        for image in judged:
            if fastpath.approves(image, endpoint):
                event("plain")
                said = heard(text_of(a_document), review(pod(image)), endpoint)
                assert said == ""


@examples
@given(policies, st.data())
def test_a_place_is_of_images_as_they_are_matched(a_document: Document, data: st.DataObject) -> None:
    """What is plain is written as it is folded, and never Docker Hub's."""
    fastpath = compile_fastpath(accepted(a_document))
    for image in images_of(fastpath, data, others=texts):
        if fastpath.approves(image, "validating"):
            reference = parse_reference(image)
            assert locate(reference).name == reference.name
            assert image == reference.canonical
            assert reference.registry != "docker.io"


@examples
@given(policies, texts)
def test_there_is_a_reason_for_every_image(a_document: Document, image: str) -> None:
    fastpath = compile_fastpath(accepted(a_document))
    for endpoint in ENDPOINTS:
        why = fastpath.why(image, endpoint)
        assert why.isascii()
        assert why.isprintable()
        plain = why.startswith("it lies under ") or why == NEVER_ASKED
        assert plain is fastpath.approves(image, endpoint)


@examples
@given(policies, policies, st.data())
def test_what_does_not_tighten_leaves_plain_what_was(
    before: Document, after: Document, data: st.DataObject
) -> None:
    old, new = compile_fastpath(accepted(before)), compile_fastpath(accepted(after))
    assert not new.tightens(new)
    judged = images_of(old, data, others=canonical_images)
    if not new.tightens(old):
        event("does not tighten")
        for endpoint in ENDPOINTS:
            for image in judged:
                assert new.approves(image, endpoint) or not old.approves(image, endpoint)


@examples
@given(policies, st.data())
def test_a_pod_is_skipped_when_all_its_images_are_plain(a_document: Document, data: st.DataObject) -> None:
    """And then both endpoints would have said nothing, on UPDATE too."""
    fastpath = compile_fastpath(accepted(a_document))
    judged = images_of(fastpath, data, others=canonical_images)
    volumes = [{"name": "i", "image": {"reference": data.draw(st.sampled_from(judged))}}, {"name": "e"}]
    obj = pod(*judged, volumes=volumes)
    operation = data.draw(st.sampled_from(["CREATE", "UPDATE"]))
    asked = review(obj, operation=operation)
    for endpoint in ENDPOINTS:
        plain = all(fastpath.approves(image, endpoint) for image in judged)
        assert fastpath.skips(wire.parse(asked), endpoint) is plain
        if plain:
            event("plain")
            assert heard(text_of(a_document), asked, endpoint) == ""
