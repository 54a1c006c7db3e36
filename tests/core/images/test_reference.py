"""References: the grammar as the ecosystem has it, and what is folded for matching."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from gatekeeper_py.core import InvalidReference, Reference, parse_reference
from gatekeeper_py.core.images.reference import (
    MAX_IMAGE_LENGTH,
    check_digest,
    effective_tag,
    escape,
    fold_registry,
    locate,
    printable,
)

SHA256: Final = "sha256:" + "7c" * 32
SHA512: Final = "sha512:" + "7c" * 64
VECTORS: Final[list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[2] / "data" / "references.json").read_text()
)["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: ascii(v["input"])[:60])
def test_references_agree_with_the_vectors_of_the_ecosystem(vector: dict[str, Any]) -> None:
    if not vector["ok"]:
        with pytest.raises(InvalidReference):
            parse_reference(vector["input"])
        return
    reference = parse_reference(vector["input"])
    assert reference.raw == vector["input"]
    assert reference.registry == vector["registry"]
    assert reference.repository == vector["repository"]
    assert reference.tag == vector["tag"]
    assert reference.digest == vector["digest"]
    assert reference.canonical == vector["canonical"]


def test_the_vectors_hold_both_kinds() -> None:
    assert {vector["ok"] for vector in VECTORS} == {True, False}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "empty", id="empty"),
        pytest.param("a" * (MAX_IMAGE_LENGTH + 1), "longer than 4096", id="over-4096-characters"),
        pytest.param("a" * 64, "image id", id="64-hex-digits-are-an-image-id"),
        pytest.param("Nginx", "lower case", id="upper-case-repository"),
        pytest.param("https://a.io/x", "scheme", id="scheme"),
        pytest.param("a.io/x ", "whitespace", id="trailing-space"),
        pytest.param("a.io/x\n", "whitespace", id="final-newline"),
        pytest.param("a.io/x y", "whitespace", id="inner-space"),
        pytest.param("a.io/$(image)", "variable", id="unreplaced-kubernetes-variable"),
        pytest.param("a.io/${image}", "variable", id="unreplaced-shell-variable"),
        pytest.param("a.io/x@v1", "not a digest", id="tag-after-at"),
        pytest.param("a.io/x@", "not a digest", id="empty-digest"),
        pytest.param("a.io/x:-v1", "tag is malformed", id="tag-starts-with-a-dash"),
        pytest.param("a.io/x:", "tag is malformed", id="empty-tag"),
        pytest.param("a.io/x:" + "t" * 129, "tag is malformed", id="tag-over-128-characters"),
        pytest.param("a.io//x", "between slashes is empty", id="empty-part"),
        pytest.param("a.io/x/", "between slashes is empty", id="trailing-slash"),
        pytest.param("a.io/x-", "does not follow the grammar", id="component-ends-with-a-dash"),
        pytest.param("a.io/x\0", "does not follow the grammar", id="control-character"),
        pytest.param("a.io/\u0131", "does not follow the grammar", id="dotless-i-is-no-ascii"),
        pytest.param("\u212aorp.io/x", "does not follow the grammar", id="kelvin-sign-is-no-k"),
        pytest.param("a.io/x:\u0661", "tag is malformed", id="arabic-digit-is-no-digit"),
        pytest.param("a.io:\u0661/x", "does not follow the grammar", id="arabic-digit-is-no-port"),
        pytest.param("a.io/x\ud800", "does not follow the grammar", id="lone-surrogate"),
        pytest.param(f"a.io/{'a' * 256}", "longer than 255", id="repository-over-255-characters"),
        pytest.param("a.io/x@sha384:" + "a" * 96, "sha256 or sha512", id="sha384"),
        pytest.param("a.io/x@sha256:" + "A" * 64, "lower-case", id="upper-case-digest"),
        pytest.param("a.io/x@sha256:" + "a" * 63, "64 lower-case", id="short-sha256"),
        pytest.param("a.io/x@sha512:" + "a" * 64, "128 lower-case", id="short-sha512"),
    ],
)
def test_an_invalid_reference_states_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidReference, match=reason):
        parse_reference(text)


def test_a_text_of_4096_characters_is_parsed() -> None:
    host = ".".join(["a" * 63] * 60)
    text = f"{host}/{'a' * (MAX_IMAGE_LENGTH - len(host) - 1)}"
    assert len(text) == MAX_IMAGE_LENGTH
    with pytest.raises(InvalidReference, match="longer than 255"):
        parse_reference(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a-" * 2000, id="dashes"),
        pytest.param("a." * 2000, id="dots"),
        pytest.param("a__" * 1300, id="underscores"),
        pytest.param("a" * 4000 + "!", id="one-component"),
        pytest.param("a/" * 2000 + "!", id="slashes"),
        pytest.param("[" + ":" * 4000, id="colons"),
        pytest.param("a.io/x:" + "a" * 4000, id="tag"),
        pytest.param("x@" + "a+" * 2000, id="digest-algorithm"),
    ],
)
def test_input_that_is_exponential_elsewhere_is_refused_at_once(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_reference(text)


@pytest.mark.parametrize(
    ("text", "name", "suffix"),
    [
        pytest.param("nginx", "docker.io/library/nginx", "", id="bare"),
        pytest.param(f"A.io:05/x:v1@{SHA512}", "A.io:05/x", f":v1@{SHA512}", id="all-parts-as-written"),
        pytest.param("foo_bar.com/baz:1", "foo_bar.com/baz", ":1", id="empty-registry"),
    ],
)
def test_a_reference_prints_its_parts(text: str, name: str, suffix: str) -> None:
    reference = parse_reference(text)
    assert (reference.name, reference.suffix, reference.canonical) == (name, suffix, name + suffix)


@pytest.mark.parametrize(
    ("image", "place"),
    [
        pytest.param("REGISTRY.Corp.io/x", "registry.corp.io/x", id="lower-case"),
        pytest.param("a.io:5000/x", "a.io:5000/x", id="port-stays"),
        pytest.param("a.io:05000/x", "a.io:5000/x", id="port-is-a-number"),
        pytest.param("a.io:443/x", "a.io/x", id="443-is-the-same-as-none"),
        pytest.param("a.io:00443/x", "a.io/x", id="443-is-a-number-too"),
        pytest.param("a.io:80/x", "a.io:80/x", id="80-is-not-none"),
        pytest.param("a.io:65535/x", "a.io:65535/x", id="highest-port"),
        pytest.param("a.io:1/x", "a.io:1/x", id="lowest-port"),
        pytest.param("localhost/x", "localhost/x", id="localhost"),
        pytest.param("nginx", "docker.io/library/nginx", id="bare-name"),
        pytest.param("docker.io/nginx", "docker.io/library/nginx", id="hub-short"),
        pytest.param("index.docker.io/nginx", "docker.io/library/nginx", id="hub-index"),
        pytest.param("INDEX.docker.io/nginx", "docker.io/library/nginx", id="hub-index-upper-case"),
        pytest.param("registry-1.docker.io/nginx", "docker.io/library/nginx", id="hub-registry-1"),
        pytest.param("registry.hub.docker.com/nginx", "docker.io/library/nginx", id="hub-registry-hub"),
        pytest.param("docker.io:443/nginx", "docker.io/library/nginx", id="hub-443"),
        pytest.param("index.docker.io:443/nginx", "docker.io/library/nginx", id="hub-index-443"),
        pytest.param("registry-1.docker.io:0443/a/b", "docker.io/a/b", id="hub-registry-1-0443"),
        pytest.param("Registry.Hub.Docker.com:443/nginx", "docker.io/library/nginx", id="hub-all-at-once"),
        pytest.param("docker.io:5000/nginx", "docker.io:5000/nginx", id="hub-on-another-port-is-not-hub"),
        pytest.param("docker.com/nginx", "docker.com/nginx", id="docker-com-is-not-hub"),
        pytest.param("hub.docker.com/nginx", "hub.docker.com/nginx", id="hub-docker-com-is-not-hub"),
        pytest.param("docker.io/library", "docker.io/library/library", id="library-itself"),
        pytest.param("Docker.io/team/nginx", "docker.io/team/nginx", id="hub-two-segments-stay"),
        pytest.param("[2001:DB8::1]/r", "[2001:db8::1]/r", id="ipv6-lower-case"),
        pytest.param("[2001:db8:0::1]/r", "[2001:db8:0::1]/r", id="ipv6-is-compared-as-text"),
        pytest.param("[::1]:443/r", "[::1]/r", id="ipv6-443"),
        pytest.param("[::1]:05000/r", "[::1]:5000/r", id="ipv6-port-is-a-number"),
        pytest.param("[::1:443]/r", "[::1:443]/r", id="a-group-of-ipv6-is-no-port"),
        pytest.param("example.com:tag", "docker.io/library/example.com", id="host-without-path-is-a-name"),
    ],
)
def test_folding_for_matching(image: str, place: str) -> None:
    assert locate(parse_reference(image)).name == place


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        pytest.param("foo_bar.com/baz", "neither a registry", id="empty-registry"),
        pytest.param("sha256:abc", "local image id", id="local-id"),
        pytest.param("sha256:" + "a" * 64, "local image id", id="local-id-in-full"),
        pytest.param("sha256:ABC", "local image id", id="local-id-upper-case"),
        pytest.param("sha384:0", "local image id", id="local-sha384"),
        pytest.param("sha512:F0", "local image id", id="local-sha512"),
        pytest.param("a.io:0/x", "port", id="port-0"),
        pytest.param("a.io:000/x", "port", id="port-000"),
        pytest.param("a.io:65536/x", "port", id="port-65536"),
        pytest.param("a.io:" + "9" * 4000 + "/x", "port", id="port-of-4000-digits"),
        pytest.param("docker.io:99999/x", "port", id="hub-port"),
    ],
)
def test_never_approved(image: str, reason: str) -> None:
    reference = parse_reference(image)
    with pytest.raises(InvalidReference, match=reason):
        locate(reference)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param("sha256:xyz", id="not-hexadecimal"),
        pytest.param("sha1:abc", id="sha1"),
        pytest.param("docker.io/library/sha256:abc", id="written-in-full"),
        pytest.param(f"sha256:abc@{SHA256}", id="pinned"),
        pytest.param("a.io:0000080/x", id="port-with-many-zeros"),
    ],
)
def test_an_ordinary_image_is_not_mistaken_for_one_that_is_never_approved(image: str) -> None:
    assert locate(parse_reference(image))


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        pytest.param("nginx", "latest", id="neither"),
        pytest.param("nginx:1", "1", id="tag"),
        pytest.param(f"nginx@{SHA256}", None, id="digest"),
        pytest.param(f"nginx:1@{SHA256}", None, id="tag-beside-a-digest-is-ignored"),
    ],
)
def test_effective_tag(image: str, tag: str | None) -> None:
    assert effective_tag(parse_reference(image)) == tag


def test_fold_registry_needs_no_reference() -> None:
    assert fold_registry("Index.Docker.io:443") == "docker.io"


def test_check_digest_accepts_both_algorithms() -> None:
    check_digest(SHA256)
    check_digest(SHA512)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("nginx:1", "nginx:1", id="plain"),
        pytest.param("a\nb\t\x1b[1m\x00", "a\\nb\\t\\x1b[1m\\x00", id="control-characters"),
        pytest.param("caf\xe9 \u202e \U0001f600", "caf\\xe9 \\u202e \\U0001f600", id="non-ascii"),
        pytest.param("\ud800", "\\ud800", id="lone-surrogate"),
        pytest.param("a" * 200, "a" * 200, id="exactly-200"),
        pytest.param("a" * 201, "a" * 197 + "...", id="cut-at-200"),
        pytest.param("\xe9" * 1_000_000, ("\\xe9" * 50)[:197] + "...", id="cut-after-escaping"),
    ],
)
def test_escaped_for_messages(text: str, shown: str) -> None:
    assert escape(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("caf\xe9", "caf\xe9", id="letters"),
        pytest.param("a\n\x1b[1m\u202eb\u2028", "a\\n\\x1b[1m\\u202eb\\u2028", id="control-characters"),
        pytest.param("a" * 300, "a" * 300, id="any-length"),
    ],
)
def test_texts_are_printed_without_control_characters(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_references_are_frozen_values() -> None:
    assert parse_reference("a.io/x") == Reference(raw="a.io/x", registry="a.io", repository="x")
