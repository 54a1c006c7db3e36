"""A watch of a fake API server's ConfigMap that a test follows, with a clock of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Self

from gatekeeper_py.cluster.configuration import ClusterConfiguration
from gatekeeper_py.cluster.session import Session
from gatekeeper_py.cluster.watch import ListWatch, Seen, Timing, WatchError
from support.fakeapi import NAME, NAMESPACE, FakeApi

PATIENT: Final = Timing(connect=5.0, read=5.0, list=5.0, silence=5.0)
PATH: Final = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
SELECTOR: Final = {"fieldSelector": f"metadata.name={NAME}"}

Connect = Callable[[], Awaitable[Session]]


def connecting(api: FakeApi, directory: Path) -> Connect:
    """Return the function that connects to the fake by a kubeconfig."""
    kubeconfig = api.write_kubeconfig(directory / "kubeconfig")
    return ClusterConfiguration(kubeconfig=kubeconfig, environ={}).connect


class Followed:
    """A running watch: the changed texts that it saw, its failures, and its pauses.

    Only a pause advances the clock. After ``stop_after`` pauses, the next one never ends.
    """

    def __init__(
        self,
        connect: Connect,
        timing: Timing = PATIENT,
        uniform: Callable[[float, float], float] = lambda low, _high: low,
        *,
        pages: bool = False,
    ) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []
        self.stop_after: int | None = None
        self.seen: list[Seen] = []
        self.texts: list[str | None] = []
        self.failures: list[WatchError] = []
        self.watch = ListWatch(
            connect,
            PATH,
            SELECTOR,
            read=self._read,
            on_failed=self._failed,
            timing=timing,
            pages=pages,
            sleep=self._sleep,
            monotonic=lambda: self.now,
            uniform=uniform,
        )
        self.retries: list[float] = []
        self.task = asyncio.create_task(self._run())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    @property
    def problems(self) -> list[str]:
        return [str(failure) for failure in self.failures]

    def _read(self, seen: Seen) -> Seen | None:
        self.seen.append(seen)
        return None if seen.kind == "BOOKMARK" else seen

    def _failed(self, error: WatchError, pause: float) -> None:
        self.failures.append(error)
        self.retries.append(round(pause, 6))

    async def _run(self) -> None:
        async for seen in self.watch.results():
            present = [] if seen.kind == "DELETED" else seen.objects
            text = next((_text(each) for each in present), None)
            if not self.texts or text != self.texts[-1]:
                self.texts.append(text)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(round(seconds, 6))
        self.now += seconds
        if self.stop_after is not None and len(self.pauses) >= self.stop_after:
            await asyncio.Event().wait()
        await asyncio.sleep(0)


def _text(configmap: dict[str, Any]) -> str:
    text: str = configmap["data"]["policy.yaml"]
    return text
