"""A policy file: the source notices every kind of change by the content."""

# ruff: noqa: ASYNC240 - the files of a test are small, and nothing else runs on its loop

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatekeeper_py.live.sources import Delivery
from gatekeeper_py.live.sources.file import POLL_SECONDS, FileSource


class Polling:
    """A file source. Its sleep runs the next step instead of waiting."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.slept: list[float] = []
        self.synced = 0
        self.steps: list[Any] = []

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if not self.steps:
            raise _Over
        self.steps.pop(0)()

    def _on_synced(self) -> None:
        self.synced += 1

    async def run(self, *steps: Any) -> list[Delivery]:
        """Return the deliveries of the first poll and of one poll after each step."""
        self.steps = list(steps)
        source = FileSource(self.path, on_synced=self._on_synced, sleep=self._sleep)
        got: list[Delivery] = []
        try:
            async for delivery in source.deliveries():
                got.append(delivery)  # noqa: PERF401 - what came before the end counts
        except _Over:
            return got
        raise AssertionError("a source never ends")


class _Over(Exception):
    """All steps have run."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policy.yaml"


def nothing() -> None:
    """Do nothing, so that a poll sees no change."""


async def test_the_first_delivery_comes_at_once_and_then_only_changes(path: Path) -> None:
    path.write_text("one")
    polling = Polling(path)
    got = await polling.run(nothing, lambda: path.write_text("two"), nothing, lambda: path.write_text("two"))
    assert got == [Delivery(text="one"), Delivery(text="two")]
    assert polling.slept == [POLL_SECONDS] * 5
    assert POLL_SECONDS == 1.0
    assert polling.synced == 5


async def test_a_change_with_the_same_time_and_size_is_noticed(path: Path) -> None:
    def rewrite(text: str) -> None:
        path.write_text(text)
        os.utime(path, (1000, 1000))

    rewrite("one")
    got = await Polling(path).run(lambda: rewrite("two"))
    assert [delivery.text for delivery in got] == ["one", "two"]


async def test_a_touch_is_not_a_change(path: Path) -> None:
    path.write_text("one")
    assert len(await Polling(path).run(lambda: os.utime(path, (1, 1)), lambda: path.chmod(0o600))) == 1


async def test_the_rename_of_an_editor_is_noticed(path: Path) -> None:
    path.write_text("one")

    def save() -> None:
        fresh = path.with_suffix(".swp")
        fresh.write_text("two")
        fresh.replace(path)

    got = await Polling(path).run(save)
    assert [delivery.text for delivery in got] == ["one", "two"]


async def test_every_symlink_swap_of_the_kubelet_is_noticed(tmp_path: Path, path: Path) -> None:
    """The file links to ..data/policy.yaml, and ..data links to a directory that is replaced."""

    def swap(version: str) -> None:
        directory = tmp_path / f"..{version}"
        directory.mkdir()
        (directory / "policy.yaml").write_text(version)
        fresh = tmp_path / "..data_tmp"
        fresh.symlink_to(directory.name)
        old = (tmp_path / "..data").readlink() if (tmp_path / "..data").is_symlink() else None
        fresh.replace(tmp_path / "..data")
        if old is not None:
            (tmp_path / old / "policy.yaml").unlink()
            (tmp_path / old).rmdir()

    swap("v1")
    path.symlink_to("..data/policy.yaml")
    got = await Polling(path).run(lambda: swap("v2"), nothing, lambda: swap("v3"))
    assert [delivery.text for delivery in got] == ["v1", "v2", "v3"]


async def test_a_missing_file_is_a_problem_until_it_is_there(path: Path) -> None:
    polling = Polling(path)
    got = await polling.run(nothing, lambda: path.write_text("one"), path.unlink, nothing)
    missing = Delivery(text=None, problem=f"{path}: No such file or directory")
    assert got == [missing, Delivery(text="one"), missing]
    assert polling.synced == 1


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        pytest.param(lambda it: it.write_text("a: b", encoding="utf-16"), "not UTF-8 at byte 0", id="utf-16"),
        pytest.param(lambda it: it.write_bytes(b"abc\xff"), "not UTF-8 at byte 3", id="latin-1"),
        pytest.param(lambda it: it.write_bytes(b"abc\xed\xa0\x80"), "not UTF-8 at byte 3", id="surrogate"),
        pytest.param(Path.mkdir, "Is a directory", id="directory"),
        pytest.param(lambda it: it.symlink_to(it.name), "Too many levels of symbolic links", id="loop"),
        pytest.param(lambda it: it.symlink_to("x" * 300), "File name too long", id="cannot-be-opened"),
        pytest.param(lambda it: it.symlink_to("/dev/zero"), "longer than 16 MiB, the limit", id="device"),
    ],
)
async def test_what_cannot_be_read_is_a_problem(
    path: Path, make: Callable[[Path], object], problem: str
) -> None:
    make(path)
    polling = Polling(path)
    assert await polling.run() == [Delivery(text=None, problem=f"{path}: {problem}")]
    assert polling.synced == 0


async def test_an_empty_file_is_delivered_as_it_is(path: Path) -> None:
    path.write_text("")
    assert await Polling(path).run() == [Delivery(text="")]


async def test_line_breaks_and_marks_are_left_alone(path: Path) -> None:
    content = "\ufeffa: b\r\nc: \u2028\n"
    path.write_bytes(content.encode())
    assert await Polling(path).run() == [Delivery(text=content)]
