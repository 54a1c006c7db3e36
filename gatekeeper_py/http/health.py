"""The health listener: the status page, /livez, /readyz, /metrics and /policy (docs/interface.md, "HTTP")."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST

from gatekeeper_py.http.answers import SERVER, error_response, json_response
from gatekeeper_py.http.listener import Listener, log_evictions, open_port
from gatekeeper_py.http.page.document import CONTENT_SECURITY_POLICY
from gatekeeper_py.process.logs import Log
from gatekeeper_py.process.settings import Address

LAG_INTERVAL_SECONDS: Final = 0.5
STUCK_SECONDS: Final = 30.0
"""A restart loses every review in flight, so /livez fails only when the event loop was stuck this long."""

MAX_HEALTH_CONNECTIONS: Final = 100
"""Maximum number of open connections to the health port."""

PAGE_SECONDS: Final = 1.0
METRICS_HEADERS: Final = {hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST, hdrs.SERVER: SERVER}
PAGE_HEADERS: Final = {
    hdrs.CONTENT_TYPE: "text/html; charset=utf-8",
    hdrs.SERVER: SERVER,
    hdrs.CACHE_CONTROL: "no-store",
    "Content-Security-Policy": f"{CONTENT_SECURITY_POLICY}; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Check = Callable[[], str]
"""Returns the problem, or an empty text."""


class LoopWatch:
    """Measures how late the event loop runs a timer."""

    def __init__(
        self,
        on_lag: Callable[[float], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._on_lag = on_lag
        self._sleep = sleep
        self._monotonic = monotonic
        self._turned = monotonic()

    def problem(self) -> str:
        """Return a problem if the event loop has not run for 30 s, or else an empty text."""
        silence = self._monotonic() - self._turned
        return f"the event loop has not turned for {silence:.0f} s" if silence > STUCK_SECONDS else ""

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = self._monotonic() + LAG_INTERVAL_SECONDS
            await self._sleep(LAG_INTERVAL_SECONDS)
            self._turned = self._monotonic()
            self._on_lag(max(self._turned - due, 0.0))


class Health:
    """Answers the health paths. ``ready`` and ``live`` are named checks; ``page`` renders ``/``."""

    def __init__(
        self,
        *,
        live: Mapping[str, Check],
        ready: Mapping[str, Check],
        exposition: Callable[[], bytes],
        policy: Callable[[], dict[str, Any]] | None = None,
        page: Callable[[], str] | None = None,
        draining: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._live = live
        self._ready = ready
        self._exposition = exposition
        self._exposed: bytes | None = None
        self._rendered: tuple[float, bytes] | None = None
        self._monotonic = monotonic
        self._draining = draining
        self._routes: dict[str, Callable[[], Awaitable[web.Response]]] = {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
        }

        if policy is not None:
            self._routes["/policy"] = partial(self._shown_policy, policy)
        if page is not None:
            self._routes["/"] = partial(self._shown_page, page)
        self._known = ", ".join(self._routes)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer any request."""
        response = await self._answer(request)
        if self._draining():
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        route = self._routes.get(request.rel_url.raw_path)
        if route is None:
            return error_response(404, f"not found; available paths: {self._known}")
        if request.method not in {hdrs.METH_GET, hdrs.METH_HEAD}:
            return error_response(405, "only GET and HEAD", headers={hdrs.ALLOW: "GET, HEAD"})
        return await route()

    async def _livez(self) -> web.Response:
        return _checked(self._live, "not live")

    async def _readyz(self) -> web.Response:
        return _checked(self._ready, "not ready")

    async def _metrics(self) -> web.Response:
        """Answer with the metrics.

        They are rendered at most once in a turn of the event loop. This takes 2 ms, so a crowd would delay
        reviews otherwise.
        """
        if self._exposed is None:
            self._exposed = self._exposition()
            asyncio.get_running_loop().call_soon(self._forget_exposed)
        return web.Response(body=self._exposed, headers=METRICS_HEADERS)

    def _forget_exposed(self) -> None:
        self._exposed = None

    async def _shown_policy(self, policy: Callable[[], dict[str, Any]]) -> web.Response:
        return json_response(200, policy())

    async def _shown_page(self, render: Callable[[], str]) -> web.Response:
        """Answer with the page. It is rendered at most once a second, so that reloads delay no reviews."""
        now = self._monotonic()
        if self._rendered is None or now - self._rendered[0] >= PAGE_SECONDS:
            self._rendered = now, render().encode()
        return web.Response(body=self._rendered[1], headers=PAGE_HEADERS)


def listen(health: Health, address: Address, log: Log) -> Listener | None:
    """Serve the health paths at ``address``. If that is impossible, log the reason and return ``None``."""
    listener = Listener(
        health.handle, max_connections=MAX_HEALTH_CONNECTIONS, on_evicted=log_evictions(log, "health")
    )
    return listener if open_port(listener, "health", address, log) else None


def _checked(checks: Mapping[str, Check], error: str) -> web.Response:
    results = {name: check() for name, check in checks.items()}
    shown = {name: problem or "ok" for name, problem in results.items()}
    if any(results.values()):
        return json_response(503, {"error": error, "checks": shown})
    return json_response(200, {"checks": shown})
