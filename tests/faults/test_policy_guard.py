"""A real ``serve`` with every kind of policy check and every failure of its parser process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, Self

import pytest

from faults.following import Source, following
from gatekeeper_py.webhook.app import QUIET_SECONDS
from gatekeeper_py.webhook.recent import MAX_IMAGES, MAX_OF_REVIEW
from support.builders import pod, policy_text, review
from support.fakeapi import NAME, NAMESPACE
from support.processes import runs
from support.server import ask as post
from support.wire import Answer, eventually, request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc")

GOOD: Final = policy_text('deny: ["*/**:latest"]\n')
OTHER: Final = policy_text(allow="[quay.io]")
SYNCED: Final = "policy_synced_timestamp_seconds"
POD: Final = review(pod("registry.corp.io/web:1"))

STALL_SECONDS: Final = 1.0
"""A review that takes this long had to wait for a document. The bound is loose, because other tests run on
the same machine; the benchmarks measure it closely."""


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Source]:
    async with following(tmp_path, GOOD) as source:
        yield source


def check(text: str, query: str = "", **more: Any) -> bytes:
    """Return a request to check a change of the policy."""
    obj = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "data": {"policy.yaml": text, **more},
    }
    return request(
        json.dumps(review(obj, operation="UPDATE", namespace=NAMESPACE)).encode(),
        path=f"/validate-policy{query}",
    )


async def ask(source: Source, content: bytes) -> Answer:
    async with source.connected() as connection:
        return await connection.ask(content)


def response(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200
    found: dict[str, Any] = answer.json()["response"]
    return found


async def parser_of(source: Source) -> int:
    """Wait for the parser process; return its process ID."""
    await eventually(lambda: len(source.children()) == 1)
    return source.children()[0]


async def apply(source: Source, text: str) -> None:
    """Change the policy, and wait until the server has begun to load it."""
    before = source.server.metric(SYNCED)
    source.api.apply(text)
    await eventually(lambda: source.server.metric(SYNCED) > before)
    source.server.metric(SYNCED)  # one more turn of its loop, after which the parser has the document


async def judged(source: Source, content: bytes) -> dict[str, Any]:
    """Return the answer to a check. Like an API server, retry after a 503."""
    async with asyncio.timeout(100):
        while (answer := await ask(source, content)).status == 503:
            assert answer.headers["retry-after"] == "1"
            await asyncio.sleep(0.1)
    return response(answer)


class Probe(threading.Thread):
    """Sends reviews on a thread of its own. ``worst`` is the longest duration of one, in seconds."""

    def __init__(self, source: Source) -> None:
        super().__init__(daemon=True)
        self.worst = 0.0
        self.verdicts: set[bool] = set()
        self._connection = source.server.connect()
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        self._connection.close()

    def run(self) -> None:
        while not self._over.is_set():
            start = time.perf_counter()
            status, content = post(self._connection, POD)
            self.verdicts.add(status == 200 and json.loads(content)["response"]["allowed"])
            self.worst = max(self.worst, time.perf_counter() - start)


async def test_changes_are_judged_by_a_child_process(source: Source) -> None:
    assert "warnings" not in await judged(source, check(GOOD))
    assert "warnings" in await judged(source, check(OTHER))
    refused = await judged(source, check(policy_text("colour: red\n")))
    assert "colour" in refused["status"]["message"]
    assert len(source.children()) == 1
    assert source.server.metric('policy_checks_total{result="accepted"}') == 2
    assert source.server.metric('policy_checks_total{result="refused"}') == 1


async def test_a_parser_that_is_killed_during_a_check_is_a_denial_and_replaced(source: Source) -> None:
    parser = await parser_of(source)
    os.kill(parser, signal.SIGSTOP)
    checking = asyncio.create_task(ask(source, check(GOOD)))
    await eventually(lambda: source.server.metric("inflight_reviews") == 1)
    os.kill(parser, signal.SIGKILL)
    denial = response(await checking)
    assert not denial["allowed"]
    assert "the parser process was ended by SIGKILL" in denial["status"]["message"]
    assert source.server.metric('policy_checks_total{result="failed"}') == 1
    assert (await judged(source, check(GOOD)))["allowed"]
    assert await parser_of(source) != parser


async def test_a_parser_that_is_stuck_is_a_denial_within_the_budget_and_replaced(source: Source) -> None:
    parser = await parser_of(source)
    os.kill(parser, signal.SIGSTOP)
    start = time.monotonic()
    denial = response(await ask(source, check(GOOD, "?timeout=2s")))
    assert time.monotonic() - start < 2.0
    assert "it was stopped after 1.5 s" in denial["status"]["message"]
    assert not runs(parser)
    # A check may use a fifth of the time: the next one waits, and its caller tries again.
    assert (await judged(source, check(GOOD)))["allowed"]


async def test_a_policy_whose_parsing_fails_is_refused_and_the_last_good_one_serves(source: Source) -> None:
    parser = await parser_of(source)
    os.kill(parser, signal.SIGSTOP)
    await apply(source, OTHER)
    os.kill(parser, signal.SIGKILL)
    await eventually(lambda: source.refusals() == 1)
    assert "ended by SIGKILL" in source.shown()["refused"]["findings"][0]["message"]
    assert response(await ask(source, request(json.dumps(POD).encode())))["allowed"]
    # Somebody else killed it, so it is tried again.
    await eventually(lambda: source.shown()["refused"] is None)
    assert not response(await ask(source, request(json.dumps(POD).encode())))["allowed"]


async def test_the_parser_ends_with_a_server_that_is_killed(source: Source) -> None:
    parser = await parser_of(source)
    os.kill(parser, signal.SIGSTOP)  # so that it cannot see the end of its input
    source.server.process.kill()
    await eventually(lambda: not runs(parser))


async def test_a_hundred_concurrent_checks_are_all_answered_and_reviews_continue(source: Source) -> None:
    rules = "".join(f"\n  - r{number}.io" for number in range(10_000))
    content = check(policy_text(allow=rules), "?timeout=3s")
    probe = Probe(source)
    with probe:
        answers = await asyncio.gather(*(ask(source, content) for _ in range(100)))
        assert len(source.children()) <= 1
    assert {answer.status for answer in answers} <= {200, 503}
    assert all(response(answer)["allowed"] for answer in answers if answer.status == 200)
    assert {answer.headers.get("retry-after") for answer in answers if answer.status == 503} == {"1"}
    assert probe.verdicts == {True}
    assert probe.worst < STALL_SECONDS
    assert source.server.metric('policy_checks_total{result="busy"}') >= 90


async def test_a_check_during_a_load_waits_or_gets_503(source: Source) -> None:
    parser = await parser_of(source)
    os.kill(parser, signal.SIGSTOP)
    await apply(source, OTHER)
    assert (await ask(source, check(GOOD, "?timeout=1s"))).status == 503
    checking = asyncio.create_task(ask(source, check(GOOD, "?timeout=10s")))
    os.kill(parser, signal.SIGCONT)
    assert response(await checking)["allowed"]
    await eventually(lambda: len(source.server.events("policy_loaded")) == 2)
    assert source.refusals() == 0


async def test_a_change_does_not_wait_for_a_check_and_the_check_is_repeated(source: Source) -> None:
    parser = await parser_of(source)
    os.kill(parser, signal.SIGSTOP)  # the check would take its whole time, and then be a denial
    checking = asyncio.create_task(judged(source, check(GOOD, "?timeout=10s")))
    await eventually(lambda: source.server.metric("inflight_reviews") == 1)
    source.api.apply(OTHER)
    await eventually(lambda: len(source.server.events("policy_loaded")) == 2)
    # If the change had waited for the check, the check would have run out of time.
    assert (await checking)["allowed"]
    assert source.refusals() == 0


async def test_a_drain_waits_for_a_check_under_way(source: Source) -> None:
    parser = await parser_of(source)
    os.kill(parser, signal.SIGSTOP)
    async with source.connected() as connection:
        await connection.send(check(GOOD, "?timeout=20s"))
        await eventually(lambda: source.server.metric("inflight_reviews") == 1)
        source.server.signal(signal.SIGTERM)
        await eventually(lambda: source.server.events("draining") != [])
        await asyncio.sleep(QUIET_SECONDS + 1)  # no event marks a drain that has not ended
        assert source.server.process.poll() is None
        os.kill(parser, signal.SIGCONT)
        answer = await connection.receive()
        assert response(answer)["allowed"]
        assert answer.closes
    assert await asyncio.to_thread(source.server.code) == 0
    assert not runs(parser)


async def test_reviews_continue_while_the_worst_document_is_checked(source: Source) -> None:
    """The most rules that fit into a ConfigMap, and the most mistakes."""
    good = policy_text(allow="".join(f"\n  - r{number}.io" for number in range(75_000)))
    bad = policy_text(allow="".join(f"\n  - nginx{number}" for number in range(75_000)))
    probe = Probe(source)
    with probe:
        for text in (good, bad):
            assert (await judged(source, check(text)))["allowed"] is (text is good)
    assert probe.verdicts == {True}
    assert probe.worst < STALL_SECONDS
    assert source.server.metric("inflight_reviews") == 0


async def test_reviews_continue_while_the_most_images_are_judged(source: Source) -> None:
    """Forged reviews fill the memory of admitted images; each check then judges all of them."""
    images = [f"registry.corp.io/{number:0>100}:1" for number in range(MAX_IMAGES + 1000)]
    with Probe(source) as probe:
        for begin in range(0, len(images), MAX_OF_REVIEW):
            forged = review(pod(*images[begin : begin + MAX_OF_REVIEW]))
            assert response(await ask(source, request(json.dumps(forged).encode())))["allowed"]
        refused = await judged(source, check(OTHER))
        assert f"rejects {MAX_IMAGES} of {MAX_IMAGES} images" in refused["status"]["message"]
        insisting = policy_text('deny: ["*/**:latest"]\n', allow="[registry.corp.io, quay.io]")
        assert (await judged(source, check(insisting)))["allowed"]
    assert probe.verdicts == {True}
    assert probe.worst < STALL_SECONDS
