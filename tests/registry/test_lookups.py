"""Look-ups use facts where possible, share requests between reviews, and keep the time limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gatekeeper_py.core.images.manifest import MISSING, Answer, Lookup, Manifest, Resolution, failed, found
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.registry import lookups as module
from gatekeeper_py.registry.client import Reply, Turn
from gatekeeper_py.registry.fairness import OVER_SHARE
from gatekeeper_py.registry.lookups import Lookups
from gatekeeper_py.registry.pacing import MAX_CONCURRENT

A, B = Manifest("a.io", "app", "v1"), Manifest("b.io", "app", "v1")
BY_DIGEST = Manifest("a.io", "app", "sha256:" + "1" * 64)
FOUND, OTHER = found("sha256:" + "a" * 64), found("sha256:" + "b" * 64)


class FakeClient:
    """A client with the answers that a test sets. An ``asyncio.Event`` delays an answer until it is set."""

    def __init__(self) -> None:
        self.answers: dict[Manifest, Answer | Reply | asyncio.Event] = {}
        self.reply = Reply(FOUND)
        """The reply after the event of a manifest is set."""
        self.sends: dict[Manifest, tuple[str, ...]] = {}
        """The hosts that get the requests of a look-up; by default one request to the manifest's host."""
        self.queried: list[Manifest] = []
        self.cancelled: list[Manifest] = []

    async def query(self, manifest: Manifest, turn: Turn) -> Reply:
        for host in self.sends.get(manifest, (manifest.host,)):
            await turn(host)
        self.queried.append(manifest)
        answer = self.answers.get(manifest, MISSING)
        if isinstance(answer, asyncio.Event):
            try:
                await answer.wait()
            except asyncio.CancelledError:
                self.cancelled.append(manifest)
                raise
            return self.reply
        return answer if isinstance(answer, Reply) else Reply(answer)


class World:
    def __init__(self) -> None:
        self.client = FakeClient()
        self.counted: list[tuple[str, str]] = []
        self.breakers: list[tuple[str, bool]] = []
        self.over_shares: list[str] = []
        self.skipped = 0.0
        self.settings = {
            "a.io": Registry(host="a.io", timeout=2.0),
            "b.io": Registry(host="b.io", timeout=2.0),
        }
        self.lookups = Lookups(
            self.client,
            registry=lambda host: self.settings.get(host) or Registry(host=host),
            observer=self,
            clock=lambda: time.monotonic() + self.skipped,
        )
        self.lookups.configure(hosts=["a.io", "b.io"], changed=(), pinned=())

    def lookup(self, host: str, result: str, seconds: float | None, cause: str = "") -> None:
        assert seconds is None or seconds >= 0
        assert bool(cause) == (result == "error")
        self.counted.append((host, result))

    def breaker(self, host: str, *, is_open: bool) -> None:
        self.breakers.append((host, is_open))

    def over_share(self, limit: str) -> None:
        self.over_shares.append(limit)

    async def resolve(self, *candidates: Manifest, seconds: float = 5.0, namespace: str = "") -> Resolution:
        lookup = Lookup(candidates)
        return (await self.lookups.resolve([lookup], seconds, namespace))[lookup]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.lookups.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the condition is not an event
            await asyncio.sleep(0)


async def test_a_fact_is_queried_once(world: World) -> None:
    world.client.answers[A] = FOUND
    assert world.lookups.resolve_cached(Lookup((A,))) is None
    for _ in range(3):
        assert await world.resolve(A) == Resolution(FOUND, 0)
    assert world.lookups.resolve_cached(Lookup((A,))) == Resolution(FOUND, 0)
    assert world.client.queried == [A]
    assert world.counted == [("a.io", "found")]


async def test_a_thousand_reviews_make_one_request(world: World) -> None:
    gate = world.client.answers[A] = asyncio.Event()
    waiting = [asyncio.ensure_future(world.resolve(A)) for _ in range(module.MAX_WAITING)]
    await until(lambda: world.client.queried)
    late = await world.resolve(A)
    assert "reviews wait for registries" in late.answer.cause
    gate.set()
    assert all(resolution.answer == FOUND for resolution in await asyncio.gather(*waiting))
    assert world.client.queried == [A]


async def test_a_stale_fact_answers_while_it_is_renewed(world: World) -> None:
    world.client.answers[A] = FOUND
    await world.resolve(A)
    world.skipped += 61
    world.client.answers[A] = OTHER
    assert (await world.resolve(A)).answer == FOUND
    assert ("a.io", "stale") in world.counted
    await until(lambda: len(world.client.queried) == 2)
    await until(lambda: world.counted.count(("a.io", "found")) == 2)
    assert (await world.resolve(A)).answer == OTHER


async def test_a_stale_fact_ends_after_ten_minutes(world: World) -> None:
    world.client.answers[A] = FOUND
    await world.resolve(A)
    world.skipped += 60 + 599
    world.client.answers[A] = failed("down")
    assert (await world.resolve(A)).answer == FOUND
    world.skipped += 2
    assert (await world.resolve(A)).answer == failed("down")


async def test_by_digest_a_fact_is_fresh_for_an_hour(world: World) -> None:
    world.client.answers[BY_DIGEST] = FOUND
    await world.resolve(BY_DIGEST)
    world.skipped += 3599
    await world.resolve(BY_DIGEST)
    assert world.client.queried == [BY_DIGEST]


async def test_a_miss_is_used_for_its_time_and_never_stale(world: World) -> None:
    await world.resolve(A)
    assert await world.resolve(A) == Resolution(MISSING, -1)
    assert world.client.queried == [A]
    world.skipped += 10
    world.client.answers[A] = FOUND
    assert (await world.resolve(A)).answer == FOUND


async def test_errors_are_not_kept(world: World) -> None:
    world.client.answers[A] = failed("x")
    assert (await world.resolve(A)).answer == failed("x")
    world.client.answers[A] = FOUND
    assert (await world.resolve(A)).answer == FOUND


async def test_the_first_candidate_that_is_found_wins(world: World) -> None:
    world.client.answers = {A: MISSING, B: FOUND}
    assert await world.resolve(A, B) == Resolution(FOUND, 1)
    world.client.answers = {A: FOUND, B: OTHER}
    assert await world.resolve(B, A) == Resolution(FOUND, 0)  # the fact about B is still fresh


async def test_a_slow_candidate_does_not_hold_up_the_next(world: World) -> None:
    gate = world.client.answers[A] = asyncio.Event()
    world.client.answers[B] = FOUND
    assert await world.resolve(A, B) == Resolution(FOUND, 1)
    gate.set()  # the request continues and fills the cache
    await until(lambda: world.lookups.resolve_cached(Lookup((A,))) is not None)


async def test_a_slow_candidate_can_still_win(world: World) -> None:
    gate = world.client.answers[A] = asyncio.Event()
    task = asyncio.ensure_future(world.resolve(A, B))
    await until(lambda: B in world.client.queried)
    gate.set()
    assert await task == Resolution(FOUND, 0)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param(MISSING, MISSING, MISSING, id="missing-everywhere"),
        pytest.param(MISSING, failed("down"), failed("down"), id="one-error"),
        pytest.param(failed("down"), MISSING, failed("down"), id="the-first-is-an-error"),
        pytest.param(failed("one"), failed("two"), failed("one"), id="the-first-error"),
    ],
)
async def test_only_missing_everywhere_is_missing(
    world: World, first: Answer, second: Answer, expected: Answer
) -> None:
    world.client.answers = {A: first, B: second}
    assert await world.resolve(A, B) == Resolution(expected, -1)


async def test_a_registry_that_hangs_costs_its_timeout_and_no_other_look_up(world: World) -> None:
    world.settings["a.io"] = Registry(host="a.io", timeout=0.3)
    world.client.answers = {A: asyncio.Event(), B: FOUND}
    start = time.monotonic()
    answers = await world.lookups.resolve([Lookup((A,)), Lookup((B,))], 5.0)
    assert answers[Lookup((A,))].answer == failed("no answer in 0.3 s")
    assert answers[Lookup((B,))].answer == FOUND
    assert time.monotonic() - start < 3


async def test_the_reviews_budget_ends_the_waiting(world: World) -> None:
    world.client.answers = {A: asyncio.Event()}
    assert (await world.resolve(A, seconds=0.1)).answer == failed("no answer in 0.1 s")


async def test_a_host_outside_the_policy_is_never_queried(world: World) -> None:
    other = Manifest("169.254.169.254", "latest/meta-data", "v1")
    resolution = await world.resolve(other)
    assert resolution.answer == failed("the policy does not name this registry")
    assert world.client.queried == []


async def test_the_breaker_answers_at_once(world: World) -> None:
    world.client.answers[A] = Reply(failed("down"), trouble=True)
    for _ in range(5):
        await world.resolve(A)
    assert world.breakers == [("a.io", True)]
    assert world.lookups.open_breakers() == ("a.io",)
    cached = world.lookups.resolve_cached(Lookup((A,)))
    assert cached is not None
    assert cached.answer.cause == "its last 5 requests failed"
    assert len(world.client.queried) == 5


@pytest.mark.parametrize("changed", [["a.io"], None])
async def test_an_open_breaker_is_reported_closed_when_its_hosts_settings_change(
    world: World, changed: list[str] | None
) -> None:
    world.client.answers[A] = Reply(failed("down"), trouble=True)
    for _ in range(5):
        await world.resolve(A)
    world.lookups.configure(hosts=["a.io", "b.io"], changed=changed, pinned=())
    assert world.breakers == [("a.io", True), ("a.io", False)]
    assert world.lookups.open_breakers() == ()


async def test_the_rate_applies_to_each_host(world: World) -> None:
    world.settings["a.io"] = Registry(host="a.io", rate=1, timeout=0.1)
    answers = [await world.resolve(Manifest("a.io", "app", f"v{n}")) for n in range(2)]
    assert answers[1].answer.cause == "more than 1 requests a second"
    assert (await world.resolve(B)).answer == MISSING


async def test_a_look_up_without_a_turn_at_a_token_server_does_not_count_for_its_registry(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.1)
    world.settings["b.io"] = Registry(host="b.io", rate=4)
    world.client.answers[A] = Reply(failed("down"), trouble=True)
    for _ in range(5):
        await world.resolve(A)
    world.skipped += 5
    world.client.sends[A] = ("b.io",) * 5 + ("a.io",)
    cause = (await world.resolve(A)).answer.cause
    assert cause == "b.io: more than 4 requests a second"
    assert world.lookups.open_breakers() == ("a.io",)
    del world.client.sends[A]
    world.client.answers[A] = FOUND
    assert (await world.resolve(A)).answer == FOUND  # the probe is made by another look-up
    assert world.lookups.open_breakers() == ()


async def test_facts_of_a_changed_host_are_dropped_and_others_kept(world: World) -> None:
    world.client.answers = {A: FOUND, B: FOUND}
    await world.resolve(A)
    await world.resolve(B)
    world.lookups.configure(hosts=["a.io", "b.io"], changed={"a.io"}, pinned=())
    assert world.lookups.resolve_cached(Lookup((A,))) is None
    assert world.lookups.resolve_cached(Lookup((B,))) is not None
    world.lookups.configure(hosts=["a.io", "b.io"], changed=None, pinned=())
    assert world.lookups.resolve_cached(Lookup((B,))) is None


async def test_an_answer_to_an_older_request_is_not_stored(world: World) -> None:
    gate = world.client.answers[A] = asyncio.Event()
    task = asyncio.ensure_future(world.resolve(A))
    await until(lambda: world.client.queried)
    world.lookups.configure(hosts=["a.io"], changed=None, pinned=())
    gate.set()
    assert (await task).answer == FOUND  # the review uses its own answer
    assert world.lookups.resolve_cached(Lookup((A,))) is None


async def test_manifests_in_rules_are_fetched_when_the_policy_loads(world: World) -> None:
    world.client.answers[A] = FOUND
    world.lookups.start()
    world.lookups.configure(hosts=["a.io"], changed=(), pinned=[A, B])
    await until(lambda: world.lookups.resolve_cached(Lookup((A,))) is not None)
    assert world.client.queried == [A]  # the new rules do not name b.io


async def test_facts_in_use_are_renewed_before_they_expire(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENEW_AT", 0.001)
    world.client.answers[A] = FOUND
    await world.resolve(A)
    world.lookups.start()
    await until(lambda: len(world.client.queried) > 1)
    assert ("a.io", "stale") not in world.counted


async def test_facts_out_of_use_are_not_renewed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "USED_SECONDS", -1.0)
    monkeypatch.setattr(module, "RENEW_AT", 0.001)
    world.client.answers = {A: FOUND, B: FOUND}
    await world.resolve(A)
    world.lookups.configure(hosts=["a.io", "b.io"], changed=(), pinned=[B])
    world.lookups.start()
    await until(lambda: world.client.queried.count(B) > 1)
    assert world.client.queried.count(A) == 1


async def test_a_stale_fact_is_not_queried_at_every_use_when_its_registry_refuses(world: World) -> None:
    world.client.answers[A] = FOUND
    await world.resolve(A)
    world.skipped += 60
    world.client.answers[A] = failed("refused")
    for failures in range(1, 4):
        assert world.lookups.is_found(A)
        await until(lambda: world.counted.count(("a.io", "error")) == failures)  # noqa: B023 - awaited here
        for _ in range(5):
            assert world.lookups.is_found(A)
        await world.resolve(
            Manifest("b.io", "app", f"v{failures}")
        )  # runs the tasks that were started before
        assert world.client.queried.count(A) == 1 + failures
        world.skipped += module.RETRY_SECONDS
    world.client.answers[A] = FOUND
    assert world.lookups.is_found(A)
    await until(lambda: world.counted[-1] == ("a.io", "found"))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(FOUND, True, id="found"),
        pytest.param(MISSING, False, id="missing"),
        pytest.param(failed("x"), False, id="error"),
    ],
)
async def test_the_hot_path_and_reviews_read_the_same_facts(
    world: World, answer: Answer, *, expected: bool
) -> None:
    world.client.answers[A] = answer
    assert not world.lookups.is_found(A)
    assert world.client.queried == [], "the hot path queries no registry"
    await world.resolve(A)
    for seconds in (0.0, 0.5, 9.0):
        world.skipped += seconds
        assert world.lookups.is_found(A) is expected
        cached = world.lookups.resolve_cached(Lookup((A,)))
        assert (cached is not None and cached.answer.status == "found") is expected
    world.lookups.configure(hosts=["a.io", "b.io"], changed=["a.io"], pinned=())
    assert not world.lookups.is_found(A)


async def test_facts_that_the_hot_path_uses_are_renewed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hot path records the use of a fact at most once a second."""
    monkeypatch.setattr(module, "USED_SECONDS", 5.0)
    world.client.answers[A] = FOUND
    await world.resolve(A)
    for _ in range(47):
        world.skipped += 1
        assert world.lookups.is_found(A)
    world.lookups.start()
    assert world.client.queried == [A]
    world.skipped += 1.5
    await until(lambda: len(world.client.queried) > 1)
    assert ("a.io", "stale") not in world.counted


async def test_requests_waiting_for_a_failing_registry_are_never_sent(world: World) -> None:
    """The breaker also holds for requests that were admitted before it opened."""
    sent = [Manifest("a.io", f"app-{number}", "v1") for number in range(MAX_CONCURRENT)]
    waits = [Manifest("a.io", f"app-{MAX_CONCURRENT + number}", "v1") for number in range(30)]
    world.settings["a.io"] = Registry(host="a.io", rate=1000)
    gates = [asyncio.Event() for _ in sent]
    world.client.answers = dict(zip(sent, gates, strict=True))
    world.client.reply = Reply(failed("down"), trouble=True)
    task = asyncio.ensure_future(world.lookups.resolve([Lookup((each,)) for each in sent + waits], 5.0))
    await until(lambda: len(world.client.queried) == len(sent))
    for gate in gates:
        gate.set()
    answers = await task
    assert world.client.queried == sent
    assert {answers[Lookup((each,))].answer.cause for each in sent} == {"down"}
    assert all(answers[Lookup((each,))].answer.cause.endswith("requests failed") for each in waits)


async def test_a_request_waiting_for_a_slow_registry_is_sent_when_another_ends(world: World) -> None:
    manifests = [Manifest("a.io", f"app-{number}", "v1") for number in range(MAX_CONCURRENT + 1)]
    world.settings["a.io"] = Registry(host="a.io", rate=1000)
    gate = asyncio.Event()
    world.client.answers = dict.fromkeys(manifests, gate)
    task = asyncio.ensure_future(world.lookups.resolve([Lookup((each,)) for each in manifests], 5.0))
    await until(lambda: len(world.client.queried) == MAX_CONCURRENT)
    world.client.answers[manifests[-1]] = FOUND
    gate.set()
    answers = await task
    assert {resolution.answer for resolution in answers.values()} == {FOUND}


async def test_a_request_that_waited_too_long_is_an_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUEST_SECONDS", 100.0)
    manifests = [Manifest("a.io", f"app-{number}", "v1") for number in range(MAX_CONCURRENT + 1)]
    world.settings["a.io"] = Registry(host="a.io", rate=1000, timeout=5.0)
    gate = asyncio.Event()
    world.client.answers = dict.fromkeys(manifests, gate)
    task = asyncio.ensure_future(world.lookups.resolve([Lookup((each,)) for each in manifests], 5.0))
    await until(lambda: len(world.client.queried) == MAX_CONCURRENT)
    world.skipped += 101
    gate.set()
    await task
    await until(lambda: ("a.io", "error") in world.counted)
    assert manifests[-1] not in world.client.queried


async def test_close_cancels_running_requests(world: World) -> None:
    world.client.answers[A] = asyncio.Event()
    task = asyncio.ensure_future(world.resolve(A))
    await until(lambda: world.client.queried)
    await world.lookups.close()
    assert world.client.cancelled == [A]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_too_many_requests_under_way_are_an_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_REQUESTS", 1)
    gate = world.client.answers[A] = asyncio.Event()
    task: Awaitable[Resolution] = asyncio.ensure_future(world.resolve(A))
    await until(lambda: world.client.queried)
    assert "requests under way" in (await world.resolve(B)).answer.cause
    gate.set()
    await task


def apps(number: int, name: str = "app") -> list[Manifest]:
    return [Manifest("a.io", f"{name}-{each}", "v1") for each in range(number)]


async def test_a_namespace_that_uses_up_a_rate_delays_another_by_a_few_turns(world: World) -> None:
    world.settings["a.io"] = Registry(host="a.io", rate=20, timeout=2.0)
    wanted, mine = apps(1000), apps(12, "mine")
    world.client.answers = dict.fromkeys([*wanted, *mine], FOUND)
    flood = asyncio.ensure_future(world.lookups.resolve([Lookup((each,)) for each in wanted], 5.0, "greedy"))
    await until(lambda: len(world.client.queried) >= 20)
    answers = await asyncio.gather(*(world.resolve(each, namespace="modest") for each in mine))
    assert {resolution.answer for resolution in answers} == {FOUND}
    found = [resolution.answer for resolution in (await flood).values()].count(FOUND)
    assert found < 20 + 2 * 20
    assert "rate" in world.over_shares


async def test_a_namespace_that_uses_up_the_connections_delays_another_by_one_request(
    world: World,
) -> None:
    world.settings["a.io"] = Registry(host="a.io", rate=1000, timeout=5.0)
    wanted, mine = apps(200), apps(1, "mine")
    gates = {each: asyncio.Event() for each in wanted}
    world.client.answers = {**gates, mine[0]: FOUND}
    flood = asyncio.ensure_future(world.lookups.resolve([Lookup((each,)) for each in wanted], 5.0, "greedy"))
    await until(lambda: len(world.client.queried) == MAX_CONCURRENT)
    asking = asyncio.ensure_future(world.resolve(mine[0], namespace="modest"))
    for _ in range(10):
        await asyncio.sleep(0)
    for manifest in world.client.queried[:2]:
        gates[manifest].set()
    assert (await asking).answer == FOUND
    flood.cancel()


async def test_a_namespace_that_uses_up_the_requests_leaves_some_to_each_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_REQUESTS", 200)
    world.settings["a.io"] = Registry(host="a.io", rate=1000, timeout=5.0)
    gate = asyncio.Event()
    wanted, mine = apps(200), apps(3, "mine")
    world.client.answers = dict.fromkeys([*wanted, *mine], gate)
    flood = asyncio.ensure_future(world.lookups.resolve([Lookup((each,)) for each in wanted], 5.0, "greedy"))
    await until(lambda: len(world.client.queried) == MAX_CONCURRENT)
    lookups = [Lookup((each,)) for each in mine]
    asking = asyncio.ensure_future(world.lookups.resolve(lookups, 5.0, "modest"))
    await until(lambda: world.over_shares)
    gate.set()
    causes = [resolution.answer.cause for resolution in (await asking).values()]
    assert causes.count("more than 200 requests under way") == 1
    assert world.over_shares == ["requests"]
    await flood


class TestWaitingReviews:
    """One namespace has at most a quarter of the places while others wait."""

    async def test_a_namespace_alone_has_all_places_and_another_takes_the_latest(self, world: World) -> None:
        gate = world.client.answers[A] = asyncio.Event()
        waiting = [
            asyncio.ensure_future(world.resolve(A, namespace="greedy")) for _ in range(module.MAX_WAITING)
        ]
        await until(lambda: world.client.queried)
        modest = [asyncio.ensure_future(world.resolve(A, namespace="modest")) for _ in range(25)]
        displaced = await asyncio.gather(*waiting[-25:])
        assert {each.answer for each in displaced} == {failed(OVER_SHARE)}
        more = await world.resolve(A, namespace="modest")
        assert more.answer == failed(OVER_SHARE)
        gate.set()
        kept = await asyncio.gather(*waiting[:-25], *modest)
        assert {each.answer for each in kept} == {FOUND}
        assert world.over_shares == ["waiting"] * 26

    async def test_places_are_given_back(self, world: World) -> None:
        world.client.answers[A] = FOUND
        for number in range(module.MAX_WAITING + 1):
            world.skipped += 60
            assert (await world.resolve(A, namespace=f"ns-{number % 7}")).answer == FOUND

    async def test_no_namespace_gets_a_place_when_all_have_their_share(self, world: World) -> None:
        gate = world.client.answers[A] = asyncio.Event()
        waiting = [
            asyncio.ensure_future(world.resolve(A, namespace=f"ns-{number % 4}"))
            for number in range(module.MAX_WAITING)
        ]
        await until(lambda: world.client.queried)
        late = await world.resolve(A, namespace="late")
        assert late.answer == failed("more than 100 reviews wait for registries")
        gate.set()
        assert {each.answer for each in await asyncio.gather(*waiting)} == {FOUND}
        assert world.over_shares == []
