"""The memory of admitted images: what it keeps, for how long, and for whom."""

from __future__ import annotations

from typing import Final

import pytest

from gatekeeper_py.controller.enforcement import probe_image
from gatekeeper_py.core.admission.radius import APPROVED, REFUSED, WARNED, Admitted
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions
from gatekeeper_py.core.policy.cache import MAX_CACHED_LENGTH, CacheCounts
from gatekeeper_py.core.policy.parse.exceptions import parse_exceptions
from gatekeeper_py.core.policy.policy import CompiledPolicy, parse_policy
from gatekeeper_py.process.shares import MAX_NAMESPACES, MAX_PEERS
from gatekeeper_py.process.slices import run_slice
from gatekeeper_py.webhook.recent import (
    HOUR,
    KEPT_SECONDS,
    LEAST_BYTES,
    MAX_BYTES,
    MAX_IMAGES,
    MAX_OF_REVIEW,
    RecentImages,
)
from support.builders import INSTANT, exceptions_text, policy, policy_text

API_SERVER, STRANGER = "192.0.2.1", "192.0.2.66"
DAY: Final = 24 * HOUR


def snapshot(compiled: CompiledPolicy) -> CompiledPolicy:
    return compiled.serving(100, CacheCounts())


BY_NAME: Final = snapshot(policy())
BY_NAMESPACE: Final = snapshot(
    policy("namespaces: [{names: [dev], mode: warn}]\n", allow="[{image: r.io, namespaces: [team-*]}]")
)


def images(recent: RecentImages, now: float = 0.0, live: CompiledPolicy = BY_NAME) -> list[list[str]]:
    """Return the names of the images of each peer."""
    return [[each.image for each in group] for group in run_slice(recent.admitted(live, now), float("inf"))]


def note_all(
    recent: RecentImages, peer: str, names: list[str], now: float = 0.0, namespace: str | None = "shop"
) -> None:
    """Note any number of images, a few in each review."""
    for begin in range(0, len(names), MAX_OF_REVIEW):
        recent.note(peer, namespace, names[begin : begin + MAX_OF_REVIEW], now)


def longer(prefix: str, length: int) -> str:
    """Return an image of this length that a runtime could pull."""
    suffix = f":{'v' * 128}@sha256:{'0' * 64}"
    return f"{prefix:x<{length - len(suffix)}}{suffix}"


def test_an_image_is_kept_once_for_each_namespace_of_each_peer() -> None:
    recent = RecentImages()
    for peer in (API_SERVER, STRANGER, API_SERVER):
        recent.note(peer, "shop", ["a", "b", "a"], 0.0)
    recent.note(API_SERVER, "other", ["b", "c"], 1.0)
    assert images(recent) == [["a", "b", "b", "c"], ["a", "b"]]


def test_an_image_has_the_effect_of_the_live_policy_in_each_namespace_that_matters() -> None:
    recent = RecentImages()
    for namespace in ("team-a", "dev", "shop", "shop"):
        recent.note(API_SERVER, namespace, ["r.io/x"], 0.0)
    (group,) = run_slice(recent.admitted(BY_NAMESPACE, 0.0), float("inf"))
    assert group == (
        Admitted("team-a", "r.io/x", APPROVED),
        Admitted("dev", "r.io/x", WARNED),
        Admitted("shop", "r.io/x", REFUSED),
    )


def test_an_image_that_an_exception_approves_does_not_count() -> None:
    """The rules of a new policy reject it as well, and the exception still approves it."""
    grant = "exceptions: [{source: namespace, images: [ghcr.io/**], longest: 2h}]\n"
    document = parse_exceptions(
        exceptions_text("image: ghcr.io/a, until: 2026-03-01T13:00:00Z, reason: x"), "namespace"
    )
    exceptions = Exceptions({DocumentKey("namespace", "team-a"): document})
    live = parse_policy(policy_text(grant)).at(INSTANT, exceptions).serving(100, CacheCounts())
    recent = RecentImages()
    recent.note(API_SERVER, "team-a", ["ghcr.io/a:1", "registry.corp.io/web:1"], 0.0)
    assert live.decide("team-a", "ghcr.io/a:1").approved
    assert images(recent, live=live) == [["registry.corp.io/web:1"]]


@pytest.mark.parametrize(
    ("last_used", "asked", "kept"),
    [
        pytest.param(0.0, DAY, True, id="a-day-later"),
        pytest.param(0.0, KEPT_SECONDS + 2 * HOUR, False, id="longer"),
        pytest.param(HOUR - 1, HOUR - 1 + DAY, True, id="used-again-in-the-same-hour"),
        pytest.param(3 * DAY, 4 * DAY, True, id="used-for-days"),
        pytest.param(3 * DAY, 6 * DAY, False, id="used-for-days-but-not-lately"),
    ],
)
def test_an_image_is_kept_for_a_day_after_its_last_review(
    last_used: float,
    asked: float,
    kept: bool,  # noqa: FBT001 - a column of the table
) -> None:
    recent = RecentImages()
    now = 0.0
    while now < last_used:
        recent.note(API_SERVER, "shop", ["a"], now)
        now += HOUR / 3
    recent.note(API_SERVER, "shop", ["a"], last_used)
    for hour in range(int((asked - last_used) / HOUR)):  # other images go on
        recent.note(API_SERVER, "shop", ["b"], last_used + hour * HOUR)
    assert ("a" in images(recent, asked)[0]) is kept


def test_a_peer_without_recent_images_is_forgotten() -> None:
    recent = RecentImages()
    recent.note(STRANGER, "shop", ["a"], 0.0)
    assert images(recent, KEPT_SECONDS + 2 * HOUR) == []


def test_the_oldest_image_of_the_peer_with_the_most_makes_room() -> None:
    recent = RecentImages(most_bytes=10 * LEAST_BYTES)
    recent.note(API_SERVER, "shop", ["a", "b", "c"], 0.0)
    note_all(recent, STRANGER, [f"x{number}" for number in range(1000)], 1.0)
    real, forged = images(recent)
    assert (real, forged) == (["a", "b", "c"], [f"x{number}" for number in range(993, 1000)])
    # What was pushed out is noted again at once.
    recent.note(STRANGER, "shop", ["x0"], 2.0)
    assert images(recent)[1][-1] == "x0"


def test_a_peer_with_few_long_names_makes_room_before_one_with_many_short_names() -> None:
    recent = RecentImages(most_bytes=10 * LEAST_BYTES)
    recent.note(API_SERVER, None, list("abcd"), 0.0)
    recent.note(STRANGER, None, [longer(str(number), 390) for number in range(3)], 1.0)
    real, forged = images(recent)
    assert (real, [name[0] for name in forged]) == (list("abcd"), ["2"])


def test_the_oldest_image_of_the_namespace_with_the_most_makes_room() -> None:
    """Invented images of one tenant's Pods do not displace the images of other tenants."""
    recent = RecentImages(most_bytes=10 * LEAST_BYTES)
    recent.note(API_SERVER, "shop", ["a", "b", "c"], 0.0)
    note_all(recent, API_SERVER, [f"x{number}" for number in range(1000)], 1.0, namespace="mallory")
    recent.note(API_SERVER, "bank", ["d"], 2.0)
    assert images(recent) == [["a", "b", "c", *(f"x{number}" for number in range(994, 1000)), "d"]]


def test_only_the_first_images_of_a_review_are_kept() -> None:
    recent = RecentImages()
    recent.note(API_SERVER, "shop", [f"x{number}" for number in range(1000)], 0.0)
    assert images(recent) == [[f"x{number}" for number in range(MAX_OF_REVIEW)]]


@pytest.mark.parametrize(("length", "kept"), [(210, MAX_BYTES // 210), (400, MAX_BYTES // 400)])
def test_the_number_of_images_depends_on_their_length(length: int, kept: int) -> None:
    recent = RecentImages()
    short = [f"x{number}" for number in range(MAX_IMAGES + 100)]
    note_all(recent, API_SERVER, short, namespace=None)
    assert images(recent) == [short[-MAX_IMAGES:]]
    long = [longer(f"{number:05}", length) for number in range(kept + 100)]
    note_all(recent, API_SERVER, long, namespace=None)
    assert images(recent) == [long[-kept:]]


def test_many_namespaces_of_a_peer_share_one_group() -> None:
    recent = RecentImages()
    for _ in range(2):  # found again
        for number in range(MAX_NAMESPACES + 20):
            recent.note(API_SERVER, f"team-{number}", ["x"], 0.0)
    (group,) = run_slice(recent.admitted(BY_NAME, 0.0), float("inf"))
    assert {each.namespace for each in group} == {f"team-{n}" for n in range(MAX_NAMESPACES + 20)}
    assert len(group) == MAX_NAMESPACES + 20


def test_many_peers_share_one_group() -> None:
    recent = RecentImages()
    for number in range(3 * MAX_PEERS):
        recent.note(f"2001:db8::{number}/64", "shop", [f"x{number}"], 0.0)
    recent.note(None, "shop", ["unknown"], 0.0)
    groups = images(recent)
    assert len(groups) == MAX_PEERS + 1
    assert len(groups[-1]) == 2 * MAX_PEERS + 1


@pytest.mark.parametrize(
    ("namespace", "image"),
    [
        pytest.param("shop", "x" * MAX_CACHED_LENGTH, id="long-image"),
        pytest.param("shop", "no reference", id="no-reference"),
        pytest.param("shop", probe_image("a1", valid=True), id="probe"),
        pytest.param("shop", probe_image("a1", valid=False), id="invalid-probe"),
        pytest.param("shop", "Registry.INVALID:5000/x", id="another-registry-that-cannot-exist"),
        pytest.param("x" * MAX_CACHED_LENGTH, "nginx", id="long-namespace"),
        pytest.param("sh\u00f6p", "nginx", id="namespace-that-cannot-exist"),
    ],
)
def test_what_cannot_be_pulled_or_exist_is_not_kept(namespace: str, image: str) -> None:
    """So the memory has a limit in bytes, and the message to the child process too."""
    recent = RecentImages()
    recent.note(API_SERVER, namespace, [image, "y"], 0.0)
    recent.note(API_SERVER, None, ["z"], 0.0)
    assert {each for group in images(recent) for each in group} <= {"y", "z"}
