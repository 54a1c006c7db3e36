"""The bill of materials of an image lists what is installed in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tools.release.sbom import of_image
from tools.release.source import ReleaseError, Source

LOCKED: dict[str, Any] = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.5",
    "version": 1,
    "metadata": {"component": {"bom-ref": "webhook-of-images-1@1.2.3", "name": "webhook-of-images"}},
    "components": [
        {
            "type": "library",
            "bom-ref": "attrs-2@26.1.0",
            "name": "attrs",
            "version": "26.1.0",
            "purl": "pkg:pypi/attrs@26.1.0",
            "hashes": [{"alg": "SHA-256", "content": "00"}],
        }
    ],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "var/lib/dpkg/status.d").mkdir(parents=True)
    return tmp_path


def install(root: Path, name: str, version: str) -> None:
    folder = root / f"opt/lib/{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def components(root: Path) -> list[dict[str, Any]]:
    source = Source(root=root, version="1.2.3", commit="0" * 40, timestamp=1_700_000_000)
    document = json.loads(of_image(source, LOCKED, root, {"ID": "debian", "VERSION_ID": "13"}))
    found: list[dict[str, Any]] = document["components"]
    return found


def test_an_installed_package_has_the_origin_and_hashes_of_the_lock(root: Path) -> None:
    install(root, "Webhook_of.Images", "1.2.3")  # the project itself is not a component
    install(root, "attrs", "26.1.0")
    assert components(root) == LOCKED["components"]


def test_a_package_that_is_not_locked_is_listed_as_it_is_installed(root: Path) -> None:
    install(root, "pip", "26.0")
    assert [(each["name"], each["version"]) for each in components(root)] == [("pip", "26.0")]


def test_another_version_than_the_lock_has_is_refused(root: Path) -> None:
    install(root, "attrs", "25.4.0")
    with pytest.raises(ReleaseError, match=r"attrs 25\.4\.0, but uv\.lock has 26\.1\.0"):
        components(root)


def test_the_versions_of_debian_packages_are_percent_encoded(root: Path) -> None:
    status = "Package: libstdc++6\nVersion: 1:14.2.0-19~deb13+1\nArchitecture: amd64\n"
    (root / "var/lib/dpkg/status.d/libstdc++6").write_text(status)
    (component,) = components(root)
    assert component["version"] == "1:14.2.0-19~deb13+1"
    assert component["purl"] == (
        "pkg:deb/debian/libstdc%2B%2B6@1:14.2.0-19~deb13%2B1?arch=amd64&distro=debian-13"
    )
