"""The wheel, the source distribution and the list of its dependencies."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tools.release.source import ROOT, ReleaseError, Source

UV = ROOT / ".uv" / "bin" / "uv"


def build_distributions(source: Source, out: Path) -> list[Path]:
    """Build the wheel and the source distribution with the locked build backend."""
    run_uv(
        source, "build", "--quiet", "--out-dir", str(out),
        "--build-constraints", "tools/build-constraints.txt", "--require-hashes",
    )  # fmt: skip
    (out / ".gitignore").unlink(missing_ok=True)
    files = sorted([*out.glob("*.whl"), *out.glob("*.tar.gz")])
    check_packaged(files, source)
    return files


def check_packaged(files: Iterable[Path], source: Source) -> None:
    """Raise ``ReleaseError`` if a wheel or source distribution has a file that is not committed.

    The build backend does not know the local excludes of git (``.git/info/exclude``), so it would publish a
    file that ``git status`` does not show.
    """
    committed = {*source.tracked("."), "PKG-INFO"}
    for path in files:
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                names = [name for name in wheel.namelist() if ".dist-info/" not in name]
        else:
            with tarfile.open(path) as sdist:
                names = [name.partition("/")[2] for name in sdist.getnames()]
        if stray := sorted(set(names) - committed):
            raise ReleaseError(f"{path.name} would contain {stray[0]}, which is not committed")


def locked_components(source: Source) -> dict[str, Any]:
    """Return the CycloneDX document of the locked dependencies, without those of development."""
    text = run_uv(source, "export", "--quiet", "--frozen", "--no-dev", "--format", "cyclonedx1.5")
    document: dict[str, Any] = json.loads(text)
    return document


def run_uv(source: Source, *arguments: str) -> str:
    """Return the output of uv. Raises ``ReleaseError`` with its error output when it fails."""
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(source.timestamp)}
    done = subprocess.run(
        [str(UV), *arguments], cwd=source.root, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ReleaseError(f"uv {arguments[0]}: {done.stderr.strip()}")
    return done.stdout
