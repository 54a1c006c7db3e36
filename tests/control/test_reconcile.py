"""One pass: what it writes, what it leaves alone, and when it arms and disarms."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from control.world import CONFIGURATIONS, INSTALLATION, TERMS, Refused, World, b64
from gatekeeper_py.control.reconcile import Report, TrustTimer, disarm, reconcile, removal_under_way
from gatekeeper_py.control.webhooks import (
    FAST_PATH_CONDITION,
    NO_CONDITIONS,
    Conditions,
    carries,
    with_conditions,
)
from gatekeeper_py.core.names import FAST_PATH_REVISION

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
    """Certificates first; armed once a replica that serves them judged; then nothing is written."""
    first = await world.reconcile()
    assert (first.armed, first.change, world.configured()) == (False, "create", {})
    second = await world.reconcile()
    assert (second.armed, second.waiting) == (False, "10.0.0.1: refused; 10.0.0.2: refused")
    for replica in world.replicas:
        world.pick_up(replica)
    third = await world.reconcile()
    assert third.steady
    assert third.repaired == ("validate", "mutate")
    assert third.replicas == 2
    assert {bundle for each in world.configured().values() for bundle in each} == {world.store.bundle}
    world.cluster.requests.clear()
    assert (await world.reconcile()).repaired == ()
    assert world.cluster.writes() == []


async def test_without_replicas_it_waits() -> None:
    world = World(replicas=0)
    await world.reconcile()
    assert (await world.reconcile()).waiting == "there is no replica behind the Service yet"
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
    assert not report.armed
    assert report.waiting
    assert world.configured() == {}


async def test_a_replica_with_a_leaf_nobody_trusts_is_waited_for(world: World) -> None:
    await world.reconcile()
    for replica in world.replicas:
        world.pick_up(replica)
    del world.cluster.objects[SECRET]
    await world.reconcile()
    world.pick_up(world.replicas[0])
    report = await world.reconcile()
    assert not report.armed
    assert "unknown authority" in report.waiting
    world.pick_up(world.replicas[1])
    assert (await world.reconcile()).armed


async def test_a_replica_that_fails_later_does_not_disarm(armed: World) -> None:
    for replica in armed.replicas:
        replica.reachable = False
    del armed.cluster.objects[CONFIGURATIONS[0]]
    assert (await armed.reconcile()).armed
    assert set(armed.configured()) == set(CONFIGURATIONS)


@pytest.mark.parametrize("part", INSTALLATION.parts, ids=lambda path: path.rsplit("/", 2)[-2])
@pytest.mark.parametrize("going", [True, False], ids=["being-deleted", "gone"])
async def test_disarmed_at_each_sign_of_removal(armed: World, part: str, going: bool) -> None:  # noqa: FBT001
    foreign = f"{INSTALLATION.desired[0].collection}/foreign"
    armed.cluster.put(foreign, {})
    if going:
        armed.cluster.edit(part, lambda it: it["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"))
    else:
        del armed.cluster.objects[part]
    report = await armed.reconcile()
    assert report == Report(
        armed=False, removed=True, waiting=f"{part} is not there, or being deleted", settled=False
    )
    assert await removal_under_way(armed.cluster, INSTALLATION)
    assert armed.cluster.writes() == [("delete", path) for path in CONFIGURATIONS]
    assert foreign in armed.cluster.objects
    await disarm(armed.cluster, INSTALLATION)


async def test_nothing_is_disarmed_when_the_answer_is_an_error(armed: World) -> None:
    armed.cluster.fail = lambda _verb, path: path in INSTALLATION.parts
    with pytest.raises(Refused):
        await armed.reconcile()
    assert armed.cluster.writes() == []


async def test_an_owner_that_goes_during_the_pass(world: World) -> None:
    await world.reconcile()
    for replica in world.replicas:
        world.pick_up(replica)
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


async def test_drift_is_repaired_in_one_pass(armed: World) -> None:
    def spoil(live: dict[str, Any]) -> None:
        live["webhooks"] = [{"name": "foreign", "clientConfig": {"caBundle": b64(b"x")}}, live["webhooks"][0]]
        live["metadata"]["annotations"] = {"theirs": "kept"}

    armed.cluster.edit(CONFIGURATIONS[0], spoil)
    report = await armed.reconcile()
    assert report.repaired == ("validate",)
    live = armed.cluster.objects[CONFIGURATIONS[0]]
    assert [webhook["name"] for webhook in live["webhooks"]] == ["pods.gk", "policy.gk"]
    assert live["metadata"]["annotations"] == {"theirs": "kept"}


async def test_a_write_that_lost_a_race_ends_the_pass(armed: World) -> None:
    def race(verb: str, path: str) -> bool:
        if (verb, path) == ("replace", CONFIGURATIONS[0]):
            armed.cluster.edit(path, lambda live: live["metadata"].update(annotations={"mine": "too"}))
        return False

    armed.cluster.edit(CONFIGURATIONS[0], lambda live: live.update(webhooks=[]))
    armed.cluster.fail = race
    with pytest.raises(Refused, match="409"):
        await armed.reconcile()
    armed.cluster.fail = lambda _verb, _path: False
    assert (await armed.reconcile()).repaired == ("validate",)


async def test_rotation_takes_its_steps_in_order(armed: World) -> None:
    trust_timer, before = TrustTimer(), armed.store
    armed.now += TERMS.lifetime - TERMS.renew_before
    steps = [(await armed.reconcile(trust_timer)).change]
    assert armed.store.current == before.current
    steps += [(await armed.reconcile(trust_timer)).change for _ in range(2)]
    assert steps == ["prepare", "", ""]
    armed.now += TERMS.settle
    assert (await armed.reconcile(trust_timer)).change == "promote"
    report = await armed.reconcile(trust_timer)
    assert (report.change, report.settled, report.next_seconds) == ("", False, 5.0)
    for replica in armed.replicas:
        armed.pick_up(replica)
    report = await armed.reconcile(trust_timer)
    assert (report.change, report.settled, report.next_seconds) == ("retire", True, 60.0)
    assert len(armed.store.cas) == 1
    assert "next.crt" not in armed.secret["data"]


async def test_a_controller_that_starts_anew_lets_api_servers_settle_anew(armed: World) -> None:
    armed.now += TERMS.lifetime - TERMS.renew_before
    armed.cluster.fail = lambda verb, path: verb == "replace" and path in CONFIGURATIONS
    with pytest.raises(Refused):
        await armed.reconcile()
    armed.cluster.fail = lambda _verb, _path: False
    armed.now += timedelta(hours=1)
    trust_timer = TrustTimer()
    assert (await armed.reconcile(trust_timer)).repaired == ("validate", "mutate")
    assert (await armed.reconcile(trust_timer)).change == ""


@pytest.mark.parametrize("kind", ["leaving", "unaddressed"])
async def test_an_authority_stays_while_a_replica_may_serve_its_leaf(armed: World, kind: str) -> None:
    straggler = armed.add_replica()
    straggler.leaving, straggler.addressed = kind == "leaving", kind == "leaving"
    trust_timer = TrustTimer()
    armed.now += TERMS.lifetime - TERMS.renew_before
    for _ in range(4):
        for replica in armed.replicas[:-1]:
            armed.pick_up(replica)
        report = await armed.reconcile(trust_timer)
        armed.now += TERMS.settle
    assert not report.settled
    assert len(armed.store.cas) == 2
    armed.replicas.remove(straggler)
    armed.announce()
    assert (await armed.reconcile(trust_timer)).change == "retire"


async def test_a_deleted_secret_is_made_anew_without_an_untrusted_moment(armed: World) -> None:
    """What was trusted stays so, and nothing new is served before it is."""
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
    """The second one's Secret is a conflict: a leaf that was given out is never overwritten."""
    made: dict[str, Any] = {}

    def other(verb: str, path: str) -> bool:
        if verb == "create" and not made:
            made["data"] = {"ca.crt": "the other's"}
            world.cluster.put(path, made)
        return False

    world.cluster.fail = other
    with pytest.raises(Refused, match="409"):
        await world.reconcile()
    assert world.secret["data"] == made["data"]


CONDITIONS = Conditions(expressions={"pods.gk": "p", "m.gk": "m"}, revision="0123456789ab")


async def pass_wanting(world: World, wanted: Conditions | None = CONDITIONS) -> Report:
    """A pass of a controller whose fast path wants these, or that has none."""
    return await reconcile(
        world.cluster,
        INSTALLATION,
        TERMS,
        TrustTimer(),
        now=world.now,
        probe_replica=world.probe,
        wanted=None if wanted is None else lambda: wanted,
    )


def put_conditions(world: World, conditions: Conditions) -> None:
    """As the fast path writes them."""
    for each in INSTALLATION.desired:
        world.cluster.put(each.path, with_conditions(world.cluster.objects[each.path], each, conditions))


def carried(world: World, conditions: Conditions) -> bool:
    return all(carries(world.cluster.objects[each.path], each, conditions) for each in INSTALLATION.desired)


async def test_a_pass_never_puts_a_condition_in(armed: World) -> None:
    """It does not know how old the policy is; nor does it when it makes a configuration."""
    report = await pass_wanting(armed)
    assert (report.repaired, report.conditions_differ) == ((), True)
    del armed.cluster.objects[CONFIGURATIONS[0]]
    report = await pass_wanting(armed)
    assert (report.repaired, report.conditions_differ) == (("validate",), True)
    assert carried(armed, NO_CONDITIONS)


OTHERS = [
    pytest.param(Conditions(expressions={"pods.gk": "false", "m.gk": "false"}, revision="b"), id="older"),
    pytest.param(Conditions(expressions=CONDITIONS.expressions, revision="b"), id="another-revision"),
    pytest.param(
        Conditions(expressions={**CONDITIONS.expressions, "policy.gk": "false"}, revision="0123456789ab"),
        id="on-another-webhook",
    ),
]


@pytest.mark.parametrize("found", [pytest.param(CONDITIONS, id="wanted"), *OTHERS])
async def test_a_pass_leaves_what_it_finds_to_the_fast_path(armed: World, found: Conditions) -> None:
    """Also where it puts something else right; and says when that is not what is wanted."""
    put_conditions(armed, found)
    report = await pass_wanting(armed)
    assert (report.repaired, report.conditions_differ) == ((), found != CONDITIONS)
    armed.cluster.edit(CONFIGURATIONS[0], lambda live: live["metadata"].pop("ownerReferences"))
    report = await pass_wanting(armed)
    assert (report.repaired, report.conditions_differ) == (("validate",), found != CONDITIONS)
    assert carried(armed, found)


async def test_a_rotation_leaves_the_condition(armed: World) -> None:
    put_conditions(armed, CONDITIONS)
    before = armed.configured()
    armed.now += TERMS.lifetime - TERMS.renew_before
    assert (await pass_wanting(armed)).change == "prepare"
    assert armed.configured() != before
    assert carried(armed, CONDITIONS)


@pytest.mark.parametrize("found", [pytest.param(CONDITIONS, id="the-last"), *OTHERS])
async def test_without_a_fast_path_a_pass_takes_any_condition_out(armed: World, found: Conditions) -> None:
    put_conditions(armed, found)
    report = await pass_wanting(armed, None)
    assert report.repaired[0] == "validate"
    assert not report.conditions_differ
    for path in CONFIGURATIONS:
        assert FAST_PATH_CONDITION not in str(armed.cluster.objects[path])
        assert FAST_PATH_REVISION not in str(armed.cluster.objects[path])


async def test_a_pass_does_not_bring_back_what_the_fast_path_changed_meanwhile(armed: World) -> None:
    put_conditions(armed, CONDITIONS)
    armed.cluster.edit(CONFIGURATIONS[0], lambda live: live["metadata"].pop("ownerReferences"))

    def change(verb: str, path: str) -> bool:
        if (verb, path) == ("get", INSTALLATION.owner_path):
            put_conditions(armed, NO_CONDITIONS)
        return False

    armed.cluster.fail = change
    with pytest.raises(Refused, match="409"):
        await pass_wanting(armed)
    assert carried(armed, NO_CONDITIONS)
