"""Send HTTP requests to hosts that the policy names: resolve names, and limit and keep connections.

A transport follows no redirects, uses no proxy variables, keeps no cookies and decompresses nothing, whatever
a registry sends.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import Final

import aiohappyeyeballs
from aiohappyeyeballs import AddrInfoType
from yarl import URL

from gatekeeper_py import __version__
from gatekeeper_py.registry.asking import Response
from gatekeeper_py.registry.connection import Budget, Connection, Request
from gatekeeper_py.registry.fairness import MAX_CONNECTIONS, Claim, FairSlots

IDLE_SECONDS: Final = 30.0

NAME_SECONDS: Final = 30.0
"""How long the addresses of a name are cached."""

EYEBALLS_SECONDS: Final = 0.25
"""Pause before the next address of a name is tried as well (RFC 8305)."""

RESOLVER_THREADS: Final = 4
"""Number of threads for DNS. getaddrinfo cannot be cancelled. One name occupies one thread at most."""

PORTS: Final = {"http": 80, "https": 443}


class Resolver:
    """Resolves names in separate threads, each name in one thread at a time."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="registry-dns")
        self._known: dict[tuple[str, int], tuple[asyncio.Future[Sequence[AddrInfoType]], float]] = {}

    async def resolve(self, host: str, port: int) -> Sequence[AddrInfoType]:
        """Return the addresses of a name. Raises ``OSError``."""
        answer, until = self._known.get((host, port), (None, 0.0))
        if answer is None or (answer.done() and (answer.exception() or time.monotonic() >= until)):
            answer = asyncio.get_running_loop().run_in_executor(
                self._executor,
                partial(_addresses, host, port),
            )
            # The number of names is limited by the policy, which names every host.
            self._known[host, port] = answer, time.monotonic() + NAME_SECONDS
        return await asyncio.shield(answer)

    async def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


def _addresses(host: str, port: int) -> Sequence[AddrInfoType]:
    return socket.getaddrinfo(host, port, socket.AF_UNSPEC, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)


class _Host:
    """The connections to one host. ``idle`` has the free ones with their timers, the last used one last."""

    def __init__(self) -> None:
        self.slots = FairSlots(MAX_CONNECTIONS, reserved=MAX_CONNECTIONS // 4)
        self.idle: dict[Connection, asyncio.TimerHandle] = {}


class Transport:
    """Sends requests to all hosts with the same trust setting.

    ``context`` is the TLS context for https; requests to http URLs do not use it.
    """

    def __init__(self, context: ssl.SSLContext, resolver: Resolver) -> None:
        self._context = context
        self._resolver = resolver
        self._hosts: dict[tuple[str, str, int], _Host] = {}
        self._numbers = count()
        self._under_way = 0
        self._is_retired = False

    async def send(
        self, method: str, url: URL, head: Mapping[str, str], budget: Budget, limit: int, algorithm: str = ""
    ) -> Response:
        """Send one request and receive the whole answer (see ``connection.Request``).

        Raises ``OSError``, ``connection.BadAnswer`` and ``asking.TooLarge``.
        """
        headers = {
            "Host": url.host_port_subcomponent or "",
            **head,
            "User-Agent": f"gatekeeper-py/{__version__}",
            "Accept-Encoding": "identity",
        }
        request = Request(method, url.raw_path_qs, headers, limit, budget, algorithm)
        name, port = url.host or "", url.port or PORTS[url.scheme]
        host = self._hosts.setdefault((url.scheme, name, port), _Host())
        self._under_way += 1
        try:
            claim = Claim(next(self._numbers), share=budget.share, repository=budget.repository)
            async with host.slots.slot(claim):
                budget.sent_at = min(budget.sent_at, asyncio.get_running_loop().time())
                while True:
                    connection = await self._connected(host, url.scheme, name, port)
                    was_used = connection.is_used
                    try:
                        response = await connection.exchange(request)
                    except ConnectionError:
                        # The host closed an idle connection at the moment at which the request was sent.
                        if not was_used or connection.received:
                            raise
                        budget.use_request()
                        continue
                    if connection.is_usable:
                        self._keep(host, connection)
                    return response
        finally:
            self._under_way -= 1
            self._close_if_done()

    async def _connected(self, host: _Host, scheme: str, name: str, port: int) -> Connection:
        while host.idle:
            connection, timer = host.idle.popitem()
            timer.cancel()
            if connection.is_usable and not connection.has_unread:
                return connection
            connection.abort()
        addresses = await self._resolver.resolve(name, port)
        connected = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=EYEBALLS_SECONDS, interleave=1
        )
        connection = Connection(self._context if scheme == "https" else None, name)
        try:
            await asyncio.get_running_loop().create_connection(lambda: connection, sock=connected)
        except BaseException:
            connected.close()
            raise
        await connection.secure()
        return connection

    def _keep(self, host: _Host, connection: Connection) -> None:
        """Keep a connection for the next request to its host, at most ``IDLE_SECONDS``."""
        if len(host.idle) >= MAX_CONNECTIONS:  # of which most were closed by the host
            self._drop(host, next(iter(host.idle)))
        timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._drop, host, connection)
        host.idle[connection] = timer

    def _drop(self, host: _Host, connection: Connection) -> None:
        host.idle.pop(connection).cancel()
        connection.abort()

    def retire(self) -> None:
        """Close once the requests under way are answered. No new requests may be sent."""
        self._is_retired = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._is_retired and not self._under_way:
            self.close()

    def close(self) -> None:
        """Close the connections that no request uses."""
        for host in self._hosts.values():
            for connection in list(host.idle):
                self._drop(host, connection)
