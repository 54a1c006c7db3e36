"""The archives of a release depend only on their content and one time stamp."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from tools.release.archives import files_below, gzipped, tar_of

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
