"""A real ``serve`` with the Pod's memory limit, and the effect of an attack on other clients.

Bounds (docs/reliability.md, "Exhaustion"): while an attack runs, a review on an established connection is
answered within 250 ms and one on a new connection within a second, none fails, memory peaks less than
100 MiB above what the idle server used, and the process is still the same one.

Memory is exact. Times are those of a machine that others may use, too, so each attempt also measures how
much CPU time processes other than ours took (``Attempt.foreign_cores``, which includes what a hypervisor
took). On a quiet machine the bounds apply as they are. On a busy one, a row that misses only a bound on
time is attacked once more; then the time that the server's main thread was ready to run but had no
processor is not held against it. Time in which the server was doing something always counts, and so does
time in which it waited for another of its own threads or processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exhaustion.memory import MIB, Limited, Resident, Rlimit, children, limited, pod_limit
from exhaustion.probe import Sample
from support.builders import pod, review
from support.fakeapi import NAME, NAMESPACE, FakeApi
from support.server import Server, start_server
from support.wire import Answer, Connection, request

KINDS: Final = {"established": 0.25, "new": 1.0, "look-up": 1.0}
"""Kinds of reviews, and the maximum seconds of each: on an established connection, on a new one, and of an
image that has to be looked up in a well-behaved registry."""

GROWTH_BYTES: Final = 100 * MIB

BUSY_CORES: Final = 0.25
"""CPU time of other processes per second above which the machine counts as busy."""

LEAST_SECONDS: Final = 0.5
"""Minimum duration of a measurement. A shorter attack is followed by silence, because its effects may be
late."""

GOOD: Final = "registry.corp.io/web:1"
"""An image that the policy of every target approves without a look-up."""

Attack = Callable[["Target"], Awaitable[None]]
"""Attacks a target; raises ``AssertionError`` when an answer is not the documented one."""


@dataclass(frozen=True)
class Attempt:
    """The measurements of the probe and of the kernel during one attack.

    ``growth`` is that of all memory in bytes, ``own`` that of the serving process without its children.
    ``wrong_answer`` is set if the attack got an answer that is not documented.
    """

    wrong_answer: str
    samples: tuple[Sample, ...]
    kinds: tuple[str, ...]
    growth: int
    own: int
    foreign_cores: float
    alive: bool

    @property
    def is_busy(self) -> bool:
        return self.foreign_cores > BUSY_CORES

    def worst(self, kind: str, *, forgiving: bool) -> float:
        """Return the slowest review in seconds; ``forgiving`` subtracts the wait for a processor."""
        return max(
            (
                sample.seconds - (sample.waited_seconds if forgiving else 0.0)
                for sample in self.samples
                if sample.kind == kind
            ),
            default=0.0,
        )

    def late(self, bounds: Mapping[str, float], *, forgiving: bool) -> list[str]:
        worst = {kind: self.worst(kind, forgiving=forgiving) for kind in bounds}
        return [f"{kind}: {worst[kind]:.3f} s" for kind, most in bounds.items() if worst[kind] > most]

    def wrong(self, growth: int, own: int) -> list[str]:
        """Return the problems that machine load cannot explain. ``growth`` and ``own`` are limits."""
        found = [self.wrong_answer] if self.wrong_answer else []
        found += [f"{sample.kind}: {sample.problem}" for sample in self.samples if sample.problem]
        if self.growth >= growth:
            found.append(f"memory grew by {self.growth / MIB:.0f} MiB")
        if self.own >= own:
            found.append(f"memory of the serving process grew by {self.own / MIB:.0f} MiB")
        if not self.alive:
            found.append("the process ended")
        asked = {sample.kind for sample in self.samples}
        found += [f"no review was sent ({kind})" for kind in self.kinds if kind not in asked]
        return found


class Probe:
    """The process that sends reviews while an attack runs."""

    def __init__(self, port: int, ca: Path, server: int, images: Mapping[str, str]) -> None:
        self.kinds = tuple(images)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("probe.py")), str(port), str(ca), str(server)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        contents = {kind: request(json.dumps(review(pod(image))).encode()) for kind, image in images.items()}
        self._say(json.dumps({kind: content.decode("latin-1") for kind, content in contents.items()}))

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        self._say("start")
        self._hear()

    def stop(self) -> tuple[Sample, ...]:
        self._say("stop")
        return tuple(Sample(**sample) for sample in json.loads(self._hear()))

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the probe ended"
        return line


@dataclass
class Target:
    """The server under attack.

    ``idle`` is the memory that was in use before the first attack, ``own_idle`` that of the serving process.
    """

    server: Server
    trust: ssl.SSLContext
    memory: Limited
    probe: Probe
    attempts: dict[str, Attempt]
    own: Resident
    idle: int
    own_idle: int

    @contextlib.asynccontextmanager
    async def connected(self, listener: str = "webhook") -> AsyncIterator[Connection]:
        """Open a TLS connection to the webhook, or a plain one to ``health``."""
        connection = await self.connect(listener)
        try:
            yield connection
        finally:
            await connection.close()

    async def connect(self, listener: str = "webhook", source: str | None = None) -> Connection:
        trust = self.trust if listener == "webhook" else None
        return await Connection.open(*self.server.address(listener), trust, source=source)

    async def attacked(
        self,
        name: str,
        attack: Attack,
        growth: int = GROWTH_BYTES,
        own: int | None = None,
        renew: Callable[[], Target] | None = None,
        bounds: Mapping[str, float] = KINDS,
    ) -> None:
        """Run an attack, again if the machine was busy, and check the bounds.

        A server that failed is ended, so that it cannot fail the next attack as well.
        ``growth`` limits the growth of all memory, ``own`` that of the serving process.
        ``renew`` returns the target of the second attempt, if the server remembers the first one. ``bounds``
        are the maximum seconds of each kind of review.
        """
        # Its resident memory includes files that others have read, so most rows check only all memory.
        own = sys.maxsize if own is None else own
        target, attempt = self, await self._attempt(attack)
        if attempt.is_busy and attempt.late(bounds, forgiving=False) and not attempt.wrong(growth, own):
            target = self if renew is None else await asyncio.to_thread(renew)
            attempt = await target._attempt(attack)
        self.attempts[name] = attempt
        problems = [*attempt.wrong(growth, own), *attempt.late(bounds, forgiving=attempt.is_busy)]
        if problems:
            target.server.end()
        assert not problems, _in_short(problems, attempt.foreign_cores)

    async def flood(
        self,
        contents: Sequence[bytes],
        check: Callable[[Answer], None],
        seconds: float,
        listener: str = "webhook",
    ) -> None:
        """Send each content repeatedly on a separate connection, and check every answer."""
        end = time.monotonic() + seconds

        async def send(content: bytes) -> None:
            while True:
                async with self.connected() as connection:
                    while True:
                        answer = await connection.ask(content)
                        check(answer)
                        if time.monotonic() > end:
                            return
                        if answer.closes:
                            break

        await asyncio.gather(*map(send, contents))

    async def _attempt(self, attack: Attack) -> Attempt:
        pid = self.server.process.pid
        self.memory.start_peak()
        self.own.start_peak()
        await asyncio.to_thread(self.probe.start)
        started, others = time.monotonic(), self._foreign_seconds()
        wrong_answer = ""
        try:
            await attack(self)
            await asyncio.sleep(max(started + LEAST_SECONDS - time.monotonic(), 0.0))
        except (AssertionError, OSError, EOFError) as problem:  # of a server that ended, too
            wrong_answer = f"{type(problem).__name__}: {problem}"[:500]
        finally:
            samples = await asyncio.to_thread(self.probe.stop)
        spent = time.monotonic() - started
        return Attempt(
            wrong_answer=wrong_answer,
            samples=samples,
            kinds=self.probe.kinds,
            growth=self.memory.peak() - self.idle,
            own=self.own.peak() - self.own_idle,
            foreign_cores=(self._foreign_seconds() - others) / spent,
            alive=self.server.process.poll() is None and self.server.process.pid == pid,
        )

    def _foreign_seconds(self) -> float:
        """Return the CPU time of all processors that neither the server nor its attackers used."""
        return _busy_seconds() - sum(map(_cpu_seconds, [os.getpid(), *children(os.getpid())]))


def _in_short(problems: list[str], foreign_cores: float) -> str:
    counted = [f"{count} times {problem}" for problem, count in Counter(problems).most_common(5)]
    return f"{'; '.join(counted)} ({foreign_cores:.2f} cores were used by others)"


def _busy_seconds() -> float:
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and of its ended children; 0 when it has ended."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


class Arena:
    """Runs ``serve`` with the Pod's memory limit, and restarts it when an attack ended it.

    ``arguments`` name the policy's source. ``attempts`` collects the measurements of each attack.
    ``looked_up`` is an image in a well-behaved registry, with ``probe.UNIQUE`` in its name.
    """

    def __init__(
        self, ca: Path, attempts: dict[str, Attempt], *arguments: str, looked_up: str | None = None
    ) -> None:
        self._ca = ca
        self._attempts = attempts
        self._arguments = arguments
        self._images = {"established": GOOD, "new": GOOD}
        if looked_up is not None:
            self._images["look-up"] = looked_up
        self._running = contextlib.ExitStack()
        self._target: Target | None = None

    @property
    def target(self) -> Target:
        if self._target is None or self._target.server.process.poll() is not None:
            self.close()
            self._target = self._start()
        return self._target

    def renew(self) -> Target:
        """Return a server that has not been attacked."""
        self.close()
        self._target = None
        return self.target

    def close(self) -> None:
        self._running.close()

    def _start(self) -> Target:
        memory = self._running.enter_context(limited(pod_limit()))
        server = start_server(self._ca.parent, *self._arguments, prefix=memory.command)
        self._running.callback(server.end)
        if isinstance(memory, Rlimit):
            memory.pid = server.process.pid
        port = server.address("webhook")[1]
        server.wait(server.is_ready)
        probe = Probe(port, self._ca, server.process.pid, self._images)
        self._running.callback(probe.end)
        probe.start()
        time.sleep(1.0)  # imports and one-time allocations of the first reviews must not count for an attack
        problems = [sample.problem for sample in probe.stop() if sample.problem]
        assert problems == []
        trust = ssl.create_default_context(cafile=self._ca)
        own = Resident(server.process.pid)
        return Target(
            server, trust, memory, probe, self._attempts, own, idle=memory.used(), own_idle=own.used()
        )


def policy_arena(
    directory: Path, attempts: dict[str, Attempt], policy: str, *arguments: str
) -> Iterator[Arena]:
    """Run a server with this policy, for a fixture."""
    (directory / "policy.yaml").write_text(policy)
    arena = Arena(directory / "ca.crt", attempts, "--policy", str(directory / "policy.yaml"), *arguments)
    yield arena
    arena.close()


async def watching_arena(api: FakeApi, directory: Path, attempts: dict[str, Attempt]) -> AsyncIterator[Arena]:
    """Run a server that watches the ConfigMap of a fake API server, for a fixture."""
    kubeconfig = api.write_kubeconfig(directory / "kubeconfig")
    arguments = ["--configmap", f"{NAMESPACE}/{NAME}", "--kubeconfig", str(kubeconfig)]
    arena = Arena(directory / "ca.crt", attempts, *arguments)
    await asyncio.to_thread(lambda: arena.target)
    yield arena
    await asyncio.to_thread(arena.close)
