"""One reconcile pass writes what is missing, keeps the rest, and arms and disarms the webhook."""

from __future__ import annotations

from collections.abc import Callable
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
from gatekeeper_py.controller.plan import Armed, Paused, Removing, Report, Waiting
from gatekeeper_py.controller.reconcile import Passes
from gatekeeper_py.controller.webhooks.desired import NO_CONDITIONS, Conditions, carries
from gatekeeper_py.controller.webhooks.settings import WebhookSettings
from gatekeeper_py.controller.webhooks.templates import (
    MUTATING_NAME,
    POD_MUTATION,
    POD_VALIDATION,
    POLICY_GUARD,
    VALIDATING_NAME,
)
from gatekeeper_py.core.names import FAST_PATH_CONDITION, FAST_PATH_REVISION

SECRET = INSTALLATION.secret_path


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def armed(world: World) -> World:
    await world.converge()
    world.cluster.requests.clear()
    return world


async def test_installation(world: World) -> None:
    """The controller creates certificates, arms once a replica with them answers, and then writes nothing."""
    first = await world.reconcile()
    assert (first.armed, first.change, world.configured()) == (False, "create", {})
    second = await world.reconcile()
    assert second.stage == Waiting("10.0.0.1: refused; 10.0.0.2: refused")
    world.pick_up_all()
    third = await world.reconcile()
    assert third.steady
    assert third.changes.created == (VALIDATING_NAME, MUTATING_NAME)
    assert third.replicas == 2
    assert {bundle for each in world.configured().values() for bundle in each} == {world.store.bundle}
    world.cluster.requests.clear()
    assert not (await world.reconcile()).changes.any
    assert world.cluster.writes() == []


async def test_the_controller_waits_without_replicas() -> None:
    world = World(replicas=0)
    await world.reconcile()
    assert (await world.reconcile()).stage == Waiting("there is no replica behind the Service")
    del world.cluster.objects[INSTALLATION.slices_path]
    assert not (await world.reconcile()).armed


@pytest.mark.parametrize(
    "state",
    [
        pytest.param({"judges": False}, id="answers-without-a-verdict"),
        pytest.param({"reachable": False}, id="cannot-be-reached"),
        pytest.param({"leaving": True}, id="is-leaving"),
        pytest.param({"addressed": False}, id="has-no-address"),
    ],
)
async def test_a_replica_that_does_not_judge_arms_nothing(state: dict[str, bool]) -> None:
    world = World(replicas=1)
    await world.reconcile()
    world.pick_up(world.replicas[0])
    for key, value in state.items():
        setattr(world.replicas[0], key, value)
    world.announce()
    report = await world.reconcile()
    assert isinstance(report.stage, Waiting)
    assert report.stage.why
    assert world.configured() == {}


async def test_the_controller_waits_for_a_replica_with_an_untrusted_leaf(world: World) -> None:
    await world.reconcile()
    world.pick_up_all()
    del world.cluster.objects[SECRET]
    await world.reconcile()
    world.pick_up(world.replicas[0])
    report = await world.reconcile()
    assert isinstance(report.stage, Waiting)
    assert "unknown authority" in report.stage.why
    world.pick_up(world.replicas[1])
    assert (await world.reconcile()).armed


@pytest.mark.parametrize("part", PARTS[:2], ids=["namespace", "owner"])
@pytest.mark.parametrize("going", [True, False], ids=["being-deleted", "gone"])
async def test_disarmed_when_the_installation_is_removed(armed: World, part: str, going: bool) -> None:  # noqa: FBT001
    foreign = f"{VALIDATING.rpartition('/')[0]}/foreign"
    armed.cluster.put(foreign, {})
    if going:
        armed.cluster.edit(part, lambda it: it["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"))
    else:
        del armed.cluster.objects[part]
    process = armed.process()
    report = await armed.reconcile(process)
    reason = "is being deleted" if going else "does not exist"
    assert report.stage == Removing(f"{part} {reason}")
    assert armed.cluster.writes() == [("delete", path) for path in CONFIGURATIONS]
    assert foreign in armed.cluster.objects
    assert await process.shut_down()


@pytest.mark.parametrize(
    ("path", "what"),
    [
        pytest.param(INSTALLATION.service_path, "service", id="service"),
        pytest.param(INSTALLATION.deployment_path, "deployment", id="deployment"),
        pytest.param(INSTALLATION.slices_path, "endpoints", id="endpoints"),
        pytest.param(INSTALLATION.secret_path, "secret", id="secret"),
    ],
)
async def test_a_missing_part_alarms_and_the_cluster_stays_closed(armed: World, path: str, what: str) -> None:
    process = armed.process()
    assert not any((await armed.reconcile(process)).alarms.values())
    before = set(armed.configured())
    del armed.cluster.objects[path]
    report = await armed.reconcile(process)
    assert [name for name, problem in report.alarms.items() if problem] == (
        [what, "endpoints"] if what == "secret" else [what]
    )
    assert report.armed
    assert set(armed.configured()) == before
    assert not await process.shut_down()
    assert ("delete", VALIDATING) not in armed.cluster.writes()


async def test_a_bad_secret_and_failing_replicas_raise_alarms(armed: World) -> None:
    armed.cluster.edit(SECRET, lambda it: it.update(data={"ca.crt": "!"}))
    for replica in armed.replicas:
        replica.judges = False
    report = await armed.reconcile()
    assert report.armed
    assert "holds no usable certificate" in report.alarms["secret"]
    assert report.alarms["endpoints"]


async def test_deleted_configurations_come_back_even_if_no_replica_answers(
    armed: World,
) -> None:
    process = armed.process()
    await armed.reconcile(process)
    trusted = armed.configured()[VALIDATING]
    for replica in armed.replicas:
        replica.reachable = False
    for path in CONFIGURATIONS:
        del armed.cluster.objects[path]
    report = await armed.reconcile(process)
    assert report.armed
    assert report.changes.repaired == (VALIDATING_NAME, MUTATING_NAME)
    assert armed.configured()[VALIDATING] == trusted


async def test_a_pause_removes_the_configurations_and_ends_by_itself(armed: World) -> None:
    process = armed.process()
    await armed.reconcile(process)
    armed.pause("2026-01-01T01:00:00+00:00")
    armed.now = armed.now.replace(hour=0, minute=59, second=30)
    report = await armed.reconcile(process)
    assert report.stage == Paused(armed.now + timedelta(seconds=30))
    assert (report.changes.any, report.next_seconds) == (False, 2.0)
    assert armed.configured() == {}
    armed.cluster.requests.clear()
    report = await armed.reconcile(process)
    assert report.next_seconds == 30.0
    assert armed.cluster.writes() == []
    armed.now += timedelta(seconds=30)
    report = await armed.reconcile(process)
    assert report.armed
    assert report.changes.created == (VALIDATING_NAME, MUTATING_NAME)


@pytest.mark.parametrize(
    "path",
    [SECRET, INSTALLATION.service_path, INSTALLATION.deployment_path, INSTALLATION.slices_path],
)
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


async def test_after_a_pause_the_webhook_is_armed_only_once_a_replica_answers(armed: World) -> None:
    process = armed.process()
    await armed.reconcile(process)
    armed.pause("2026-01-01T12:00:00Z")
    await armed.reconcile(process)
    for replica in armed.replicas:
        replica.judges = False
    armed.pause(None)
    report = await armed.reconcile(process)
    assert isinstance(report.stage, Waiting)
    assert report.stage.why
    assert armed.configured() == {}


async def test_the_mutating_configuration_exists_only_while_the_policy_rewrites(armed: World) -> None:
    process = armed.process()
    await armed.reconcile(process)
    report = await armed.reconcile(process, Wanted(mutates=False))
    assert report.changes.removed == (MUTATING_NAME,)
    assert set(armed.configured()) == {VALIDATING}
    report = await armed.reconcile(process, Wanted(mutates=True))
    assert report.changes.created == (MUTATING_NAME,)
    assert set(armed.configured()) == {VALIDATING, MUTATING}


@pytest.mark.parametrize("exists", [True, False])
async def test_while_the_policy_is_unknown_the_mutating_configuration_stays_as_it_is(
    armed: World,
    exists: bool,  # noqa: FBT001
) -> None:
    await armed.reconcile(None, Wanted(mutates=exists))
    armed.cluster.requests.clear()
    report = await armed.reconcile(None, Wanted(mutates=None))
    assert armed.cluster.writes() == []
    assert report.changes.registered is exists


async def test_unknown_settings_leave_what_exists_but_rotate_its_certificates(armed: World) -> None:
    def loosen(live: dict[str, Any]) -> None:
        live["webhooks"][0]["failurePolicy"] = "Ignore"
        live["webhooks"][0]["clientConfig"]["service"]["name"] = "elsewhere"

    armed.cluster.edit(VALIDATING, loosen)
    await armed.reconcile(None, replace(BOTH, settings=None))
    pods = armed.cluster.objects[VALIDATING]["webhooks"][0]
    assert pods["failurePolicy"] == "Ignore"
    assert pods["clientConfig"]["service"]["name"] == "gk"
    await armed.reconcile(None, replace(BOTH, settings=WebhookSettings()))
    assert armed.cluster.objects[VALIDATING]["webhooks"][0]["failurePolicy"] == "Fail"


@pytest.mark.parametrize(
    ("edit", "kind"),
    [
        pytest.param(lambda it: it.update(failurePolicy="Ignore"), "failure-policy", id="failure-policy"),
        pytest.param(lambda it: it["rules"].clear(), "rules", id="rules"),
        pytest.param(
            lambda it: it["namespaceSelector"]["matchExpressions"][0]["values"].append("evil"),
            "selector",
            id="selector",
        ),
        pytest.param(
            lambda it: it["matchConditions"].append({"name": "never", "expression": "false"}),
            "conditions",
            id="foreign-condition",
        ),
        pytest.param(None, "deleted", id="deleted"),
    ],
)
async def test_after_a_start_without_settings_later_changes_are_repaired(
    armed: World, edit: Callable[[dict[str, Any]], object] | None, kind: str
) -> None:
    """The controller keeps the configuration that it found at its start, and reverts later changes.

    A deleted configuration gets its exemptions back. Without them, the cluster might not recover.
    """
    process, unknown = armed.process(), replace(BOTH, settings=None)
    found = replace(BOTH, settings=WebhookSettings(exempt_namespaces=("calico-system",)))
    await armed.reconcile(None, found)
    before = armed.cluster.objects[VALIDATING]["webhooks"]
    await armed.reconcile(process, unknown)
    if edit is None:
        del armed.cluster.objects[VALIDATING]
    else:
        armed.cluster.edit(VALIDATING, lambda it: edit(it["webhooks"][0]))
    report = await armed.reconcile(process, unknown)
    assert report.changes.repaired == (VALIDATING_NAME,)
    assert report.changes.tampering == (kind,)
    assert armed.cluster.objects[VALIDATING]["webhooks"] == before
    assert not (await armed.reconcile(process, unknown)).changes.any


async def test_unknown_settings_mean_the_defaults_where_nothing_exists(world: World) -> None:
    await world.converge(wanted=replace(BOTH, settings=None))
    names = [webhook["name"] for webhook in world.cluster.objects[VALIDATING]["webhooks"]]
    assert names == list(TEMPLATES[0].names)


async def test_a_change_of_the_settings_is_an_update_and_not_a_repair(armed: World) -> None:
    process = armed.process()
    await armed.reconcile(process)
    wanted = replace(BOTH, settings=WebhookSettings(exempt_namespaces=("calico-system",)))
    report = await armed.reconcile(process, wanted)
    assert (report.changes.updated, report.changes.repaired) == ((VALIDATING_NAME, MUTATING_NAME), ())
    assert report.changes.tampering == ()
    armed.cluster.edit(VALIDATING, lambda it: it["webhooks"][0].update(timeoutSeconds=30))
    report = await armed.reconcile(process, wanted)
    assert (report.changes.updated, report.changes.repaired) == ((), (VALIDATING_NAME,))
    assert report.changes.details == (f"webhooks[{POD_VALIDATION}].timeoutSeconds",)


async def test_a_selector_that_somebody_changed_alarms_until_it_is_repaired(armed: World) -> None:
    process = armed.process()
    await armed.reconcile(process)

    def switch_off(live: dict[str, Any]) -> None:
        term = {"key": "control-plane", "operator": "Exists"}
        live["webhooks"][0]["namespaceSelector"]["matchExpressions"].append(term)

    armed.cluster.edit(VALIDATING, switch_off)
    report = await armed.reconcile(process)
    assert report.changes.repaired == (VALIDATING_NAME,)
    assert "namespaceSelector" in report.alarms["selector"]
    assert (await armed.reconcile(process)).alarms["selector"] == ""


async def test_selector_terms_of_a_managed_platform_are_never_overwritten(armed: World) -> None:
    """An actor adds its terms again each second; the controller writes nothing."""
    process = armed.process()
    await armed.reconcile(process)
    terms = [
        {"key": "control-plane", "operator": "NotIn", "values": ["true"]},
        {"key": "kubernetes.azure.com/managedby", "operator": "NotIn", "values": ["aks"]},
    ]

    def add(live: dict[str, Any]) -> None:
        for webhook in live["webhooks"]:
            expressions = webhook["namespaceSelector"]["matchExpressions"]
            expressions += [term for term in terms if term not in expressions]

    for _ in range(5):
        for path in CONFIGURATIONS:
            armed.cluster.edit(path, add)
        armed.cluster.requests.clear()
        report = await armed.reconcile(process)
        assert armed.cluster.writes() == []
    assert report.changes.tolerated_terms == 2 * 4
    armed.cluster.edit(VALIDATING, lambda it: it["webhooks"][0].update(failurePolicy="Ignore"))
    await armed.reconcile(process)
    pods = armed.cluster.objects[VALIDATING]["webhooks"][0]
    assert pods["failurePolicy"] == "Fail"
    assert [term for term in pods["namespaceSelector"]["matchExpressions"] if term in terms] == terms


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
        seen += path == INSTALLATION.owner_path
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


async def test_rotation_takes_its_steps_in_order(armed: World) -> None:
    process, before = armed.process(), armed.store
    armed.now += CERTIFICATES.lifetime - CERTIFICATES.renew_before
    steps = [(await armed.reconcile(process)).change]
    assert armed.store.current == before.current
    steps += [(await armed.reconcile(process)).change for _ in range(2)]
    assert steps == ["prepare", "", ""]
    armed.now += CERTIFICATES.settle
    assert (await armed.reconcile(process)).change == "promote"
    report = await armed.reconcile(process)
    assert (report.change, report.stage, report.next_seconds) == ("", Armed(settled=False), 5.0)
    armed.pick_up_all()
    report = await armed.reconcile(process)
    assert (report.change, report.stage, report.next_seconds) == ("retire", Armed(settled=True), 60.0)
    assert len(armed.store.cas) == 1
    assert "next.crt" not in armed.secret["data"]


async def test_a_restarted_controller_waits_again_for_api_servers_to_settle(armed: World) -> None:
    armed.now += CERTIFICATES.lifetime - CERTIFICATES.renew_before
    armed.cluster.fail = lambda verb, path: verb == "replace" and path in CONFIGURATIONS
    with pytest.raises(ApiError):
        await armed.reconcile()
    armed.cluster.fail = lambda _verb, _path: False
    armed.now += timedelta(hours=1)
    process = armed.process()
    assert (await armed.reconcile(process)).changes.updated == (VALIDATING_NAME, MUTATING_NAME)
    assert (await armed.reconcile(process)).change == ""


@pytest.mark.parametrize("kind", ["leaving", "unaddressed"])
async def test_a_ca_stays_while_a_replica_may_serve_its_leaf(armed: World, kind: str) -> None:
    straggler = armed.add_replica()
    straggler.leaving, straggler.addressed = kind == "leaving", kind == "leaving"
    process = armed.process()
    armed.now += CERTIFICATES.lifetime - CERTIFICATES.renew_before
    for _ in range(4):
        for replica in armed.replicas[:-1]:
            armed.pick_up(replica)
        report = await armed.reconcile(process)
        armed.now += CERTIFICATES.settle
    assert report.stage == Armed(settled=False)
    assert len(armed.store.cas) == 2
    armed.replicas.remove(straggler)
    armed.announce()
    assert (await armed.reconcile(process)).change == "retire"


async def test_a_deleted_secret_is_recreated_without_an_untrusted_moment(armed: World) -> None:
    """The old CA stays trusted, and no certificate is served before its CA is trusted."""
    old = armed.store.bundle
    del armed.cluster.objects[SECRET]
    assert (await armed.reconcile()).change == "create"
    assert armed.secret["type"] == "Opaque"
    assert "tls.crt" not in armed.secret["data"]
    assert all(bundle.startswith(old) for each in armed.configured().values() for bundle in each)
    await armed.converge()
    assert old not in armed.store.bundle


async def test_a_secret_of_another_type_keeps_what_else_it_holds(armed: World) -> None:
    def replace(secret: dict[str, Any]) -> None:
        secret |= {"type": "kubernetes.io/tls", "data": {"tls.crt": "", "tls.key": "", "theirs": "a2VwdA=="}}

    armed.cluster.edit(SECRET, replace)
    await armed.reconcile()
    assert {"tls.crt", "tls.key", "theirs", "next.crt"} <= armed.secret["data"].keys()
    await armed.converge()
    assert armed.secret["type"] == "kubernetes.io/tls"
    assert armed.secret["data"]["theirs"] == "a2VwdA=="


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


CONDITIONS = Conditions(expressions={POD_VALIDATION: "p", POD_MUTATION: "m"}, revision="0123456789ab")


async def pass_with(world: World, conditions: Conditions | None = CONDITIONS) -> Report:
    """Run a pass of a controller whose fast path has these conditions; ``None`` means no fast path."""
    state = replace(BOTH, conditions=conditions)
    return await world.reconcile(None, state)


def has_conditions(world: World, conditions: Conditions) -> bool:
    return all(carries(world.cluster.objects[each.path], each.names, conditions) for each in TEMPLATES)


async def test_a_pass_never_adds_a_condition(armed: World) -> None:
    """The controller does not know how old the policy is, even when it creates a configuration."""
    report = await pass_with(armed)
    assert (report.changes.repaired, report.changes.conditions_differ) == ((), True)
    del armed.cluster.objects[CONFIGURATIONS[0]]
    report = await pass_with(armed)
    assert (report.changes.created, report.changes.conditions_differ) == ((VALIDATING_NAME,), True)
    assert has_conditions(armed, NO_CONDITIONS)


OTHERS = [
    pytest.param(
        Conditions(expressions={POD_VALIDATION: "false", POD_MUTATION: "false"}, revision="b"), id="older"
    ),
    pytest.param(Conditions(expressions=CONDITIONS.expressions, revision="b"), id="another-revision"),
    pytest.param(
        Conditions(expressions={**CONDITIONS.expressions, POLICY_GUARD: "false"}, revision="0123456789ab"),
        id="on-another-webhook",
    ),
]


@pytest.mark.parametrize("found", [pytest.param(CONDITIONS, id="as-desired"), *OTHERS])
async def test_a_pass_keeps_the_conditions_of_the_fast_path(armed: World, found: Conditions) -> None:
    """This holds even if the pass repairs something else. Its report says if the conditions are outdated."""
    armed.put_conditions(found)
    report = await pass_with(armed)
    assert (report.changes.repaired, report.changes.conditions_differ) == ((), found != CONDITIONS)
    armed.cluster.edit(CONFIGURATIONS[0], lambda live: live["metadata"].pop("ownerReferences"))
    report = await pass_with(armed)
    assert (report.changes.updated, report.changes.conditions_differ) == (
        (VALIDATING_NAME,),
        found != CONDITIONS,
    )
    assert has_conditions(armed, found)


async def test_a_rotation_leaves_the_condition(armed: World) -> None:
    armed.put_conditions(CONDITIONS)
    before = armed.configured()
    armed.now += CERTIFICATES.lifetime - CERTIFICATES.renew_before
    assert (await pass_with(armed)).change == "prepare"
    assert armed.configured() != before
    assert has_conditions(armed, CONDITIONS)


@pytest.mark.parametrize("found", [pytest.param(CONDITIONS, id="the-last"), *OTHERS])
async def test_a_pass_without_a_fast_path_removes_every_condition(armed: World, found: Conditions) -> None:
    armed.put_conditions(found)
    report = await pass_with(armed, None)
    assert report.changes.updated[0] == VALIDATING_NAME
    assert not report.changes.conditions_differ
    for path in CONFIGURATIONS:
        assert FAST_PATH_CONDITION not in str(armed.cluster.objects[path])
        assert FAST_PATH_REVISION not in str(armed.cluster.objects[path])


async def test_a_pass_conflicts_with_a_concurrent_change_by_the_fast_path(armed: World) -> None:
    armed.put_conditions(CONDITIONS)
    armed.cluster.edit(CONFIGURATIONS[0], lambda live: live["metadata"].pop("ownerReferences"))

    def change(verb: str, path: str) -> bool:
        if (verb, path) == ("get", INSTALLATION.owner_path):
            armed.put_conditions(NO_CONDITIONS)
        return False

    armed.cluster.fail = change
    with pytest.raises(ApiError, match="409"):
        await pass_with(armed)
    assert has_conditions(armed, NO_CONDITIONS)


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

    @pytest.mark.parametrize("path", [*PARTS, *CONFIGURATIONS, SECRET, INSTALLATION.slices_path])
    async def test_what_only_a_watch_misses_is_not_written(
        self, armed: World, store: LateStore, process: Passes, path: str
    ) -> None:
        store.shown[path] = None
        await armed.reconcile(process, direct=False)
        assert armed.cluster.writes() == []
        report = await armed.reconcile(process)
        assert report.steady
        assert armed.cluster.writes() == []

    @pytest.mark.parametrize("missing", [INSTALLATION.owner_path, INSTALLATION.namespace_path, "paused"])
    async def test_late_watches_do_not_change_the_stage(
        self, armed: World, store: LateStore, process: Passes, missing: str
    ) -> None:
        if missing == "paused":
            armed.pause("2026-01-01T12:00:00Z")
            store.catch_up(INSTALLATION.namespace_path)
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
        del armed.cluster.objects[INSTALLATION.owner_path]
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
