"""The complete output of commands, in every format.

A table in ``tests/data/commands`` has the files and the cluster that its cases share. A case has its own
files (``null`` removes a shared one), changes to the cluster, the text of stdin, and command lines with their
output. In all of them, ``<+30d>`` is the date in 30 days. ``requests`` are those to the cluster that are not
the usual lists. To add a case, write command lines with an empty output, and run with ``--update-golden``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from gatekeeper_py import __version__
from support.commanding import Command, Done
from support.fakecluster import LISTS, FakeCluster, status
from support.golden import DATA, check_golden, golden
from support.paging import sections

TABLES: Final = [f"commands/{path.stem}" for path in sorted((DATA / "commands").iterdir())]
DATE: Final = re.compile(r"<([+-]\d+)d>")
TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def date(days: str) -> str:
    return f"{datetime.now(UTC) + timedelta(days=int(days)):%Y-%m-%d}"


def dated(value: Any) -> Any:
    """Return a value of a table with dates instead of days from now."""
    if isinstance(value, str):
        return DATE.sub(lambda days: date(days[1]), value)
    if isinstance(value, dict):
        return {key: dated(item) for key, item in value.items()}
    return [dated(item) for item in value] if isinstance(value, list) else value


def merged(table: Mapping[str, Any], case: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return what a case adds to a part of the table, without what it removes."""
    both = table.get(part, {}) | case.get(part, {})
    return {key: value for key, value in both.items() if value is not None}


@contextmanager
def serving(table: Mapping[str, Any], case: Mapping[str, Any], kubeconfig: Path) -> Iterator[FakeCluster]:
    cluster = FakeCluster()
    shared, own = table.get("cluster", {}), case.get("cluster", {})
    cluster.lists |= dated(merged(shared, own, "lists"))
    cluster.documents |= dated(merged(shared, own, "documents"))
    for path, answers in merged(shared, own, "script").items():
        cluster.script[path].extend(status(**answer) for answer in answers)
    if not (shared or own):
        yield cluster
        return
    with cluster.serving():
        cluster.kubeconfig(kubeconfig.parent)
        yield cluster


def visible(page: str) -> str:
    """Return the text of the sections of a page, in ASCII and without spaces at the ends of lines."""
    text = "".join(f"[{name}] {text}\n" for name, text in sections(page).items())
    lines = (line.strip().encode("ascii", "backslashreplace").decode() for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if line)


def shown(line: str, done: Done, days: set[str]) -> str:
    """Return everything that a command did, without the time, the version and what follows from the date."""
    out = done.out
    if out.startswith("<!doctype html>"):
        out = visible(out)
    errors = f"-- stderr\n{done.err}" if done.err else ""
    output = f"exit code {done.code}\n{out}{errors}"
    assert "Traceback" not in output
    for each in days:
        output = output.replace(date(each), f"<{each}d>")
    if days:
        output = re.sub(r'(revision"?[: ]+"?)[0-9a-f]{12}\b', r"\1REVISION", output)
    output = output.replace(f'"version": "{__version__}"', '"version": "VERSION"')
    output = output.replace(f"gatekeeper-py {__version__}", "gatekeeper-py VERSION")
    hours = 24 * 20 if days or " --for " in line else 0
    return TIME.sub(partial(_from_now, hours), output)


def _from_now(most: int, found: re.Match[str]) -> str:
    """Return a time as its distance in hours, if that is a whole number of them up to ``most``."""
    distance = datetime.fromisoformat(found[0]) - datetime.now(UTC)
    hours = round(distance / timedelta(hours=1))
    if abs(hours) > most or abs(distance - timedelta(hours=hours)) > timedelta(minutes=10):
        return found[0]
    return f"<{hours:+}h>" if hours else "TIME"


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
    common, case = golden(table), golden(table)["cases"][name]
    check = partial(check_golden, table, case, update=update_golden)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", "kubeconfig")
    files = merged(common, case, "files")
    for path, content in dated(files).items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    days = set(DATE.findall(str([files, case])))
    with serving(common, case, tmp_path / "kubeconfig") as cluster:
        found = {
            line: shown(line, command(*shlex.split(dated(line)), stdin=case.get("stdin")), days)
            for line in case["run"]
        }
    check("run", found)
    if "requests" in case:
        check("requests", requested(cluster))
