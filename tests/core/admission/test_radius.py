"""What a new policy does to images that were admitted."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.core.admission.radius import (
    APPROVED,
    LEAST_KNOWN,
    MAX_NAMED,
    REFUSED,
    WARNED,
    Admitted,
    Radius,
    Ratio,
    impact,
    measure,
)
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions
from gatekeeper_py.core.policy.parse.exceptions import parse_exceptions
from gatekeeper_py.core.policy.policy import parse_policy
from support.builders import INSTANT, exceptions_text, keys_text, policy, policy_text

NEW: Final = policy(
    "namespaces: [{names: [dev], mode: warn}]\n",
    allow="[new.io, {image: team.io, namespaces: [team]}]",
)


def always() -> bool:
    return True


def of(host: str, number: int, namespace: str | None = "shop", present: int = APPROVED) -> list[Admitted]:
    return [Admitted(namespace, f"{host}/app{each}:1", present) for each in range(number)]


def test_an_image_that_only_an_exception_approves_has_no_impact() -> None:
    document = parse_exceptions(exceptions_text("image: b.io/x, until: 2026-03-02, reason: r"), "namespace")
    with_grant = parse_policy(
        policy_text("exceptions: [{source: namespace, images: [b.io], longest: 9d}]\n")
    ).at(INSTANT, Exceptions({DocumentKey("namespace", "shop"): document}))
    assert impact(with_grant, "shop", "b.io/x") is None
    assert impact(with_grant, "other", "b.io/x") == REFUSED


def test_an_image_that_a_mirror_replaces_is_judged_by_its_new_name() -> None:
    mirrored = policy("mirrors: [{from: docker.io, to: r.io/hub}]\n", allow="[r.io]", mode="mutate")
    assert impact(mirrored, "shop", "docker.io/x/a:1") == APPROVED
    assert impact(mirrored, "shop", "quay.io/x/a:1") == REFUSED


@pytest.mark.parametrize(
    ("namespace", "image", "expected"),
    [
        ("shop", "new.io/a:1", APPROVED),
        ("shop", "old.io/a:1", REFUSED),
        ("dev", "old.io/a:1", WARNED),
        ("team", "team.io/a:1", APPROVED),
        ("shop", "team.io/a:1", REFUSED),
        (None, "team.io/a:1", REFUSED),
    ],
)
def test_the_impact_depends_on_the_rules_and_on_the_mode_of_the_namespace(
    namespace: str | None, image: str, expected: int
) -> None:
    assert impact(NEW, namespace, image) == expected


@pytest.mark.parametrize(("mode", "tag"), [("enforce", REFUSED), ("warn", WARNED), ("mutate", APPROVED)])
def test_an_image_that_must_be_signed_needs_a_digest_unless_the_mode_writes_it(mode: str, tag: int) -> None:
    require = "require: [{images: [a.io], signedBy: [ci-2025, ci-2026]}]\n"
    signing = policy(keys_text() + require, allow="[a.io]", mode=mode)
    assert impact(signing, "shop", "a.io/x:1") == tag
    assert impact(signing, "shop", f"a.io/x:1@sha256:{'a' * 64}") == APPROVED


@pytest.mark.parametrize(("mode", "worst"), [("enforce", REFUSED), ("warn", WARNED), ("mutate", REFUSED)])
@pytest.mark.parametrize("image", ["a.io/x:1", f"a.io/x:1@sha256:{'a' * 64}"])
def test_an_image_that_must_be_signed_is_refused_without_a_live_key(
    mode: str, worst: int, image: str
) -> None:
    more = keys_text(until="2020-01-01") + "require: [{images: [a.io], signedBy: [ci-2026]}]\n"
    assert impact(policy(more, allow="[a.io]", mode=mode), "shop", image) == worst


@pytest.mark.parametrize(
    ("require", "image", "expected"),
    [
        pytest.param("digest: true", "a.io/x:1", REFUSED, id="unpinned"),
        pytest.param("digest: true", f"a.io/x@sha256:{'a' * 64}", APPROVED, id="pinned"),
        pytest.param("exists: true, onError: deny", "a.io/x:1", APPROVED, id="nothing-is-looked-up"),
        pytest.param("digest: true, mode: warn", "a.io/x:1", APPROVED, id="only-a-warning"),
    ],
)
def test_a_new_requirement_has_an_impact_if_names_do_not_meet_it(
    require: str, image: str, expected: int
) -> None:
    compiled = policy(f"require: [{{images: [a.io], {require}}}]\n", allow="[a.io]")
    assert impact(compiled, "shop", image) == expected


@pytest.mark.parametrize(
    ("groups", "rejected", "known", "worst"),
    [
        pytest.param([], 0, 0, Ratio(), id="nothing-known"),
        pytest.param([of("new.io", 30)], 0, 30, Ratio(0, 30), id="all-approved"),
        pytest.param([of("new.io", 4) + of("old.io", 8)], 8, 12, Ratio(8, 12), id="some-refused"),
        pytest.param([of("old.io", LEAST_KNOWN - 1)], 9, 9, Ratio(), id="too-few-known"),
        pytest.param([of("old.io", LEAST_KNOWN)], 10, 10, Ratio(10, 10), id="just-enough-known"),
        pytest.param([of("old.io", 12, "dev")], 12, 12, Ratio(0, 12), id="warned-about"),
        pytest.param([of("old.io", 12, "dev", WARNED)], 0, 12, Ratio(0, 12), id="warned-about-as-before"),
        pytest.param([of("old.io", 12, "shop", WARNED)], 12, 12, Ratio(12, 12), id="enforced-from-now-on"),
        pytest.param(
            [of("old.io", 12, "shop", WARNED) + of("new.io", 28)],
            12,
            40,
            Ratio(12, 40),
            id="few-are-enforced-from-now-on",
        ),
        pytest.param(
            [of("old.io", 12) + of("x.io", 30, "dev", WARNED)],
            12,
            42,
            Ratio(12, 12),
            id="approved-images-have-a-ratio-of-their-own",
        ),
        pytest.param([of("old.io", 12, "shop", REFUSED)], 12, 12, Ratio(), id="refused-already"),
        pytest.param([of("old.io", 12), of("new.io", 500)], 12, 512, Ratio(12, 12), id="one-group-is-hit"),
        pytest.param([of("old.io", 12)] * 3, 12, 12, Ratio(12, 12), id="the-same-images-in-each-group"),
        pytest.param(
            [of("team.io", 12, "team") + of("team.io", 12)], 12, 12, Ratio(12, 12), id="in-one-namespace"
        ),
        pytest.param(
            [of("new.io", 60, "mallory") + of("old.io", 18) + of("new.io", 2)],
            18,
            78,
            Ratio(18, 20),
            id="another-namespace-does-not-hide-them",
        ),
        pytest.param(
            [[*of("new.io", 60, "mallory"), *(of("old.io", n + 1, f"ns-{n}")[n] for n in range(12))]],
            12,
            72,
            Ratio(12, 12),
            id="many-namespaces-with-one-image-each",
        ),
    ],
)  # fmt: skip
def test_images_are_counted_once_and_each_group_has_a_ratio(
    groups: list[list[Admitted]], rejected: int, known: int, worst: Ratio
) -> None:
    radius = measure(NEW, groups, always)
    assert (radius.rejected, radius.known, radius.complete) == (rejected, known, True)
    assert radius.worst.refused * max(worst.known, 1) == worst.refused * max(radius.worst.known, 1)
    assert len(radius.images) == rejected


def test_the_first_rejected_images_are_named_in_order() -> None:
    radius = measure(NEW, [of("old.io", 2 * MAX_NAMED) + of("new.io", 5)], always)
    assert radius.images == tuple(sorted(each.image for each in of("old.io", 2 * MAX_NAMED))[:MAX_NAMED])


@pytest.mark.parametrize(
    ("ratio", "percent", "exceeds"),
    [(Ratio(5, 10), 50, False), (Ratio(6, 10), 50, True), (Ratio(10, 10), 100, False), (Ratio(), 1, False)],
)
def test_a_ratio_exceeds_a_percentage_only_if_it_is_larger(
    ratio: Ratio,
    percent: int,
    exceeds: bool,  # noqa: FBT001 - a column of the table
) -> None:
    assert ratio.exceeds(percent) is exceeds


def times(number: int) -> Callable[[], bool]:
    left = count()
    return lambda: next(left) < number


def test_without_time_the_images_judged_so_far_count() -> None:
    radius = measure(NEW, [of("old.io", 5), of("other.io", 5)], times(7))
    assert (radius.rejected, radius.known, radius.complete) == (7, 7, False)


admitted = st.builds(
    Admitted,
    st.sampled_from(["shop", "dev", "team", None]),
    st.builds("{}.io/app{}".format, st.sampled_from(["new", "old", "team"]), st.integers(0, 30)),
    st.sampled_from([APPROVED, WARNED, REFUSED]),
)


@given(st.lists(st.lists(admitted, max_size=60), max_size=4), st.lists(admitted, max_size=60))
def test_more_images_from_another_group_never_lower_the_worst_ratio(
    groups: list[list[Admitted]], forged: list[Admitted]
) -> None:
    """Reviews that one caller forges cannot hide what a change does to the images of another."""

    def ratio(radius: Radius) -> float:
        return radius.worst.refused / max(radius.worst.known, 1)

    of_groups = max((ratio(measure(NEW, [group], always)) for group in groups), default=0.0)
    assert ratio(measure(NEW, [*groups, forged], always)) >= of_groups


@given(st.lists(admitted, max_size=60), st.lists(st.integers(0, 200), max_size=60))
def test_more_images_of_one_namespace_never_lower_the_ratio_of_another(
    group: list[Admitted], invented: list[int]
) -> None:
    """A tenant who creates Pods with invented images cannot hide what a change does to other tenants."""
    forged = [Admitted("mallory", f"new.io/app{number}:1", APPROVED) for number in invented]
    for namespace in {each.namespace for each in group}:
        own = [each for each in group if each.namespace == namespace]
        alone, together = (measure(NEW, [each], always).worst for each in (own, [*group, *forged]))
        assert together.refused * max(alone.known, 1) >= alone.refused * max(together.known, 1)
