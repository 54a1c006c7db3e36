"""From any state, the configurations trust every leaf from the Secret that a replica serves.

Two controllers take turns after each request, and are killed between requests. Replicas come, go and see
the Secret late. An administrator edits and deletes objects. The controller cannot handle these cases, so
the test leaves them out:

* An administrator removed the CA of a leaf from the Secret and from every configuration.
* An administrator edited a configuration, and no pass has begun and ended since then.
* During a pass, the last object among the Secret and the configurations is deleted. No transaction covers
  both kinds.
* A pass takes days.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from controller.world import (
    BOTH,
    CERTIFICATES,
    CONFIGURATIONS,
    INSTALLATION,
    START,
    WATCHED,
    FakeCluster,
    LateStore,
    World,
    b64,
    trusts,
)
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.cluster.issuing import issue
from gatekeeper_py.controller.certificates import KEYS, InvalidSecret
from gatekeeper_py.controller.reconcile import Passes
from gatekeeper_py.controller.replicas import ProbeResult
from support.budget import budget

FOREIGN = issue(("elsewhere",), START, timedelta(days=3650)).ca


class Controller(FakeCluster):
    """A controller that waits for its turn before each request. It is also the API of the controller."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.store = LateStore(world)
        self.passes = Passes(self, INSTALLATION, CERTIFICATES, shown=self.store.get, probe_replica=self.probe)
        self.task: asyncio.Task[Any] | None = None
        self.turn: asyncio.Future[None] | None = None
        self.answered = self.armed_before = False
        self.tampered_at_start: dict[str, int] = {}

    def begin(self, *, direct: bool) -> None:
        self.answered = False
        self.task = asyncio.ensure_future(
            self.passes.run(lambda: BOTH, lambda: self.world.now, direct=direct)
        )

    async def probe(self, host: str, port: int, bundle: bytes) -> ProbeResult:
        result = await self.world.probe(host, port, bundle)
        self.answered |= result.answered
        return result

    async def get(self, path: str) -> dict[str, Any] | None:
        await self._wait()
        found = await self.world.cluster.get(path)
        self.armed_before |= path in CONFIGURATIONS and found is not None
        return found

    async def create(self, path: str, document: dict[str, Any]) -> None:
        await self._wait()
        assert path not in CONFIGURATIONS or self.answered or self.armed_before, (
            "armed although no replica answered"
        )
        await self.world.cluster.create(path, document)
        self.armed_before |= path in CONFIGURATIONS

    async def replace(self, path: str, document: dict[str, Any]) -> None:
        await self._wait()
        await self.world.cluster.replace(path, document)

    async def delete(self, path: str) -> None:
        raise AssertionError("the installation is not being removed")

    async def _wait(self) -> None:
        self.turn = asyncio.get_running_loop().create_future()
        await self.turn


class Rotation(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.world = World(replicas=0)
        self.controllers = [Controller(self.world), Controller(self.world)]
        self.tampered: dict[str, int] = {}
        self.edits = 0
        self.given: set[bytes] = set()
        self.lost: set[bytes] = set()

    @initialize(replicas=st.integers(1, 3), installed=st.booleans())
    def install(self, replicas: int, installed: bool) -> None:  # noqa: FBT001 - drawn
        for _ in range(replicas):
            self.world.add_replica()
        if installed:
            self.runner.run(self.world.converge())

    @rule(which=st.integers(0, 1), paths=st.sets(st.sampled_from(WATCHED)))
    def watches_catch_up(self, which: int, paths: set[str]) -> None:
        for path in paths or WATCHED:
            self.controllers[which].store.catch_up(path)

    @rule(which=st.integers(0, 1), requests=st.sampled_from([1, 1, 2, 5, 10, 30, 30]), direct=st.booleans())
    def step(self, which: int, requests: int, *, direct: bool) -> None:
        controller = self.controllers[which]
        for _ in range(requests):
            self.runner.run(self._step(controller, direct=direct))
            self.served_leaves_are_trusted()
            if controller.task is None:
                return

    @rule(which=st.integers(0, 1), seen=st.booleans())
    def step_past_the_next_write(self, which: int, seen: bool) -> None:  # noqa: FBT001 - drawn
        """Run a controller past its next write. With ``seen``, all replicas load the change at once."""
        controller, before = self.controllers[which], len(self.world.cluster.writes())
        for _ in range(50):
            self.runner.run(self._step(controller, direct=True))
            self.served_leaves_are_trusted()
            if controller.task is None or len(self.world.cluster.writes()) > before:
                break
        for replica in self.world.replicas if seen else ():
            self.world.pick_up(replica)

    @rule(which=st.integers(0, 1))
    def kill(self, which: int) -> None:
        self.runner.run(self._kill(which))

    @rule(index=st.integers(0, 9))
    def pick_up(self, index: int) -> None:
        self.world.pick_up(self.world.replicas[index % len(self.world.replicas)])

    @rule(index=st.integers(0, 9), what=st.sampled_from(["addressed", "reachable", "judges", "leaving"]))
    def replica_changes(self, index: int, what: str) -> None:
        replica = self.world.replicas[index % len(self.world.replicas)]
        # A replica does not lose its address again, and a replica that is leaving does not return.
        setattr(replica, what, True if what in {"addressed", "leaving"} else not getattr(replica, what))
        self.world.announce()

    @precondition(lambda self: len(self.world.replicas) < 5)
    @rule()
    def replica_is_made(self) -> None:
        self.world.add_replica(addressed=False)

    @rule(seconds=st.integers(1, 20))
    def time_passes(self, seconds: int) -> None:
        self.world.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.idle)
    @rule(days=st.sampled_from([1, 20, 58, 61, 89, 100]))
    def days_pass(self, days: int) -> None:
        self.world.now += timedelta(days=days)

    @precondition(lambda self: self.world.secret and (self.idle or self.world.configured()))
    @rule(key=st.sampled_from([*KEYS, ""]), value=st.sampled_from(["", "?", b64(b"x"), b64(FOREIGN)]))
    def secret_is_lost_or_garbled(self, key: str, value: str) -> None:
        if key:
            self.world.cluster.edit(
                INSTALLATION.secret_path, lambda secret: secret["data"].update({key: value})
            )
        else:
            del self.world.cluster.objects[INSTALLATION.secret_path]
        self._count_the_lost()

    @precondition(lambda self: self.world.configured())
    @rule(index=st.integers(0, 1), bundle=st.sampled_from([None, b"", FOREIGN]))
    def configuration_is_deleted_or_edited(self, index: int, bundle: bytes | None) -> None:
        path = CONFIGURATIONS[index]
        if path not in self.world.cluster.objects:
            return
        if bundle is not None:
            self.world.cluster.edit(path, lambda live: _distrust(live, bundle))
        elif self.idle or len(self.world.configured()) > 1 or self.readable:
            del self.world.cluster.objects[path]
        self.edits += 1
        self.tampered[path] = self.edits
        self._count_the_lost()

    @invariant()
    def served_leaves_are_trusted(self) -> None:
        if self.world.secret and (certificate := self._given()):
            self.given.add(certificate)
        for path, bundles in self.world.configured().items():
            for replica in self.world.replicas:
                leaf = replica.mounted
                if leaf is None or leaf in self.lost or leaf not in self.given or path in self.tampered:
                    continue
                if x509.load_pem_x509_certificate(leaf).not_valid_after_utc > self.world.now:
                    assert all(trusts(bundle, leaf) for bundle in bundles), (path, replica)

    def teardown(self) -> None:
        with self.runner:
            for which in range(2):
                self.runner.run(self._kill(which))
            self.world.replicas = [each for each in self.world.replicas if not each.leaving]
            for replica in self.world.replicas:
                replica.addressed = replica.reachable = replica.judges = True
            self.world.announce()
            if not self.world.replicas:
                self.world.add_replica()
            report = self.runner.run(self.world.converge())
            assert report.armed
            assert {*self.world.configured()} == {*CONFIGURATIONS}
            assert {b for bundles in self.world.configured().values() for b in bundles} == {
                self.world.store.bundle
            }
            assert len(self.world.store.cas) == 1

    @property
    def idle(self) -> bool:
        return all(controller.task is None for controller in self.controllers)

    @property
    def readable(self) -> bool:
        try:
            return self.world.store.current is not None
        except (InvalidSecret, KeyError):
            return False

    def _given(self) -> bytes | None:
        try:
            current = self.world.store.current
        except (InvalidSecret, KeyError):
            return None
        return None if current is None else current.certificate

    async def _step(self, controller: Controller, *, direct: bool) -> None:
        if controller.task is None:
            # Another pass need not see what somebody edited.
            controller.tampered_at_start = dict(self.tampered) if direct else {}
            controller.begin(direct=direct)
        elif controller.turn is not None:
            turn, controller.turn = controller.turn, None
            turn.set_result(None)
        task = controller.task
        assert task is not None
        while controller.turn is None and not task.done():  # noqa: ASYNC110 - one turn of the loop at a time
            await asyncio.sleep(0)
        if not task.done():
            return
        controller.task = controller.turn = None
        if task.exception() is None:
            for path, edit in controller.tampered_at_start.items():
                if self.tampered.get(path) == edit:
                    del self.tampered[path]
        elif not isinstance(task.exception(), ApiError):
            task.result()

    async def _kill(self, which: int) -> None:
        task = self.controllers[which].task
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self.controllers[which] = Controller(self.world)

    def _count_the_lost(self) -> None:
        remaining = b"".join(bundle for bundles in self.world.configured().values() for bundle in bundles)
        with suppress(InvalidSecret, KeyError):
            remaining += self.world.store.bundle
        self.lost |= {leaf for leaf in self.given if not trusts(remaining, leaf)}


def _distrust(live: dict[str, Any], bundle: bytes) -> None:
    for webhook in live["webhooks"]:
        webhook["clientConfig"]["caBundle"] = b64(bundle)
    live["webhooks"].append({"name": "foreign", "clientConfig": {"caBundle": b64(FOREIGN)}})


TestRotation = pytest.mark.timeout(100)(Rotation.TestCase)
TestRotation.settings = settings(
    max_examples=budget(60), stateful_step_count=40, suppress_health_check=list(HealthCheck)
)


def test_a_configuration_created_during_a_pass_that_finds_no_secret_stays_trusted() -> None:
    rotation = Rotation()
    rotation.install(replicas=1, installed=False)
    rotation.step(which=0, requests=2, direct=True)  # the first controller has seen no configuration
    rotation.step_past_the_next_write(which=1, seen=True)
    rotation.step_past_the_next_write(which=1, seen=False)
    rotation.secret_is_lost_or_garbled(key="tls.crt", value="")
    rotation.step_past_the_next_write(which=0, seen=True)
    rotation.served_leaves_are_trusted()
    rotation.teardown()
