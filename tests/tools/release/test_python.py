"""The published packages contain only committed files."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from tools.release.python import check_packaged
from tools.release.source import ReleaseError, Source


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
