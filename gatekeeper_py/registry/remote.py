"""The server's side of the registry process: start it, send it look-ups, check its answers, and replace it.

The process runs while the policy has look-ups. When it dies, the look-ups under way end with an error. Their
registries are suspects for ``SUSPECT_SECONDS``. Suspects are queried one at a time, in turn and for a short
time, so the next death shows which of them is the cause. This one is not queried for ``LEFT_OUT_SECONDS``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from gatekeeper_py.core.images.manifest import Manifest, failed
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.registries import Registries
from gatekeeper_py.process.children.process import ChildError, ChildProcess, Observer, command
from gatekeeper_py.process.logs import Log
from gatekeeper_py.process.shares import NOBODY, Share
from gatekeeper_py.registry import messages
from gatekeeper_py.registry.asking import MAX_PAUSE_SECONDS, REQUEST_SECONDS, Reply, Turn
from gatekeeper_py.registry.fairness import Claim, FairSlots
from gatekeeper_py.registry.kinds import KINDS

MODULE: Final = "gatekeeper_py.registry.program"

LONGEST_PAUSE_SECONDS: Final = 30.0

PING_SECONDS: Final = 1.0
HANG_PINGS: Final = 10
"""Intervals after which a process that did not answer a ping is killed. Intervals are counted, not seconds:
otherwise the process would be killed after the machine was suspended."""

START_PINGS: Final = 30
"""The same for the first ping, which the process answers once Python has started."""

GRACE_SECONDS: Final = 3.0
"""Time beyond its own limit after which a look-up fails, because the process does not answer."""

LATE_SECONDS: Final = 0.1
"""Age of a turn after which a look-up waits for another one."""

SUSPECT_SECONDS: Final = 60.0
"""How long a registry is a suspect after a death. A second death in this time excludes it."""

ALONE_SECONDS: Final = 0.5
"""Time for a look-up in a suspect. Other suspects wait meanwhile, and most of them are innocent: a registry
that ended the process once and then hangs must not hold up their look-ups for longer than a review waits."""

LEFT_OUT_SECONDS: Final = 300.0
DEATHS_TO_LEAVE_OUT: Final = 2

LASTING_PINGS: Final = 60
"""Pings after which a process counts as one that works, so its death is the first in a row."""


@dataclass(slots=True)
class _Running:
    """A look-up in the process. ``done`` is cancelled if nobody waits for it any more."""

    manifest: Manifest
    turn: Turn
    done: asyncio.Future[Reply]
    granting: asyncio.Task[None] | None = None

    def end(self, reply: Reply) -> None:
        if self.granting is not None:
            self.granting.cancel()
        if not self.done.done():
            self.done.set_result(reply)


@dataclass(slots=True)
class _Suspect:
    """A registry that was queried at ``deaths`` deaths of the process. Instants are those of the clock."""

    deaths: int = 0
    until: float = 0.0
    left_out_until: float = 0.0


@dataclass(slots=True)
class Suspects:
    """Finds the registry that kills the process."""

    clock: Callable[[], float]
    _hosts: dict[str, _Suspect] = field(default_factory=dict)

    def died(self, hosts: set[str]) -> None:
        """Record a death while these hosts were queried. If some are suspects, it counts only for them."""
        now = self.clock()
        for host in [host for host, suspect in self._hosts.items() if suspect.until <= now]:
            del self._hosts[host]
        for host in hosts & self._hosts.keys() or hosts:
            suspect = self._hosts.setdefault(host, _Suspect())
            suspect.deaths += 1
            suspect.until = now + SUSPECT_SECONDS
            if suspect.deaths >= DEATHS_TO_LEAVE_OUT:
                suspect.left_out_until = now + LEFT_OUT_SECONDS
                suspect.until = now + LEFT_OUT_SECONDS + SUSPECT_SECONDS

    def is_suspect(self, host: str) -> bool:
        return host in self._hosts and self.clock() < self._hosts[host].until

    def reason(self, host: str) -> str:
        """Return why a host must not be queried; an empty text if it may be."""
        suspect = self._hosts.get(host)
        left = 0.0 if suspect is None else suspect.left_out_until - self.clock()
        if suspect is None or left <= 0:
            return ""
        return f"it ended the registry process {suspect.deaths} times; left out for another {left:.0f} s"


class RemoteClient:
    """Looks manifests up in the registry process. ``query`` is a ``lookups.Query``.

    ``directory`` is that of ``--registry-config``. ``on_refused_realm`` receives the host and the reason when
    a token realm is refused.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        log: Log,
        observer: Observer,
        clock: Callable[[], float],
        on_refused_realm: Callable[[str, str], None],
        program: Sequence[str] | None = None,
        ping_seconds: float = PING_SECONDS,
    ) -> None:
        arguments = () if directory is None else (str(directory),)
        self._child = ChildProcess(
            "registry",
            program or command(MODULE, *arguments),
            log=log,
            observer=observer,
            longest_pause=LONGEST_PAUSE_SECONDS,
        )
        self._clock = clock
        self._on_refused_realm = on_refused_realm
        self._ping_seconds = ping_seconds
        self._registries = Registries()
        self._keys: dict[str, bytes] = {}
        self._running: dict[int, _Running] = {}
        self._numbers = 0
        self._suspects = Suspects(clock)
        self._alone = FairSlots(1)
        """Held while a suspect is queried. The registries take turns."""
        self._is_wanted = asyncio.Event()
        self._is_started = asyncio.Event()
        self._has_begun = asyncio.Event()
        self._is_pinged = False
        self._keeping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process ID of the registry process, or ``None`` while it does not run."""
        return self._child.pid

    @property
    def is_starting(self) -> bool:
        """Whether the first policy has look-ups, and the first process has neither started nor died yet.

        Later, the server stays ready while look-ups wait for a process.
        """
        return self._is_wanted.is_set() and not self._has_begun.is_set()

    async def started(self) -> None:
        """Wait while ``is_starting``."""
        await self._has_begun.wait()

    def use_policy(
        self, registries: Registries, keys: dict[str, bytes] | None = None, *, looks_up: bool
    ) -> None:
        """Use the entries and the public keys (by fingerprint) of a new policy.

        The process runs only if the policy has look-ups.
        """
        self._registries, self._keys = registries, keys or {}
        if looks_up:
            self._is_wanted.set()
            if self._keeping is None:
                self._keeping = asyncio.get_running_loop().create_task(self._keep())
        else:
            self._has_begun.set()
            self._is_wanted.clear()
            self._end_if_unwanted()
        if self._child.pid is not None:
            self._post(messages.UseRegistries(self._registries.entries, self._keys))

    def use_files(self) -> None:
        """Let the process read the files of --registry-config again."""
        if self._child.pid is not None:
            self._post(messages.Files())

    async def close(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    async def query(self, manifest: Manifest, turn: Turn, share: Share = NOBODY) -> Reply:
        """Query one registry for one manifest; ``turn`` is awaited before each request.

        ``share`` is that of the review.
        Raises only the exceptions of ``turn``. Any other failure becomes an answer with the status ``error``.
        """
        asked = self._clock()
        try:
            async with asyncio.timeout(REQUEST_SECONDS + GRACE_SECONDS):
                if reason := self._refusal(manifest.host):
                    return Reply(failed(reason))
                # Only then it is known which registries are suspected of the last death.
                await self._is_started.wait()
                self._numbers += 1
                is_suspect = self._suspects.is_suspect(manifest.host)
                seconds = ALONE_SECONDS if is_suspect else REQUEST_SECONDS
                query = messages.Query(self._numbers, manifest, seconds, share)
                if not is_suspect:
                    return await self._query(query, turn, asked)
                async with self._alone.slot(Claim(query.number, share=Share(manifest.host, None))):
                    return await self._query(query, turn, asked)
        except TimeoutError:
            return Reply(failed("no answer of the registry process"))

    def _refusal(self, host: str) -> str:
        """Return why a look-up in a host fails at once; an empty text if it does not."""
        if not self._is_started.is_set() and self._child.pauses:
            return "the registry process is about to start again"
        return self._suspects.reason(host)

    async def _query(self, query: messages.Query, turn: Turn, asked: float) -> Reply:
        number, manifest = query.number, query.manifest
        if reason := self._refusal(manifest.host):
            return Reply(failed(reason))
        pid = self._child.pid
        async with asyncio.timeout(query.seconds):
            await turn(manifest.host)
            if self._clock() - asked > LATE_SECONDS:
                # The first turn is too old: together with new ones, requests would exceed the rate.
                await turn(manifest.host)
        if not self._is_started.is_set() or self._child.pid != pid:
            return Reply(failed("the registry process ended"))
        done: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._running[number] = _Running(manifest, turn, done)
        self._post(query)
        try:
            return await done
        finally:
            if number in self._running:  # nobody waits for the answer
                self._post(messages.Stop(number))

    async def _keep(self) -> None:
        """Keep the process running while it is wanted."""
        while True:
            await self._is_wanted.wait()
            try:
                await self._child.start()
                self._post(messages.UseRegistries(self._registries.entries, self._keys))
                self._post(messages.Files())
                await self._serve()
            except ChildError:
                pass  # `end` returns and logs it
            finally:
                self._is_started.clear()
                death = await asyncio.shield(self._child.end())
                if death is not None:
                    self._has_begun.set()
                    self._suspects.died({running.manifest.host for running in self._running.values()})
                while self._running:
                    _, running = self._running.popitem()
                    running.end(Reply(failed("the registry process ended" if death is None else str(death))))

    async def _serve(self) -> None:
        """Handle events until the process ends. Raises ``ChildError``."""
        watching = asyncio.get_running_loop().create_task(self._watch())
        try:
            while True:
                payload = await self._child.receive(messages.MAX_EVENT_BYTES)
                try:
                    event = messages.parse_event(payload)
                except msgspec.DecodeError as problem:
                    raise self._broken(f"a message that cannot be read: {problem}") from None
                self._take(event)
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        """Kill the process if it does not answer pings."""
        intervals, answered = START_PINGS, 0
        while True:
            self._is_pinged = True
            self._post(messages.Ping())
            for _ in range(intervals):
                await asyncio.sleep(self._ping_seconds)
                if not self._is_pinged:
                    break
            else:
                seconds = intervals * self._ping_seconds
                self._child.fail("time", f"the registry process did not answer for {seconds:.0f} s")
                self._child.kill()
                return
            intervals, answered = HANG_PINGS, answered + 1
            if answered >= LASTING_PINGS:
                self._child.worked()

    def _take(self, event: messages.Event) -> None:
        """Handle an event. Raises ``ChildError`` for one that the process must not send."""
        match event:
            case messages.Answered(number, reply, refused_realm):
                running = self._running.pop(number, None)
                if running is None or not _is_valid(reply, running.manifest):
                    raise self._broken("an answer that is not valid")
                running.end(reply)
                if refused_realm:
                    self._on_refused_realm(running.manifest.host, escape(refused_realm, messages.MAX_TEXT))
                self._end_if_unwanted()
            case messages.TurnWanted(number, host):
                running = self._running.get(number)
                if running is None or running.granting is not None:
                    raise self._broken("a request that is not valid")
                running.granting = asyncio.get_running_loop().create_task(self._grant(number, running, host))
            case messages.Pong():
                if not self._is_pinged:
                    raise self._broken("an answer without a question")
                self._is_pinged = False
                self._has_begun.set()
                self._is_started.set()

    async def _grant(self, number: int, running: _Running, host: str) -> None:
        """Wait for the turn of a look-up's next request. A look-up that nobody waits for gets none."""
        if running.done.done():
            return
        settings = self._registries.of(running.manifest.host)
        try:
            # Checked, because each host takes memory, and a policy may have changed since.
            if host not in {settings.host, *settings.allowed_token_hosts, *settings.redirect_hosts}:
                running.end(Reply(failed("the policy does not name the host of the next request")))
                return
            await running.turn(host)
        except Exception as problem:  # noqa: BLE001 - passed on
            if not running.done.done():
                running.done.set_exception(problem)
        else:
            running.granting = None
            self._post(messages.Go(number))

    def _end_if_unwanted(self) -> None:
        if not self._is_wanted.is_set() and not self._running:
            self._child.kill()

    def _post(self, order: messages.Order) -> None:
        # The pipe holds few orders: look-ups are limited in number, and a process that reads none is killed.
        self._child.post(messages.encode(order), messages.MAX_ORDER_BYTES)

    def _broken(self, what: str) -> ChildError:
        return self._child.fail("bug", f"the registry process sent {what}")


def _is_valid(reply: Reply, manifest: Manifest) -> bool:
    """Check an answer like untrusted input, because an attacker may control the process."""
    answer = reply.answer
    return (
        KINDS[manifest.kind].is_valid(manifest, answer)
        and len(answer.cause) <= messages.MAX_TEXT
        and answer.cause.isprintable()
        and 0 <= reply.pause <= MAX_PAUSE_SECONDS
    )
