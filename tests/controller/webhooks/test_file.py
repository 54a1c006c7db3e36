"""The settings file is read again when its content changes; a bad one leaves the last good settings."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gatekeeper_py.controller.webhooks.file import SettingsFile
from gatekeeper_py.controller.webhooks.settings import WebhookSettings
from support.recording import RecordingLog


class Setup:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = RecordingLog()
        self.changes = 0
        self.file = SettingsFile(path, log=self.log, on_changed=self.changed)

    def changed(self) -> None:
        self.changes += 1

    async def load(self, content: bytes) -> None:
        self.path.write_bytes(content)
        await self.file.load()


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path / "webhooks.yaml")


async def test_a_good_file_takes_effect(setup: Setup) -> None:
    assert setup.file.settings is None
    await setup.load(b"exemptNamespaces: [a]")
    assert setup.file.settings == WebhookSettings(exempt_namespaces=("a",))
    assert (setup.file.problem, setup.changes) == ("", 1)
    await setup.file.load()
    assert setup.changes == 1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"exemptNamespaces: ['*']", "line 1, exemptNamespaces[0]: wildcards", id="bad"),
        pytest.param(b"\xff", "not UTF-8 at byte 0", id="not-utf-8"),
        pytest.param(b"x" * (1024 * 1024 + 1), "longer than 1 MiB", id="too-long"),
    ],
)
async def test_a_bad_file_leaves_the_last_good_settings(setup: Setup, content: bytes, problem: str) -> None:
    await setup.load(b"exemptNamespaces: [a]")
    await setup.load(content)
    assert setup.file.settings == WebhookSettings(exempt_namespaces=("a",))
    assert problem in setup.file.problem
    assert str(setup.path) in setup.file.problem
    [refused] = setup.log.named("webhook_settings_refused")
    assert refused["last_good_stays"] is True
    await setup.load(b"")
    assert (setup.file.settings, setup.file.problem) == (WebhookSettings(), "")


async def test_a_file_that_was_never_good_leaves_the_settings_unknown(setup: Setup) -> None:
    await setup.file.load()
    assert setup.file.settings is None
    assert "No such file" in setup.file.problem
    await setup.load(b"colour: red")
    assert setup.file.settings is None
    assert setup.log.named("webhook_settings_refused")[-1]["last_good_stays"] is False


async def test_a_swapped_symlink_is_noticed(tmp_path: Path) -> None:
    """The kubelet changes a mounted ConfigMap in this way."""
    for name, text in (("old", "exemptNamespaces: [a]"), ("new", "exemptNamespaces: [b]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "webhooks.yaml").write_text(text)
    link = tmp_path / "..data"
    link.symlink_to("old")
    setup = Setup(link / "webhooks.yaml")
    await setup.file.load()
    staged = tmp_path / "..data_tmp"
    staged.symlink_to("new")
    staged.replace(link)
    await setup.file.load()
    assert setup.file.settings == WebhookSettings(exempt_namespaces=("b",))


class Volume:
    """A mounted ConfigMap. Its files are links into ``..data``, which is a link that the kubelet swaps."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "webhooks.yaml"
        self._generation = 0

    def mount(self, **keys: str) -> None:
        self._generation += 1
        fresh = self.directory / f"..{self._generation}"
        fresh.mkdir()
        for key, text in keys.items():
            (fresh / key).write_text(text)
        staged = self.directory / "..data_tmp"
        staged.symlink_to(fresh.name)
        staged.replace(self.directory / "..data")
        for key in keys:
            (self.directory / key).unlink(missing_ok=True)
            (self.directory / key).symlink_to(f"..data/{key}")


GOOD = {"webhooks.yaml": "exemptNamespaces: [a]"}


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        pytest.param({**GOOD, "my-webhooks.yaml": ""}, "my-webhooks.yaml", id="beside-the-right-one"),
        pytest.param({"webhook.yaml": ""}, "webhook.yaml", id="misnamed"),
        pytest.param(
            {**GOOD, **{f"{each}.yaml": "" for each in "abcdefg"}},
            "a.yaml, b.yaml, c.yaml, d.yaml, e.yaml",
            id="many",
        ),
    ],
)
async def test_other_keys_in_the_configmap_keep_the_last_good_settings(
    tmp_path: Path, keys: dict[str, str], named: str
) -> None:
    """Settings under another key would have no effect."""
    volume, setup = Volume(tmp_path), Setup(tmp_path / "webhooks.yaml")
    volume.mount(**GOOD)
    await setup.file.load()
    assert setup.file.problem == ""
    volume.mount(**keys)
    await setup.file.load()
    assert setup.file.problem.endswith(
        f"the only key of the ConfigMap is webhooks.yaml, but it also has {named}"
    )
    assert setup.file.settings == WebhookSettings(exempt_namespaces=("a",))
    [refused] = setup.log.named("webhook_settings_refused")
    assert refused["last_good_stays"] is True
    volume.mount(**{"webhooks.yaml": "exemptNamespaces: [b]"})
    await setup.file.load()
    assert (setup.file.problem, setup.file.settings) == ("", WebhookSettings(exempt_namespaces=("b",)))


async def test_a_volume_whose_keys_cannot_be_listed_is_a_problem(setup: Setup) -> None:
    (setup.path.parent / "..data").write_text("")
    await setup.load(b"exemptNamespaces: [a]")
    assert setup.file.settings is None
    assert setup.file.problem == f"{setup.path}: Not a directory"


async def test_an_ordinary_directory_may_hold_other_files(setup: Setup) -> None:
    (setup.path.parent / "notes.txt").write_text("mine")
    await setup.load(b"exemptNamespaces: [a]")
    assert setup.file.problem == ""


async def test_without_a_file_the_settings_are_the_defaults() -> None:
    file = SettingsFile(None, log=RecordingLog())
    await file.load()
    assert (file.settings, file.problem) == (WebhookSettings(), "")


async def test_the_file_is_polled(setup: Setup) -> None:
    polled = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        polled.set()
        await asyncio.sleep(0)

    setup.path.write_text("exemptNamespaces: [a]")
    file = SettingsFile(setup.path, log=setup.log, sleep=sleep)
    task = asyncio.create_task(file.run())
    await polled.wait()
    task.cancel()
    assert file.settings == WebhookSettings(exempt_namespaces=("a",))
