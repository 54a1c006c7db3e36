"""Contradicting mirrors are found by prefix look-ups, for any number and length of prefixes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.core.images.pattern import Prefix, parse_prefix
from gatekeeper_py.core.policy.parse.conflicts import MirrorEnds, mirror_conflicts
from support.growth import check_linear

ENDS = st.builds(
    lambda host, segments: parse_prefix("/".join((host, *segments))),
    st.sampled_from(["a.io", "b.io", "a.io:5000"]),
    st.lists(st.sampled_from(["x", "y", "x-y", "z"]), max_size=4),
)
MIRRORS = st.lists(st.tuples(st.none() | ENDS, st.lists(ENDS, max_size=3)), max_size=8).map(
    lambda ends: [ends_of(index, source, *targets) for index, (source, targets) in enumerate(ends)]
)


def ends_of(index: int, source: Prefix | None, *targets: Prefix) -> MirrorEnds:
    return MirrorEnds(index, source, tuple((("to", n), to) for n, to in enumerate(targets)))


def holds(outer: Prefix, inner: Prefix) -> bool:
    return outer.host == inner.host and inner.segments[: len(outer.segments)] == outer.segments


@given(MIRRORS)
def test_a_mirror_conflicts_when_some_source_and_its_target_lie_inside_one_another(
    mirrors: list[MirrorEnds],
) -> None:
    sources = [mirror.source for mirror in mirrors if mirror.source is not None]
    loops = [
        ("mirrors", mirror.index, *path)
        for mirror in mirrors
        for path, to in mirror.targets
        if any(holds(source, to) or holds(to, source) for source in sources)
    ]
    found = [remark.path for remark in mirror_conflicts(mirrors) if remark.code == "mirror-loop"]
    assert found == loops


@given(MIRRORS)
def test_the_second_mirror_with_the_same_source_is_a_duplicate(mirrors: list[MirrorEnds]) -> None:
    seen: set[tuple[str, tuple[str, ...]]] = set()
    duplicates = []
    for mirror in mirrors:
        if mirror.source is not None:
            place = (mirror.source.host, mirror.source.segments)
            if place in seen:
                duplicates.append(("mirrors", mirror.index, "from"))
            seen.add(place)
    found = [remark.path for remark in mirror_conflicts(mirrors) if remark.code == "mirror-duplicate"]
    assert found == duplicates


@given(MIRRORS)
def test_a_conflict_names_a_mirror_that_it_is_with(mirrors: list[MirrorEnds]) -> None:
    by_index = {mirror.index: mirror for mirror in mirrors}
    for remark in mirror_conflicts(mirrors):
        other = by_index[int(remark.message.partition("mirrors[")[2].partition("]")[0])]
        assert other.source is not None
        this = by_index[int(remark.path[1])]
        if remark.code == "mirror-duplicate":
            assert this.source is not None
            assert (this.source.host, this.source.segments) == (other.source.host, other.source.segments)
            continue
        to = dict(this.targets)[remark.path[2:]]
        if "contains" in remark.message:
            assert holds(to, other.source)
        else:
            assert holds(other.source, to)


@pytest.mark.long
def test_many_deep_mirrors_cost_no_more_than_their_number() -> None:
    def mirrors(number: int) -> list[MirrorEnds]:
        deep = "/a" * 120
        return [
            ends_of(n, parse_prefix(f"s{n}.io{deep}"), parse_prefix(f"t{n}.io{deep}")) for n in range(number)
        ]

    check_linear(lambda ends: list(mirror_conflicts(ends)), mirrors, start=50, limit=400)
