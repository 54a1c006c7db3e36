"""Archives whose bytes depend only on what is in them and on one time stamp."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path


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
