"""A rule expires on time in a real ``serve``, even while it loads another policy."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from faults.following import Source, following
from support.builders import pod, policy_text, review
from support.wire import eventually, request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fault tests run on Linux")

POD: Final = request(json.dumps(review(pod("registry.corp.io/web:1"))).encode())
RULES: Final = 60_000
"""Rules of the policy that is loaded meanwhile: parsing and compiling it takes seconds."""

LATE_SECONDS: Final = 1.0
"""Alone on a machine, a rule expires within 0.1 s. The bound is loose, because other tests run beside this
one. A server that waited for the load would exceed it by seconds."""


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Source]:
    async with following(tmp_path, policy_text()) as source:
        yield source


async def denied_at(source: Source) -> datetime:
    """Send reviews until one is denied, and return when that was."""
    async with source.connected() as connection:
        while True:
            answer = await connection.ask(POD)
            assert answer.status == 200
            if not answer.json()["response"]["allowed"]:
                return datetime.now(UTC)
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("size", [1, RULES])
async def test_a_rule_ends_while_a_large_policy_is_loaded(source: Source, size: int) -> None:
    rules = "".join(f"\n  - old{number}.io" for number in range(size))
    until = datetime.now(UTC) + timedelta(seconds=3 if size == 1 else 20)
    rule = f"\n  - {{image: registry.corp.io, until: {until.isoformat()}}}"
    source.api.apply(policy_text(allow=rules + rule))
    await eventually(lambda: len(source.server.events("policy_loaded")) == 2)
    assert datetime.now(UTC) < until
    ending = asyncio.create_task(denied_at(source))
    more = "".join(f"\n  - new{number}.io" for number in range(RULES))
    await asyncio.sleep(max((until - datetime.now(UTC)).total_seconds() - 0.5, 0.0))
    source.api.apply(policy_text(allow=f"{more}\n  - registry.corp.io"))
    late = (await ending - until).total_seconds()
    assert 0 <= late < LATE_SECONDS
    assert len(source.server.events("policy_loaded")) == 2, "the load was over before the rule ended"
    await eventually(lambda: len(source.server.events("policy_loaded")) == 3)
    print(f"the rule ended {late * 1000:.0f} ms after its instant")  # noqa: T201
