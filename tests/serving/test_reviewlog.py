"""A peer cannot fill the log: its lines are limited, and the others are counted."""

from __future__ import annotations

import json

from builders import pod, policy, review
from gatekeeper_py.serving.reviewlog import MAX_LINES
from served import Start
from wire import eventually, request


async def test_a_storm_of_denials_leaves_room_in_the_log(start: Start) -> None:
    served = start(policy())
    content = request(json.dumps(review(pod("quay.io/x:1"))).encode())
    async with served.connected() as connection:
        for _ in range(MAX_LINES + 50):
            assert not (await connection.ask(content)).json()["response"]["allowed"]
    await eventually(lambda: served.log.named("denials_suppressed") != [])
    (line, *_) = served.log.named("denials_suppressed")
    assert line["peer"] == "127.0.0.1"
    suppressed = sum(line["count"] for line in served.log.named("denials_suppressed"))
    assert len(served.log.named("review")) + suppressed == MAX_LINES + 50
