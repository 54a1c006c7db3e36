"""The command line installs and runs without uvloop and without the modules that only Unix has."""

from __future__ import annotations

import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.markers import Marker
from packaging.tags import Tag
from packaging.utils import parse_wheel_filename

import gatekeeper_py
from tools.advisories import runtime_packages
from tools.pythons import SUPPORTED

ROOT: Final = Path(__file__).parents[1]
LOCK: Final = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
(PROJECT,) = (package for package in LOCK["package"] if package["source"] == {"editable": "."})

WITHOUT_UNIX: Final = """
import builtins, importlib, sys
MISSING = {"uvloop", "fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog"}
real = builtins.__import__
def import_(name, globals=None, locals=None, fromlist=(), level=0):
    # The standard library here needs them; only the package must not.
    if name in MISSING and (globals or {}).get("__name__", "").startswith("gatekeeper_py"):
        raise ImportError(name)
    return real(name, globals, locals, fromlist, level)
builtins.__import__ = import_
"""
IMPORT_ALL: Final = "for name in sys.argv[1:]: importlib.import_module(name)"
RUN: Final = "from gatekeeper_py.cli.main import run; sys.exit(run(sys.argv[1:]))"

DARWIN: Final = {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"}
LINUX: Final = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
WINDOWS: Final = {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"}
GLIBC: Final = r"manylinux(2014|_2_([12]?\d|3[0-6]))"  # of Debian 12, the oldest release that is tested

PLATFORMS: Final = {
    "windows": (WINDOWS, "win_amd64"),
    "macos-arm": (DARWIN, r"macosx_\w+_(arm64|universal2)"),
    "macos-intel": (DARWIN, r"macosx_\w+_(x86_64|universal2)"),
    "linux-arm": (LINUX, f"{GLIBC}_aarch64"),
    "linux-intel": (LINUX, f"{GLIBC}_x86_64"),
}
"""The marker environment of each platform, and a pattern of the platforms in its wheel tags."""

# The lock can hold other versions for the first releases of 3.11, which Debian 12 has.
PYTHONS: Final = (*(f"{version}.0" for version in SUPPORTED), "3.11.9")


def without_unix(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_UNIX + script, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_module_can_be_imported() -> None:
    found = pkgutil.walk_packages(gatekeeper_py.__path__, "gatekeeper_py.")
    modules = [module.name for module in found if not module.name.endswith("__main__")]
    assert "gatekeeper_py.process.process" in modules
    done = without_unix(IMPORT_ALL, *modules)
    assert done.returncode == 0, done.stderr


def test_the_commands_answer() -> None:
    done = without_unix(RUN, "check", "examples/policy.yaml", "--format", "json")
    assert json.loads(done.stdout)["ok"] is True, done.stderr
    done = without_unix(RUN, "review", "examples/policy.yaml", "examples/manifests/approved.yaml")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_has_a_wheel(platform: str, python: str) -> None:
    needed = _needed(PROJECT["dependencies"], platform, python)
    assert ("uvloop" in needed) is (platform != "windows")
    assert needed.keys() <= set(runtime_packages(LOCK, PROJECT["name"]))
    # docs/command-line.md documents the exception.
    exceptions = ["cryptography"] if platform == "macos-intel" else []
    assert _without_wheel(needed, platform, python) == exceptions


@pytest.mark.parametrize("platform", ["linux-arm", "linux-intel"])
@pytest.mark.parametrize("python", PYTHONS)
def test_the_set_up_on_linux_needs_no_compiler(platform: str, python: str) -> None:
    needed = _needed(PROJECT["dev-dependencies"]["dev"], platform, python)
    assert _without_wheel(needed, platform, python) == []


def _needed(dependencies: list[dict[str, str]], platform: str, python: str) -> dict[str, dict[str, Any]]:
    """Return the locked packages of the dependencies and of everything that they depend on, by name."""
    markers = {
        **PLATFORMS[platform][0],
        "python_version": python.rpartition(".")[0],
        "python_full_version": python,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }

    def applies(marker: str) -> bool:
        return Marker(marker).evaluate(markers)

    # A name has several versions if they are for different Pythons.
    packages = {
        package["name"]: package
        for package in LOCK["package"]
        if any(map(applies, package.get("resolution-markers", ("python_version > '0'",))))
    }
    needed, left = dict[str, dict[str, Any]](), list(dependencies)
    while left:
        dependency = left.pop()
        name = dependency["name"]
        if name not in needed and ("marker" not in dependency or applies(dependency["marker"])):
            needed[name] = packages[name]
            left += packages[name].get("dependencies", ())
    return needed


def _without_wheel(packages: dict[str, dict[str, Any]], platform: str, python: str) -> list[str]:
    minor = int(python.split(".")[1])
    return [
        name
        for name, package in sorted(packages.items())
        if not any(
            _fits(tag, minor, PLATFORMS[platform][1])
            for wheel in package.get("wheels", ())
            for tag in parse_wheel_filename(wheel["url"].rpartition("/")[2])[3]
        )
    ]


def _fits(tag: Tag, minor: int, pattern: str) -> bool:
    stable = tag.abi == "abi3" and int(tag.interpreter.removeprefix("cp3")) <= minor
    return (
        (stable or tag.interpreter in {f"cp3{minor}", "py3"})
        and (stable or tag.abi in {f"cp3{minor}", "none"})
        and (tag.platform == "any" or re.fullmatch(pattern, tag.platform) is not None)
    )
