"""The files of a release are reproducible, have checksums and are all listed in the provenance."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from pathlib import Path

import pytest

from package.outside import PROJECT, ROOT
from tools.release.__main__ import release, release_options
from tools.release.source import Source


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Build two releases of this working copy, without the image."""
    source = Source.of(ROOT, allow_changes=True)
    made = [tmp_path_factory.mktemp("release") for _ in range(2)]
    for folder in made:
        repository = "--repository=https://git.example/gatekeeper-py"
        release(source, release_options([f"--out={folder}", repository, "--no-image"]))
    return made


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_two_releases_of_one_commit_have_the_same_files(folders: list[Path]) -> None:
    assert digests(folders[0]) == digests(folders[1])


def test_every_file_has_its_checksum(folders: list[Path]) -> None:
    lines = (folders[0] / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert listed == {name: digest for name, digest in digests(folders[0]).items() if name != "SHA256SUMS"}


def test_the_provenance_names_every_file_and_the_commit(folders: list[Path]) -> None:
    (path,) = folders[0].glob("*.intoto.json")
    statement = json.loads(path.read_text())
    subjects = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    expected = digests(folders[0])
    assert subjects == {name: expected[name] for name in expected if name not in {path.name, "SHA256SUMS"}}
    source = statement["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    assert re.fullmatch(r"[0-9a-f]{40}", source["digest"]["gitCommit"])


def test_the_chart_is_a_package_as_helm_makes_it(folders: list[Path]) -> None:
    (path,) = folders[0].glob("*.tgz")
    with tarfile.open(path) as opened:
        names = opened.getnames()
    assert {"gatekeeper-py/Chart.yaml", "gatekeeper-py/values.yaml"} <= set(names)
    assert all(name.startswith("gatekeeper-py/") for name in names)


def test_the_bill_of_materials_lists_what_the_wheel_needs_at_run_time(folders: list[Path]) -> None:
    (path,) = folders[0].glob("*.wheel.cdx.json")
    bill = json.loads(path.read_text())
    names = {component["name"] for component in bill["components"]}
    assert {"aiohttp", "orjson", "cachetools", "kubernetes-asyncio", "structlog"} <= names
    assert names.isdisjoint({"pytest", "mypy", "hypothesis"})
    assert bill["specVersion"] == "1.5"
    assert bill["metadata"]["component"]["name"] == PROJECT["name"]
