"""``audit --merge``: the table ``audit-merged`` has the rest."""

from __future__ import annotations

from pathlib import Path

from gatekeeper_py.cli.inputs.files import MAX_BYTES
from support.commanding import Command


def test_a_file_that_is_too_long_is_exit_2(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "long.json"
    with file.open("wb") as out:
        out.truncate(MAX_BYTES + 1)
    assert command("audit", "--merge", file).err == f"Error: {file}: longer than 64 MiB, the limit\n"
