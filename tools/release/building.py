"""Build the files of a release: the wheel and the source distribution, the image, and archives.

The bytes of an archive depend only on the files in it and on the time of the commit.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.release.source import ROOT, ReleaseError, Source

UV = ROOT / ".uv" / "bin" / "uv"


def build_distributions(source: Source, out: Path) -> list[Path]:
    """Build the wheel and the source distribution with the locked build backend."""
    _uv(
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
    text = _uv(source, "export", "--quiet", "--frozen", "--no-dev", "--format", "cyclonedx1.5")
    document: dict[str, Any] = json.loads(text)
    return document


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image in a store. ``archive`` is its OCI archive, and ``root`` is where its files are mounted."""

    archive: bytes
    root: Path


@contextmanager
def built_image(source: Source, base: str, storage: tuple[str, ...]) -> Iterator[BuiltImage]:
    """Build the image and mount it while the context is open. ``storage`` are buildah's storage options.

    Raises ``ReleaseError``.
    """
    name = f"localhost/gatekeeper-py:{source.version}"

    def buildah(*arguments: str) -> str:
        isolation = os.environ.get("BUILDAH_ISOLATION", "chroot")
        return _run("buildah", *storage, *arguments, BUILDAH_ISOLATION=isolation).strip()

    buildah(
        "build", "--quiet", "--format", "oci", "--no-cache", "--network", "host",
        "--timestamp", str(source.timestamp), "--tag", name,
        "--build-arg", f"BASE={base}",
        "--build-arg", f"VERSION={source.version}", "--build-arg", f"REVISION={source.commit}",
        str(source.root),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        layout = Path(folder) / "image"
        buildah("push", "--quiet", name, f"oci:{layout}:{source.version}")
        archive = tar_of(layout, files_below(layout), "", source.timestamp)
    container = buildah("from", "--pull-never", name)
    try:
        yield BuiltImage(archive, Path(buildah("mount", container)))
    finally:
        buildah("rm", container)


def tar_of(folder: Path, names: Iterable[str], prefix: str, timestamp: int) -> bytes:
    """Return a tar of the files ``names`` of a folder, sorted, with ``prefix`` before each name.

    Root owns the files. They are readable by everybody, and executable if their owner may execute them.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(names):
            path = folder / name
            entry = tarfile.TarInfo(f"{prefix}{name}")
            entry.size = path.stat().st_size
            entry.mtime = timestamp
            entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            with path.open("rb") as content:
                archive.addfile(entry, content)
    return buffer.getvalue()


def gzipped(content: bytes, timestamp: int) -> bytes:
    """Return the content compressed with gzip, with the time stamp in the header."""
    return gzip.compress(content, compresslevel=9, mtime=timestamp)


def files_below(folder: Path) -> list[str]:
    """Return the paths of all files below a folder, relative to it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _uv(source: Source, *arguments: str) -> str:
    return _run(str(UV), *arguments, cwd=source.root, SOURCE_DATE_EPOCH=str(source.timestamp))


def _run(*command: str, cwd: Path | None = None, **environment: str) -> str:
    """Return the output of a command. Raises ``ReleaseError`` with the end of its errors when it fails."""
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ReleaseError(f"{Path(command[0]).name} {command[1]}: {done.stderr.strip()[-2000:]}")
    return done.stdout
