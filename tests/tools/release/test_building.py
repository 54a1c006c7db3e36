"""The files of a release contain only what is committed, and depend on nothing else."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from tools.release.building import check_packaged, files_below, gzipped, tar_of
from tools.release.source import ReleaseError, Source

TIMESTAMP = 1_700_000_000


def archived(folder: Path) -> bytes:
    return gzipped(tar_of(folder, files_below(folder), "chart/", TIMESTAMP), TIMESTAMP)


def test_times_owners_and_order_on_disk_do_not_change_an_archive(tmp_path: Path) -> None:
    made = []
    for number, names in enumerate((("a", "b/c"), ("b/c", "a"))):
        folder = tmp_path / str(number)
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
            os.utime(path, (number, number))
        made.append(archived(folder))
    assert made[0] == made[1]


def test_an_archive_holds_every_file_below_its_prefix(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("true")
    (tmp_path / "run.sh").chmod(0o700)
    (tmp_path / "text").write_text("text")
    (tmp_path / "text").chmod(0o600)
    with tarfile.open(fileobj=io.BytesIO(archived(tmp_path))) as opened:
        found = {entry.name: (entry.mode, entry.mtime, entry.uid) for entry in opened}
    assert found == {"chart/run.sh": (0o755, TIMESTAMP, 0), "chart/text": (0o644, TIMESTAMP, 0)}


def test_a_file_that_git_hides_is_not_published(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    (root / "gatekeeper_py").mkdir(parents=True)
    (root / "gatekeeper_py/a.py").write_text("")
    for arguments in (("init", "-q"), ("add", ".")):
        subprocess.run(["git", "-C", str(root), *arguments], check=True)
    source = Source(root=root, version="1.2.3", commit="0" * 40, timestamp=1_700_000_000)
    wheel = tmp_path / "a.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("gatekeeper_py/a.py", "")
        archive.writestr("a-1.dist-info/RECORD", "")
    check_packaged([wheel], source)
    (root / ".git/info/exclude").write_text("notes.txt\n")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("gatekeeper_py/notes.txt", "")
    with pytest.raises(ReleaseError, match=r"would contain gatekeeper_py/notes\.txt"):
        check_packaged([wheel], source)
