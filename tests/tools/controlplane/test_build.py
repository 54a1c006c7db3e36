"""The binaries are built once, completely or not at all. A script replaces the compiler."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.controlplane import build
from tools.distribution import build as distribution

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "tools.controlplane"]

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
    """A user's machine with a home directory and a compiler on PATH, on which the build command runs."""

    home: Path
    variables: dict[str, str]

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *(command or ("build",))],
            cwd=ROOT,
            env=self.variables | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def builds(self) -> int:
        """Return the number of runs of the compiler: one for each product if all builds succeed."""
        counted = Path(self.variables["GO_BUILDS"])
        return len(counted.read_text(encoding="utf-8").splitlines()) if counted.exists() else 0

    @property
    def cached(self) -> list[str]:
        """Return the files of the cache, without the lock."""
        directory = self.home / "gatekeeper-py" / "controlplane"
        return [path.name for path in directory.iterdir() if path.name != ".lock"]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "go").write_text(GO, encoding="utf-8")
    (programs / "go").chmod(0o755)
    variables = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "GO_BUILDS": str(tmp_path / "builds"),
    }
    return Machine(tmp_path / "cache", variables)


def test_all_binaries_are_built_and_their_directory_is_all_that_is_printed(machine: Machine) -> None:
    built = machine.run()

    assert built.returncode == 0, built.stderr
    directory = Path(built.stdout.removesuffix("\n"))
    assert sorted(path.name for path in directory.iterdir()) == sorted(build.BINARIES)
    assert (directory / "etcd").read_text(encoding="utf-8") == "go.etcd.io/etcd/server/v3\n"
    assert "built kwok in" in built.stderr


def test_existing_binaries_are_not_built_again(machine: Machine) -> None:
    first, second = machine.run(), machine.run()

    assert first.stdout == second.stdout
    assert second.stderr == ""
    assert machine.builds == len(build.PRODUCTS)


def test_concurrent_builds_build_once(machine: Machine) -> None:
    command = [*COMMAND, "build"]
    with (
        subprocess.Popen(command, cwd=ROOT, env=machine.variables, stdout=subprocess.PIPE) as one,
        subprocess.Popen(command, cwd=ROOT, env=machine.variables, stdout=subprocess.PIPE) as other,
    ):
        answers = {one.communicate()[0], other.communicate()[0]}

    assert len(answers) == 1
    assert machine.builds == len(build.PRODUCTS)


def test_printing_never_builds(machine: Machine) -> None:
    before = machine.run("path")
    directory = machine.run().stdout
    after = machine.run("path")

    assert before.returncode == 1
    assert "the control plane is not built; run: make controlplane" in before.stderr
    assert before.stdout == ""
    assert (after.returncode, after.stdout) == (0, directory)


def test_a_failed_build_leaves_nothing_and_names_the_failed_program(machine: Machine) -> None:
    failed = machine.run(GO_FAILS="yes")

    assert failed.returncode == 1
    assert "does not compile" in failed.stderr
    assert "error: building etcd failed with status 1" in failed.stderr
    assert machine.cached == []


def test_the_rest_of_a_killed_build_is_removed(machine: Machine) -> None:
    leftover = machine.home / "gatekeeper-py" / "controlplane" / ".building-killed"
    leftover.mkdir(parents=True)

    directory = Path(machine.run().stdout.removesuffix("\n"))

    assert machine.cached == [directory.name]


def test_a_missing_binary_is_built_again(machine: Machine) -> None:
    directory = Path(machine.run().stdout.removesuffix("\n"))
    (directory / "kwok").unlink()

    assert machine.run().returncode == 0
    assert (directory / "kwok").exists()


def test_another_go_version_is_another_directory(machine: Machine, tmp_path: Path) -> None:
    first = machine.run().stdout
    go = tmp_path / "bin" / "go"
    go.write_text(GO.replace("go1.26.0", "go1.26.1"), encoding="utf-8")

    assert machine.run().stdout not in {first, ""}


def test_the_build_does_not_depend_on_the_module_folder(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in machine.variables.items():
        monkeypatch.setenv(name, value)
    built = build.build()
    for product in build.PRODUCTS:
        shutil.copytree(build.HERE / product.folder, tmp_path / "moved" / product.folder)
        module = tmp_path / "moved" / product.folder / "go.mod"
        text = module.read_text(encoding="utf-8")
        module.write_text(text.replace("module gatekeeper-py/", "module moved/"), encoding="utf-8")
    moved = dataclasses.replace(build.PROGRAMS, root=tmp_path / "moved")
    assert moved.cached() == built
    module.write_text(text.replace("go 1.", "go 2."), encoding="utf-8")
    with pytest.raises(build.BuildError, match="not built"):
        moved.cached()


def test_a_changed_source_of_our_own_is_another_directory(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in machine.variables.items():
        monkeypatch.setenv(name, value)
    shutil.copytree(distribution.PROGRAMS.root, tmp_path / "sources")
    programs = dataclasses.replace(distribution.PROGRAMS, root=tmp_path / "sources")
    built = programs.build()
    assert programs.cached() == built
    source = tmp_path / "sources" / "server" / "main.go"
    source.write_text(f"{source.read_text(encoding='utf-8')}\n// changed\n", encoding="utf-8")
    with pytest.raises(build.BuildError, match="the registry is not built; run: make registry"):
        programs.cached()


def test_binaries_of_envtest_are_used_and_the_others_are_built(machine: Machine, tmp_path: Path) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    for name in ("etcd", "kube-apiserver", "kubectl"):
        (assets / name).touch(mode=0o755)

    built = machine.run(KUBEBUILDER_ASSETS=str(assets))

    directory = Path(built.stdout.removesuffix("\n"))
    assert (directory / "etcd").resolve() == assets / "etcd"
    assert (directory / "kube-scheduler").read_text(encoding="utf-8").endswith("cmd/kube-scheduler\n")
    assert f"etcd: taken from {assets / 'etcd'}" in built.stderr
    assert machine.builds == len(build.PRODUCTS) - 1
    assert machine.run().stdout != built.stdout


def test_a_missing_assets_directory_is_an_error(machine: Machine) -> None:
    answer = machine.run(KUBEBUILDER_ASSETS="/no/such/directory")

    assert answer.returncode == 1
    assert answer.stderr == "error: KUBEBUILDER_ASSETS is /no/such/directory, which is not a directory\n"


def test_the_error_without_a_compiler_names_the_program_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(build.BuildError, match=r"no `go` on PATH; install Go 1\.26"):
        build.find_go(elsewhere=tmp_path)


def test_the_oldest_shares_binaries_with_the_newest(machine: Machine) -> None:
    newest = Path(machine.run().stdout.removesuffix("\n"))
    before = machine.builds
    built = machine.run("build", "--oldest")

    assert built.returncode == 0, built.stderr
    directory = Path(built.stdout.removesuffix("\n"))
    assert directory != newest
    assert sorted(path.name for path in directory.iterdir()) == sorted(build.BINARIES)
    shared = {path.name for path in directory.iterdir() if path.is_symlink()}
    assert shared == {"etcd", "kwok", "kubectl"}
    assert all((directory / name).resolve() == newest / name for name in shared)
    assert machine.builds == before + 1
    assert machine.run("path", "--oldest").stdout == built.stdout


def test_the_oldest_needs_the_newest(machine: Machine) -> None:
    failed = machine.run("build", "--oldest")

    assert failed.returncode == 1
    assert "the control plane is not built; run: make controlplane\n" in failed.stderr
    assert machine.builds == 0


def test_the_path_command_does_not_build_the_oldest(machine: Machine) -> None:
    machine.run()
    failed = machine.run("path", "--oldest")

    assert failed.returncode == 1
    assert "the oldest control plane is not built; run: make controlplane-oldest\n" in failed.stderr
