"""The complete output of commands, in every format.

A table in ``tests/data/commands`` has the files and the cluster that its cases share. A case has its own
files (``null`` removes a shared one; a mapping is JSON), changes to the cluster, the text of stdin, and
command lines with their output. Except in the text of stdin, ``<+30d>`` is the date in 30 days, and
``<registry>`` the host of the registry that runs if the table has ``registry``. ``requests`` are those to the
cluster that are not the usual lists. To add a case, write command lines with an empty output, and use
``--update-golden``.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from gatekeeper_py import __version__
from support.commanding import Command, Done
from support.fakecluster import LISTS, FakeCluster, status
from support.fakeregistry import FakeRegistry
from support.golden import DATA, golden, recorded
from support.paging import sections

TABLES: Final = [f"commands/{path.stem}" for path in sorted((DATA / "commands").iterdir())]
DATE: Final = re.compile(r"<([+-]\d+)d>")
TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
REVISION: Final = re.compile(r'(revision"?(?: value="|[: ]+"?))[0-9a-f]{12}\b')


def date(days: str) -> str:
    return f"{datetime.now(UTC) + timedelta(days=int(days)):%Y-%m-%d}"


def merged(table: Mapping[str, Any], case: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return a part of the table with the changes of a case."""
    both = table.get(part, {}) | case.get(part, {})
    return {key: value for key, value in both.items() if value is not None}


@dataclass(frozen=True)
class Variables:
    """What differs from run to run: the dates at these distances in days, and the host of a registry."""

    days: frozenset[str]
    host: str

    def filled(self, value: Any) -> Any:
        """Return a value of a table with the values of the variables."""
        if isinstance(value, str):
            return DATE.sub(lambda days: date(days[1]), value).replace("<registry>", self.host)
        if isinstance(value, dict):
            return {self.filled(key): self.filled(item) for key, item in value.items()}
        return [self.filled(item) for item in value] if isinstance(value, list) else value

    def shown(self, line: str, done: Done) -> str:
        """Return the exit code and output of a command, with variables instead of their values."""
        out = visible(done.out) if done.out.startswith("<!doctype html>") else done.out
        errors = f"-- stderr\n{done.err}" if done.err else ""
        output = f"exit code {done.code}\n{out}{errors}"
        assert "Traceback" not in output
        for each in self.days:
            output = output.replace(date(each), f"<{each}d>")
        if self.host:
            output = output.replace(self.host, "<registry>")
        if self.days or self.host:
            output = REVISION.sub(r"\1REVISION", output)
        output = output.replace(f'"version": "{__version__}"', '"version": "VERSION"')
        output = output.replace(f"gatekeeper-py {__version__}", "gatekeeper-py VERSION")
        most = 24 * 20 if self.days or " --for " in line else 0
        return TIME.sub(lambda found: _from_now(found[0], most), output)


def _from_now(time: str, most: int) -> str:
    """Return a time as its distance in hours, if that is a whole number of them up to ``most``."""
    distance = datetime.fromisoformat(time) - datetime.now(UTC)
    hours = round(distance / timedelta(hours=1))
    if abs(hours) > most or abs(distance - timedelta(hours=hours)) > timedelta(minutes=10):
        return time
    return f"<{hours:+}h>" if hours else "TIME"


def visible(page: str) -> str:
    """Return the text of the sections of a page, in ASCII and without empty lines."""
    text = "".join(f"[{name}] {text}\n" for name, text in sections(page).items())
    lines = (line.strip().encode("ascii", "backslashreplace").decode() for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if line)


@contextmanager
def serving(content: Mapping[str, Any], folder: Path) -> Iterator[FakeCluster]:
    """Serve a cluster if there is anything in it, and write its kubeconfig."""
    cluster = FakeCluster()
    cluster.lists |= content["lists"]
    cluster.documents |= content["documents"]
    for path, answers in content["script"].items():
        cluster.script[path].extend(status(**answer) for answer in answers)
    if not any(content.values()):
        yield cluster
        return
    with cluster.serving():
        cluster.kubeconfig(folder)
        yield cluster


def requested(cluster: FakeCluster) -> str:
    """Return the requests that are not the usual lists."""
    others = ((path, query) for path, query in cluster.requests if path not in LISTS)
    return "".join(f"{path}?{urlencode(query)}".rstrip("?") + "\n" for path, query in others)


@pytest.mark.parametrize(
    ("table", "name"),
    [
        pytest.param(table, name, id=f"{table.rpartition('/')[2]}-{name}")
        for table in TABLES
        for name in golden(table)["cases"]
    ],
)
def test_the_output_is_as_recorded(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    table: str,
    name: str,
    update_golden: bool,  # noqa: FBT001
) -> None:
    shared: dict[str, Any] = golden(table)
    case: dict[str, Any] = shared["cases"][name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", "kubeconfig")
    files = merged(shared, case, "files")
    objects = (shared.get("cluster", {}), case.get("cluster", {}))
    cluster = {part: merged(*objects, part) for part in ("lists", "documents", "script")}
    registry = FakeRegistry(**merged(shared, case, "registry"))
    with registry.serving() if "registry" in shared else nullcontext():
        variables = Variables(frozenset(DATE.findall(str([files, case]))), registry.host)
        for path, content in variables.filled(files).items():
            text = content if isinstance(content, str | bytes) else json.dumps(content)
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
        with serving(variables.filled(cluster), tmp_path) as served:
            done = {
                line: command(*shlex.split(variables.filled(line)), stdin=case.get("stdin"))
                for line in case["run"]
            }
        found = {line: variables.shown(line, each) for line, each in done.items()}
    assert found == recorded(table, case, "run", found, update=update_golden)
    if "requests" in case:
        queried = requested(served)
        assert queried == recorded(table, case, "requests", queried, update=update_golden)
