"""Hosts share one transport, but not its connections."""

from __future__ import annotations

import asyncio

from aiohttp import web

from gatekeeper_py.core.images.manifest import Manifest, failed
from gatekeeper_py.process.shares import Share
from gatekeeper_py.registry.asking import Reply
from gatekeeper_py.registry.fairness import MAX_CONNECTIONS
from registry.scripted import found, scripted, speaking
from registry.world import World
from support.wire import eventually

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
        hanging = [
            asyncio.create_task(
                world.client.query(
                    Manifest(stuck, "app", "v1"),
                    world.turn,
                    share=Share(f"10.0.0.{number % MAX_CONNECTIONS}", None),
                )
            )
            for number in range(4 * MAX_CONNECTIONS)
        ]
        await full.wait()
        assert (await world.query(working.host)).answer.status == "found"
        assert held == MAX_CONNECTIONS  # the limit of sockets to one host
        assert not any(task.done() for task in hanging)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        end.set()
    await world.close()


async def test_requests_that_hang_for_invented_namespaces_leave_connections_to_other_peers() -> None:
    end, arrived = asyncio.Event(), list[str]()
    world = World()
    async with scripted() as registry:

        async def hang(request: web.BaseRequest) -> web.Response:
            arrived.append(request.path)
            await end.wait()
            return web.Response(status=404)

        for number in range(40):
            registry.on(f"HEAD /v2/r{number}/manifests/v1", hang)
        registry.on(f"HEAD {V1}", found())
        hanging = [
            asyncio.create_task(
                world.client.query(
                    Manifest(registry.host, f"r{number}", "v1"), world.turn, 1.0, Share("bad", f"ns{number}")
                )
            )
            for number in range(40)
        ]
        await eventually(lambda: len(arrived) == MAX_CONNECTIONS - MAX_CONNECTIONS // 8)
        manifest = Manifest(registry.host, "team/app", "v1")
        reply = await world.client.query(manifest, world.turn, share=Share("api", "ns1"))
        assert reply.answer.status == "found"
        assert not any(task.done() for task in hanging)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        end.set()
    await world.close()


async def test_requests_that_hang_in_one_repository_leave_connections_to_others() -> None:
    """Look-ups that got no connection show nothing about the host."""
    end, arrived = asyncio.Event(), list[str]()
    world = World()
    async with scripted() as registry:

        async def hang(request: web.BaseRequest) -> web.Response:
            arrived.append(request.path)
            await end.wait()
            return web.Response(status=404)

        for number in range(40):
            registry.on(f"HEAD /v2/hostile/manifests/v{number}", hang)
        registry.on(f"HEAD {V1}", found())
        hanging = [
            asyncio.create_task(world.query(registry.host, f"v{number}", "hostile", 1.0))
            for number in range(40)
        ]
        await eventually(lambda: len(arrived) == MAX_CONNECTIONS // 2)
        assert (await world.query(registry.host)).answer.status == "found"
        replies = await asyncio.gather(*hanging)
        assert set(replies) == {Reply(failed("no answer in 1 s"), trouble=each) for each in (True, None)}
        assert [each.trouble for each in replies].count(True) == MAX_CONNECTIONS // 2
        end.set()
    await world.close()
