"""Reviews of objects with many images are judged in slices, and other reviews are answered in between."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import fields
from typing import Any, Final

import pytest

from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.decision import Decision
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.webhook.body import LARGE_BODY_BYTES
from gatekeeper_py.webhook.webhook import MANY_IMAGES
from support.builders import HUB_TO_CORP, pod, policy, review
from support.contract import check_response
from support.served import Served
from support.wire import Connection, eventually, request

GOOD: Final = "registry.corp.io/web:{n}"
BAD: Final = "evil.io/web:{n}"
SMALL: Final = request(json.dumps(review(pod("registry.corp.io/small:1"))).encode())


class SlowPolicy(CompiledPolicy):
    """Takes time for each decision about an image, and notes the order of them."""

    __slots__ = ("decided", "seconds")

    decided: list[str]
    seconds: float

    @classmethod
    def of(cls, compiled: CompiledPolicy, seconds: float) -> SlowPolicy:
        slow = cls(**{each.name: getattr(compiled, each.name) for each in fields(compiled) if each.init})
        object.__setattr__(slow, "decided", [])
        object.__setattr__(slow, "seconds", seconds)
        return slow

    def decide_by_rules(self, namespace: str | None, image: str) -> Decision:
        self.decided.append(image)
        if "small" not in image:
            end = time.perf_counter() + self.seconds
            while time.perf_counter() < end:
                pass
        return CompiledPolicy.decide_by_rules(self, namespace, image)


def many(image: str, count: int, *, padding: int = 0, **options: Any) -> dict[str, Any]:
    images = [image.format(n=number) for number in range(count)]
    return review(pod(*images, metadata={"annotations": {"padding": "x" * padding}}), **options)


def slow(served: Served, seconds: float = 0.001, more: str = "") -> SlowPolicy:
    """Make a policy live under which each decision takes so long."""
    snapshot = SlowPolicy.of(policy(more), seconds)
    served.live.install(snapshot)
    return snapshot


async def begin(connection: Connection, document: dict[str, Any], snapshot: SlowPolicy) -> None:
    """Send a review, and wait until some of its images are judged."""
    await connection.send(request(json.dumps(document).encode()))
    await eventually(lambda: len(snapshot.decided) > MANY_IMAGES)


@pytest.mark.parametrize("padding", [0, LARGE_BODY_BYTES], ids=["small-body", "large-body"])
@pytest.mark.parametrize("image", [GOOD, BAD], ids=["allowed", "denied"])
async def test_another_review_is_answered_before_a_large_one_ends(
    served: Served, image: str, padding: int
) -> None:
    snapshot = slow(served)
    document = many(image, 200, padding=padding)
    async with served.connected() as large, served.connected() as small:
        await begin(large, document, snapshot)
        assert (await small.ask(SMALL)).status == 200
        assert image.format(n=199) not in snapshot.decided
        answer = await large.receive()
    assert check_response(answer.json(), document, "validate").allowed is (image == GOOD)
    assert image.format(n=199) in snapshot.decided


async def test_a_patch_is_made_in_steps(served: Served) -> None:
    snapshot = SlowPolicy.of(policy(HUB_TO_CORP, mode="mutate"), 0.001)
    served.live.install(snapshot)
    document = many("user/web:{n}", 200)
    async with served.connected() as large, served.connected() as small:
        before = len(snapshot.decided)
        await large.send(request(json.dumps(document).encode(), path="/mutate-image"))
        await eventually(lambda: len(snapshot.decided) > before)
        assert (await small.ask(SMALL)).status == 200
        assert "user/web:199" not in snapshot.decided
        answer = check_response((await large.receive()).json(), document, "mutate")
    assert len(answer.patch) == 201


async def test_one_snapshot_judges_all_of_a_review(served: Served) -> None:
    """The snapshot stays the same even if another policy becomes live between two steps."""
    snapshot = slow(served)
    document = many(BAD, 200)
    async with served.connected() as large, served.connected() as small:
        await begin(large, document, snapshot)
        served.live.install(policy(allow="[evil.io]").serving(100, CacheCounts()))
        assert not check_response((await small.ask(SMALL)).json(), review(pod("a")), "validate").allowed
        answer = check_response((await large.receive()).json(), document, "validate")
    assert not answer.allowed
    assert answer.audit["policy"] == snapshot.revision
    assert BAD.format(n=199) in snapshot.decided


async def test_the_timeout_of_the_caller_holds_between_the_steps(served: Served) -> None:
    """It gets 503, so that it knows why, and the work ends."""
    snapshot = slow(served, 0.01)
    document = json.dumps(many(GOOD, 1000)).encode()
    async with served.connected() as large:
        answer = await large.ask(request(document, path="/validate-image?timeout=1s"))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.json() == {"error": "there was no time to judge the review"}
        assert GOOD.format(n=999) not in snapshot.decided
        decided = len(snapshot.decided)
        assert (await large.ask(SMALL)).status == 200
        assert len(snapshot.decided) == decided + 1


async def test_large_ones_are_judged_one_at_a_time(served: Served) -> None:
    """The documents of the waiting reviews are therefore not in memory."""
    snapshot = slow(served)
    documents = [many(f"registry.corp.io/{name}:{{n}}", 200) for name in "abc"]
    answers = await asyncio.gather(*(served.review(document) for document in documents))
    assert all(answer.allowed for answer in answers)
    names = [image[len("registry.corp.io/")] for image in snapshot.decided if image.endswith(LATE)]
    assert len(names) == 300
    assert names == sorted(names, key=names.index)


LATE: Final = tuple(f":{number}" for number in range(100, 200))
