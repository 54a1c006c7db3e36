"""The image of a release: the same bytes each time, and a list of everything that is in it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator

import pytest

from image.build import PROJECT, Builder
from tools.release.__main__ import os_release
from tools.release.building import built_image, locked_components
from tools.release.sbom import of_image
from tools.release.source import Source

BASE = "forky"
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def source() -> Source:
    return Source.of(PROJECT, allow_changes=True)


@pytest.fixture(scope="module")
def builds_of_one_commit(builds: Builder, source: Source) -> list[tuple[bytes, str]]:
    """Build twice, without reuse of the first build, and return both archives and bills of materials."""
    base, locked = builds.base(BASE), locked_components(source)
    made = []
    for _ in range(2):
        with built_image(source, base, builds.storage) as image:
            made.append((image.archive, of_image(source, locked, image.root, os_release(image.root))))
    return made


def test_two_builds_of_one_commit_are_the_same(builds_of_one_commit: list[tuple[bytes, str]]) -> None:
    (first, bill), (second, other_bill) = builds_of_one_commit
    before, after = contents(first), contents(second)
    assert sorted(name for name in before | after if before.get(name) != after.get(name)) == []
    assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest()
    assert bill == other_bill


def contents(archive: bytes) -> dict[str, tuple[int, int, str]]:
    """Return the mode, time and digest of each file in the layers of an archive."""
    found = {}
    for layer in layers(archive):
        with tarfile.open(fileobj=io.BytesIO(layer)) as opened:
            for entry in opened:
                file = opened.extractfile(entry) if entry.isfile() else None
                content = entry.linkname.encode() if file is None else file.read()
                found[entry.name] = (entry.mode, int(entry.mtime), hashlib.sha256(content).hexdigest())
    return found


def layers(archive: bytes) -> Iterator[bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        for entry in opened:
            content = opened.extractfile(entry)
            if content is not None and (blob := content.read()).startswith(b"\x1f\x8b"):
                yield blob


def test_the_archive_is_an_oci_image(builds_of_one_commit: list[tuple[bytes, str]]) -> None:
    archive = builds_of_one_commit[0][0]
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        names = set(opened.getnames())
        index = json.load(opened.extractfile("index.json"))  # type: ignore[arg-type]
    (manifest,) = index["manifests"]
    assert "oci-layout" in names
    assert f"blobs/sha256/{manifest['digest'].removeprefix('sha256:')}" in names


def test_the_bill_of_materials_lists_python_and_debian_packages(
    builds_of_one_commit: list[tuple[bytes, str]],
) -> None:
    bill = json.loads(builds_of_one_commit[0][1])
    purls = {component["purl"].partition("@")[0] for component in bill["components"]}
    assert {
        "pkg:pypi/aiohttp",
        "pkg:pypi/orjson",
        "pkg:deb/debian/libc6",
        "pkg:deb/debian/libssl3t64",
    } <= purls
    assert "pkg:pypi/pytest" not in purls
