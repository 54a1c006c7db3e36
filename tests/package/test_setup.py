"""``make`` sets up what it needs, or says in one line what is missing and leaves nothing half-made."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from package.outside import ROOT, UV

NEEDED = ("Makefile", "pyproject.toml", "uv.lock", "tools/bootstrap.py", "tools/uv-requirements.txt")

WITHOUT_ENSUREPIP = """
import sys
class Missing:
    @staticmethod
    def find_spec(name, *_):
        if name == "ensurepip":
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Missing)
"""

NO_NETWORK = {"HTTPS_PROXY": "http://127.0.0.1:1", "PIP_RETRIES": "1", "UV_HTTP_RETRIES": "0"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a directory with the files that the set-up reads."""
    for name in NEEDED:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def failure(checkout: Path, *arguments: str, python: str | Path = sys.executable, **environment: str) -> str:
    """Return what a set-up that fails prints, without the line of make itself."""
    done = subprocess.run(
        ["make", "setup", f"PYTHON={python}", *arguments],
        cwd=checkout,
        # Empty caches, so that the set-up must download.
        env={"PATH": "/usr/bin:/bin", "HOME": str(checkout / "home"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert not list(checkout.glob(".uv*"))
    assert not (checkout / ".venv/.installed").exists()
    *printed, last = done.stderr.splitlines(keepends=True)
    assert last.startswith("make: *** ")
    return "".join(printed)


def test_a_missing_python(checkout: Path) -> None:
    assert failure(checkout, python="python-of-nobody") == (
        "error: python-of-nobody is missing; install Python 3.11 or later "
        "(Debian and Ubuntu: apt-get install python3-venv), or name one with: make PYTHON=python3.x\n"
    )


def test_an_old_python(checkout: Path) -> None:
    old = checkout / "python3"
    as_of_old = "import sys; sys.version_info = (3, 10, 13, 'final', 0); exec(sys.argv[2])"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{as_of_old}" "$@"\n')
    old.chmod(0o755)
    assert failure(checkout, python=old) == (
        f"error: {old} is Python 3.10, and Python 3.11 or later is needed; "
        "name one with: make PYTHON=python3.x\n"
    )


def test_a_python_without_its_venv_package(checkout: Path) -> None:
    (checkout / "sitecustomize.py").write_text(WITHOUT_ENSUREPIP)
    version = f"3.{sys.version_info.minor}"
    assert failure(checkout, PYTHONPATH=str(checkout)) == (
        f"error: this Python {version} has no module ensurepip; "
        f"install it (Debian and Ubuntu: apt-get install python{version}-venv)\n"
    )


def test_no_network_for_uv(checkout: Path) -> None:
    assert failure(checkout, **NO_NETWORK) == (
        "error: the package index cannot be reached (Connection refused); "
        "check the network, the proxy (HTTPS_PROXY) and the certificate authorities (SSL_CERT_FILE)\n"
    )


def test_no_network_for_the_dependencies(checkout: Path) -> None:
    assert failure(checkout, f"UV={UV}", f"--old-file={UV}", **NO_NETWORK) == (
        "error: the package index cannot be reached (Connection refused (os error 111)); "
        "check the network, the proxy (HTTPS_PROXY) and the certificate authorities (SSL_CERT_FILE)\n"
    )


def test_a_uv_with_another_hash(checkout: Path) -> None:
    requirements = checkout / "tools/uv-requirements.txt"
    changed = re.sub(r"sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", requirements.read_text(encoding="utf-8"))
    requirements.write_text(changed, encoding="utf-8")
    assert "DO NOT MATCH THE HASHES" in failure(checkout)


def test_a_checkout_in_which_nothing_can_be_created(checkout: Path) -> None:
    (checkout / ".build").write_text("")
    assert failure(checkout) == "error: [Errno 17] File exists: '.build'\n"
