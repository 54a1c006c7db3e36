"""A peer cannot fill the log: its lines are limited, and the others are counted."""

from __future__ import annotations

import json
from collections.abc import Callable

from builders import pod, policy, review
from gatekeeper_py.serving.reviewlog import MAX_LINES, MAX_PEERS, DenialLimit
from recording import RecordingLog
from served import Start
from wire import eventually, request


class World:
    """A limit with a clock, and the calls that it planned."""

    def __init__(self) -> None:
        self.now = 100.0
        self.log = RecordingLog()
        self.planned: list[tuple[float, Callable[[], None]]] = []
        self.limit = DenialLimit(
            self.log,
            monotonic=lambda: self.now,
            later=lambda seconds, call: self.planned.append((self.now + seconds, call)),
        )

    def passed(self, peer: str, times: int) -> int:
        return sum(self.limit.passes(peer) for _ in range(times))

    @property
    def suppressed(self) -> list[dict[str, object]]:
        return self.log.named("denials_suppressed")


def test_each_peer_has_200_lines_a_second_and_the_others_are_counted() -> None:
    world = World()
    assert world.passed("a", 1000) == MAX_LINES
    assert world.passed("b", 150) == 150
    assert world.suppressed == []
    world.now += 0.99
    assert world.passed("a", 5) == 0
    world.now += 0.01
    assert world.passed("a", 5) == 5
    assert world.suppressed == [{"peer": "a", "count": 805}]


def test_the_count_is_logged_at_the_end_of_the_second_even_if_no_review_follows() -> None:
    world = World()
    world.passed("a", MAX_LINES + 3)
    world.passed("b", MAX_LINES + 2)
    world.now += 1.0
    for at, call in world.planned:
        assert at == 101.0
        call()
    assert world.suppressed == [{"peer": "a", "count": 3}, {"peer": "b", "count": 2}]


def test_a_storm_of_one_peer_gives_one_line_each_second() -> None:
    world = World()
    for _ in range(5):
        world.passed("a", 500)
        world.now += 1.0
        for _, call in world.planned:
            call()
    assert world.suppressed == [{"peer": "a", "count": 300}] * 5


def test_memory_is_bounded_for_any_number_of_peers() -> None:
    world = World()
    passed = sum(world.limit.passes(f"peer-{number}") for number in range(3 * MAX_PEERS))
    assert passed == MAX_PEERS + MAX_LINES
    assert len(world.limit._lines) == MAX_PEERS + 1


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
