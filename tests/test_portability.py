"""The command line installs and runs without uvloop and without the modules that only Unix has."""

from __future__ import annotations

import json
import pkgutil
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
from tools.advisories.locked import runtime_packages
from tools.pythons import SUPPORTED

ROOT: Final = Path(__file__).parents[1]

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
RUN: Final = "from gatekeeper_py.cli import run; sys.exit(run(sys.argv[1:]))"

PLATFORMS: Final = {
    "windows": ({"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"}, "win_amd64"),
    "macos-arm": ({"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"}, "arm64"),
    "macos-intel": ({"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"}, "x86_64"),
}
"""The marker environment of each platform, and the suffixes of its wheel tags."""


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
    assert "gatekeeper_py.runtime.process" in modules
    done = without_unix(IMPORT_ALL, *modules)
    assert done.returncode == 0, done.stderr


def test_the_commands_answer() -> None:
    done = without_unix(RUN, "check", "examples/policy.yaml", "--format", "json")
    assert json.loads(done.stdout)["ok"] is True, done.stderr
    done = without_unix(RUN, "review", "examples/policy.yaml", "examples/manifests/approved.yaml")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def lock() -> dict[str, Any]:
    return tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", SUPPORTED)
def test_every_dependency_has_a_wheel(lock: dict[str, Any], platform: str, python: str) -> None:
    environment, ending = PLATFORMS[platform]
    markers = {
        **environment,
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }
    packages = {package["name"]: package for package in lock["package"]}
    needed, left = set[str](), ["gatekeeper-py"]
    while left:
        for dependency in packages[left.pop()].get("dependencies", ()):
            applies = Marker(dependency["marker"]).evaluate(markers) if "marker" in dependency else True
            if applies and dependency["name"] not in needed:
                needed.add(dependency["name"])
                left.append(dependency["name"])
    assert ("uvloop" in needed) is (platform != "windows")
    assert needed <= set(runtime_packages(lock, "gatekeeper-py"))
    assert [name for name in sorted(needed) if not _has_wheel(packages[name], python, ending)] == []


def _has_wheel(package: dict[str, Any], python: str, ending: str) -> bool:
    return any(
        _fits(tag, python.replace(".", ""), ending)
        for wheel in package.get("wheels", ())
        for tag in parse_wheel_filename(wheel["url"].rpartition("/")[2])[3]
    )


def _fits(tag: Tag, python: str, ending: str) -> bool:
    stable = tag.abi == "abi3" and tag.interpreter <= f"cp{python}"
    return (
        (stable or tag.interpreter in {f"cp{python}", "py3"})
        and (stable or tag.abi in {f"cp{python}", "none"})
        and (tag.platform == "any" or tag.platform.endswith((ending, "universal2")))
    )
