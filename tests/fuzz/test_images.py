"""Any text is an invalid reference or one that survives printing and parsing, and every policy judges it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.mutations import ODD_TEXTS, mutated_text
from gatekeeper_py.core import InvalidReference, Reference, parse_reference
from gatekeeper_py.core.admission.explain import explain
from gatekeeper_py.core.images.reference import Location, locate
from gatekeeper_py.core.policy.cache import CacheCounts
from property.strategies import DIGESTS, HOSTS, any_text, images, namespaces, varied_images
from support.budget import budget
from support.builders import HUB_TO_CORP, policy

TOKENS: Final = (
    "/", "//", ":", "::", "@", "@sha256:", ".", "..", "-", "_", "__", "*", "%2f", "%00", "\0", " ", "\n",
    "\t", "\ud800", "\u2024", "\uff0e", "\u3002", "\u00ad", "\u0131", "\u212a", "K", "é", "[", "]", "[::1]",
    "[::1]:5000/", ":443", ":80", ":0443", ":65536", ":-1", ":+1", "library/", "docker.io/",
    "index.docker.io/", "registry-1.docker.io/", "localhost/", "https://", "user:pass@", "?x", "#x", "\\",
    "xn--", *DIGESTS, "sha256:", "A" * 129, "a" * 256,
)  # fmt: skip
ORIGINALS: Final = (
    *ODD_TEXTS,
    *(f"{host}/a/b:v1@{DIGESTS[0]}" for host in HOSTS),
    "nginx:1.25",
    f"registry.corp.io/hub/library/nginx@{DIGESTS[1]}",
)
POLICIES: Final = (
    policy(),
    policy(HUB_TO_CORP + "deny: [docker.io/library/nginx, '*/**:latest']\n", mode="mutate"),
    policy(allow="['*.io', docker.io, 'localhost:5000/', 'a.io/**:v*', {image: b.io, namespaces: [team-*]}]"),
)
PARTS: Final = ("registry", "repository", "tag", "digest")
any_image: Final = st.one_of(mutated_text(ORIGINALS, TOKENS), images, varied_images, any_text)


def parsed(image: str) -> Reference | None:
    with suppress(InvalidReference):
        return parse_reference(image)
    return None


def located(reference: Reference) -> Location | None:
    """Return the location of a reference; ``None`` if no policy may approve it."""
    with suppress(InvalidReference):
        return locate(reference)
    return None


def check_image(image: str, namespace: str | None) -> None:
    """Check all laws for one image."""
    reference = parsed(image)
    if reference is not None:
        assert reference.raw == image
        assert reference.canonical.isascii()
        assert reference.repository == reference.repository.lower()
        again = parse_reference(reference.canonical)
        assert again.canonical == reference.canonical
        assert [getattr(again, part) for part in PARTS] == [getattr(reference, part) for part in PARTS]
        # A local image ID looks like a name when printed, but is not one.
        assert located(reference) in {None, located(again)}
    for compiled in POLICIES:
        decision = compiled.decide(namespace, image)
        assert decision == compiled.decide(namespace, image)
        snapshot = compiled.serving(2, CacheCounts())
        assert [snapshot.decide(namespace, image) for _ in range(2)] == [decision] * 2
        assert [snapshot.plan(namespace, image) for _ in range(2)] == [compiled.plan(namespace, image)] * 2
        assert decision.detail.isascii()
        assert decision.detail.isprintable()
        if reference is None or located(reference) is None:
            assert decision.reason == "invalid"
        if decision.approved:
            assert reference is not None
            assert compiled.decide(namespace, reference.canonical).approved
        assert explain(compiled, namespace, image).verdict.decision == decision


@settings(max_examples=budget(300))
@given(any_image, namespaces)
def any_image_is_judged(image: str, namespace: str | None) -> None:
    check_image(image, namespace)


@pytest.mark.hypothesis
def test_any_text_is_judged_as_an_image(rounds: Iterator[int]) -> None:
    for _ in rounds:
        any_image_is_judged()
