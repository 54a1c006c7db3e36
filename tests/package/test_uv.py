"""The uv that installs everything else is the one whose hash is committed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from package.outside import ROOT


def test_make_installs_no_uv_with_another_hash(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    locked = (ROOT / "tools/uv-requirements.txt").read_text(encoding="utf-8")
    (tmp_path / "tools").mkdir()
    changed = re.sub(r"sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", locked)
    (tmp_path / "tools/uv-requirements.txt").write_text(changed, encoding="utf-8")
    done = subprocess.run(
        ["make", ".uv/bin/uv", f"PYTHON={sys.executable}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / ".uv/bin/uv").exists()
