"""The queue costs little, however many namespaces change documents."""

from __future__ import annotations

import pytest

from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.live.exceptions.queue import ParseQueue
from gatekeeper_py.process.shares import MAX_NAMESPACES, Share, Shares


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
