"""A real ``serve`` whose ConfigMap changes in every way while it answers reviews."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from faults.following import Source, following
from gatekeeper_py.core import parse_policy
from support.builders import pod, policy_text, review
from support.fakeapi import FakeApi
from support.wire import Connection, eventually, request

CORP, QUAY = "registry.corp.io", "quay.io"
POLICIES = {allowed: policy_text(allow=f"[{allowed}]") for allowed in (CORP, QUAY)}
REVISIONS = {parse_policy(text).revision: allowed for allowed, text in POLICIES.items()}


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Source]:
    """Run a ready server with the policy that allows ``CORP`` only."""
    async with following(tmp_path, POLICIES[CORP]) as source:
        yield source


class Verdicts:
    """Verdicts on a Pod with an image of each registry. Both policies reject exactly one image."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = dict.fromkeys(POLICIES, 0)

    async def ask(self, connection: Connection, number: int) -> str:
        """Return the allowed registry. There are few images, so most verdicts come from the cache."""
        images = {registry: f"{registry}/team/app:{number % 7}" for registry in POLICIES}
        answer = await connection.ask(request(json.dumps(review(pod(*images.values()))).encode()))
        assert answer.status == 200
        response = answer.json()["response"]
        allowed = REVISIONS[response["auditAnnotations"]["policy"]]
        rejected = [image for registry, image in images.items() if registry != allowed]
        assert not response["allowed"]
        assert [response["auditAnnotations"]["rejected"]] == rejected
        self.counts[allowed] += 1
        return allowed


@contextmanager
def stopping(*tasks: asyncio.Task[None]) -> Iterator[None]:
    """Cancel these tasks when the context ends, and raise the exception of a failed task."""
    try:
        yield
    finally:
        for task in tasks:
            if not task.done():
                task.cancel()
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()


async def test_each_review_during_policy_changes_is_judged_by_one_policy(source: Source) -> None:
    """Fifty changes a second would expose a verdict of two policies, or a cached one of an older policy."""
    verdicts = Verdicts()

    async def ask_forever() -> None:
        async with source.connected() as connection:
            number = 0
            while True:
                await verdicts.ask(connection, number)
                number += 1

    tasks = [asyncio.create_task(ask_forever()) for _ in range(3)]
    with stopping(*tasks):
        for number in range(150):
            source.api.apply(POLICIES[CORP if number % 2 else QUAY])
            await asyncio.sleep(0.02)
        source.api.apply(POLICIES[QUAY])
        await eventually(lambda: source.shown()["resourceVersion"] == str(source.api.version))
    async with source.connected() as connection:
        assert await verdicts.ask(connection, 0) == QUAY
    assert min(verdicts.counts.values()) > 20, "both policies were met often"
    assert source.refusals() == 0


BAD: list[Any] = [
    pytest.param(lambda api: api.apply(policy_text("colour: red\n")), "colour", id="a-field-unknown"),
    pytest.param(lambda api: api.apply("allow: [a"), "yaml-syntax", id="no-yaml"),
    pytest.param(lambda api: api.apply(""), "empty", id="empty"),
    pytest.param(lambda api: api.apply(POLICIES[CORP], mode="off"), "mode", id="mode-unknown"),
    pytest.param(lambda api: api.apply(None), "no text under the key policy.yaml", id="key-removed"),
    pytest.param(lambda api: api.delete(), "was deleted", id="deleted"),
    pytest.param(lambda api: api.apply("a: " + "[" * 300_000), "levels deep", id="nested"),
    pytest.param(lambda api: api.apply("#" * (1 << 20)), "empty", id="1-mib-of-nothing"),
    pytest.param(lambda api: api.apply("#" * (4 << 20)), "longer than 1 MiB", id="4-mib-of-nothing"),
    pytest.param(lambda api: api.apply(POLICIES[CORP], keys={"x": "y"}), "data.x", id="another-key"),
]


@pytest.mark.parametrize(("spoil", "finding"), BAD)
async def test_a_bad_configmap_leaves_the_last_good_policy_serving(
    source: Source, spoil: Callable[[FakeApi], None], finding: str
) -> None:
    verdicts, serving = Verdicts(), source.shown()
    async with source.connected() as connection:
        spoil(source.api)
        await eventually(lambda: source.refusals() == 1)
        assert await verdicts.ask(connection, 0) == CORP
        shown = source.shown()
        assert finding in json.dumps(shown["refused"]["findings"])
        assert finding in json.dumps(source.server.events("policy_refused")[0]["findings"])
        assert {**shown, "refused": None} == serving
        assert source.server.is_ready()
        source.api.apply(POLICIES[QUAY])
        await eventually(lambda: source.shown()["refused"] is None)
        assert await verdicts.ask(connection, 0) == QUAY


async def test_reviews_are_judged_by_the_old_policy_while_a_huge_one_is_loaded(source: Source) -> None:
    """Return a policy with as many rules as a ConfigMap can hold."""
    rules = "".join(f"\n  - r{number}.io" for number in range(75_000))
    text = policy_text(allow=f"{rules}\n  - {QUAY}")
    REVISIONS[parse_policy(text).revision] = QUAY
    verdicts = Verdicts()
    async with source.connected() as connection:
        source.api.apply(text)
        async with asyncio.timeout(90):
            while await verdicts.ask(connection, verdicts.counts[CORP]) == CORP:
                pass
    assert verdicts.counts[CORP] > 50
    assert source.shown()["counts"]["allow"] == 75_001
