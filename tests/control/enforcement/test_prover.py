"""The prover probes every API server each minute and reports the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

import pytest
from prometheus_client import CollectorRegistry

from gatekeeper_py.control.enforcement.evidence import Outcome
from gatekeeper_py.control.enforcement.prover import (
    CONFIGURED,
    PERIOD_SECONDS,
    RETRY_SECONDS,
    WAITING_SECONDS,
    Prover,
)
from gatekeeper_py.control.metrics import EnforcementMetrics
from gatekeeper_py.control.probe_pod import Answer
from gatekeeper_py.control.webhooks.templates import POD_VALIDATION
from recording import RecordingLog

SILENT = Answer(problem="cannot connect")
ADMITTED = Answer(status=201, body=b"{}")


class Enough(Exception):
    """Ends an endless loop."""


class World:
    """A prover with API servers by address. A server without an entry refuses the Pod, as expected."""

    def __init__(self) -> None:
        self.servers: Sequence[str] = ()
        self.answers: dict[str, Answer] = {}
        self.sent: list[tuple[str, str]] = []
        self.armed = True
        self.rejects_valid_images = True
        self.reported: list[tuple[bool, Mapping[Outcome, int]]] = []
        self.slept: list[float] = []
        self.log = RecordingLog()
        tokens = count()
        self.prover = Prover(
            self.send,
            self.addresses,
            armed=lambda: self.armed,
            rejects_valid_images=lambda: self.rejects_valid_images,
            observer=self,
            log=self.log,
            token=lambda: f"token{next(tokens)}",
            sleep=self.sleep,
        )

    async def addresses(self) -> Sequence[str]:
        return self.servers

    async def send(self, server: str, image: str) -> Answer:
        self.sent.append((server, image))
        text = f'admission webhook \\"{POD_VALIDATION}\\" denied the request: {image}'
        refused = Answer(status=403, body=f'{{"message": "{text}"}}'.encode())
        return self.answers.get(server, refused)

    def enforced(self, *, enforced: bool, servers: Mapping[Outcome, int]) -> None:
        self.reported.append((enforced, {name: number for name, number in servers.items() if number}))

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) == 3:
            raise Enough


@pytest.fixture
def world() -> World:
    return World()


async def test_a_round_each_minute(world: World) -> None:
    with pytest.raises(Enough):
        await world.prover.run()
    assert world.slept == [PERIOD_SECONDS] * 3
    assert len(world.sent) == 3


async def test_each_probe_has_an_image_of_its_own(world: World) -> None:
    world.servers = ("a:1", "b:1")
    await world.prover.round()
    await world.prover.round()
    assert len({image for _, image in world.sent}) == 4


async def test_every_api_server_is_probed(world: World) -> None:
    world.servers = ("a:1", "b:1", "c:1")
    assert await world.prover.round() == PERIOD_SECONDS
    assert [server for server, _ in world.sent] == ["a:1", "b:1", "c:1"]
    assert world.reported == [(True, {"enforced": 3})]


async def test_one_api_server_that_admits_the_image_is_enough_for_a_warning(world: World) -> None:
    world.servers = ("a:1", "b:1")
    world.answers["b:1"] = ADMITTED
    assert await world.prover.round() == RETRY_SECONDS
    assert world.reported == [(False, {"enforced": 1, "not_enforced": 1})]
    [line] = world.log.named("not_enforced")
    assert list(line["problems"]) == ["b:1"]


async def test_an_unreachable_api_server_is_named_and_does_not_count(world: World) -> None:
    world.servers = ("a:1", "b:1")
    world.answers["b:1"] = SILENT
    assert await world.prover.round() == PERIOD_SECONDS
    assert world.reported == [(True, {"enforced": 1, "unreachable": 1})]
    [line] = world.log.named("enforced")
    assert line["problems"] == {"b:1": "cannot connect"}


async def test_the_configured_api_server_is_probed_if_none_is_reached_directly(world: World) -> None:
    world.servers = ("a:1", "b:1")
    world.answers = {"a:1": SILENT, "b:1": SILENT}
    await world.prover.round()
    assert world.sent[-1][0] == CONFIGURED
    assert world.reported == [(True, {"enforced": 1, "unreachable": 2})]


async def test_the_configured_api_server_is_probed_without_addresses(world: World) -> None:
    await world.prover.round()
    assert [server for server, _ in world.sent] == [CONFIGURED]
    assert world.reported == [(True, {"enforced": 1})]


async def test_a_round_without_an_answer_is_not_a_proof(world: World) -> None:
    world.answers[CONFIGURED] = SILENT
    assert await world.prover.round() == RETRY_SECONDS
    assert world.reported == [(False, {"unreachable": 1})]


async def test_nothing_is_probed_while_the_webhook_is_not_armed(world: World) -> None:
    world.armed = False
    assert await world.prover.round() == WAITING_SECONDS
    assert world.sent == []
    assert world.reported == [(False, {})]
    assert world.log.events == []


async def test_a_policy_that_approves_valid_probes_gets_an_image_that_is_not_valid(world: World) -> None:
    world.rejects_valid_images = False
    await world.prover.round()
    assert "NOT-VALID" in world.sent[0][1]
    assert world.reported == [(True, {"enforced": 1})]


async def test_changes_are_logged_once(world: World) -> None:
    for answer in (None, None, ADMITTED, ADMITTED, None):
        world.answers = {} if answer is None else {CONFIGURED: answer}
        await world.prover.round()
    assert world.log.events == ["enforced", "not_enforced", "enforced"]


async def test_after_a_pause_the_proof_is_logged_again(world: World) -> None:
    await world.prover.round()
    world.armed = False
    await world.prover.round()
    world.armed = True
    await world.prover.round()
    assert world.log.events == ["enforced", "enforced"]


def test_the_metrics_keep_the_time_of_the_last_proof() -> None:
    registry = CollectorRegistry()
    metrics = EnforcementMetrics(registry)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"gatekeeper_py_control_{name}", labels)

    assert (value("enforced"), value("last_enforced_timestamp_seconds")) == (0, 0)
    assert value("api_servers", outcome="not_enforced") == 0
    metrics.enforced(enforced=True, servers={"enforced": 2})
    assert value("enforced") == 1
    assert value("api_servers", outcome="enforced") == 2
    proven = value("last_enforced_timestamp_seconds")
    assert proven
    metrics.enforced(enforced=False, servers={"not_enforced": 1})
    assert (value("enforced"), value("last_enforced_timestamp_seconds")) == (0, proven)
    assert value("api_servers", outcome="enforced") == 0
