"""A real ``serve`` that follows a ConfigMap of a scripted API server."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from support.fakeapi import NAME, NAMESPACE, FakeApi
from support.processes import children
from support.server import Server, start_server
from support.wire import Connection, eventually


class Source:
    """A scripted API server, and a ``serve`` process that watches its ConfigMap."""

    def __init__(self, api: FakeApi, server: Server, ca: Path) -> None:
        self.api = api
        self.server = server
        self._trust = ssl.create_default_context(cafile=ca)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        connection = await Connection.open(*self.server.address("webhook"), self._trust)
        try:
            yield connection
        finally:
            await connection.close()

    def shown(self) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(self.server.get("/policy")[1])
        return shown

    def refusals(self) -> int:
        return len(self.server.events("policy_refused"))

    def children(self) -> list[int]:
        """Return the process IDs of the server's children."""
        return children(self.server.process.pid)


@contextlib.asynccontextmanager
async def following(folder: Path, text: str) -> AsyncIterator[Source]:
    """Run a server until it is ready with this policy."""
    api = FakeApi()
    await api.start()
    api.apply(text)
    kubeconfig = api.write_kubeconfig(folder / "kubeconfig")
    server = start_server(folder, "--configmap", f"{NAMESPACE}/{NAME}", "--kubeconfig", str(kubeconfig))
    try:
        await eventually(lambda: len(server.events("policy_loaded")) == 1)
        yield Source(api, server, folder / "ca.crt")
    finally:
        server.end()
        await api.stop()
