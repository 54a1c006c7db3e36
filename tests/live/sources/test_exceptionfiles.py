"""The exceptions in files are delivered, and again after each change."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.core.exceptions.grants import SOURCES, Source
from gatekeeper_py.core.policy.configmap import ExceptionsText
from gatekeeper_py.live.parser.messages import Manifests, ManifestsJob
from gatekeeper_py.live.parser.program import judge
from gatekeeper_py.live.sources.exceptionfiles import ExceptionFilesSource
from support.parsing import InProcessParser
from support.recording import RecordingLog

TEAM = DocumentKey("namespace", "team-a")
OWN = DocumentKey("installation", "gatekeeper-py")


def manifest(namespace: str, text: str = "one", name: str = "gatekeeper-py-exceptions") -> str:
    return (
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
        f"data:\n  exceptions.yaml: {text}\n"
    )


class FindingParser(InProcessParser):
    async def find_configmaps(self, text: str) -> Manifests:
        assert self._turn.locked()
        [reply] = judge(ManifestsJob(text=text.encode(), memory_bytes=0, cpu_seconds=0))
        assert isinstance(reply, Manifests)
        return reply


class World:
    """The source, and what it delivered in each round."""

    def __init__(self, *paths: Path) -> None:
        self.rounds: list[dict[DocumentKey, ExceptionsText]] = [{}]
        self.log = RecordingLog()
        self.source = ExceptionFilesSource(
            paths, "gatekeeper-py", FindingParser(), self, log=self.log, sleep=self._sleep
        )
        self.turn = asyncio.Event()

    async def deliver(self, delivered: ExceptionsText) -> None:
        self.rounds[-1][delivered.key] = delivered

    def listed(self, _sources: frozenset[Source], keys: frozenset[DocumentKey]) -> None:
        assert keys == frozenset(self.rounds[-1])
        self.rounds.append({})

    def unreadable(self, sources: frozenset[Source]) -> None:
        raise AssertionError(sources)

    async def once(self) -> dict[DocumentKey, ExceptionsText]:
        """Read once, and return the documents that were delivered."""
        running = asyncio.create_task(self.source.read(frozenset(SOURCES)))
        await self.turn.wait()
        self.turn.clear()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return self.rounds[-2]

    async def _sleep(self, _seconds: float) -> None:
        self.turn.set()
        await asyncio.Event().wait()


async def test_the_configmaps_of_files_and_directories_are_delivered(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    stream = "---\n".join((manifest("team-a"), "kind: Secret\n", manifest("shop", name="another")))
    (folder / "inner/a.yaml").write_text(stream)
    (folder / "notes.txt").write_text(manifest("team-x"))
    single = tmp_path / "own.yaml"
    single.write_text(manifest("gatekeeper-py", "two"))
    found = await World(folder, single).once()
    assert {key: each.text for key, each in found.items()} == {TEAM: "one", OWN: "two"}


async def test_a_change_and_a_removal_are_delivered(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(manifest("team-a"))
    world = World(tmp_path)
    assert (await world.once())[TEAM].text == "one"
    path.write_text(manifest("team-a", "two"))
    assert (await world.once())[TEAM].text == "two"
    path.unlink()
    assert await world.once() == {}


async def test_a_file_that_cannot_be_read_approves_nothing_and_the_others_stay(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(manifest("team-a"))
    (tmp_path / "b.yaml").write_text("a: [")
    world = World(tmp_path, tmp_path / "missing.yaml")
    assert set(await world.once()) == {TEAM}
    assert len(world.log.named("exceptions_unread")) == 2


async def test_a_file_that_stays_missing_is_logged_once_until_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    world = World(path)
    await world.once()
    await world.once()
    assert len(world.log.named("exceptions_unread")) == 1
    path.write_text(manifest("team-a"))
    assert set(await world.once()) == {TEAM}
    path.unlink()
    await world.once()
    assert len(world.log.named("exceptions_unread")) == 2


async def test_the_same_configmap_twice_is_an_error(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(manifest("team-a"))
    found = await World(tmp_path).once()
    assert [finding.code for finding in found[TEAM].findings] == ["given-twice"]
    assert found[TEAM].text is None
