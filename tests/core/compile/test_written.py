"""Images that are written in full are recognized and parsed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from gatekeeper_py.core.compile.written import parse_full
from gatekeeper_py.core.images.reference import parse_reference

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
    parsed = parse_full(image)
    assert parsed is not None
    assert (parsed.location.host, "/".join(parsed.location.segments)) == (host, path)
    assert (parsed.tag, parsed.digest) == (tag, digest)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param("nginx", id="short-name"),
        pytest.param("docker.io/nginx", id="official-image-without-library"),
        pytest.param("index.docker.io/library/nginx", id="alias-of-docker-hub"),
        pytest.param("foo/x", id="dotless-host-is-a-hub-user"),
        pytest.param("a.io", id="registry-alone"),
        pytest.param("a.io/" + "x" * 251, id="256-characters"),
        pytest.param("A.io/x", id="upper-case-registry"),
        pytest.param("a.io:443/x", id="default-port"),
        pytest.param("a.io:05000/x", id="port-with-a-zero"),
        pytest.param("a.io:65536/x", id="port-too-large"),
        pytest.param("a.io:0/x", id="port-zero"),
        pytest.param("[::1]:5000/x", id="ipv6"),
        pytest.param("a.io/x@sha512:" + "7c" * 64, id="sha512"),
        pytest.param("a.io/x\n", id="final-newline"),
        pytest.param("a.io/x') || true || ('", id="text-of-an-expression"),
        pytest.param("", id="empty"),
    ],
)
def test_an_image_that_is_not_written_in_full_has_no_reading(image: str) -> None:
    """A text that is not a reference is not written in full either."""
    assert parse_full(image) is None


def test_the_ecosystems_vectors() -> None:
    found = [vector["input"] for vector in VECTORS if parse_full(vector["input"]) is not None]
    assert len(found) > 10
    assert all(parse_reference(image).canonical == image for image in found)
