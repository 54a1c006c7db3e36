"""The registry process asks the server for one turn of a look-up at a time."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from gatekeeper_py.registry.program import Turns
from registry.lookingup import until


async def test_a_cancelled_request_leaves_its_turn_to_be_granted_before_the_next_one_is_asked_for() -> None:
    """The server ends the process if it asks for a second turn before the first one is granted."""
    asked: list[str] = []
    turns = Turns(asked.append)
    first, second, third = (asyncio.ensure_future(turns.take(host)) for host in ("a.io", "b.io", "c.io"))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    await asyncio.sleep(0)
    assert asked == ["a.io"]
    turns.grant()
    await until(lambda: len(asked) == 2)
    assert asked == ["a.io", "b.io"]
    turns.grant()
    await second
    await until(lambda: len(asked) == 3)
    turns.grant()
    await third
    assert asked == ["a.io", "b.io", "c.io"]


def test_the_process_loads_cryptography_only_for_keys() -> None:
    """It takes 12 MiB, and most policies have no keys."""
    script = "import gatekeeper_py.registry.program, sys; print('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
