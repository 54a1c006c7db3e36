"""The wheel and the source distribution contain the package and no other files."""

from __future__ import annotations

import email
import re
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from package.outside import PROJECT, ROOT, UV, run
from tools.pythons import SUPPORTED


@pytest.fixture(scope="module")
def modules() -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", "gatekeeper_py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(listed.stdout.split())


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_the_wheel_holds_the_package_alone(wheel: Path, modules: set[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    about = {name for name in names if ".dist-info/" in name}
    assert names - about == modules
    assert {name.partition("/")[2] for name in about} == {
        *("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    }


def test_the_source_distribution_holds_what_the_wheel_is_built_from(sdist: Path, modules: set[str]) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    # Hatch adds .gitignore, so that a build from the source distribution leaves out the same files.
    others = {"pyproject.toml", "PKG-INFO", ".gitignore", "README.md", "LICENSE", "CHANGELOG.md"}
    assert names == modules | others | {"docs/command-line.md"}


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    constraints = ROOT / "tools" / "build-constraints.txt"
    run(
        *(UV, "build", "--quiet", "--wheel", "--out-dir", tmp_path),
        *("--build-constraints", constraints, "--require-hashes", sdist),
    )
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_no_link_of_the_page_on_an_index_is_relative(metadata: email.message.Message) -> None:
    page = metadata.get_payload()
    assert isinstance(page, str)
    assert "pipx install ." in page
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert [target for target in re.findall(r"\]\(([^)]*)\)", page) if not target.startswith("https:")] == []


def test_files_and_metadata_have_the_name_of_the_project(
    metadata: email.message.Message, wheel: Path, sdist: Path
) -> None:
    name = PROJECT["name"].replace("-", "_")
    assert metadata["Name"] == PROJECT["name"]
    assert wheel.name == f"{name}-{PROJECT['version']}-py3-none-any.whl"
    assert sdist.name == f"{name}-{PROJECT['version']}.tar.gz"


def test_the_metadata_names_the_supported_versions(metadata: email.message.Message) -> None:
    named = [each.rpartition(" ")[2] for each in metadata.get_all("Classifier", []) if " 3." in each]
    assert tuple(named) == SUPPORTED
    assert metadata["Requires-Python"] == f">={SUPPORTED[0]}"
    assert metadata["License-Expression"] == "Apache-2.0"


def test_uvloop_is_required_only_where_it_exists(metadata: email.message.Message) -> None:
    (requirement,) = (each for each in metadata.get_all("Requires-Dist", []) if each.startswith("uvloop"))
    assert "sys_platform != 'win32'" in requirement.replace('"', "'")
