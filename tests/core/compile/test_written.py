"""Images that are written in full are recognized and parsed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from gatekeeper_py.core.compile.written import FullName, parse_full
from gatekeeper_py.core.images.reference import Location, parse_reference

DIGEST: Final = "sha256:" + "7c" * 32
VECTORS: Final[list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[2] / "data" / "references.json").read_text()
)["vectors"]


@pytest.mark.parametrize(
    ("image", "host", "path", "tag", "digest"),
    [
        pytest.param("a.io/x", "a.io", "x", "latest", None, id="no-tag-is-latest"),
        pytest.param("a.io/x/y:v1", "a.io", "x/y", "v1", None, id="tag"),
        pytest.param(f"a.io/x@{DIGEST}", "a.io", "x", None, DIGEST, id="digest"),
        pytest.param(f"a.io/x:v1@{DIGEST}", "a.io", "x", None, DIGEST, id="the-digest-counts"),
        pytest.param("a.io:5000/x", "a.io:5000", "x", "latest", None, id="port"),
        pytest.param("localhost/x", "localhost", "x", "latest", None, id="localhost"),
        pytest.param("foo:5000/x", "foo:5000", "x", "latest", None, id="dotless-with-a-port"),
        pytest.param("docker.io/library/nginx", "docker.io", "library/nginx", "latest", None, id="hub"),
        pytest.param("a.io/" + "x" * 250, "a.io", "x" * 250, "latest", None, id="255-characters"),
    ],
)
def test_written_in_full(image: str, host: str, path: str, tag: str | None, digest: str | None) -> None:
    assert parse_full(image) == FullName(Location(host, tuple(path.split("/"))), tag, digest)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param("nginx", id="short-name"),
        pytest.param("docker.io/nginx", id="official-image-without-library"),
        pytest.param("index.docker.io/library/nginx", id="alias-of-docker-hub"),
        pytest.param("foo/x", id="dotless-host-is-a-hub-user"),
        pytest.param("a.io", id="registry-alone"),
        pytest.param("a.io/", id="nothing-below"),
        pytest.param("a.io/" + "x" * 251, id="256-characters"),
        pytest.param("A.io/x", id="upper-case-registry"),
        pytest.param("a.io/X", id="upper-case-repository"),
        pytest.param("a.io:443/x", id="default-port"),
        pytest.param("a.io:05000/x", id="port-with-a-zero"),
        pytest.param("a.io:65536/x", id="port-too-large"),
        pytest.param("a.io:0/x", id="port-zero"),
        pytest.param("-a.io/x", id="label-begins-with-a-hyphen"),
        pytest.param("a-.io/x", id="label-ends-with-a-hyphen"),
        pytest.param("a..io/x", id="empty-label"),
        pytest.param("[::1]:5000/x", id="ipv6"),
        pytest.param("a.io/x@sha256:7c", id="short-digest"),
        pytest.param("a.io/x@sha512:" + "7c" * 64, id="sha512"),
        pytest.param(f"a.io/x@{DIGEST.upper()}", id="upper-case-digest"),
        pytest.param("a.io/x@v1", id="not-a-digest"),
        pytest.param("a.io/x:", id="empty-tag"),
        pytest.param("a.io/x:" + "v" * 129, id="long-tag"),
        pytest.param("a.io/x\n", id="final-newline"),
        pytest.param("a.io/x\0", id="nul"),
        pytest.param(" a.io/x", id="leading-space"),
        pytest.param("a.io/é", id="not-ascii"),
        pytest.param("a.io/x:\u0663", id="arabic-digit"),
        pytest.param("\uff41.io/x", id="full-width-letter"),
        pytest.param("a.io/\u212a", id="kelvin-sign"),
        pytest.param("a.io//x", id="empty-segment"),
        pytest.param("a.io/x___y", id="three-underscores"),
        pytest.param("a.io/$(IMAGE)", id="variable"),
        pytest.param("evil.io:80@a.io/x", id="registry-after-at"),
        pytest.param("a.io\\@evil.io/x", id="backslash"),
        pytest.param("https://a.io/x", id="scheme"),
        pytest.param("a.io/x') || true || ('", id="text-of-an-expression"),
        pytest.param("", id="empty"),
    ],
)
def test_an_image_that_is_not_written_in_full_has_no_reading(image: str) -> None:
    assert parse_full(image) is None


def test_the_ecosystems_vectors() -> None:
    found = [vector["input"] for vector in VECTORS if parse_full(vector["input"]) is not None]
    assert len(found) > 10
    assert all(parse_reference(image).canonical == image for image in found)
