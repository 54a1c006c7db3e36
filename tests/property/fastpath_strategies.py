"""Policies whose rules often overlap, and images near to those that they pre-approve."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import assume
from hypothesis import strategies as st

from gatekeeper_py.core import Policy, PolicyError, parse_policy
from gatekeeper_py.core.compile.fastpath import FastPath
from gatekeeper_py.core.images.pattern import Pattern
from property.strategies import DIGESTS, Document, any_text, images, text_of, varied_images
from support.builders import policy_document

HOSTS: Final = (
    "a.io", "b.io", "docker.io", "a.io:5000", "localhost", "foo:5000", "foo:443", "eu.corp.io", "us.corp.io",
    "index.docker.io", "registry.hub.docker.com", "[::1]:5000",
)  # fmt: skip
HOST_GLOBS: Final = (
    "*.corp.io", "e*.corp.io", "*.docker.io", "docker.*", "*.hub.docker.com", "*.io", "*u*.corp.io",
    "*o:5000", "*.io:5000", "*",
)  # fmt: skip
SEGMENTS: Final = ("a", "ab", "b", "x-y", "library", "team-a", "team-b", "app", "docker.io")
SEGMENT_GLOBS: Final = ("*", "a*", "*b", "team-*", "*-*", "t*m-*a")
SUFFIXES: Final = ("", ":v1", ":latest", f"@{DIGESTS[0]}", f":v1@{DIGESTS[1]}", ":rc-1", f"@{DIGESTS[2]}")
ODD_SUFFIXES: Final = (":", f"@{DIGESTS[0][:-1]}", "\n", "/", "@", ":v1:v2", "/x", "X")
NAMESPACES: Final = ("shop", "team-a", "team-b", "other")
_QUALIFIERS: Final = (
    *[""] * 6,
    *(":v1", ":v12", ":latest", ":rc-1", ":v*", ":*", ":*-*", ":l*t"),
    *("@*", "@*", *(f"@{digest}" for digest in DIGESTS)),
)


def _pattern(host: str, segments: list[str], subtree: bool, qualifier: str) -> str:  # noqa: FBT001
    path = "/".join((host, *segments))
    if subtree or (not segments and qualifier.startswith(":")):
        path += "/**"
    elif not segments:
        path += "/"
    return path + qualifier


_HOSTS_AND_GLOBS: Final = st.sampled_from([*HOSTS, *HOSTS, *HOST_GLOBS])
_ALLOWED: Final = st.sampled_from([*HOSTS, *HOSTS, *(glob for glob in HOST_GLOBS if glob != "*")])
_names: Final = st.lists(st.sampled_from(["shop", "team-a", "team-*", "*-b", "s*p"]), min_size=1, max_size=2)


def _patterns(host: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(
        _pattern,
        host,
        st.lists(st.sampled_from([*SEGMENTS, *SEGMENTS, *SEGMENT_GLOBS]), max_size=3),
        st.booleans(),
        st.sampled_from(_QUALIFIERS),
    )


def _rules(host: st.SearchStrategy[str]) -> st.SearchStrategy[object]:
    patterns = _patterns(host)
    until = st.sampled_from(["2026-02-01", "2026-03-02", "2026-04-01T00:00:00Z"])
    mapping = st.fixed_dictionaries({"image": patterns}, optional={"namespaces": _names, "until": until})
    return st.one_of(patterns, patterns, mapping)


def _end(host: str, segments: list[str]) -> str:
    return "/".join((host, *segments)) + ("/" if host.startswith("foo") and not segments else "")


_ends = st.builds(_end, st.sampled_from(HOSTS), st.lists(st.sampled_from(SEGMENTS), max_size=2))
_excepts = st.lists(
    _patterns(_HOSTS_AND_GLOBS) | st.sampled_from(["*", "*/**:v1", "a.io", "docker.io"]), max_size=2
)
_mirrors = st.lists(
    st.fixed_dictionaries({"from": _ends, "to": _ends}, optional={"except": _excepts}),
    min_size=1,
    max_size=2,
)


def _requirements(
    host: st.SearchStrategy[str], wide: st.SearchStrategy[str], **conditions: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    """Draw requirements. ``*`` in a host is only allowed where nothing is looked up."""
    return st.fixed_dictionaries(
        {"images": st.lists(_patterns(host) | wide, min_size=1, max_size=2), **conditions},
        optional={
            "namespaces": _names,
            "except": st.lists(_patterns(host), min_size=1, max_size=1),
            "mode": st.just("warn"),
        },
    )


_digests = _requirements(_HOSTS_AND_GLOBS, st.just("*/**"), digest=st.just(True))
_lookups = _requirements(
    st.sampled_from(HOSTS),
    st.sampled_from(["a.io", "docker.io"]),
    exists=st.just(True),
    digest=st.booleans(),
    onError=st.sampled_from(["keep", "deny"]),
)
policies: Final[st.SearchStrategy[Document]] = st.builds(
    policy_document,
    st.lists(_rules(_ALLOWED), min_size=1, max_size=5),
    st.lists(_rules(_HOSTS_AND_GLOBS) | st.just("*/**:latest"), max_size=4),
    st.one_of(st.just([]), _mirrors),
    require=st.one_of(st.just([]), st.lists(_digests | _lookups, max_size=2)),
)
namespaces: Final = st.sampled_from(NAMESPACES)
other_images: Final = images | varied_images | any_text


def accepted(a_document: Document) -> Policy:
    """Parse a document; reject the example if its mirrors contradict each other."""
    try:
        return parse_policy(text_of(a_document))
    except PolicyError:
        assume(False)
        raise


def images_near(fast_path: FastPath, data: st.DataObject) -> list[str]:
    """Draw a few images, most of them near to an included or excluded set."""
    approved = fast_path.approved.values()
    sets = {str(each.images): each.images for of in approved for each in (*of.included, *of.excluded)}
    near = st.sampled_from(sorted(sets)).flatmap(lambda text: _near(sets[text])) if sets else other_images
    return data.draw(st.lists(st.one_of(*[near] * 8, other_images), min_size=1, max_size=3), label="images")


def _near(images_of: Pattern) -> st.SearchStrategy[str]:
    host = _filled(images_of.host) if images_of.host != "*" else st.sampled_from(HOSTS)
    below = st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=2) if images_of.subtree else st.just([])
    path = st.tuples(*map(_filled, images_of.segments))
    suffix = st.sampled_from([*SUFFIXES, *SUFFIXES, *ODD_SUFFIXES])
    if images_of.tag is not None:
        suffix |= _filled(images_of.tag).map(":{}".format)
    if images_of.digest is not None:
        digest = DIGESTS[0] if images_of.digest == "*" else images_of.digest
        suffix |= st.sampled_from([f"@{digest}", f":v1@{digest}"])
    return st.builds(
        lambda at, named, under, end: "/".join((at, *named, *under)) + end, host, path, below, suffix
    )


def _filled(glob: str) -> st.SearchStrategy[str]:
    """Replace each star; the result need not match the grammar."""
    literal, *others = glob.split("*")
    if not others:
        return st.just(literal)
    fill = st.sampled_from(["", "x", "a", "-y", "1", "-"])
    stars = st.tuples(*[fill] * len(others))
    return stars.map(
        lambda filled: literal + "".join(f"{each}{text}" for each, text in zip(filled, others, strict=True))
    )
