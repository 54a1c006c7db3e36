"""A headless Chromium, driven over its DevTools protocol: what a page looks like, and its complaints."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

import aiohttp

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
START_SECONDS: Final = 60.0
ANSWER_SECONDS: Final = 60.0
MAX_MESSAGE: Final = 256 * 2**20

Scheme = Literal["light", "dark"]


def program() -> str | None:
    """Return the path of a Chromium, ``None`` without one."""
    return next((path for name in PROGRAMS if (path := shutil.which(name)) is not None), None)


@dataclass
class Page:
    """One tab. ``complaints`` are console messages, exceptions, violated policies and failed requests."""

    _send: Any
    complaints: list[str] = field(default_factory=list)
    loaded: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[str] = field(default_factory=list)

    async def open(self, url: str, *, width: int, height: int, scheme: Scheme, script: bool = True) -> None:
        """Load a page as a screen of this size shows it."""
        await self._send("Emulation.setScriptExecutionDisabled", value=not script)
        await self._send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        await self._send(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        self.loaded.clear()
        await self._send("Page.navigate", url=url)
        await asyncio.wait_for(self.loaded.wait(), ANSWER_SECONDS)

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        answer = await self._send("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    async def press(self, key: str, code: int) -> None:
        """Press a key."""
        for kind in ("rawKeyDown", "keyUp"):
            await self._send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code
            )

    async def accessible(self) -> list[tuple[str, str]]:
        """Return role and name of everything that a screen reader finds."""
        tree = await self._send("Accessibility.getFullAXTree")
        return [
            (node.get("role", {}).get("value", ""), node.get("name", {}).get("value", ""))
            for node in tree["nodes"]
            if not node.get("ignored")
        ]

    async def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write a picture of what the screen shows, or of the whole page."""
        answer = await self._send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(answer["data"]))


@asynccontextmanager
async def browsing(profile: Path) -> AsyncIterator[Page]:
    """Start a Chromium with a fresh profile, and open a tab."""
    found = program()
    assert found is not None
    process = await asyncio.create_subprocess_exec(
        found,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--hide-scrollbars",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "about:blank",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "HOME": str(profile)},
    )
    try:
        address = await asyncio.wait_for(_address(profile / "DevToolsActivePort", process), START_SECONDS)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(address, max_msg_size=MAX_MESSAGE) as socket,
        ):
            connection = _Connection(socket)
            reader = asyncio.create_task(connection.read())
            try:
                yield await connection.tab()
            finally:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _address(file: Path, process: asyncio.subprocess.Process) -> str:
    """Wait until the browser has written where it listens."""

    def read() -> list[str]:
        return file.read_text().splitlines() if file.exists() else []

    while process.returncode is None:
        lines = await asyncio.to_thread(read)
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        await asyncio.sleep(0.05)
    raise AssertionError(f"the browser ended with {process.returncode}")


class _Connection:
    """Commands with their answers, and events, over one socket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._page: Page | None = None

    async def tab(self) -> Page:
        target = await self._send(None, "Target.createTarget", url="about:blank")
        attached = await self._send(None, "Target.attachToTarget", targetId=target["targetId"], flatten=True)
        session = attached["sessionId"]

        async def send(method: str, **parameters: Any) -> dict[str, Any]:
            return await self._send(session, method, **parameters)

        self._page = Page(send)
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            await send(f"{domain}.enable")
        return self._page

    async def read(self) -> None:
        """Hand out what the browser sends, until it ends."""
        async for message in self._socket:
            document = json.loads(message.data)
            if "id" in document:
                future = self._waiting.pop(document["id"])
                if "error" in document:
                    future.set_exception(AssertionError(document["error"]))
                else:
                    future.set_result(document["result"])
            elif self._page is not None:
                _note(self._page, document["method"], document.get("params", {}))

    async def _send(self, session: str | None, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        request = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(request if session is None else {**request, "sessionId": session})
        return await asyncio.wait_for(future, ANSWER_SECONDS)


def _note(page: Page, method: str, event: dict[str, Any]) -> None:
    match method:
        case "Page.loadEventFired":
            page.loaded.set()
        case "Runtime.consoleAPICalled":
            page.complaints.append(f"console: {event['args']}")
        case "Runtime.exceptionThrown":
            page.complaints.append(f"exception: {event['exceptionDetails']}")
        case "Log.entryAdded":
            page.complaints.append(f"log: {event['entry']['text']}")
        case "Page.javascriptDialogOpening":
            page.complaints.append(f"dialog: {event['message']}")
        case "Network.requestWillBeSent":
            page.requests.append(event["request"]["url"])
