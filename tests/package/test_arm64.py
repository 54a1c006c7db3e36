"""The wheel and its locked dependencies install for arm64, without a compiler and without emulation."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from package.outside import ROOT, UV, run
from tools.pythons import SUPPORTED

ELF = b"\x7fELF"
AARCH64 = 183
"""ELF's number for the architecture, a 16-bit integer at offset 18."""


@pytest.fixture(scope="module")
def requirements(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the locked dependencies, with hashes."""
    file = tmp_path_factory.mktemp("locked") / "requirements.txt"
    export = (UV, "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project")
    run(*export, "--project", ROOT, "--output-file", file)
    return file


def test_the_wheel_is_for_every_platform(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")


@pytest.mark.parametrize("python", [SUPPORTED[0], SUPPORTED[-1]])
def test_everything_installs_for_arm64(python: str, requirements: Path, wheel: Path, tmp_path: Path) -> None:
    install = (
        *(UV, "pip", "install", "--quiet", "--target", tmp_path, "--only-binary", ":all:"),
        *("--python-platform", "aarch64-manylinux_2_28", "--python-version", python),
    )
    run(*install, "--require-hashes", "--requirements", requirements)
    run(*install, "--no-deps", wheel)
    extensions = {path: path.read_bytes() for path in tmp_path.rglob("*.so*")}
    assert {path.relative_to(tmp_path).parts[0] for path in extensions} >= {
        "aiohttp",
        "msgspec",
        "orjson",
        "uvloop",
    }
    for path, content in extensions.items():
        assert content.startswith(ELF), path
        assert struct.unpack_from("<H", content, 18) == (AARCH64,), path
    assert (tmp_path / "gatekeeper_py" / "__init__.py").exists()
