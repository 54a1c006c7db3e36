"""Demands on images are compared like the states of the registries in which they refuse an image."""

from __future__ import annotations

from itertools import chain, combinations, product
from typing import Final, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.core.compare.demands import ALWAYS, Demand, includes

KEYS: Final = ("one", "two")
REPOSITORIES: Final = ("", "b.io/signatures")


class Signed(NamedTuple):
    """The keys whose signatures a repository shows, and whether reading others fails."""

    keys: frozenset[str]
    fails: bool


class State(NamedTuple):
    found: str
    signed: tuple[Signed, ...]


SETS: Final = [frozenset(keys) for size in range(3) for keys in combinations(KEYS, size)]
SIGNED: Final = [Signed(keys, fails) for keys, fails in product(SETS, (False, True))]
BOTH: Final = (st.booleans(), st.booleans())
STATES: Final = [
    State(found, signed)
    for found, signed in product(("found", "missing", "error"), product(SIGNED, repeat=len(REPOSITORIES)))
]


def refuses(demand: Demand, state: State, *, pinned: bool, pins: bool) -> bool:
    if not pinned and demand.digest:
        vouched = demand.signers is not None
        if not pins or state.found == "missing" or (state.found == "error" and vouched):
            return True
        if not vouched:
            return state.found == "error" and demand.refuses_errors
    elif demand.signers is None:
        return demand.exists and (
            state.found == "missing" or (state.found == "error" and demand.refuses_errors)
        )
    signed = state.signed[REPOSITORIES.index(demand.signatures)]
    if not demand.signers:
        return True
    return not signed.keys & demand.signers and (demand.refuses_errors or not signed.fails)


demands = st.one_of(
    st.builds(
        Demand,
        digest=st.booleans(),
        exists=st.booleans(),
        refuses_errors=st.booleans(),
        signers=st.none(),
        signatures=st.just(""),
    ),
    st.builds(
        Demand,
        digest=st.just(value=True),
        exists=st.just(value=True),
        refuses_errors=st.booleans(),
        signers=st.sampled_from(SETS),
        signatures=st.sampled_from(REPOSITORIES),
    ),
)


@given(several=st.lists(demands, max_size=3), demand=demands, pinned=st.booleans(), pins=st.tuples(*BOTH))
def test_demands_include_another_if_they_refuse_in_all_its_states(
    several: list[Demand], demand: Demand, *, pinned: bool, pins: tuple[bool, bool]
) -> None:
    """The webhook may write a digest under one policy, and not under the other one."""
    expected = all(
        any(refuses(each, state, pinned=pinned, pins=pins[0]) for each in several)
        for state in STATES
        if refuses(demand, state, pinned=pinned, pins=pins[1])
    )
    refusals = chain.from_iterable(each.refusals(pinned=pinned, pins=pins[0]) for each in several)
    assert includes(refusals, demand.refusals(pinned=pinned, pins=pins[1])) == expected


@given(demand=demands, pinned=st.booleans(), pins=st.booleans())
def test_a_demand_that_refuses_in_all_states_includes_always(
    demand: Demand, *, pinned: bool, pins: bool
) -> None:
    seen = {refuses(demand, state, pinned=pinned, pins=pins) for state in STATES}
    refusals = set(demand.refusals(pinned=pinned, pins=pins))
    assert includes(refusals, [ALWAYS]) == (False not in seen)
    assert bool(refusals) == (True in seen)
