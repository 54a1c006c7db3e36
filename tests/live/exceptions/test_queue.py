"""The queue costs little, however many namespaces change documents, and quiet ones need not wait."""

from __future__ import annotations

from typing import Final

import pytest

from gatekeeper_py.core.exceptions.document import MAX_BYTES
from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.live.exceptions.queue import FORGET_SECONDS, LONGEST_PARSE_SECONDS, ParseQueue
from gatekeeper_py.process.shares import MAX_NAMESPACES, Share, Shares

QUIET: Final = DocumentKey("namespace", "quiet")


def test_the_work_grows_with_the_number_of_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Namespaces that are not counted separately share one count, so each of them changes it for all."""
    used, looks = Shares.used, 0

    def counted(shares: Shares, share: Share) -> tuple[float, float]:
        nonlocal looks
        looks += 1
        return used(shares, share)

    monkeypatch.setattr(Shares, "used", counted)
    queue = ParseQueue(lambda: 100.0)
    changes = 0
    for size in (1_000, 2_000):
        for number in range(3 * MAX_NAMESPACES):
            key = DocumentKey("namespace", f"team-{number}")
            queue.place(key, 0.0, free=False)
            queue.ask(key, size)
            queue.next()
            changes += 1
    assert looks <= 4 * changes


def test_a_namespace_beyond_those_that_are_counted_goes_last() -> None:
    queue = ParseQueue(lambda: 100.0)
    queue.next()  # from now on, the times of the namespaces are set to zero
    keys = [DocumentKey("namespace", f"team-{number}") for number in range(MAX_NAMESPACES + 1)]
    for key in keys:
        queue.ask(key, 1_000)
        queue.place(key, 0.0, free=False)
    order = []
    while (turn := queue.next()) is not None:
        order.append(turn[1])
        queue.take(turn[1])
    assert order == [*keys[-2::-1], keys[-1]]


def test_what_a_flood_left_behind_does_not_go_before_a_quiet_namespace() -> None:
    """Not even after the times of the namespaces were set to zero, again and again."""
    clock = 100.0
    queue = ParseQueue(lambda: clock)
    queue.next()
    for number in range(500):
        key = DocumentKey("namespace", f"team-{number}")
        queue.place(key, clock if number else clock + 1.0, free=False)
        for _ in range(10):
            queue.ask(key, MAX_BYTES)
    asked, waits = 0.0, []
    while clock < 100.0 + 3 * FORGET_SECONDS:
        if clock >= asked + 25.0:
            asked = clock
            queue.place(QUIET, asked, free=False)
            queue.ask(QUIET, MAX_BYTES)
        turn = queue.next()
        assert turn is not None
        pause, key = turn
        clock += pause
        if not pause:
            queue.take(key)
            queue.spent(clock, clock + LONGEST_PARSE_SECONDS)
            clock += LONGEST_PARSE_SECONDS
            if key == QUIET:
                waits.append(clock - asked)
    assert len(waits) >= 7
    assert max(waits) < 3 * LONGEST_PARSE_SECONDS


@pytest.mark.parametrize("seconds", [0.1, 1.0, 30.0])
def test_a_parse_that_waits_for_a_processor_does_not_delay_a_quiet_namespace(seconds: float) -> None:
    clock = 100.0
    queue = ParseQueue(lambda: clock)
    queue.next()
    flood = DocumentKey("namespace", "team-1")
    for _ in range(3):
        queue.place(flood, clock, free=False)
        for _ in range(10):
            queue.ask(flood, MAX_BYTES)
        turn = queue.next()
        assert turn is not None
        clock += turn[0]
        queue.take(flood)
        queue.spent(clock, clock + seconds)
        clock += seconds
    queue.place(QUIET, clock, free=False)
    queue.ask(QUIET, 0)
    assert queue.next() == (0.0, QUIET)
