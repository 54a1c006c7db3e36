"""Pairs of policies that share most of their text, or nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from hypothesis import assume
from hypothesis import strategies as st

from gatekeeper_py.core import CompiledPolicy, PolicyError, parse_policy
from property.strategies import documents, text_of

NOW: Final = datetime(2026, 3, 1, tzinfo=UTC)

overrides = st.lists(
    st.fixed_dictionaries(
        {
            "names": st.lists(st.sampled_from(["shop", "team-*", "*"]), min_size=1, max_size=1),
            "mode": st.sampled_from(["enforce", "warn", "mutate"]),
        }
    ),
    max_size=2,
)
modes = st.sampled_from(["enforce", "mutate", "mutate"])


def compiled(document: dict[str, Any]) -> CompiledPolicy:
    try:
        return parse_policy(text_of(document)).at(NOW)
    except PolicyError:
        assume(False)
        raise


@st.composite
def pairs(draw: st.DrawFn) -> tuple[CompiledPolicy, CompiledPolicy]:
    """Two policies that share most of their text, or nothing."""
    old = {**draw(documents), "mode": draw(modes), "namespaces": draw(overrides)}
    other = draw(documents)
    changed = draw(st.sets(st.sampled_from(["allow", "deny", "mirrors", "mode", "namespaces"])))
    new = {**old, **{key: other[key] for key in changed & other.keys()}}
    if "namespaces" in changed:
        new["namespaces"] = draw(overrides)
    return compiled(old), compiled(new)
