"""Demands on images are compared like the states of the registries in which they refuse an image."""

from __future__ import annotations

from itertools import chain, combinations, product
from typing import Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.core.compare.demands import Demand, covers

KEYS: Final = ("one", "two")
REPOSITORIES: Final = ("", "b.io/signatures")


class Signed(NamedTuple):
    """The keys that a repository shows, and whether it fails beyond that."""

    keys: frozenset[str]
    fails: bool


class State(NamedTuple):
    found: str
    signed: tuple[Signed, ...]


SETS: Final = [frozenset(keys) for size in range(3) for keys in combinations(KEYS, size)]
SIGNED: Final = [Signed(keys, fails) for keys, fails in product(SETS, (False, True))]
STATES: Final = [
    State(found, signed)
    for found, signed in product(("found", "missing", "error"), product(SIGNED, repeat=len(REPOSITORIES)))
    if found != "missing" or not any(chain.from_iterable(each.keys for each in signed))
]
"""What is signed exists."""


def refuses(demand: Demand, state: State, *, pinned: bool, pins: bool) -> bool:
    if not pinned and demand.digest:
        if not pins or state.found == "missing":
            return True
        return state.found == "error" and (demand.refuses_errors or demand.signers is not None)
    if demand.signers is None:
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


@pytest.mark.parametrize(("pinned", "pins"), [(True, False), (False, False), (False, True)])
@given(several=st.lists(demands, max_size=3), demand=demands)
def test_demands_cover_one_that_refuses_only_what_they_refuse(
    several: list[Demand], demand: Demand, *, pinned: bool, pins: bool
) -> None:
    def refused(each: Demand, state: State) -> bool:
        return refuses(each, state, pinned=pinned, pins=pins)

    expected = all(
        any(refused(each, state) for each in several) for state in STATES if refused(demand, state)
    )
    assert covers(several, demand, pinned=pinned, pins=pins) == expected


@given(demands)
def test_a_demand_can_be_met_or_unmet_in_some_state(demand: Demand) -> None:
    for pinned in (True, False):
        seen = {refuses(demand, state, pinned=pinned, pins=False) for state in STATES}
        assert demand.can_be_met(pinned=pinned) == (False in seen)
        assert demand.can_be_unmet(pinned=pinned) == (True in seen)
