"""Look-ups use facts where possible, share requests between reviews, and keep the time limit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from itertools import count

import pytest

from gatekeeper_py.core.images.manifest import (
    EXISTENCE,
    MISSING,
    SIGNATURE,
    Answer,
    Kind,
    Lookup,
    Manifest,
    Resolution,
    failed,
)
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.process.shares import NOBODY, Share
from gatekeeper_py.registry import lookups as module
from gatekeeper_py.registry.asking import Reply
from gatekeeper_py.registry.fairness import OVER_SHARE
from gatekeeper_py.registry.pacing import MAX_CONCURRENT, RESERVED
from registry.lookingup import DOWN, FOUND, OTHER, OURS, THEIRS, World, until
from support.virtualtime import loop_time

A, B = Manifest("a.io", "app", "v1"), Manifest("b.io", "app", "v1")
BY_DIGEST = Manifest("a.io", "app", "sha256:" + "1" * 64)
ELSEWHERE = Manifest("169.254.169.254", "latest/meta-data", "v1")

SHOP = Share("api", "shop")
PAUSE = Reply(failed("slower"), pause=60.0)
SHARE = MAX_CONCURRENT - RESERVED
"""The number of concurrent requests to a host that one namespace may have."""


def apps(number: int, name: str = "app") -> list[Manifest]:
    return [Manifest("a.io", f"{name}-{each}", "v1") for each in range(number)]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World(Registry(host="a.io", timeout=2.0), Registry(host="b.io", timeout=2.0))
    yield made
    await made.lookups.close()


@pytest.mark.parametrize(
    ("manifest", "first", "seconds", "second", "queries"),
    [
        pytest.param(A, FOUND, 59, FOUND, 1, id="found"),
        pytest.param(A, FOUND, 60 + 599, FOUND, 2, id="stale"),
        pytest.param(A, FOUND, 60 + 601, OTHER, 2, id="too-old"),
        pytest.param(BY_DIGEST, FOUND, 3599, FOUND, 1, id="by-digest"),
        pytest.param(BY_DIGEST, FOUND, 3601, FOUND, 2, id="by-digest-stale"),
        pytest.param(A, MISSING, 9, MISSING, 1, id="missing"),
        pytest.param(A, MISSING, 10, OTHER, 2, id="missing-is-never-stale"),
        pytest.param(A, failed("x"), 0, OTHER, 2, id="errors-are-not-kept"),
    ],
)
async def test_an_answer_is_used_for_its_time(
    world: World, manifest: Manifest, first: Answer, seconds: float, second: Answer, queries: int
) -> None:
    assert world.cached(manifest) is None
    world.client.answers[manifest] = first
    assert (await world.resolve(manifest)).answer == first
    world.skipped += seconds
    world.client.answers[manifest] = OTHER
    assert (await world.resolve(manifest)).answer == second
    await until(lambda: len(world.client.queried) == queries)
    await until(lambda: world.counted.timed == queries)
    is_stale = second == FOUND and queries > 1
    assert (("a.io", "stale") in world.counted.results) is is_stale
    if is_stale:
        assert (await world.resolve(manifest)).answer == OTHER, "it was renewed meanwhile"


async def test_a_hundred_reviews_make_one_request_and_further_ones_are_refused(world: World) -> None:
    gate = world.client.answers[A] = asyncio.Event()
    waiting = [asyncio.ensure_future(world.resolve(A)) for _ in range(module.MAX_WAITING)]
    await until(lambda: world.client.queried)
    assert (await world.resolve(A)).answer == failed("more than 100 reviews wait for registries")
    gate.set()
    assert all(resolution.answer == FOUND for resolution in await asyncio.gather(*waiting))
    assert world.client.queried == [A]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param(MISSING, FOUND, Resolution(FOUND, 1), id="the-second-has-it"),
        pytest.param(FOUND, OTHER, Resolution(FOUND, 0), id="the-first-wins"),
        pytest.param(MISSING, MISSING, Resolution(MISSING), id="missing-everywhere"),
        pytest.param(MISSING, failed("down"), Resolution(failed("down")), id="one-error"),
        pytest.param(failed("down"), MISSING, Resolution(failed("down")), id="the-first-is-an-error"),
        pytest.param(failed("one"), failed("two"), Resolution(failed("one")), id="the-first-error"),
    ],
)
async def test_the_first_candidate_that_is_found_wins_and_only_missing_everywhere_is_missing(
    world: World, first: Answer, second: Answer, expected: Resolution
) -> None:
    world.client.answers = {A: first, B: second}
    assert await world.resolve(A, B) == expected


async def test_a_slow_candidate_does_not_hold_up_the_next_and_can_still_win(world: World) -> None:
    gate = world.client.answers[A] = asyncio.Event()
    world.client.answers[B] = FOUND
    assert await world.resolve(A, B) == Resolution(FOUND, 1)
    gate.set()  # the request continues and fills the cache
    await until(lambda: world.cached(A) is not None)
    world.use()
    gate.clear()
    world.client.answers[B] = MISSING
    task = asyncio.ensure_future(world.resolve(A, B))
    await until(lambda: world.client.queried.count(B) == 2)
    gate.set()
    assert await task == Resolution(FOUND, 0)


async def test_a_registry_that_hangs_costs_its_timeout_and_no_other_look_up(world: World) -> None:
    world.settings["a.io"] = Registry(host="a.io", timeout=0.3)
    world.client.answers = {A: asyncio.Event(), B: FOUND}
    start = loop_time()
    assert await world.resolve_all([A, B]) == [failed("no answer in 0.3 s"), FOUND]
    assert loop_time() - start == pytest.approx(0.3)
    assert (await world.resolve(A, seconds=0.1)).answer == failed("no answer in 0.1 s"), "the review's budget"


@pytest.mark.parametrize("kind", [EXISTENCE, SIGNATURE], ids=lambda kind: kind.name)
async def test_a_host_outside_the_policy_is_never_queried(world: World, kind: Kind) -> None:
    """For a signature, the answer is not an error, because onError: keep would approve the image."""
    manifest = ELSEWHERE._replace(kind=kind)
    resolution = await world.resolve(manifest)
    expected = failed("the policy does not name this registry")
    assert resolution.answer == (expected._replace(status="missing") if kind is SIGNATURE else expected)
    world.lookups.answered({Lookup((manifest,)): resolution})
    assert (world.client.queried, world.counted.results, world.log.lines) == ([], [], [])


@pytest.mark.parametrize("changed", [["a.io"], None])
async def test_the_breaker_answers_at_once_until_its_hosts_settings_change(
    world: World, changed: list[str] | None
) -> None:
    world.client.answers[A] = DOWN
    for _ in range(5):
        await world.resolve(A)
    assert world.counted.breakers == [("a.io", True)]
    assert world.lookups.open_breakers() == ("a.io",)
    assert world.cached(A) == Resolution(failed("its last 5 requests failed"), unanswered="a.io")
    assert len(world.client.queried) == 5
    world.use(changed=changed)
    assert world.counted.breakers == [("a.io", True), ("a.io", False)]
    assert world.lookups.open_breakers() == ()
    levels = [(level, event) for level, event, _ in world.log.lines]
    assert levels == [
        ("warning", "lookup_failed"),
        ("warning", "lookup_breaker_opened"),
        ("info", "lookup_breaker_closed"),
    ]


async def test_the_rate_applies_to_each_host(world: World) -> None:
    world.settings["a.io"] = Registry(host="a.io", rate=1, timeout=0.1)
    answers = [(await world.resolve(each)).answer for each in apps(2)]
    assert answers[1].cause == "more than 1 requests a second"
    assert (await world.resolve(B)).answer == MISSING


async def test_a_look_up_without_a_turn_at_a_token_server_does_not_count_for_its_registry(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.1)
    world.settings["b.io"] = Registry(host="b.io", rate=4)
    world.client.answers[A] = DOWN
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
    world.use(changed=["a.io"])
    assert world.cached(A) is None
    assert world.cached(B) is not None
    world.use(changed=None)
    assert world.cached(B) is None


async def test_an_answer_to_an_older_request_is_not_stored(world: World) -> None:
    gate = world.client.answers[A] = asyncio.Event()
    task = asyncio.ensure_future(world.resolve(A))
    await until(lambda: world.client.queried)
    world.use()
    gate.set()
    assert (await task).answer == FOUND  # the review uses its own answer
    assert world.cached(A) is None


async def test_manifests_in_rules_are_fetched_when_the_policy_loads(world: World) -> None:
    world.client.answers[A] = FOUND
    world.lookups.start()
    del world.settings["b.io"]
    world.use(A, B)
    await until(lambda: world.cached(A) is not None)
    assert world.client.queried == [A]  # the new rules do not name b.io


async def test_facts_out_of_use_are_not_renewed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "USED_SECONDS", -1.0)
    monkeypatch.setattr(module, "RENEW_AT", 0.001)
    world.client.answers = {A: FOUND, B: FOUND}
    await world.resolve(A)
    world.use(B, changed=[])
    world.lookups.start()
    await until(lambda: world.client.queried.count(B) > 1)
    assert world.client.queried.count(A) == 1


async def test_a_stale_fact_is_not_queried_at_every_use_when_its_registry_refuses(world: World) -> None:
    world.client.answers[A] = FOUND
    await world.resolve(A)
    world.skipped += 60
    world.client.answers[A] = failed("refused")
    for failures in range(1, 4):
        assert world.found(A)
        await until(lambda: world.counted.results.count(("a.io", "error")) == failures)  # noqa: B023 - awaited here
        for _ in range(5):
            assert world.found(A)
        await world.resolve(
            Manifest("b.io", "app", f"v{failures}")
        )  # runs the tasks that were started before
        assert world.client.queried.count(A) == 1 + failures
        world.skipped += module.RETRY_SECONDS
    world.client.answers[A] = FOUND
    assert world.found(A)
    await until(lambda: world.counted.results[-1] == ("a.io", "found"))


async def test_facts_that_the_hot_path_uses_are_renewed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hot path records the use of a fact at most once a second."""
    monkeypatch.setattr(module, "USED_SECONDS", 5.0)
    world.client.answers[A] = FOUND
    await world.resolve(A)
    for _ in range(47):
        world.skipped += 1
        assert world.found(A)
    world.lookups.start()
    assert world.client.queried == [A]
    world.skipped += 1.5
    await until(lambda: len(world.client.queried) > 1)
    assert ("a.io", "stale") not in world.counted.results


async def test_requests_waiting_for_a_failing_registry_are_never_sent(world: World) -> None:
    """The breaker also holds for requests that were admitted before it opened."""
    sent, waits = apps(SHARE), apps(30, "late")
    world.settings["a.io"] = Registry(host="a.io", rate=1000)
    gates = [asyncio.Event() for _ in sent]
    world.client.answers = dict(zip(sent, gates, strict=True))
    world.client.reply = DOWN
    task = asyncio.ensure_future(world.resolve_all(sent + waits))
    await until(lambda: len(world.client.queried) == len(sent))
    for gate in gates:
        gate.set()
    causes = [answer.cause for answer in await task]
    assert world.client.queried == sent
    assert set(causes[: len(sent)]) == {"down"}
    assert all(cause.endswith("requests failed") for cause in causes[len(sent) :])


@pytest.mark.parametrize("seconds", [0, 101], ids=["in-time", "too-late"])
async def test_a_request_waiting_for_a_slow_registry_is_sent_when_another_ends_if_it_is_in_time(
    world: World, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(module, "REQUEST_SECONDS", 100.0)
    *sent, waits = manifests = apps(SHARE + 1)
    world.settings["a.io"] = Registry(host="a.io", rate=1000, timeout=5.0)
    gate = world.client.other_answers = asyncio.Event()
    task = asyncio.ensure_future(world.resolve_all(manifests))
    await until(lambda: len(world.client.queried) == len(sent))
    world.skipped += seconds
    gate.set()
    await task
    await until(lambda: len(world.counted.results) == len(manifests))
    assert (waits in world.client.queried) is (not seconds)
    assert (("a.io", "error") in world.counted.results) is bool(seconds)


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
    task = asyncio.ensure_future(world.resolve(A))
    await until(lambda: world.client.queried)
    assert "requests under way" in (await world.resolve(B)).answer.cause
    gate.set()
    await task


async def test_a_namespace_that_uses_up_a_rate_delays_another_by_a_few_turns(world: World) -> None:
    world.settings["a.io"] = Registry(host="a.io", rate=20, timeout=2.0)
    world.client.other_answers = FOUND
    flood = asyncio.ensure_future(world.resolve_all(apps(1000), "greedy"))
    await until(lambda: len(world.client.queried) >= 20)
    answers = await asyncio.gather(*(world.resolve(each, namespace="modest") for each in apps(12, "mine")))
    assert {resolution.answer for resolution in answers} == {FOUND}
    assert (await flood).count(FOUND) < 20 + 2 * 20
    assert "rate" in world.counted.over_shares


async def test_a_namespace_that_uses_up_the_connections_delays_another_by_one_request(
    world: World,
) -> None:
    world.settings["a.io"] = Registry(host="a.io", rate=1000, timeout=5.0)
    wanted, (mine,) = apps(200), apps(1, "mine")
    gates = {each: asyncio.Event() for each in wanted}
    world.client.answers = {**gates, mine: FOUND}
    flood = asyncio.ensure_future(world.resolve_all(wanted, "greedy"))
    await until(lambda: len(world.client.queried) == SHARE)
    asking = asyncio.ensure_future(world.resolve(mine, namespace="modest"))
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
    gate = world.client.other_answers = asyncio.Event()
    flood = asyncio.ensure_future(world.resolve_all(apps(200), "greedy"))
    await until(lambda: len(world.client.queried) == SHARE)
    asking = asyncio.ensure_future(world.resolve_all(apps(3, "mine"), "modest"))
    await until(lambda: world.counted.over_shares)
    gate.set()
    causes = [answer.cause for answer in await asking]
    assert causes.count("more than 200 requests under way") == 1
    assert world.counted.over_shares == ["requests"]
    await flood


@pytest.mark.parametrize(("forged", "images"), [(40, 1), (4, 50)])
async def test_namespaces_that_a_peer_invents_use_up_no_rate_of_another_peer(
    world: World, forged: int, images: int
) -> None:
    """Not even with the name of the victim's namespace."""
    world.settings["a.io"] = Registry(host="a.io", rate=20, timeout=1.0)
    world.client.other_answers = FOUND
    numbers = count()

    async def flood(namespace: str) -> None:
        while True:
            await world.resolve_all(apps(images, f"bad-{next(numbers)}"), namespace, "bad")
            await asyncio.sleep(0.02)

    names = ["victim", *(f"ns-{number}" for number in range(forged - 1))]
    floods = [asyncio.create_task(flood(each)) for each in names]
    await asyncio.sleep(3.0)
    for mine in apps(10, "mine"):
        assert (await world.resolve(mine, namespace="victim")).answer == FOUND
        await asyncio.sleep(0.5)
    for each in floods:
        each.cancel()
    await asyncio.gather(*floods, return_exceptions=True)


class TestPlaces:
    """Peers share the places of reviews. One namespace has at most a quarter while others wait."""

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
        assert world.counted.over_shares == ["waiting"] * 26

    async def test_places_are_given_back(self, world: World) -> None:
        world.client.answers[A] = FOUND
        for number in range(module.MAX_WAITING + 1):
            world.skipped += 60
            assert (await world.resolve(A, namespace=f"ns-{number % 7}")).answer == FOUND

    @pytest.mark.parametrize(
        ("namespaces", "peer", "gets"),
        [
            pytest.param(4, "10.0.0.1", 20, id="of-the-same-peer"),
            pytest.param(4, "10.0.0.2", 25, id="of-another-peer"),
            pytest.param(100, "10.0.0.1", 0, id="none-is-larger"),
            pytest.param(100, "10.0.0.2", 25, id="invented-by-another-peer"),
        ],
    )
    async def test_when_all_places_are_taken_whoever_has_fewer_takes_the_latest_of_the_largest(
        self, world: World, namespaces: int, peer: str, gets: int
    ) -> None:
        gate = world.client.answers[A] = asyncio.Event()
        waiting = [
            asyncio.ensure_future(world.resolve(A, namespace=f"ns-{number % namespaces}", peer="10.0.0.1"))
            for number in range(module.MAX_WAITING)
        ]
        await until(lambda: world.client.queried)
        late = [asyncio.ensure_future(world.resolve(A, namespace="ns-late", peer=peer)) for _ in range(25)]
        for _ in range(200):
            await asyncio.sleep(0)
        gate.set()
        answers = [each.answer for each in await asyncio.gather(*late)]
        kept = [each.answer for each in await asyncio.gather(*waiting)]
        assert kept.count(failed(OVER_SHARE)) == gets == answers.count(FOUND)
        assert kept.count(FOUND) == module.MAX_WAITING - gets

    async def test_two_peers_share_the_places_equally_whatever_namespaces_they_invent(
        self, world: World
    ) -> None:
        gate = world.client.answers[A] = asyncio.Event()
        waiting = {
            peer: [
                asyncio.ensure_future(world.resolve(A, namespace=f"ns-{number}", peer=peer))
                for number in range(module.MAX_WAITING)
            ]
            for peer in ("bad", "api")
        }
        for _ in range(200):
            await asyncio.sleep(0)
        gate.set()
        found = {peer: [each.answer for each in await asyncio.gather(*waiting[peer])] for peer in waiting}
        assert {peer: answers.count(FOUND) for peer, answers in found.items()} == {"bad": 50, "api": 50}


class TestCounting:
    """Every error that decides a review is counted, and its cause is logged."""

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        made = World(Registry(host="a.io", timeout=0.1, rate=1000), Registry(host="b.io", timeout=0.1))
        made.client.other_answers = FOUND
        yield made
        await made.lookups.close()

    @staticmethod
    async def review(world: World, *manifests: Manifest) -> str:
        """Answer a review as the webhook does, and return the cause of the first error."""
        lookups = [Lookup((manifest,)) for manifest in manifests]
        cached = {lookup: known for lookup in lookups if (known := world.lookups.resolve_cached(lookup))}
        resolved = await world.lookups.resolve([each for each in lookups if each not in cached], 5.0)
        used = {**cached, **resolved}
        world.lookups.answered(used)
        return next((each.answer.cause for each in used.values() if each.answer.cause), "")

    @pytest.mark.parametrize(
        ("answer", "most", "causes", "errors", "timed"),
        [
            pytest.param(FOUND, 100, [""] * 2, 0, 1, id="a-cached-answer-is-no-error"),
            pytest.param(DOWN, 100, ["down"] * 5 + ["its last 5 requests failed"], 6, 5, id="a-breaker"),
            pytest.param(
                PAUSE, 100, ["slower", "it requested a pause of another 60 s"], 2, 1, id="a-pause"
            ),
            pytest.param(FOUND, 0, ["more than 0 reviews wait for registries"], 1, 0, id="too-many-wait"),
            pytest.param(asyncio.Event(), 100, ["no answer in 0.1 s"], 1, 0, id="no-answer-yet"),
        ],
    )  # fmt: skip
    async def test_an_error_is_counted_once_for_each_review_or_request(
        self,
        world: World,
        monkeypatch: pytest.MonkeyPatch,
        answer: Answer | Reply | asyncio.Event,
        most: int,
        causes: list[str],
        errors: int,
        timed: int,
    ) -> None:
        monkeypatch.setattr(module, "MAX_WAITING", most)
        world.client.answers[A] = answer
        assert [await self.review(world, A) for _ in causes] == causes
        assert Counter(world.counted.results)["a.io", "error"] == errors
        assert world.counted.timed == timed
        lines = world.log.named("lookup_failed")
        assert lines == ([{"host": "a.io", "cause": causes[0], "suppressed": 0}] if errors else [])

    async def test_reviews_that_share_a_request_count_it_once(self, world: World) -> None:
        world.client.answers[A] = DOWN
        await asyncio.gather(*(self.review(world, A) for _ in range(3)))
        assert world.counted.results == [("a.io", "error")]

    async def test_one_line_in_ten_seconds_for_each_registry(self, world: World) -> None:
        def fail(manifest: Manifest, cause: str) -> None:
            world.lookups.answered({Lookup((manifest,)): Resolution(failed(cause), unanswered=manifest.host)})

        for _ in range(20):
            fail(A, "down")
        fail(B, "down")
        world.skipped += 10
        fail(A, "certificate: expired")
        assert world.log.named("lookup_failed") == [
            {"host": "a.io", "cause": "down", "suppressed": 0},
            {"host": "b.io", "cause": "down", "suppressed": 0},
            {"host": "a.io", "cause": "certificate: expired", "suppressed": 19},
        ]


SIGNED = Manifest("a.io", "app", "sha256:" + "1" * 64, SIGNATURE, (OURS,))
VALID = Answer("found", SIGNED.reference, key=OURS, form="bundle")


async def test_a_valid_signature_is_never_looked_up_again(world: World) -> None:
    """Neither time nor new settings, new files or a registry that is down make it invalid."""
    world.client.answers[SIGNED] = VALID
    assert (await world.resolve(SIGNED)).answer == VALID
    world.client.answers[SIGNED] = DOWN
    world.skipped += 365 * 86400
    world.use(changed=["a.io"])
    world.use(changed=None)
    both = SIGNED._replace(keys=(OURS, THEIRS))
    for manifest in (SIGNED, both):
        assert (await world.resolve(manifest)).answer == VALID
        assert world.found(manifest)
    assert world.client.queried == [SIGNED]
    assert world.counted.signatures == ["valid"]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(SIGNED._replace(keys=(THEIRS,)), id="its-key-was-removed-from-the-rule"),
        pytest.param(SIGNED._replace(reference="sha256:" + "2" * 64), id="another-image"),
        pytest.param(SIGNED._replace(repository="other"), id="another-repository-of-signatures"),
        pytest.param(SIGNED._replace(host="b.io"), id="another-registry"),
        pytest.param(SIGNED._replace(kind=EXISTENCE, keys=()), id="another-kind"),
    ],
)
async def test_a_valid_signature_answers_no_other_look_up(world: World, other: Manifest) -> None:
    world.client.answers[SIGNED] = VALID
    await world.resolve(SIGNED)
    assert world.cached(other) is None
    assert (await world.resolve(other)).answer == MISSING


async def test_a_valid_signature_is_remembered_even_if_the_policy_changes_meanwhile(world: World) -> None:
    gate = world.client.answers[SIGNED] = asyncio.Event()
    world.client.reply = Reply(VALID)
    waiting = asyncio.ensure_future(world.resolve(SIGNED))
    await until(lambda: world.client.queried)
    world.use(changed=None)
    gate.set()
    assert (await waiting).answer == VALID
    assert world.cached(SIGNED) == Resolution(VALID, 0)


@pytest.mark.parametrize("returns_meanwhile", [False, True])
async def test_an_answer_without_all_keys_of_its_look_up_is_not_remembered(
    world: World, *, returns_meanwhile: bool
) -> None:
    """Otherwise, signed images would stay refused after somebody removes a key and adds it again."""
    gate = world.client.answers[SIGNED] = asyncio.Event()
    world.client.reply = Reply(MISSING)
    world.use(changed=[], keys=[THEIRS])
    waiting = asyncio.ensure_future(world.resolve(SIGNED))
    await until(lambda: world.client.queried)
    if returns_meanwhile:
        world.use(changed=[])
    gate.set()
    assert (await waiting).answer == MISSING
    world.use(changed=[])
    world.client.answers[SIGNED] = VALID
    assert (await world.resolve(SIGNED)).answer == VALID


@pytest.mark.parametrize(
    ("answer", "result", "kept"),
    [
        pytest.param(MISSING, "unsigned", True, id="unsigned"),
        pytest.param(Answer("missing", cause="other_key"), "other_key", True, id="another-key"),
        pytest.param(Answer("missing", cause="there are more than 8"), "unsigned", True, id="limit"),
        pytest.param(failed("down"), "error", False, id="error"),
    ],
)
async def test_an_unsigned_image_is_looked_up_again_after_ttl_missing(
    world: World, answer: Answer, result: str, *, kept: bool
) -> None:
    world.client.answers[SIGNED] = answer
    assert (await world.resolve(SIGNED)).answer == answer
    world.client.answers[SIGNED] = VALID
    world.skipped += 9
    assert (await world.resolve(SIGNED)).answer == (answer if kept else VALID)
    world.skipped += 1
    assert (await world.resolve(SIGNED)).answer == VALID
    assert world.counted.signatures == [result, "valid"]


async def test_the_rounds_of_a_review_share_its_registrys_timeout(world: World) -> None:
    world.client.answers[A] = asyncio.Event()
    start = loop_time()
    resolution = (await world.lookups.resolve([Lookup((A,))], 5.0, NOBODY, 1.8))[Lookup((A,))]
    assert resolution.answer == failed("no answer in 2.0 s")
    assert loop_time() - start == pytest.approx(2.0 - 1.8)


async def test_the_look_ups_of_a_workload_run_in_the_background_until_none_is_left(world: World) -> None:
    rounds: list[list[Lookup]] = [[Lookup((A, B))], [Lookup((SIGNED,))], []]
    world.client.answers = {A: FOUND, B: MISSING, SIGNED: VALID}
    world.lookups.look_ahead(lambda: rounds.pop(0), SHOP)
    await until(lambda: not rounds)
    assert world.client.queried == [A, B, SIGNED]
    assert world.cached(SIGNED) == Resolution(VALID, 0)
    assert world.client.most_under_way == 1


async def test_workloads_in_the_background_share_the_places_by_peer_and_namespace(world: World) -> None:
    world.client.other_answers = asyncio.Event()
    for number in range(2 * module.MAX_AHEAD):
        for namespace in ("greedy", f"team-{number % 4}"):
            image = Manifest("a.io", f"{namespace}-{number}", "v1")
            world.lookups.look_ahead(partial(list, [Lookup((image,))]), Share("api", namespace))
    await until(lambda: len(world.lookups._ahead) == module.MAX_AHEAD)
    held = {share.namespace: len(places) for share, places in world.lookups._waiting_ahead._scopes.items()}
    assert held == dict.fromkeys(("greedy", *(f"team-{number}" for number in range(4))), 20)
    world.lookups.look_ahead(lambda: [Lookup((A,))], Share("another", "shop"))
    await until(lambda: A in world.lookups._requests)
    await until(lambda: len(world.lookups._ahead) == module.MAX_AHEAD)
    world.lookups.stop_refreshing()
    await until(lambda: not world.lookups._ahead)


async def test_a_review_hurries_a_look_up_that_began_in_the_background(world: World) -> None:
    gate = world.client.answers[SIGNED] = asyncio.Event()
    world.client.reply = Reply(VALID)
    world.lookups.look_ahead(lambda: [Lookup((SIGNED,))], SHOP)
    await until(lambda: world.client.queried)
    waiting = asyncio.ensure_future(world.resolve(SIGNED, namespace="shop"))
    await until(lambda: any(claim.urgent for claim in world.lookups._tasks.values()))
    world.lookups.stop_refreshing()  # ends what no review waits for
    gate.set()
    assert (await waiting).answer == VALID
    assert world.client.queried == [SIGNED]


async def test_an_error_in_the_background_is_not_looked_up_again_and_again(world: World) -> None:
    world.client.answers[A] = failed("down")
    world.lookups.look_ahead(lambda: [Lookup((A,))], SHOP)
    await until(lambda: not world.lookups._ahead)
    assert world.client.queried == [A]


async def test_the_look_ups_of_a_workload_leave_their_place_to_others_after_a_while(world: World) -> None:
    gate = world.client.answers[A] = asyncio.Event()
    world.lookups.look_ahead(lambda: [Lookup((A,)), Lookup((B,))], SHOP)
    await until(lambda: world.client.queried)
    world.skipped += module.AHEAD_SECONDS
    gate.set()
    await until(lambda: not world.lookups._ahead)
    assert world.client.queried == [A]
