"""Reviews stay fast for any policy document from a file, the ConfigMap or the policy guard."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from exhaustion.documents import CONFIGMAP_BYTES, FILE_BYTES, ROWS, Row
from exhaustion.memory import MIB
from exhaustion.target import Arena, Attempt, Target, watching_arena
from support.builders import policy_text, review
from support.fakeapi import NAME, NAMESPACE, FakeApi
from support.wire import Answer, request

GOOD: Final = policy_text()
JUDGED_SECONDS: Final = 60.0
"""Time limit for a document of 16 MiB on a shared machine."""

GUARD_SENDERS: Final = 3
GUARD_SECONDS: Final = 1.0


def rows(*groups: str) -> pytest.MarkDecorator:
    """Return the rows of some groups, because the parser is the same for every source."""
    return pytest.mark.parametrize("name", [name for name in ROWS if name.partition(":")[0] in groups])


on_one_loop = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def policy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "policy.yaml"
    path.write_text(GOOD)
    return path


@pytest.fixture(scope="module")
def file_arena(policy_file: Path, attempts: dict[str, Attempt]) -> Iterator[Arena]:
    arena = Arena(policy_file.with_name("ca.crt"), attempts, "--policy", str(policy_file))
    yield arena
    arena.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[FakeApi]:
    api = FakeApi()
    await api.start()
    api.apply(GOOD)
    yield api
    await api.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def configmap_arena(
    api: FakeApi, tmp_path_factory: pytest.TempPathFactory, attempts: dict[str, Attempt]
) -> AsyncIterator[Arena]:
    async for arena in watching_arena(api, tmp_path_factory.mktemp("configmap"), attempts):
        yield arena


class Verdicts:
    """Return the server's answers about the documents."""

    def __init__(self, target: Target) -> None:
        self._server = target.server
        self._seen = len(self._server.lines)

    async def next(self) -> str:
        """Wait for the next verdict: ``""`` for a policy that was loaded, else all findings."""
        end = time.monotonic() + JUDGED_SECONDS
        while time.monotonic() < end:
            for line in self._server.lines[self._seen :]:
                self._seen += 1
                if line["event"] == "policy_loaded":
                    return ""
                if line["event"] == "policy_refused":
                    more = f", {line['more_findings']} more" if line["more_findings"] else ""
                    return json.dumps(line["findings"]) + more
            assert self._server.process.poll() is None, "the process ended"
            await asyncio.sleep(0.02)
        raise AssertionError("the document was not judged in time")


def check(row: Row, verdict: str) -> None:
    if row.message:
        assert row.message in verdict, verdict[:500]
    else:
        assert verdict == "", verdict[:500]


@rows("file")
async def test_a_costly_policy_file_does_not_delay_reviews(
    file_arena: Arena, policy_file: Path, name: str
) -> None:
    row = ROWS[name]

    async def attack(target: Target) -> None:
        verdicts = Verdicts(target)
        write(policy_file, row.make(FILE_BYTES))
        check(row, await verdicts.next())

    target = file_arena.target
    await target.attacked(f"file:{name}", attack)
    verdicts = Verdicts(target)
    write(policy_file, f"{GOOD}# after {name}\n")
    assert await verdicts.next() == ""


def write(path: Path, text: str) -> None:
    """Replace the file atomically, as a Secret's volume does."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8", newline="")
    new.rename(path)


@rows("list", "syntax", "good")
@on_one_loop
async def test_a_costly_configmap_does_not_delay_reviews(
    configmap_arena: Arena, api: FakeApi, name: str
) -> None:
    row = ROWS[name]

    async def attack(target: Target) -> None:
        verdicts = Verdicts(target)
        api.apply(row.make(CONFIGMAP_BYTES))
        check(row, await verdicts.next())

    target = await asyncio.to_thread(lambda: configmap_arena.target)
    await target.attacked(f"configmap:{name}", attack, row.growth * MIB)
    verdicts = Verdicts(target)
    api.apply(f"{GOOD}# after {name}\n")
    assert await verdicts.next() == ""


@rows("text", "list", "good")
@on_one_loop
async def test_a_costly_document_at_the_policy_guard_does_not_delay_reviews(
    configmap_arena: Arena, name: str
) -> None:
    row = ROWS[name]
    text = row.make(CONFIGMAP_BYTES)

    def judged(answer: Answer) -> None:
        if answer.status == 503:
            assert answer.headers["retry-after"] == "1"
            return
        assert answer.status == 200, answer
        response = answer.json()["response"]
        message = "" if response["allowed"] else response["status"]["message"]
        # A check that runs out of time is also a refusal. On a busy machine it gets little CPU time.
        if not (row.message and "the policy could not be checked" in message):
            check(row, message)

    async def attack(target: Target) -> None:
        content = request(json.dumps(guarded(text)).encode(), path="/validate-policy")
        await target.flood([content] * GUARD_SENDERS, judged, GUARD_SECONDS)

    target = await asyncio.to_thread(lambda: configmap_arena.target)
    await target.attacked(f"guard:{name}", attack, row.growth * MIB)


def guarded(text: str) -> dict[str, object]:
    """Return the review of the configured ConfigMap."""
    return review(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "data": {"policy.yaml": text},
        },
        namespace=NAMESPACE,
    )
