"""The pattern language (docs/policy.md, "Patterns"): what matches, what does not, what is refused."""

from __future__ import annotations

from typing import Final

import pytest

from gatekeeper_py.core.images.image import parse_image
from gatekeeper_py.core.images.pattern import (
    InvalidPattern,
    parse_pattern,
    parse_prefix,
)
from gatekeeper_py.core.images.reference import Location

SHA256: Final = "sha256:" + "7c" * 32
OTHER: Final = "sha256:" + "8d" * 32
SHA512: Final = "sha512:" + "7c" * 64


def missed(pattern: str, image: str) -> str | None:
    """Return the part of the image that the pattern does not match."""
    return parse_pattern(pattern).missed(parse_image(image))


HOSTS: Final = [
    pytest.param("a.io", "a.io/x", None, id="registry-holds-all-below"),
    pytest.param("a.io", "a.io/x/y/z:v1", None, id="registry-holds-all-depths"),
    pytest.param("a.io", f"a.io/x@{SHA256}", None, id="registry-holds-pinned-images"),
    pytest.param("a.io", "A.IO/x", None, id="the-image-may-be-in-upper-case"),
    pytest.param("a.io", "a.io.evil.com/x", "host", id="a-longer-host-is-another"),
    pytest.param("a.io", "evil-a.io/x", "host", id="a-longer-label-is-another"),
    pytest.param("a.io", "x.a.io/x", "host", id="a-subdomain-is-another"),
    pytest.param("a.io", "evil.com/a.io/x", "host", id="a-host-in-the-path-is-no-host"),
    pytest.param("a.io", "a.io", "host", id="a-host-alone-is-a-hub-image"),
    pytest.param("localhost", "localhost/x", None, id="localhost"),
    pytest.param("localhost", "localhost:5000/x", "host", id="localhost-with-a-port-is-another"),
    pytest.param("10.0.0.1:5000", "10.0.0.1:5000/x", None, id="ipv4"),
    pytest.param("[2001:db8::1]:5000", "[2001:DB8::1]:5000/x", None, id="ipv6-in-lower-case"),
    pytest.param("[::1]", "[0::1]/x", "host", id="ipv6-is-compared-as-text"),
    pytest.param("*.corp.io", "eu.corp.io/x", None, id="star-is-one-label"),
    pytest.param("*.corp.io", "a.b.corp.io/x", "host", id="star-is-not-two-labels"),
    pytest.param("*.corp.io", "corp.io/x", "host", id="star-is-not-no-label"),
    pytest.param("*.corp.io", "evilcorp.io/x", "host", id="star-keeps-the-dot"),
    pytest.param("eu*.corp.io", "eu.corp.io/x", None, id="star-is-also-nothing"),
    pytest.param("eu*.corp.io", "eu-1.corp.io/x", None, id="star-inside-a-label"),
    pytest.param("r.*.corp.io", "r.eu.corp.io/x", None, id="star-in-the-middle"),
    pytest.param("*-*.corp.io", "a-b.corp.io/x", None, id="two-stars-in-one-label"),
    pytest.param("*.*", "a.io/x", None, id="star-in-each-label"),
    pytest.param("*.corp.io", "eu.corp.io:5000/x", "host", id="star-host-without-port"),
    pytest.param("*.corp.io:5000", "eu.corp.io:5000/x", None, id="star-host-with-port"),
    pytest.param("*.corp.io:5000", "eu.corp.io:5001/x", "host", id="star-host-with-another-port"),
    pytest.param("*1*:5000/", "n1:5000/x", None, id="star-in-a-dotless-host"),
    pytest.param("*1*:5000/", "[::1]:5000/x", "host", id="star-is-no-part-of-an-ipv6-address"),
    pytest.param("*", "anything.io:5000/x", None, id="star-alone-is-any-host-and-port"),
    pytest.param("*", "[::1]:5000/x", None, id="star-alone-is-ipv6-too"),
    pytest.param("*", "nginx", None, id="star-alone-is-hub-too"),
    pytest.param("*/**", "localhost/x", None, id="star-alone-and-everything-below"),
]

PORTS: Final = [
    pytest.param("a.io", "a.io:5000/x", "host", id="no-port-matches-only-none"),
    pytest.param("a.io:5000", "a.io/x", "host", id="a-port-wants-it"),
    pytest.param("a.io:5000", "a.io:5000/x", None, id="the-same-port"),
    pytest.param("a.io:05000", "a.io:5000/x", None, id="the-pattern's-port-is-a-number"),
    pytest.param("a.io:5000", "a.io:05000/x", None, id="the-image's-port-is-a-number"),
    pytest.param("a.io:443", "a.io/x", None, id="443-is-none"),
    pytest.param("a.io", "a.io:443/x", None, id="none-is-443"),
    pytest.param("a.io:0443", "a.io:00443/x", None, id="443-on-both-sides"),
    pytest.param("*.io:443", "a.io/x", None, id="443-of-a-star-host"),
    pytest.param("a.io:80", "a.io/x", "host", id="80-is-not-none"),
    pytest.param("localhost:5000", "localhost:5000/x", None, id="localhost-with-port"),
    pytest.param("foo:5000/", "foo:5000/x", None, id="dotless-host-with-port-and-slash"),
    pytest.param("foo:5000/x", "foo:5000/x", None, id="dotless-host-with-port-and-path"),
]

PATHS: Final = [
    pytest.param("a.io/", "a.io/x", None, id="trailing-slash-of-a-host"),
    pytest.param("a.io/**", "a.io/x/y", None, id="double-star-of-a-host"),
    pytest.param("a.io/x", "a.io/x:v1", None, id="exact"),
    pytest.param("a.io/x", "a.io/x/y", "path", id="exact-is-not-below"),
    pytest.param("a.io/x", "a.io/xy", "path", id="exact-is-not-longer"),
    pytest.param("a.io/x/", "a.io/x/y", None, id="trailing-slash"),
    pytest.param("a.io/x/", "a.io/x", "path", id="trailing-slash-is-below-only"),
    pytest.param("a.io/x/**", "a.io/x/y/z", None, id="double-star"),
    pytest.param("a.io/x/**", "a.io/x", "path", id="double-star-is-one-segment-or-more"),
    pytest.param("a.io/x/**", "a.io/xy/z", "path", id="double-star-keeps-the-segment"),
    pytest.param("a.io/*", "a.io/x", None, id="star-is-one-segment"),
    pytest.param("a.io/*", "a.io/x/y", "path", id="star-is-not-two-segments"),
    pytest.param("a.io/*/app", "a.io/team/app", None, id="star-before"),
    pytest.param("a.io/*/app", "a.io/app", "path", id="star-is-not-no-segment"),
    pytest.param("a.io/team-*/app", "a.io/team-a/app", None, id="star-after-a-dash"),
    pytest.param("a.io/team-*/app", "a.io/team/app", "path", id="star-after-a-dash-keeps-the-dash"),
    pytest.param("a.io/team*/app", "a.io/team/app", None, id="star-in-a-segment-is-also-nothing"),
    pytest.param("a.io/*-*", "a.io/a-b", None, id="two-stars-in-a-segment"),
    pytest.param("a.io/*/**", "a.io/x/y", None, id="star-then-double-star"),
    pytest.param("a.io/*/**", "a.io/x", "path", id="star-then-double-star-wants-two"),
    pytest.param("a.io/x*/", "a.io/x1/y", None, id="star-then-trailing-slash"),
]

HUB: Final = [
    pytest.param("docker.io", "nginx", None, id="path-less-is-all-of-hub"),
    pytest.param("docker.io", "team/app", None, id="path-less-is-all-users"),
    pytest.param("index.docker.io", "nginx", None, id="alias-index"),
    pytest.param("registry-1.docker.io", "nginx", None, id="alias-registry-1"),
    pytest.param("registry.hub.docker.com/team/app", "team/app", None, id="alias-registry-hub"),
    pytest.param("index.docker.io:443", "nginx", None, id="alias-443"),
    pytest.param("docker.io", "index.docker.io/nginx", None, id="alias-in-the-image"),
    pytest.param("docker.io", "registry-1.docker.io:443/nginx", None, id="alias-443-in-the-image"),
    pytest.param("docker.io/nginx", "nginx", None, id="one-segment-is-the-official-image"),
    pytest.param("docker.io/nginx", "library/nginx", None, id="one-segment-is-library"),
    pytest.param("registry-1.docker.io/nginx", "docker.io/nginx", None, id="one-segment-of-an-alias"),
    pytest.param("docker.io/library/nginx", "docker.io:443/nginx", None, id="one-segment-of-an-image"),
    pytest.param("docker.io/*", "nginx", None, id="star-is-the-official-images"),
    pytest.param("docker.io/*", "team/app", "path", id="star-is-no-users"),
    pytest.param("docker.io/nginx/", "nginx", "path", id="trailing-slash-is-a-user"),
    pytest.param("docker.io/nginx/", "nginx/app", None, id="trailing-slash-is-below-a-user"),
    pytest.param("docker.io/library/**", "nginx", None, id="all-official-images"),
    pytest.param("docker.io/library", "nginx", "path", id="library-is-no-prefix"),
    pytest.param("docker.io:5000/nginx", "nginx", "host", id="another-port-is-not-hub"),
    pytest.param("docker.io:5000/nginx", "docker.io:5000/nginx", None, id="another-port-has-no-library"),
]

TAGS: Final = [
    pytest.param("a.io/x:v1", "a.io/x:v1", None, id="tag"),
    pytest.param("a.io/x:v1", "a.io/x:v2", "tag", id="another-tag"),
    pytest.param("a.io/x:v1", "a.io/x:V1", "tag", id="tags-have-case"),
    pytest.param("a.io/x:v*", "a.io/x:v1.2", None, id="tag-glob"),
    pytest.param("a.io/x:v*", "a.io/x:1v", "tag", id="another-tag-of-a-glob"),
    pytest.param("a.io/x:latest", "a.io/x", None, id="no-tag-is-latest"),
    pytest.param("a.io/x:*", "a.io/x", None, id="any-tag-is-also-latest"),
    pytest.param("a.io/x:v1", "a.io/x", "tag", id="no-tag-is-nothing-else"),
    pytest.param("a.io/x:v1", f"a.io/x:v1@{SHA256}", "tag", id="a-digest-has-no-tag"),
    pytest.param("a.io/x:*", f"a.io/x:v1@{SHA256}", "tag", id="a-digest-matches-no-tag-glob"),
    pytest.param("a.io/x:latest", f"a.io/x@{SHA256}", "tag", id="a-digest-is-not-latest"),
    pytest.param("a.io/**:v1", "a.io/x/y:v1", None, id="tag-after-double-star"),
    pytest.param("*/**:latest", "nginx", None, id="no-floating-latest"),
    pytest.param("*/**:latest", "nginx:1", "tag", id="no-floating-latest-leaves-tags"),
    pytest.param("a.io/x", "a.io/x:v1", None, id="no-tag-in-the-pattern-is-any"),
    pytest.param("foo:5000/x:5000", "foo:5000/x:5000", None, id="a-port-and-a-tag"),
    pytest.param("a.io/x:" + "t" * 128, "a.io/x:" + "t" * 128, None, id="longest-tag"),
]

DIGESTS: Final = [
    pytest.param(f"a.io/x@{SHA256}", f"a.io/x@{SHA256}", None, id="exact"),
    pytest.param(f"a.io/x@{SHA256}", f"a.io/x:v1@{SHA256}", None, id="the-image's-tag-is-ignored"),
    pytest.param(f"a.io/x@{SHA256}", f"a.io/x@{OTHER}", "digest", id="another"),
    pytest.param(f"a.io/x@{SHA256}", "a.io/x", "digest", id="not-pinned"),
    pytest.param(f"a.io/x@{SHA512}", f"a.io/x@{SHA512}", None, id="sha512"),
    pytest.param("a.io/x@*", f"a.io/x@{SHA512}", None, id="any-digest"),
    pytest.param("a.io/x@*", "a.io/x:v1", "digest", id="any-digest-wants-one"),
    pytest.param("a.io@*", f"a.io/x/y@{SHA256}", None, id="anything-there-if-pinned"),
    pytest.param("a.io@*", "a.io/x", "digest", id="anything-there-only-if-pinned"),
    pytest.param("*@*", f"nginx@{SHA256}", None, id="anything-anywhere-if-pinned"),
    pytest.param("a.io/x:v1@*", f"a.io/x:v2@{SHA256}", None, id="the-pattern's-tag-is-ignored"),
]


@pytest.mark.parametrize(("pattern", "image", "part"), [*HOSTS, *PORTS, *PATHS, *HUB])
def test_host_and_path(pattern: str, image: str, part: str | None) -> None:
    assert missed(pattern, image) == part


@pytest.mark.parametrize(("pattern", "image", "part"), [*TAGS, *DIGESTS])
def test_tag_and_digest(pattern: str, image: str, part: str | None) -> None:
    assert missed(pattern, image) == part


def test_a_tag_beside_a_digest_is_kept_for_its_finding() -> None:
    pattern = parse_pattern("a.io/x:v1@*")
    assert (pattern.tag, pattern.digest, pattern.ignored_tag) == (None, "*", "v1")
    assert parse_pattern("a.io/x:v1").ignored_tag is None


REFUSED: Final = [
    pytest.param("", "blank", "", id="empty"),
    pytest.param("  ", "blank", "", id="only-spaces"),
    pytest.param("\u00a0", "blank", "", id="only-a-no-break-space"),
    pytest.param("nginx", "host is missing", "docker.io/library/nginx", id="no-host"),
    pytest.param("nginx/", "host is missing", "docker.io/nginx/", id="no-host-but-a-slash"),
    pytest.param("library/nginx", "host is missing", "docker.io/library/nginx", id="no-host-but-a-path"),
    pytest.param("Team/App:V1", "host is missing", "docker.io/team/app:V1", id="no-host-in-upper-case"),
    pytest.param("nginx@*", "host is missing", "docker.io/library/nginx@*", id="no-host-but-a-digest"),
    pytest.param("LOCALHOST", "lower case", "localhost", id="localhost-has-no-case"),
    pytest.param("foo*/x", "host is missing", "docker.io/foo*/x", id="star-in-a-dotless-host"),
    pytest.param("/x", "host is missing", "", id="leading-slash"),
    pytest.param("nginx:1", "image with a tag", "docker.io/library/nginx:1", id="a-tag-is-no-port"),
    pytest.param("nginx:latest", "image with a tag", "docker.io/library/nginx:latest", id="a-tag-in-letters"),
    pytest.param("nginx:1.25", "image with a tag", "docker.io/library/nginx:1.25", id="a-tag-with-a-dot"),
    pytest.param(
        "foo:5000", "is written foo:5000/", "docker.io/library/foo:5000", id="a-port-is-no-tag-either"
    ),
    pytest.param("nginx:1@*", "image with a tag", "docker.io/library/nginx:1@*", id="a-tag-and-a-digest"),
    pytest.param("*:5000", "any registry with any port", "", id="star-with-a-port"),
    pytest.param("*:5000/x", "any registry with any port", "", id="star-with-a-port-and-a-path"),
    pytest.param("*:443/x", "any registry with any port", "", id="star-with-443"),
    pytest.param(":latest", "host is missing", "*/**:latest", id="only-a-tag"),
    pytest.param(":v1@*", "host is missing", "*/**:v1@*", id="only-a-tag-and-a-digest"),
    pytest.param(":5000", "host is missing", "", id="only-a-port"),
    pytest.param("*:latest", "any registry with any port", "*/**:latest", id="star-with-a-tag"),
    pytest.param("*:v1@*", "any registry with any port", "*/**:v1@*", id="star-with-a-tag-and-a-digest"),
    pytest.param("*:5*", "any registry with any port", "", id="star-with-a-glob-that-may-be-a-port"),
    pytest.param("foo/:v1", "is it docker.io/foo/**:v1?", "docker.io/foo/**:v1", id="no-host-and-more"),
    pytest.param("A.io/x", "host must be in lower case", "a.io/x", id="upper-case-host"),
    pytest.param("a.io/X", "path must be in lower case", "a.io/x", id="upper-case-path"),
    pytest.param(
        "a.io/Team/App:V1", "path must be in lower case", "a.io/team/app:V1", id="a-tag-may-be-in-upper-case"
    ),
    pytest.param("a.io/x y", "whitespace", "", id="space"),
    pytest.param(" a.io", "whitespace", "a.io", id="leading-space"),
    pytest.param("a.io\n", "whitespace", "a.io", id="final-newline"),
    pytest.param("a\u3000.io", "whitespace", "", id="ideographic-space"),
    pytest.param("caf\xe9.io", "character", "", id="non-ascii-host"),
    pytest.param("a.io/\u0430", "character", "", id="cyrillic-a"),
    pytest.param("a.io/\x00", "character", "", id="control-character"),
    pytest.param("a.io/\ud800", "character", "", id="lone-surrogate"),
    pytest.param("https://a.io", "scheme", "a.io", id="scheme"),
    pytest.param("https://a.io:v1", "scheme", "a.io/**:v1", id="scheme-and-more"),
    pytest.param("https://", "scheme", "", id="only-a-scheme"),
    pytest.param("a..io", "part of the host is empty", "", id="empty-label"),
    pytest.param(".io", "part of the host is empty", "", id="empty-first-label"),
    pytest.param("a.io./x", "part of the host is empty", "", id="empty-last-label"),
    pytest.param("-a.io", "a host cannot have the part -a", "", id="label-starts-with-a-dash"),
    pytest.param("a-.io", "a host cannot have the part a-", "", id="label-ends-with-a-dash"),
    pytest.param("a" * 64 + ".io", "at most 63 characters", "", id="label-over-63-characters"),
    pytest.param(
        "a.io/" + "a/" * 254, "at most 512 characters, and this one has 513", "", id="over-512-characters"
    ),
    pytest.param("a" * 100_000, "at most 512 characters", "", id="far-over-512-characters"),
    pytest.param("a_b.io", "a host cannot have the part a_b", "", id="underscore-in-a-host"),
    pytest.param("user:pw@a.io/x", "digest is malformed", "", id="user-and-password"),
    pytest.param("**.corp.io", "last segment", "", id="double-star-in-a-host"),
    pytest.param("[::1", "not an IPv6 address", "", id="open-bracket"),
    pytest.param("[]", "not an IPv6 address", "", id="empty-brackets"),
    pytest.param("[*]:5000/x", "not an IPv6 address", "", id="star-in-brackets"),
    pytest.param(
        "a.io:/x", "port of a.io: is malformed: it is a number from 1 to 65535", "", id="empty-port"
    ),
    pytest.param("localhost:", "port of localhost: is malformed", "", id="empty-port-of-localhost"),
    pytest.param("a.io:v1", "port of a.io:v1 is malformed", "a.io/**:v1", id="port-in-letters"),
    pytest.param("a.io:5*/x", "is malformed", "", id="star-in-a-port"),
    pytest.param("a.io:-1/x", "is malformed", "", id="negative-port"),
    pytest.param("a.io:0/x", "between 1 and 65535", "", id="port-0"),
    pytest.param("a.io:65536", "between 1 and 65535", "", id="port-65536"),
    pytest.param("a.io:80:80/x", "a host cannot have the part io:80", "", id="two-ports"),
    pytest.param(":5000/x", "host is missing", "", id="port-without-a-host"),
    pytest.param("a.io//x", "part of the path is empty", "", id="empty-segment"),
    pytest.param("a.io/x//", "part of the path is empty", "", id="two-trailing-slashes"),
    pytest.param("a.io//", "part of the path is empty", "", id="only-slashes"),
    pytest.param("a.io/**/x", "last segment", "", id="double-star-first"),
    pytest.param("a.io/**/", "last segment", "", id="double-star-then-slash"),
    pytest.param("a.io/x**", "last segment", "", id="double-star-in-a-segment"),
    pytest.param("a.io/***", "last segment", "", id="triple-star"),
    pytest.param("a.io/x:**", "last segment", "", id="double-star-in-a-tag"),
    pytest.param("a.io/.x", "a repository cannot have the part .x", "", id="segment-starts-with-a-dot"),
    pytest.param("a.io/x-", "a repository cannot have the part x-", "", id="segment-ends-with-a-dash"),
    pytest.param("a.io/team-/**", "a repository cannot have the part team-", "", id="inner-segment-too"),
    pytest.param("a.io/a..b", "a repository cannot have the part a..b", "", id="two-dots"),
    pytest.param("a.io/a___b", "a repository cannot have the part a___b", "", id="three-underscores"),
    pytest.param("a.io/a._*", "a repository cannot have the part a._*", "", id="mixed-separators"),
    pytest.param("a.io/-*", "a repository cannot have the part -*", "", id="star-does-not-help"),
    pytest.param("a.io/x:1/y", "a repository cannot have the part x:1", "", id="tag-before-a-slash"),
    pytest.param("a.io/..", "a repository cannot", "", id="dot-dot"),
    pytest.param("a.io/" + "a" * 256, "at most 255 characters", "", id="repository-over-255-characters"),
    pytest.param("a.io/" + "a/" * 128 + "b", "at most 255 characters", "", id="many-segments"),
    pytest.param("a.io/:v1", "tag follows", "a.io/**:v1", id="tag-after-a-slash"),
    pytest.param("a.io/x/:v1", "tag follows", "a.io/x/**:v1", id="tag-after-a-trailing-slash"),
    pytest.param("a.io/x:", "tag is empty", "", id="empty-tag"),
    pytest.param("a.io/x:@*", "tag is empty", "", id="empty-tag-beside-a-digest"),
    pytest.param("a.io/x:-v", "an image cannot have the tag -v", "", id="tag-starts-with-a-dash"),
    pytest.param("a.io/x:a:b", "an image cannot have the tag a:b", "", id="two-tags"),
    pytest.param("a.io/x:a+b", "an image cannot have the tag", "", id="plus-in-a-tag"),
    pytest.param("a.io/x:" + "t" * 129, "an image cannot have the tag", "", id="tag-over-128-characters"),
    pytest.param("a.io/x@", "digest is malformed", "", id="empty-digest"),
    pytest.param("a.io/x@sha256:*", "digest is malformed", "", id="star-in-a-digest"),
    pytest.param("a.io/x@sha256:abc", "digest is malformed", "", id="short-digest"),
    pytest.param(f"a.io/x@{SHA256.upper()}", "digest is malformed", "", id="upper-case-digest"),
    pytest.param("a.io/x@md5:" + "a" * 32, "digest is malformed", "", id="md5"),
    pytest.param(f"a.io/x@{SHA256}@{SHA256}", "digest is malformed", "", id="two-digests"),
    pytest.param("a.io/x@**", "digest is malformed", "", id="double-star-in-a-digest"),
]


@pytest.mark.parametrize(("text", "reason", "proposal"), REFUSED)
def test_a_refused_pattern_has_a_reason_and_a_proposal(text: str, reason: str, proposal: str) -> None:
    with pytest.raises(InvalidPattern) as caught:
        parse_pattern(text)
    assert reason in str(caught.value)
    assert caught.value.proposal == proposal


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a.io/a.*_b", id="star-between-separators"),
        pytest.param("a.io/a--b__c.d", id="all-separators"),
        pytest.param("a.io/" + "*" + "a" * 255, id="a-star-may-be-nothing"),
        pytest.param("a.io/x:*" + "t" * 128, id="a-star-in-a-tag-may-be-nothing"),
        pytest.param("a" * 63 + ".io", id="longest-label"),
        pytest.param("*" + "a" * 63 + ".io", id="a-star-in-a-label-may-be-nothing"),
        pytest.param("xn--caf-dma.io", id="punycode"),
        pytest.param("a.io:65535/", id="highest-port"),
        pytest.param("127.0.0.1", id="ipv4"),
    ],
)
def test_unusual_but_valid_patterns(text: str) -> None:
    assert parse_pattern(text).text == text


@pytest.mark.parametrize(
    ("text", "host", "segments"),
    [
        pytest.param("a.io", "a.io", (), id="registry"),
        pytest.param("a.io/", "a.io", (), id="registry-with-a-slash"),
        pytest.param("a.io/x/y", "a.io", ("x", "y"), id="path"),
        pytest.param("a.io/x/", "a.io", ("x",), id="path-with-a-slash"),
        pytest.param("index.docker.io:443", "docker.io", (), id="hub-alias"),
        pytest.param("docker.io/bitnami", "docker.io", ("bitnami",), id="a-hub-user-gets-no-library"),
        pytest.param("foo:05000/", "foo:5000", (), id="port"),
    ],
)
def test_a_prefix_of_a_mirror_is_parsed(text: str, host: str, segments: tuple[str, ...]) -> None:
    prefix = parse_prefix(text)
    assert (prefix.host, prefix.segments) == (host, segments)
    assert prefix.text == text.rstrip("/")
    name = "/".join((host, *segments))
    assert (str(prefix.here), str(prefix.below)) == (name, f"{name}/**")
    assert prefix.path_length == len("".join(f"{segment}/" for segment in segments))


@pytest.mark.parametrize(
    ("text", "reason", "proposal"),
    [
        pytest.param(" ", "blank", "", id="blank"),
        pytest.param("a.io x", "whitespace", "", id="space"),
        pytest.param("a.io/**", "has no wildcard", "a.io", id="double-star"),
        pytest.param("*", "has no wildcard", "", id="star"),
        pytest.param("a.io/x@*", "has no wildcard", "", id="any-digest"),
        pytest.param(f"a.io/x@{SHA256}", "without a digest", "", id="digest"),
        pytest.param("a.io/x:v1", "without a tag", "", id="tag"),
        pytest.param("nginx", "host is missing", "docker.io/library/nginx", id="no-host"),
        pytest.param("a.io/X", "lower case", "a.io/x", id="upper-case"),
        pytest.param("a.io//", "empty", "", id="empty-segment"),
    ],
)
def test_an_invalid_prefix_of_a_mirror_is_refused_with_a_proposal(
    text: str, reason: str, proposal: str
) -> None:
    with pytest.raises(InvalidPattern, match=reason) as caught:
        parse_prefix(text)
    assert caught.value.proposal == proposal


@pytest.mark.parametrize(
    ("prefix", "place", "expected"),
    [
        pytest.param("a.io", Location("a.io", ("x",)), True, id="registry"),
        pytest.param("a.io/x", Location("a.io", ("x",)), True, id="equality"),
        pytest.param("a.io/x", Location("a.io", ("x", "y")), True, id="below"),
        pytest.param("a.io/x", Location("a.io", ("xy",)), False, id="segment-boundary"),
        pytest.param("a.io/x/y", Location("a.io", ("x",)), False, id="above"),
        pytest.param("a.io/x", Location("b.io", ("x",)), False, id="another-host"),
    ],
)
def test_prefixes_hold_on_segment_boundaries(prefix: str, place: Location, *, expected: bool) -> None:
    assert parse_prefix(prefix).holds(place) is expected


@pytest.mark.parametrize(
    ("one", "other", "covers", "overlaps"),
    [
        pytest.param("a.io", "a.io/x/y", True, True, id="below"),
        pytest.param("a.io/x/y", "a.io", False, True, id="above"),
        pytest.param("a.io/x/**", "a.io/x", False, False, id="subtree-wants-one-more"),
        pytest.param("a.io/x", "a.io/x/**", False, False, id="root-of-a-subtree"),
        pytest.param("a.io/x", "a.io/y", False, False, id="beside"),
        pytest.param("a.io/x/**", "a.io/y/**", False, False, id="subtrees-beside-each-other"),
        pytest.param("a.io/x/**", "a.io/x/y/**", True, True, id="subtree-below"),
        pytest.param("a.io/*/app", "a.io/team/*", False, True, id="crossing-wildcards"),
        pytest.param("a.io/team-*/**", "a.io/team-a/x", True, True, id="segment-wildcard"),
        pytest.param("a.io/team-*/**", "a.io/*-team/x", False, True, id="wildcards-at-both-ends"),
        pytest.param("a.io/team-*/**", "a.io/x*/y", False, False, id="wildcards-apart"),
        pytest.param("a.io/*-a", "a.io/*-b", False, False, id="endings-apart"),
        pytest.param("*.corp.io", "eu.corp.io/x", True, True, id="host-wildcard"),
        pytest.param("*.corp.io", "a.b.corp.io/x", False, False, id="more-labels"),
        pytest.param("*.corp.io", "eu.corp.io:5000/x", False, False, id="another-port"),
        pytest.param("*", "eu.corp.io:5000/x", True, True, id="any-host"),
        pytest.param("eu.corp.io", "*", False, True, id="of-any-host"),
        pytest.param("*", "*/x", True, True, id="any-host-twice"),
        pytest.param("a.io/x:v*", "a.io/x:v1", True, True, id="tag-glob"),
        pytest.param("a.io/x:v1", "a.io/x:v2", False, False, id="tags-apart"),
        pytest.param("a.io/x:v1", "a.io/x", False, True, id="one-tag-of-all"),
        pytest.param("a.io/x", "a.io/x:v1", True, True, id="all-tags"),
        pytest.param(f"a.io/x@{SHA256}", "a.io/x:v1", False, False, id="a-digest-has-no-tag"),
        pytest.param("a.io/x@*", f"a.io/x@{SHA256}", True, True, id="any-digest"),
        pytest.param(f"a.io/x@{SHA256}", "a.io/x@*", False, True, id="of-any-digest"),
        pytest.param(f"a.io/x@{SHA256}", f"a.io/x@{OTHER}", False, False, id="digests-apart"),
        pytest.param("a.io/x@*", "a.io/x", False, True, id="pinned-of-all"),
        pytest.param("a.io/x:v1", "a.io/x@*", False, False, id="tag-and-pinned"),
    ],
)
def test_two_sets_cover_or_overlap(one: str, other: str, covers: bool, overlaps: bool) -> None:  # noqa: FBT001
    one_set, other_set = parse_pattern(one), parse_pattern(other)
    assert one_set.covers(other_set) is covers
    assert one_set.overlaps(other_set) is overlaps
    assert other_set.overlaps(one_set) is overlaps


@pytest.mark.parametrize(
    ("pattern", "example"),
    [
        ("a.io", "a.io/app"),
        ("a.io/x", "a.io/x"),
        ("*.corp.io/team-*/**:v*", "x.corp.io/team-x/app:vx"),
        ("a.io@*", f"a.io/app@sha256:{'0' * 64}"),
        (f"a.io/x@{SHA256}", f"a.io/x@{SHA256}"),
    ],
)
def test_an_example(pattern: str, example: str) -> None:
    assert parse_pattern(pattern).example() == example


@pytest.mark.parametrize("pattern", ["a.io/**", "*/x/**:v1", f"a.io/x@{SHA256}", "*.io/a*/b:v*", "a.io/**@*"])
def test_a_set_is_written_as_its_pattern(pattern: str) -> None:
    assert str(parse_pattern(pattern)) == pattern


@pytest.mark.parametrize(
    ("pattern", "literal", "start"),
    [
        ("a.io", True, "a.io/"),
        ("a.io/x:v1", True, "a.io/x"),
        ("a.io/x/**@*", True, "a.io/x/"),
        ("*.io/x", False, "*.io/x"),
        ("a.io/x*", False, "a.io/x*"),
    ],
)
def test_names_in_a_literal_set_begin_with_the_same_text(pattern: str, start: str, *, literal: bool) -> None:
    assert (parse_pattern(pattern).literal, parse_pattern(pattern).start) == (literal, start)


def test_equal_sets_are_equal_however_they_are_written() -> None:
    one, other = parse_pattern("a.io/x/**"), parse_pattern("a.io:443/x/**:v1@*")
    assert one != parse_pattern("a.io/x/")
    assert one.unwritten() == parse_pattern("a.io/x/").unwritten() == other.unqualified().unwritten()


@pytest.mark.parametrize(
    ("pattern", "start", "after"),
    [
        pytest.param("a.io/x/y", ("x",), "a.io/y", id="below"),
        pytest.param("a.io/x", ("x",), "a.io", id="nothing-is-left"),
        pytest.param("a.io/*/y:v1", ("x",), "a.io/y:v1", id="wildcard"),
        pytest.param("a.io/x/**", ("x", "y"), "a.io/**", id="a-subtree-goes-on"),
        pytest.param("a.io/x", ("x", "y"), None, id="a-repository-ends"),
        pytest.param("a.io/x/**", ("y",), None, id="elsewhere"),
    ],
)
def test_the_paths_after_a_beginning(pattern: str, start: tuple[str, ...], after: str | None) -> None:
    found = parse_pattern(pattern).after(start)
    assert (None if found is None else str(found)) == after
