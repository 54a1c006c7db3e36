"""The event loops of the tests: those of look-ups with a scripted client run in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import pytest

from virtualtime import VirtualLoop

IN_VIRTUAL_TIME: Final = frozenset({"test_lookups.py", "test_refresh.py"})


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the event loop of a test, which sockets and processes need to be a real one."""
    return {"loop": VirtualLoop if item.path.name in IN_VIRTUAL_TIME else asyncio.new_event_loop}
