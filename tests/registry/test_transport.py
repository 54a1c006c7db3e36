"""Hosts share one transport, but not its connections."""

from __future__ import annotations

import asyncio

from gatekeeper_py.registry.transport import MAX_CONNECTIONS
from registry.scripted import found, scripted, speaking
from registry.world import World

V1 = "/v2/team/app/manifests/v1"


async def test_a_host_that_hangs_takes_no_connections_from_another() -> None:
    full, end = asyncio.Event(), asyncio.Event()
    held = 0

    async def hang(_writer: asyncio.StreamWriter) -> None:
        nonlocal held
        held += 1
        if held == MAX_CONNECTIONS:
            full.set()
        await end.wait()

    world = World()
    async with speaking(hang) as stuck, scripted() as working:
        working.on(f"HEAD {V1}", found())
        hanging = [asyncio.create_task(world.query(stuck)) for _ in range(2 * MAX_CONNECTIONS)]
        await full.wait()
        assert (await world.query(working.host)).answer.status == "found"
        assert held == MAX_CONNECTIONS  # the limit of sockets to one host
        assert not any(task.done() for task in hanging)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        end.set()
    await world.close()
