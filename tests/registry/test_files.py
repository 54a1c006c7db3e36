"""The watch of --registry-config continues if the directory is missing, unreadable or replaced."""

from __future__ import annotations

import os
from pathlib import Path

from gatekeeper_py.registry.files import FilesWatch, Summary
from support.recording import RecordingLog


class Watched:
    """A watch of a directory, with its events, problems and changes."""

    def __init__(self, directory: Path) -> None:
        self.log = RecordingLog()
        self.problems: list[str] = []
        self.changes: list[Summary] = []
        self.watch = FilesWatch(
            directory, log=self.log, on_change=self._on_change, on_problem=self.problems.append
        )

    def _on_change(self) -> None:
        self.changes.append(self.watch.files)


TOO_LONG = "a" * 300
"""No file can have this name. Looking for it is an error, which does not prove that the file is absent."""


async def test_a_directory_that_cannot_be_examined_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    watched = Watched(tmp_path / TOO_LONG)
    for _ in range(2):
        await watched.watch.poll()
    assert watched.log.events == ["registry_config_refused"], "logged once"
    assert watched.watch.problem.endswith(": File name too long")
    assert watched.problems == [watched.watch.problem] * 2
    assert watched.changes == []


async def test_the_last_good_files_stay_in_use_while_the_directory_cannot_be_examined(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "config.json").write_text('{"auths": {}}')
    link = tmp_path / "config"
    link.symlink_to("good")
    watched = Watched(link)
    await watched.watch.poll()
    good = watched.watch.files
    link.unlink()
    link.symlink_to(TOO_LONG)
    await watched.watch.poll()
    assert watched.watch.problem
    assert watched.watch.files is good
    link.unlink()
    link.symlink_to("good")
    await watched.watch.poll()
    assert (watched.watch.problem, watched.problems[-1]) == ("", "")
    assert watched.changes == [good], "the same content is no change"


async def test_an_absent_directory_is_an_empty_one(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "absent")
    await watched.watch.poll()
    assert (watched.log.events, watched.problems, watched.changes) == ([], [], [])


async def test_a_file_whose_name_is_not_utf_8_is_refused_as_any_other(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.crt")).write_bytes(b"not a certificate")
    watched = Watched(tmp_path)
    await watched.watch.poll()
    assert watched.watch.problem.endswith(": not a file of PEM certificates")
