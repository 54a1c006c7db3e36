"""A headless Chromium, driven over its DevTools protocol, that looks at pages as a reader would.

Source of the commands: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import aiohttp

START_SECONDS = 60.0
PAGE_SECONDS = 60.0
HEIGHT = 900

Scheme = Literal["light", "dark"]

LOOK = (Path(__file__).parent / "look.js").read_text(encoding="utf-8")


@dataclass
class Look:
    """What one look at a page showed."""

    overflow: list[str] = field(default_factory=list)
    faint: list[str] = field(default_factory=list)
    """Text whose contrast with its background is below 3."""
    scheme: str = ""
    """The theme's colour scheme."""
    requests: list[str] = field(default_factory=list)
    """Every URL that the page loaded."""
    errors: list[str] = field(default_factory=list)
    """Exceptions of scripts, and failed requests."""
    picture: bytes = b""
    """PNG of the whole page."""


class Browser:
    """One running browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._looks: dict[str, tuple[Look, asyncio.Event]] = {}

    async def read(self) -> None:
        """Distribute messages until the browser closes the connection."""
        async for message in self._socket:
            document = message.json()
            if "id" in document:
                self._answers.pop(document["id"]).set_result(document)
            elif document.get("sessionId") in self._looks:
                self._note(document)

    def _note(self, event: dict[str, Any]) -> None:
        look, loaded = self._looks[event["sessionId"]]
        details = event["params"]
        match event["method"]:
            case "Page.loadEventFired":
                loaded.set()
            case "Network.requestWillBeSent":
                look.requests.append(details["request"]["url"])
            case "Network.loadingFailed" if not details.get("canceled"):
                look.errors.append(details["errorText"])
            case "Network.responseReceived" if details["response"]["status"] >= 400:
                look.errors.append(f"{details['response']['status']} {details['response']['url']}")
            case "Runtime.exceptionThrown":
                look.errors.append(str(details["exceptionDetails"].get("exception", details)))
            case _:
                pass

    async def _send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        command = {"id": number, "method": method, "params": params}
        await self._socket.send_json(command | ({"sessionId": session} if session else {}))
        answer = await asyncio.wait_for(self._answers[number], PAGE_SECONDS)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def _evaluate(self, session: str, expression: str) -> Any:
        answer = await self._send("Runtime.evaluate", session, expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"]["value"]

    async def look(self, url: str, *, width: int, scheme: Scheme, picture: bool = False) -> Look:
        """Open a page in a window of its own, without anything remembered, and look at it.

        ``width`` is in CSS pixels. Raises TimeoutError when the page does not load.
        """
        context = (await self._send("Target.createBrowserContext"))["browserContextId"]
        target = (await self._send("Target.createTarget", url="about:blank", browserContextId=context))[
            "targetId"
        ]
        session = (await self._send("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        look, loaded = self._looks[session] = Look(), asyncio.Event()
        try:
            for domain in ("Page", "Network", "Runtime"):
                await self._send(f"{domain}.enable", session)
            await self._send(
                "Emulation.setDeviceMetricsOverride",
                session,
                width=width,
                height=HEIGHT,
                deviceScaleFactor=1,
                mobile=width < 600,
            )
            preference = {"name": "prefers-color-scheme", "value": scheme}
            await self._send("Emulation.setEmulatedMedia", session, features=[preference])
            await self._send("Page.navigate", session, url=url)
            await asyncio.wait_for(loaded.wait(), PAGE_SECONDS)
            seen = await self._evaluate(session, f"({LOOK})({width})")
            look.overflow, look.faint, look.scheme = seen["overflow"], seen["faint"], seen["scheme"]
            if picture:
                shot = await self._send("Page.captureScreenshot", session, captureBeyondViewport=True)
                look.picture = base64.b64decode(shot["data"])
        finally:
            await self._send("Target.disposeBrowserContext", browserContextId=context)
            del self._looks[session]
        return look


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Start Chromium, and end it afterwards. Raises FileNotFoundError when it is not installed."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise FileNotFoundError("chromium is not installed (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory(prefix="gatekeeper-py-browser-", ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            *(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run"),
            *("--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                port, path = await _address(Path(folder) / "DevToolsActivePort", process)
            address = f"ws://127.0.0.1:{port}{path}"
            # A picture of a long page is large.
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(address, max_msg_size=0) as socket,
            ):
                found = Browser(socket)
                reader = asyncio.create_task(found.read())
                try:
                    yield found
                finally:
                    reader.cancel()
                    await asyncio.gather(reader, return_exceptions=True)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _address(file: Path, process: asyncio.subprocess.Process) -> tuple[str, str]:
    """Wait until the browser has written where it listens, and return port and path."""
    while process.returncode is None:
        lines = await asyncio.to_thread(lambda: file.read_text().split() if file.exists() else [])
        if len(lines) == 2:
            return lines[0], lines[1]
        await asyncio.sleep(0.05)
    raise RuntimeError(f"chromium ended with {process.returncode}")
