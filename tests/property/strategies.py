"""Strategies for images, patterns and policies.

The pools are small on purpose, so that rules and images often share hosts, segments, tags and namespaces.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from hypothesis import strategies as st

from support.builders import policy_document

DIGESTS: Final = ("sha256:" + "7c" * 32, "sha256:" + "8d" * 32, "sha512:" + "9e" * 64)
HOSTS: Final = (
    "docker.io", "index.docker.io", "registry-1.docker.io:443", "docker.io:5000", "a.io", "a.io:443",
    "a.io:05000", "a.io:5000", "b.io", "eu.corp.io", "us.corp.io", "a.eu.corp.io", "localhost",
    "localhost:5000", "foo:5000", "foo:443", "foo:0443", "[::1]", "[::1]:5000",
)  # fmt: skip
HOST_GLOBS: Final = (
    "*", "*.io", "a*.io", "*.io:5000", "*.corp.io", "e*.corp.io", "*u*.corp.io", "*.*.io", "*.eu.*.io", "*.*",
    "docker.*", "*o:5000",
)  # fmt: skip
SEGMENTS: Final = ("a", "ab", "b", "library", "nginx", "x-y", "a.b")
SEGMENT_GLOBS: Final = ("*", "a*", "*b", "*-*", "*a*b*", "l*", "a.*")
TAGS: Final = ("latest", "v1", "v12", "1.2")
TAG_GLOBS: Final = ("*", "v*", "l*t", "*1*")
NAMESPACES: Final = (None, "shop", "team-a", "team-b")
NAMESPACE_GLOBS: Final = ("*", "shop", "team-a", "team-*", "*-b", "s*", "**")
UNTIL: Final = ("2026-02-01", "2026-03-02", "2026-04-01T00:00:00Z", "2026-05-01T00:00:00+02:00")

any_text: Final = st.one_of(
    st.text(st.characters(), max_size=60),
    st.text("ab/:.@-_*[]09A \n\t\0%$", max_size=40),
    st.builds(
        lambda text, times: text * times,
        st.text(st.characters(), min_size=1, max_size=4),
        st.integers(1, 3000),
    ),
)
"""Any text, including surrogates, control characters, near images, and long runs."""


def _suffix(tags: Iterable[str], digests: Iterable[str]) -> st.SearchStrategy[str]:
    """Draw an empty suffix, ``:tag``, ``@digest`` or both."""
    tag = st.sampled_from(["", *(f":{tag}" for tag in tags)])
    digest = st.sampled_from(["", "", *(f"@{digest}" for digest in digests)])
    return st.builds(str.__add__, tag, digest)


def _paths(segments: Iterable[str], *, at_least: int) -> st.SearchStrategy[str]:
    parts = st.lists(st.sampled_from(list(segments)), min_size=at_least, max_size=3)
    return st.builds("/".join, parts)


_hosts = st.sampled_from([*HOSTS, "A.io", "Docker.io", "EU.corp.io"])

images: Final = st.one_of(
    st.builds("{}/{}{}".format, _hosts, _paths(SEGMENTS, at_least=1), _suffix(TAGS, DIGESTS)),
    st.builds("{}{}".format, _paths([*SEGMENTS, "foo"], at_least=1), _suffix(TAGS, DIGESTS)),
)
"""Usual images; all of them parse."""

_labels = st.text("ab1-", min_size=1, max_size=5).map(lambda text: f"a{text}b")
_components = st.builds(
    "{}{}{}".format,
    st.text("ab1", min_size=1, max_size=4),
    st.sampled_from(["", ".a", "_1", "__b", "---a", "-a.b_1"]),
    st.text("ab1", max_size=4),
)
_names = st.builds("/".join, st.lists(_components, min_size=1, max_size=4))
varied_images: Final = st.one_of(
    st.builds(
        "{}{}{}/{}{}".format,
        st.builds(".".join, st.lists(_labels | _labels.map(str.upper), min_size=1, max_size=3)),
        st.sampled_from([".io", ".IO", ".docker.io"]),
        st.sampled_from(["", ":443", ":0443", ":5000", ":0", ":99999"]),
        _names,
        _suffix(["A_b.c-1", "_"], DIGESTS),
    ),
    st.builds("{}_x.io/{}".format, _labels, _names),
)
"""Images with names of all kinds; all of them parse, and some are never approved."""

_pattern_paths = st.one_of(
    st.sampled_from(["", "/", "/**"]),
    st.builds(
        "/{}{}".format, _paths([*SEGMENTS, *SEGMENT_GLOBS], at_least=1), st.sampled_from(["", "", "/", "/**"])
    ),
)


def _with_suffix(base: str, suffix: str) -> str:
    """Add a suffix where it is valid: a tag needs a segment before it, a dotless host with a port a slash."""
    host, slash, path = base.partition("/")
    if not slash and ":" in host and "." not in host and not host.startswith(("[", "localhost")):
        base += "/"
    if suffix.startswith(":") and (not path or base.endswith("/")):
        base = base.rstrip("/") + "/**"
    return base + suffix


def _patterns(hosts: Iterable[str]) -> st.SearchStrategy[str]:
    bases = st.builds(str.__add__, st.sampled_from(list(hosts)), _pattern_paths)
    return st.builds(_with_suffix, bases, _suffix([*TAGS, *TAG_GLOBS], [*DIGESTS, "*"]))


patterns: Final = _patterns([*HOSTS, *HOST_GLOBS])
"""Patterns of every shape; ``deny`` accepts all of them."""

allow_patterns: Final = _patterns([*HOSTS, *(host for host in HOST_GLOBS if host != "*")])

namespaces: Final = st.sampled_from(NAMESPACES)
name_lists: Final = st.lists(st.sampled_from(NAMESPACE_GLOBS), min_size=1, max_size=3)


def _rules(texts: st.SearchStrategy[str], **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    optional = {"namespaces": name_lists, "until": st.sampled_from(UNTIL), **more}
    return st.one_of(texts, texts, st.fixed_dictionaries({"image": texts}, optional=optional))


allow_rules: Final = _rules(allow_patterns)
deny_rules: Final = _rules(patterns, **{"except": st.lists(_rules(patterns), max_size=3)})

_prefix_hosts = [host + "/" if host.startswith("foo:") else host for host in HOSTS]
prefixes: Final = st.one_of(
    st.sampled_from(_prefix_hosts),
    st.builds("{}/{}".format, st.sampled_from(HOSTS), _paths(SEGMENTS, at_least=1)),
)
mirrors: Final = st.lists(
    st.fixed_dictionaries(
        {"from": prefixes, "to": prefixes}, optional={"except": st.lists(patterns, max_size=2)}
    ),
    max_size=4,
)

Document = dict[str, Any]


def text_of(a_document: Document) -> str:
    """Return a document as text. JSON is also YAML."""
    return json.dumps(a_document, indent=1)


documents: Final = st.builds(
    policy_document,
    st.lists(allow_rules, min_size=1, max_size=6),
    st.lists(deny_rules, max_size=4),
    mirrors,
)
"""Documents that are valid unless their mirrors contradict each other."""

plain_documents: Final = st.builds(
    policy_document,
    st.lists(allow_rules, min_size=1, max_size=6),
    st.lists(deny_rules, max_size=4),
    st.just([]),
)
"""Valid documents without mirrors."""
