"""A fast path controller that a test runs step by step, with its own clock, cluster and API server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, Final

from prometheus_client import CollectorRegistry

from controller.world import START, FakeCluster, desired
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.controller.fastpath.policy_view import WEBHOOKS, PolicyView, unknown, view
from gatekeeper_py.controller.fastpath.probe import ProbeImage, RemovalProbe
from gatekeeper_py.controller.fastpath.reconcile import FastPathController
from gatekeeper_py.controller.metrics import FastPathMetrics
from gatekeeper_py.controller.policy import KnownPolicy
from gatekeeper_py.controller.webhooks.desired import NO_CONDITIONS, Desired, OwnerReference, carries
from gatekeeper_py.core.names import FAST_PATH_CONDITION
from gatekeeper_py.core.policy.document import PolicyError
from gatekeeper_py.core.policy.policy import parse_policy
from gatekeeper_py.live.sources import Delivery
from support.recording import RecordingLog

VALIDATE: Final = desired("Validating", "validate", WEBHOOKS["validating"], "policy.gk")
MUTATE: Final = desired("Mutating", "mutate", WEBHOOKS["mutating"])
OWNER: Final = OwnerReference(api_version="v1", kind="ClusterRole", name="gk", uid="1")
POLICY: Final = "/api/v1/namespaces/ns/configmaps/policy"
HEAD: Final = "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: enforce\n"
MIRRORS: Final = "mirrors:\n- {from: z.io, to: a.io/z}\n"
"""Without a mirror, no API server would call the mutating webhook. Tests may append more mirrors."""

TIGHT: Final = HEAD + "allow: [a.io]\n" + MIRRORS
WIDE: Final = HEAD + "allow: [a.io, b.io]\n" + MIRRORS
DATED: Final = HEAD + "allow: [a.io, {image: b.io, until: 2026-01-01T01:00:00Z}]\n" + MIRRORS
"""``WIDE`` with a rule that expires an hour after the start."""

OTHER: Final = HEAD + "allow: [c.io]\n" + MIRRORS
BAD: Final = HEAD + "allow: [nginx]\n"
GONE: Final = "gone"

REMOVED: Final = "b.io/gatekeeper-py-probe"
"""The image that the controller probes after ``WIDE`` became ``TIGHT``."""


def view_of(text: str, mode: str | None = None) -> PolicyView:
    """Return the controller's view of a document at its start."""
    found = known(text, mode)
    return unknown(found.problem) if found.policy is None else view(found.policy, text, mode, START)


def known(text: str, mode: str | None = None) -> KnownPolicy:
    """Return a policy as the controller's follower passes it on; ``GONE`` means no ConfigMap."""
    if text == GONE:
        problem = "ConfigMap was deleted"
        return KnownPolicy(delivery=Delivery(text=None, problem=problem), problem=problem)
    delivery = Delivery(text=text, mode=mode)
    try:
        return KnownPolicy(delivery=delivery, policy=parse_policy(text, mode))
    except PolicyError as problem:
        return KnownPolicy(delivery=delivery, problem=f"the document is refused: {problem.findings[0]}")


class Recorder(FastPathMetrics):
    """Metrics of the fast path that keep what they are told."""

    def __init__(self) -> None:
        super().__init__(CollectorRegistry())
        self.in_step = False
        self.rules: dict[Any, int] = {}
        self.revision = ""
        self.synced: list[tuple[str, float]] = []
        self.writes: list[str] = []

    def fastpath_known(self, revision: str) -> None:
        self.revision = revision

    def fastpath_step(self, *, in_step: bool, rules: dict[Any, int]) -> None:
        self.in_step, self.rules = in_step, rules

    def fastpath_synced(self, change: str, seconds: float) -> None:
        self.synced.append((change, seconds))

    def fastpath_write(self, result: str) -> None:
        self.writes.append(result)


class Setup:
    """A fast path controller with its cluster and clock.

    ``probing`` enables probe Pods. ``probe_result`` returns the API server's answer to a probe Pod.
    """

    def __init__(self, *, armed: bool = True, probing: bool = True) -> None:
        self.cluster = FakeCluster()
        self.recorder = Recorder()
        self.log = RecordingLog()
        self.clock = 1000.0
        self.probed: list[str] = []
        self.slept: list[float] = []
        self.at_sleep: Callable[[], Awaitable[object]] = partial(asyncio.sleep, 0)
        self.probe_result: Callable[[ProbeImage], str] = lambda _image: ""
        self.probing = probing
        self.expected: tuple[Desired, ...] = (VALIDATE, MUTATE)
        if armed:
            self.arm()
        self.controller = self.start()

    def arm(self) -> None:
        for each in (VALIDATE, MUTATE):
            self.cluster.put(each.path, each.document(b"authority", OWNER))

    def start(self) -> FastPathController:
        """Start a new controller that has not read anything yet."""
        self.controller = FastPathController(
            self.cluster,
            (MUTATE, VALIDATE),
            POLICY,
            RemovalProbe(
                self.probe,
                "probe" if self.probing else None,
                log=self.log,
                now=lambda: START + timedelta(seconds=self.clock),
                monotonic=lambda: self.clock,
            ),
            expected=lambda each: each in self.expected,
            metrics=self.recorder,
            log=self.log,
            now=lambda: START + timedelta(seconds=self.clock),
            monotonic=lambda: self.clock,
            sleep=self.sleep,
        )
        return self.controller

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.at_sleep()

    async def probe(self, _namespace: str, candidate: ProbeImage) -> str:
        self.probed.append(candidate.image)
        return self.probe_result(candidate)

    def refuse(self, status: int = 500, only: str = "", *, part: str = FAST_PATH_CONDITION) -> None:
        """Let writes fail, of configurations with a path and a part; by default those with a condition."""

        async def picky(path: str, document: dict[str, Any]) -> None:
            if only in path and part in str(document):
                raise ApiError("replace", path, status, "")
            await FakeCluster.replace(self.cluster, path, document)

        self.cluster.replace = picky  # type: ignore[method-assign]

    def recover(self) -> None:
        """End all failures."""
        vars(self.cluster).pop("replace", None)
        self.cluster.fail = lambda _verb, _path: False
        self.probe_result = lambda _image: ""

    def store(self, text: str, mode: str | None = None) -> None:
        """Store a policy in the ConfigMap."""
        data = {"policy.yaml": text} | ({} if mode is None else {"mode": mode})
        self.cluster.objects.pop(POLICY, None)
        if text != GONE:
            self.cluster.put(POLICY, {"data": data})

    def arrive(self, text: str, mode: str | None = None, *, stored: bool = True) -> None:
        """Change the ConfigMap, and deliver the change."""
        if stored:
            self.store(text, mode)
        self.controller.expect()
        self.controller.deliver(known(text, mode))
        self.controller.seen()

    async def deliver(self, text: str, mode: str | None = None, *, stored: bool = True) -> float:
        """Change the ConfigMap, deliver the change, and run one step; return its pause."""
        self.arrive(text, mode, stored=stored)
        return await self.controller.step()

    async def settle(self, rounds: int = 30) -> None:
        """Run steps until none is due. The watch of the policy stays alive all the time."""
        for _ in range(rounds):
            pause = await self.controller.step()
            self.controller.seen()
            if pause >= 30:
                return
            self.clock += pause

    async def in_step_with_wide(self) -> None:
        """Keep the controller in step with ``WIDE`` for a minute, then clear the recorded events."""
        await self.deliver(WIDE)
        await self.settle()
        assert self.conditions() == ["wide", "wide"]
        assert self.recorder.in_step
        self.clock += 60
        self.controller.seen()
        for notes in (self.cluster.requests, self.recorder.synced, self.log.lines, self.probed):
            notes.clear()

    def conditions(self) -> list[str]:
        """Return the name of the policy from which the conditions of each configuration were compiled."""
        texts = {"wide": WIDE, "tight": TIGHT, "other": OTHER}
        conditions = {name: view_of(text).conditions for name, text in texts.items()}
        conditions["none"] = NO_CONDITIONS

        def name(each: Desired) -> str:
            live = self.cluster.objects.get(each.path)
            if live is None:
                return "missing"
            return next((name for name, of in conditions.items() if carries(live, each.names, of)), "foreign")

        return [name(VALIDATE), name(MUTATE)]

    def skipped(self) -> list[str]:
        """Return the registries of ``WIDE`` whose Pods skip the validating webhook."""
        live = str(self.cluster.objects[VALIDATE.path])
        return [name for name in ("a.io", "b.io") if f"{name.replace('.', '[.]')}/" in live]

    def puts(self) -> list[str]:
        return [path for verb, path in self.cluster.requests if verb == "replace"]
