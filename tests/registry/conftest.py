"""The event loops of the tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import pytest
import uvloop

from support.virtualtime import VirtualLoop

Make = Callable[[], asyncio.AbstractEventLoop]

LOOPS: Final[Mapping[str, Make]] = {
    "test_lookups.py": VirtualLoop,
    "test_refresh.py": VirtualLoop,
    "test_remote.py": uvloop.new_event_loop,
}
"""Run look-ups with a scripted client in virtual time, and processes on the loop of the product."""


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Make]:
    return {"loop": LOOPS.get(item.path.name, asyncio.new_event_loop)}
