"""A pass reads, probes, plans and writes in order, and can end at any request."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.world import (
    BOTH,
    CERTIFICATES,
    CONFIGURATIONS,
    INSTALLATION,
    MUTATING,
    PARTS,
    TEMPLATES,
    VALIDATING,
    WATCHED,
    LateStore,
    World,
    trusts,
)
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.controller.configurations import Wanted
from gatekeeper_py.controller.plan import Paused, Removing, Waiting
from gatekeeper_py.controller.reconcile import Passes
from gatekeeper_py.controller.webhooks.desired import NO_CONDITIONS, Conditions, carries
from gatekeeper_py.controller.webhooks.templates import (
    POD_MUTATION,
    POD_VALIDATION,
    VALIDATING_NAME,
)

SECRET = INSTALLATION.secret_path
SLICES = INSTALLATION.slices_path
NAMESPACE, OWNER, DEPLOYMENT, SERVICE = PARTS
CONDITIONS = Conditions(expressions={POD_VALIDATION: "p", POD_MUTATION: "m"}, revision="0123456789ab")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def armed(world: World) -> World:
    await world.converge()
    world.cluster.requests.clear()
    return world


async def test_a_pass_reads_the_configurations_first_and_checks_the_owner_before_it_writes(
    armed: World,
) -> None:
    reads = [*CONFIGURATIONS, NAMESPACE, OWNER, SECRET, SLICES, SERVICE, DEPLOYMENT]
    await armed.reconcile()
    assert armed.cluster.requests == [("get", path) for path in reads]
    armed.cluster.requests.clear()
    armed.now += CERTIFICATES.lifetime - CERTIFICATES.renew_before
    await armed.reconcile()
    writes = [("replace", SECRET), ("get", OWNER), *(("replace", path) for path in CONFIGURATIONS)]
    assert armed.cluster.requests == [*(("get", path) for path in reads), *writes]


async def test_only_our_own_configurations_are_removed(armed: World) -> None:
    foreign = f"{VALIDATING.rpartition('/')[0]}/foreign"
    armed.cluster.put(foreign, {})
    process = armed.process()
    assert not await process.shut_down()
    del armed.cluster.objects[NAMESPACE]
    await armed.reconcile(process)
    assert armed.cluster.writes() == [("delete", path) for path in CONFIGURATIONS]
    assert foreign in armed.cluster.objects
    assert await process.shut_down()


async def test_a_pass_that_finds_no_secret_reads_the_configurations_again(world: World) -> None:
    """Another controller may have created them meanwhile, with a CA that the Secret lost."""
    await world.reconcile()
    read = [path for _, path in world.cluster.requests]
    assert read[:7] == [*CONFIGURATIONS, NAMESPACE, OWNER, SECRET, *CONFIGURATIONS]


@pytest.mark.parametrize("path", [SECRET, SLICES, SERVICE, DEPLOYMENT])
async def test_a_pause_needs_no_other_object(armed: World, path: str) -> None:
    process = armed.process()
    await armed.reconcile(process)
    armed.cluster.fail = lambda _verb, failing: failing == path
    armed.pause("2026-01-01T12:00:00Z")
    report = await armed.reconcile(process)
    assert isinstance(report.stage, Paused)
    assert armed.configured() == {}
    with pytest.raises(ApiError):
        await armed.reconcile(process)
    armed.pause(None)
    for replica in armed.replicas:
        replica.judges = False
    armed.cluster.fail = lambda _verb, _path: False
    assert isinstance((await armed.reconcile(process)).stage, Waiting)


async def test_a_failed_pass_keeps_what_it_found_and_wrote(armed: World) -> None:
    """A failed write of one configuration must not make later edits of the other look intended."""
    await armed.reconcile(None, Wanted(mutates=False))
    process, wanted = armed.process(), Wanted(settings=None, mutates=True)
    armed.cluster.edit(VALIDATING, lambda live: live["metadata"].pop("labels"))
    armed.cluster.fail = lambda verb, path: (verb, path) == ("create", MUTATING)
    with pytest.raises(ApiError):
        await armed.reconcile(process, wanted)
    armed.cluster.edit(VALIDATING, lambda live: live["webhooks"][0].update(failurePolicy="Ignore"))
    armed.cluster.fail = lambda _verb, _path: False
    report = await armed.reconcile(process, wanted)
    assert report.changes.repaired == (VALIDATING_NAME,)
    assert armed.cluster.objects[VALIDATING]["webhooks"][0]["failurePolicy"] == "Fail"


async def test_an_error_of_the_api_server_disarms_nothing(armed: World) -> None:
    armed.cluster.fail = lambda _verb, path: path in PARTS
    with pytest.raises(ApiError):
        await armed.reconcile()
    assert armed.cluster.writes() == []


async def test_an_owner_deleted_during_the_pass_arms_nothing(world: World) -> None:
    await world.reconcile()
    world.pick_up_all()
    seen = 0

    def vanish(_verb: str, path: str) -> bool:
        nonlocal seen
        seen += path == OWNER
        if seen == 2:
            world.cluster.objects.pop(path, None)
        return False

    world.cluster.fail = vanish
    with pytest.raises(LookupError, match="was deleted"):
        await world.reconcile()
    assert world.configured() == {}


async def test_a_write_that_lost_a_race_ends_the_pass(armed: World) -> None:
    def race(verb: str, path: str) -> bool:
        if (verb, path) == ("replace", CONFIGURATIONS[0]):
            armed.cluster.edit(path, lambda live: live["metadata"].update(annotations={"mine": "too"}))
        return False

    process = armed.process()
    await armed.reconcile(process)
    armed.cluster.edit(CONFIGURATIONS[0], lambda live: live.update(webhooks=[]))
    armed.cluster.fail = race
    with pytest.raises(ApiError, match="409"):
        await armed.reconcile(process)
    armed.cluster.fail = lambda _verb, _path: False
    assert (await armed.reconcile(process)).changes.repaired == (VALIDATING_NAME,)


async def test_two_controllers_that_create_at_once_agree(world: World) -> None:
    """The second Secret is a conflict, so a leaf in use is never overwritten."""
    made: dict[str, Any] = {}

    def other(verb: str, path: str) -> bool:
        if verb == "create" and not made:
            made["data"] = {"ca.crt": "the other's"}
            world.cluster.put(path, made)
        return False

    world.cluster.fail = other
    with pytest.raises(ApiError, match="409"):
        await world.reconcile()
    assert world.secret["data"] == made["data"]


async def test_a_pass_conflicts_with_a_concurrent_change_by_the_fast_path(armed: World) -> None:
    armed.put_conditions(CONDITIONS)
    armed.cluster.edit(CONFIGURATIONS[0], lambda live: live["metadata"].pop("ownerReferences"))

    def change(verb: str, path: str) -> bool:
        if (verb, path) == ("get", OWNER):
            armed.put_conditions(NO_CONDITIONS)
        return False

    armed.cluster.fail = change
    with pytest.raises(ApiError, match="409"):
        await armed.reconcile(None, replace(BOTH, conditions=CONDITIONS))
    assert all(carries(armed.cluster.objects[each.path], each.names, NO_CONDITIONS) for each in TEMPLATES)


class TestWithAStore:
    """A watch may lag, so it starts a pass and never a write."""

    @pytest.fixture
    async def store(self, armed: World) -> LateStore:
        return LateStore(armed)

    @pytest.fixture
    async def process(self, armed: World, store: LateStore) -> Passes:
        process = armed.process(store)
        await armed.reconcile(process)
        armed.cluster.requests.clear()
        return process

    async def test_a_pass_that_writes_nothing_sends_no_request(self, armed: World, process: Passes) -> None:
        report = await armed.reconcile(process, direct=False)
        assert report.steady
        assert armed.cluster.requests == []

    async def test_a_change_is_repaired_before_replicas_are_asked(
        self, armed: World, store: LateStore, process: Passes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        armed.cluster.edit(VALIDATING, lambda live: live["webhooks"][0].update(failurePolicy="Ignore"))
        store.catch_up(VALIDATING)
        monkeypatch.setattr(process, "_probe_replica", None)
        report = await armed.reconcile(process, direct=False)
        assert report.changes.repaired == (VALIDATING_NAME,)
        assert report.next_seconds == 2.0
        assert armed.cluster.writes() == [("replace", VALIDATING)]

    @pytest.mark.parametrize("path", [*PARTS, *CONFIGURATIONS, SECRET, SLICES])
    async def test_what_only_a_watch_misses_is_not_written(
        self, armed: World, store: LateStore, process: Passes, path: str
    ) -> None:
        store.shown[path] = None
        await armed.reconcile(process, direct=False)
        assert armed.cluster.writes() == []
        report = await armed.reconcile(process)
        assert report.steady
        assert armed.cluster.writes() == []

    @pytest.mark.parametrize("missing", [OWNER, NAMESPACE, "paused"])
    async def test_late_watches_do_not_change_the_stage(
        self, armed: World, store: LateStore, process: Passes, missing: str
    ) -> None:
        if missing == "paused":
            armed.pause("2026-01-01T12:00:00Z")
            store.catch_up(NAMESPACE)
            armed.pause(None)
        else:
            store.shown[missing] = None
        for path in CONFIGURATIONS:
            store.shown[path] = None
        assert (await armed.reconcile(process, direct=False)).armed
        for replica in armed.replicas:
            replica.judges = False
        for path in CONFIGURATIONS:
            del armed.cluster.objects[path]
        assert (await armed.reconcile(process)).armed
        assert set(armed.configured()) == set(CONFIGURATIONS)

    async def test_late_conditions_are_not_tampering(
        self, armed: World, store: LateStore, process: Passes
    ) -> None:
        older = Conditions(expressions=CONDITIONS.expressions, revision="b")
        armed.put_conditions(older)
        await armed.reconcile(process, replace(BOTH, conditions=older))
        for path in CONFIGURATIONS:
            store.catch_up(path)
        armed.put_conditions(CONDITIONS)
        wanted = replace(BOTH, conditions=CONDITIONS)
        await armed.reconcile(process, wanted)
        assert (await armed.reconcile(process, wanted, direct=False)).changes.tampering == ()

    async def test_old_probe_results_do_not_remove_a_ca(
        self, armed: World, store: LateStore, process: Passes
    ) -> None:
        """The replicas served the old leaf when they were asked, and the Secret comes from a backup."""
        backup = armed.secret["data"]
        del armed.cluster.objects[SECRET]
        other = armed.process()
        while (await armed.reconcile(other)).change != "promote":
            armed.now += timedelta(seconds=5)
        await armed.reconcile(process)
        armed.pick_up_all()
        armed.cluster.edit(SECRET, lambda live: live.update(data=backup))
        for path in WATCHED:
            store.catch_up(path)
        await armed.reconcile(process, direct=False)
        for bundles in armed.configured().values():
            for replica in armed.replicas:
                assert replica.mounted is not None
                assert all(trusts(bundle, replica.mounted) for bundle in bundles)

    async def test_a_removed_owner_that_no_watch_shows_yet_is_found_before_a_write(
        self, armed: World, store: LateStore, process: Passes
    ) -> None:
        armed.cluster.edit(VALIDATING, lambda live: live["webhooks"][0].update(failurePolicy="Ignore"))
        store.catch_up(VALIDATING)
        del armed.cluster.objects[OWNER]
        report = await armed.reconcile(process, direct=False)
        assert isinstance(report.stage, Removing)
        assert armed.configured() == {}

    async def test_only_a_direct_pass_notes_since_when_a_ca_is_trusted(
        self, armed: World, store: LateStore, process: Passes
    ) -> None:
        armed.now += CERTIFICATES.lifetime - CERTIFICATES.renew_before
        assert (await armed.reconcile(process, direct=False)).change == "prepare"
        for path in WATCHED:
            store.catch_up(path)
        for direct, change in ((False, ""), (False, ""), (True, ""), (False, "promote")):
            assert (await armed.reconcile(process, direct=direct)).change == change
            armed.now += CERTIFICATES.settle
