"""The programs are built once, completely or not at all. A script replaces the compiler."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools import gobuild
from tools.gobuild import BuildError, Product, Programs
from tools.programs import BINARIES, CONTROL_PLANE, COSIGN, OLDEST, PRODUCTS, REGISTRY

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "tools.programs", "controlplane"]

# This script answers `go env`. For `go build -o OUTPUT PACKAGE…` it writes a file for each package, as Go
# does, and counts the builds.
GO = """#!/bin/sh
if [ "$1" = env ]; then printf 'go1.26.0\\nlinux\\namd64\\n'; exit; fi
echo build >> "$GO_BUILDS"
if [ -n "$GO_FAILS" ]; then echo 'does not compile' >&2; exit 1; fi
while [ "$1" != -o ]; do shift; done
output=$2; shift 2
for package in "$@"; do
    case $output in */) file=$output${package##*/};; *) file=$output;; esac
    echo "$package" > "$file"; chmod +x "$file"
done
"""


@dataclass
class Machine:
    """A user's machine with an empty cache, and a compiler on PATH."""

    cache: Path
    go: Path

    @property
    def builds(self) -> int:
        """Return the number of runs of the compiler: one for each product if all builds succeed."""
        counted = Path(os.environ["GO_BUILDS"])
        return len(counted.read_text(encoding="utf-8").splitlines()) if counted.exists() else 0

    @property
    def cached(self) -> list[str]:
        """Return the control planes in the cache."""
        return [
            path.name
            for path in (self.cache / "controlplane").iterdir()
            if not path.name.startswith(".lock-")
        ]


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text(GO, encoding="utf-8")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{go.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GO_BUILDS", str(tmp_path / "builds"))
    return Machine(tmp_path / "cache" / "gatekeeper-py", go)


def test_all_binaries_are_built_and_their_directory_is_all_that_is_printed() -> None:
    built = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, check=True)

    directory = Path(built.stdout.removesuffix("\n"))
    assert sorted(path.name for path in directory.iterdir()) == sorted(BINARIES)
    assert (directory / "etcd").read_text(encoding="utf-8") == "go.etcd.io/etcd/server/v3\n"
    assert "built kwok in" in built.stderr


def test_existing_binaries_are_not_built_again(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    first = CONTROL_PLANE.build()
    capfd.readouterr()

    assert CONTROL_PLANE.build() == first == CONTROL_PLANE.cached()
    assert capfd.readouterr().err == ""
    assert machine.builds == len(PRODUCTS)


def test_concurrent_builds_build_once(machine: Machine) -> None:
    with (
        subprocess.Popen(COMMAND, cwd=ROOT, stdout=subprocess.PIPE) as one,
        subprocess.Popen(COMMAND, cwd=ROOT, stdout=subprocess.PIPE) as other,
    ):
        answers = {one.communicate()[0], other.communicate()[0]}

    assert len(answers) == 1
    assert machine.builds == len(PRODUCTS)


@pytest.mark.parametrize(
    ("programs", "command"),
    [
        pytest.param(
            CONTROL_PLANE, r"the control plane is not built; run: .*\.programs controlplane$", id="newest"
        ),
        pytest.param(
            OLDEST, r"the oldest .* is not built; run: .*\.programs controlplane --oldest", id="oldest"
        ),
        pytest.param(REGISTRY, "the registry is not built; run: make registry-test", id="registry"),
        pytest.param(COSIGN, "cosign is not built; run: make registry-test", id="cosign"),
    ],
)
def test_looking_for_programs_does_not_build_them(machine: Machine, programs: Programs, command: str) -> None:
    if programs is OLDEST:
        CONTROL_PLANE.build()
    before = machine.builds

    with pytest.raises(BuildError, match=command):
        programs.cached()
    assert machine.builds == before


def test_a_failed_build_leaves_nothing_and_names_the_failed_program(machine: Machine) -> None:
    failed = subprocess.run(
        COMMAND, cwd=ROOT, env=os.environ | {"GO_FAILS": "yes"}, capture_output=True, text=True, check=False
    )

    assert failed.returncode == 1
    assert "does not compile" in failed.stderr
    assert "error: building etcd failed with status 1" in failed.stderr
    assert machine.cached == []


def test_the_rest_of_a_killed_build_is_removed(machine: Machine) -> None:
    built = CONTROL_PLANE.build()
    rest = built.rename(built.parent / f".building-{built.name}-killed")

    assert machine.cached == [rest.name]
    assert [CONTROL_PLANE.build().name] == machine.cached


def test_a_missing_binary_is_built_again() -> None:
    kwok = CONTROL_PLANE.build() / "kwok"
    kwok.unlink()

    assert CONTROL_PLANE.build() / "kwok" == kwok
    assert kwok.exists()


def test_another_go_version_is_another_directory(machine: Machine) -> None:
    first = CONTROL_PLANE.build()
    machine.go.write_text(GO.replace("go1.26.0", "go1.26.1"), encoding="utf-8")

    assert CONTROL_PLANE.build() != first


def moved(programs: Programs, folder: Path) -> Programs:
    """Return the same programs from a copy of their modules, which have other names."""
    products: list[Product] = []
    for product in programs.products:
        module = shutil.copytree(product.folder, folder / product.folder.name)
        text = (module / "go.mod").read_text(encoding="utf-8")
        (module / "go.mod").write_text(text.replace("module gatekeeper-py/", "module moved/"))
        products.append(dataclasses.replace(product, folder=module))
    return dataclasses.replace(programs, products=tuple(products))


def test_the_build_depends_on_the_module_and_not_on_its_folder(tmp_path: Path) -> None:
    copy = moved(CONTROL_PLANE, tmp_path / "copy")

    assert copy.build() == CONTROL_PLANE.cached()
    module = copy.products[-1].folder / "go.mod"
    module.write_text(module.read_text(encoding="utf-8").replace("go 1.", "go 2."), encoding="utf-8")
    with pytest.raises(BuildError, match="not built"):
        copy.cached()


@pytest.mark.parametrize(("file", "rebuilt"), [("main.go", True), ("main_test.go", False)])
def test_a_changed_source_of_our_own_is_another_directory(
    tmp_path: Path, file: str, *, rebuilt: bool
) -> None:
    copy = moved(REGISTRY, tmp_path / "copy")
    built = copy.build()
    with (copy.products[0].folder / file).open("a", encoding="utf-8") as source:
        source.write("\n// changed\n")

    assert (copy.build() != built) is rebuilt


def test_a_program_without_a_release_is_built_from_its_folder(machine: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "go.mod").write_text("module hello\n")

    assert gobuild.program("hello", folder).read_text(encoding="utf-8") == ".\n"
    assert gobuild.program("hello", folder).is_relative_to(machine.cache / "go")


def test_the_error_without_a_compiler_names_the_program_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BuildError, match=r"no `go` on PATH; install Go 1\.26"):
        gobuild.find_go(elsewhere=tmp_path)


def test_the_oldest_shares_binaries_with_the_newest(machine: Machine) -> None:
    newest = CONTROL_PLANE.build()
    directory = OLDEST.build()

    assert directory != newest
    assert sorted(path.name for path in directory.iterdir()) == sorted(BINARIES)
    shared = {path.name for path in directory.iterdir() if path.is_symlink()}
    assert shared == {"etcd", "kwok", "kubectl"}
    assert all((directory / name).resolve() == newest / name for name in shared)
    assert machine.builds == len(PRODUCTS) + 1


def test_the_oldest_needs_the_newest(machine: Machine) -> None:
    with pytest.raises(BuildError, match=r"the control plane is not built; run: .*\.programs controlplane"):
        OLDEST.build()
    assert machine.builds == 0
