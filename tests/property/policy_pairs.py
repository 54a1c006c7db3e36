"""Pairs of policies that share most of their text, or nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from hypothesis import assume
from hypothesis import strategies as st

from gatekeeper_py.core import CompiledPolicy, PolicyError, parse_policy
from property.strategies import documents, text_of
from support.builders import policy_document

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


HUB: Final = (
    "docker.io",
    "index.docker.io",
    "registry-1.docker.io",
    "registry.hub.docker.com",
    "docker.io:443",
    "index.docker.io:443",
)
"""Names of Docker Hub, only some of which make the grammar add ``library/``."""

_long = st.integers(238, 255).map("x".__mul__)
_hub_prefixes = st.builds(
    str.__add__,
    st.sampled_from([*HUB, "a.b", "r.io", "q.io:5000", "registry.corp.example"]),
    st.one_of(st.sampled_from(["", "", "/library", "/a", "/lib"]), st.builds("/{}".format, _long)),
)
_hub_patterns = st.one_of(
    st.sampled_from(
        [
            "docker.io",
            "r.io",
            "q.io:5000/",
            "docker.io/library/**",
            "docker.io/*",
            "docker.io/a/**",
            "r.io/a/**",
        ]
    ),
    st.sampled_from(["docker.io/*/*", "docker.io/library/x*", "docker.io/library/*:v1", "*.io/lib*/**"]),
    st.builds("docker.io/{}".format, _long),
)
_hub_documents = st.builds(
    policy_document,
    st.lists(_hub_patterns, min_size=1, max_size=2),
    st.lists(st.one_of(_hub_patterns, st.sampled_from(["*/**", "*/**:v1"])), max_size=2),
    st.lists(
        st.fixed_dictionaries(
            {"from": _hub_prefixes, "to": _hub_prefixes},
            optional={"except": st.lists(_hub_patterns, max_size=1)},
        ),
        max_size=2,
    ),
)


@st.composite
def hub_pairs(draw: st.DrawFn) -> tuple[CompiledPolicy, CompiledPolicy]:
    """Draw two policies about Docker Hub and its mirrors. One of their fields may differ."""
    old = {**draw(_hub_documents), "mode": draw(modes)}
    changed = draw(st.sampled_from(["allow", "deny", "mirrors", "spelling"]))
    new = {**old, **draw(_hub_documents.map(lambda other: {changed: other.get(changed, [])}))}
    if changed == "spelling":
        del new["spelling"]
        new["mirrors"] = [
            {**each, "from": _respelled(each["from"], draw(st.sampled_from(HUB)))} for each in old["mirrors"]
        ]
    return compiled(old), compiled(new)


def _respelled(prefix: str, name: str) -> str:
    host, slash, path = prefix.partition("/")
    return f"{name if host in HUB else host}{slash}{path}"


@st.composite
def pairs(draw: st.DrawFn) -> tuple[CompiledPolicy, CompiledPolicy]:
    """Draw two policies that share most of their text, or nothing."""
    old = {**draw(documents), "mode": draw(modes), "namespaces": draw(overrides)}
    other = draw(documents)
    changed = draw(st.sets(st.sampled_from(["allow", "deny", "mirrors", "mode", "namespaces"])))
    new = {**old, **{key: other[key] for key in changed & other.keys()}}
    if "namespaces" in changed:
        new["namespaces"] = draw(overrides)
    return compiled(old), compiled(new)
