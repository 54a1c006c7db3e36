"""The wheel, the source distribution and the list of its dependencies."""

from __future__ import annotations

import json
import os
import subprocess
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
    return sorted([*out.glob("*.whl"), *out.glob("*.tar.gz")])


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
