"""Drive a headless Chromium over its DevTools protocol: open pages and collect their errors.

Source of the commands: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import aiohttp

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
START_SECONDS: Final = 60.0
ANSWER_SECONDS: Final = 60.0
MAX_MESSAGE: Final = 256 * 2**20
"""Maximum size of a message in bytes. The accessibility tree of a long page is large."""

DOMAINS: Final = ("Page", "Runtime", "Log", "Network", "Accessibility")

Scheme = Literal["light", "dark"]


def program() -> str | None:
    """Return the path of a Chromium, or ``None`` if none is installed."""
    return next((path for name in PROGRAMS if (path := shutil.which(name)) is not None), None)


class _Send(Protocol):
    async def __call__(self, method: str, /, **parameters: Any) -> dict[str, Any]: ...


@dataclass
class Page:
    """One window. ``requests`` are the URLs that the page loaded.

    ``complaints`` are console messages, exceptions, log entries such as violated policies, and dialogs.
    ``errors`` are exceptions and requests that failed or got a status of 400 or more.
    """

    send: _Send
    complaints: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    loaded: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self, url: str, *, width: int, height: int, scheme: Scheme, script: bool = True) -> None:
        """Load a page on a screen of this size in CSS pixels.

        Raises TimeoutError when the page does not load.
        """
        await self.send("Emulation.setScriptExecutionDisabled", value=not script)
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        await self.send(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        self.loaded.clear()
        await self.send("Page.navigate", url=url)
        await asyncio.wait_for(self.loaded.wait(), ANSWER_SECONDS)

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page, or of its promise.

        Raises RuntimeError for its exception.
        """
        answer = await self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    async def press(self, key: str, code: int) -> None:
        """Press a key."""
        for kind in ("rawKeyDown", "keyUp"):
            await self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code
            )

    async def accessible(self) -> list[tuple[str, str]]:
        """Return the role and the name of every element that a screen reader finds."""
        tree = await self.send("Accessibility.getFullAXTree")
        return [
            (node.get("role", {}).get("value", ""), node.get("name", {}).get("value", ""))
            for node in tree["nodes"]
            if not node.get("ignored")
        ]

    def note(self, method: str, event: dict[str, Any]) -> None:
        """Record an event of the browser about this page."""
        match method:
            case "Page.loadEventFired":
                self.loaded.set()
            case "Runtime.consoleAPICalled":
                self.complaints.append(f"console: {event['args']}")
            case "Runtime.exceptionThrown":
                self.complaints.append(f"exception: {event['exceptionDetails']}")
                self.errors.append(str(event["exceptionDetails"].get("exception", event)))
            case "Log.entryAdded":
                self.complaints.append(f"log: {event['entry']['text']}")
            case "Page.javascriptDialogOpening":
                self.complaints.append(f"dialog: {event['message']}")
            case "Network.requestWillBeSent":
                self.requests.append(event["request"]["url"])
            case "Network.loadingFailed" if not event.get("canceled"):
                self.errors.append(event["errorText"])
            case "Network.responseReceived" if event["response"]["status"] >= 400:
                self.errors.append(f"{event['response']['status']} {event['response']['url']}")
            case _:
                pass


class Browser:
    """One running browser. One socket carries the commands, their answers and the events."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}

    async def read(self) -> None:
        """Deliver the answers and the events of the browser until it ends."""
        async for message in self._socket:
            document = message.json()
            if "id" in document:
                self._answers.pop(document["id"]).set_result(document)
            elif (page := self._pages.get(document.get("sessionId"))) is not None:
                page.note(document["method"], document.get("params", {}))

    @asynccontextmanager
    async def page(self) -> AsyncIterator[Page]:
        """Open a window without the cookies and the cache of other windows, and close it afterwards."""
        context = (await self._send("Target.createBrowserContext"))["browserContextId"]
        created = await self._send("Target.createTarget", url="about:blank", browserContextId=context)
        attached = await self._send("Target.attachToTarget", targetId=created["targetId"], flatten=True)
        session = attached["sessionId"]

        async def send(method: str, /, **parameters: Any) -> dict[str, Any]:
            return await self._send(method, session, **parameters)

        page = self._pages[session] = Page(send)
        try:
            for domain in DOMAINS:
                await send(f"{domain}.enable")
            yield page
        finally:
            await self._send("Target.disposeBrowserContext", browserContextId=context)
            del self._pages[session]

    async def _send(self, method: str, session: str | None = None, /, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answered = self._answers[number] = asyncio.get_running_loop().create_future()
        command = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(command if session is None else {**command, "sessionId": session})
        answer = await asyncio.wait_for(answered, ANSWER_SECONDS)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Start Chromium with a fresh profile, and end it afterwards.

    Raises FileNotFoundError when it is not installed.
    """
    found = program()
    if found is None:
        raise FileNotFoundError("chromium is not installed (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory(prefix="gatekeeper-py-browser-", ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            *(found, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run"),
            *("--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "HOME": folder},
        )
        try:
            address = await asyncio.wait_for(
                _address(Path(folder) / "DevToolsActivePort", process), START_SECONDS
            )
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(address, max_msg_size=MAX_MESSAGE) as socket,
            ):
                running = Browser(socket)
                reader = asyncio.create_task(running.read())
                try:
                    yield running
                finally:
                    reader.cancel()
                    await asyncio.gather(reader, return_exceptions=True)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _address(file: Path, process: asyncio.subprocess.Process) -> str:
    """Wait until the browser has written its address, and return the URL."""
    while process.returncode is None:
        lines = await asyncio.to_thread(lambda: file.read_text().split() if file.exists() else [])
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        await asyncio.sleep(0.05)
    raise RuntimeError(f"chromium ended with {process.returncode}")
