"""The controller probes every API server each minute. Only some answers prove that the policy is enforced."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count
from typing import Any, get_args

import pytest

from controller.world import FakeCluster
from gatekeeper_py.cluster.session import Session
from gatekeeper_py.controller.enforcement import (
    CONFIGURED,
    MAX_SERVERS,
    PERIOD_SECONDS,
    RETRY_SECONDS,
    SERVER_NAME,
    SLICE_PATH,
    WAITING_SECONDS,
    ApiServers,
    Proof,
    Prover,
    addresses,
    probe_image,
    read_answer,
    rejects_valid_probes,
)
from gatekeeper_py.controller.metrics import ControlMetrics, EnforcementMetrics, ProofResult
from gatekeeper_py.controller.probe_pod import ProbeAnswer, pod
from gatekeeper_py.controller.webhooks.templates import POD_MUTATION, POD_VALIDATION, WORKLOAD_VALIDATION
from gatekeeper_py.core import admission
from gatekeeper_py.core.admission.review import parse
from gatekeeper_py.core.compile.fastpath import compile_fastpath
from gatekeeper_py.core.policy.policy import Policy, parse_policy
from gatekeeper_py.process.settings import SettingsError
from support.builders import INSTANT, NAMESPACE, policy_text, review
from support.recording import RecordingLog

TOKEN = "0123456789abcdef"
OTHER_TOKEN = "fedcba9876543210"
PROBES_TOO = "['*.invalid']"
ENFORCED = Proof(outcome="enforced")


def status(message: str) -> bytes:
    return json.dumps({"kind": "Status", "message": message}).encode()


def answer(code: int, message: str = "", *warnings: str) -> ProbeAnswer:
    return ProbeAnswer(
        status=code, body=status(message), warnings=tuple(f'299 - "{each}"' for each in warnings)
    )


def judged(policy: Policy, image: str) -> ProbeAnswer:
    """Return the answer of an API server to the probe Pod if a replica with this policy reviews it."""
    response = admission.validate(parse(review(pod(image))), policy.at(INSTANT)).response
    if not response.allowed:
        text = f'admission webhook "{POD_VALIDATION}" denied the request: {response.message}'
        return answer(403, text, *response.warnings)
    return answer(403, "exceeded quota: no-pods", *response.warnings)


@pytest.mark.parametrize("valid", [True, False])
@pytest.mark.parametrize("mode", ["enforce", "warn", "mutate"])
def test_the_refusals_and_warnings_that_users_get_are_proof(mode: str, *, valid: bool) -> None:
    mirrors = "mirrors: [{from: docker.io, to: registry.corp.io/hub}]"
    policy = parse_policy(policy_text(mirrors, mode=mode))
    assert read_answer(judged(policy, probe_image(TOKEN, valid=valid)), TOKEN) == ENFORCED


@pytest.mark.parametrize("mode", ["enforce", "warn", "mutate"])
def test_an_image_that_is_not_valid_proves_enforcement_of_a_policy_that_approves_probes(
    mode: str,
) -> None:
    policy = parse_policy(policy_text(mode=mode, allow=PROBES_TOO))
    assert not rejects_valid_probes(policy, NAMESPACE, INSTANT)
    assert read_answer(judged(policy, probe_image(TOKEN, valid=True)), TOKEN).outcome == "not_enforced"
    assert read_answer(judged(policy, probe_image(TOKEN, valid=False)), TOKEN) == ENFORCED


@pytest.mark.parametrize(
    ("more", "allow", "rejects"),
    [
        pytest.param("", "[registry.corp.io]", True, id="one-registry"),
        pytest.param("", PROBES_TOO, False, id="glob"),
        pytest.param("", "[gatekeeper-py-probe.invalid]", False, id="by-name"),
        pytest.param("deny: ['*.invalid/**']", PROBES_TOO, True, id="and-denied"),
        pytest.param(
            "mirrors: [{from: gatekeeper-py-probe.invalid, to: registry.corp.io/x}]",
            "[registry.corp.io]",
            False,
            id="rewritten",
        ),
        pytest.param("", "[{image: '*.invalid', namespaces: [other]}]", True, id="approved-elsewhere"),
        pytest.param("", f"[{{image: '*.invalid', namespaces: [{NAMESPACE}]}}]", False, id="approved-there"),
    ],
)
def test_whether_a_policy_rejects_valid_probes(more: str, allow: str, *, rejects: bool) -> None:
    policy = parse_policy(policy_text(more, mode="mutate", allow=allow))
    assert rejects_valid_probes(policy, NAMESPACE, INSTANT) is rejects


@pytest.mark.parametrize("allow", ["[registry.corp.io]", PROBES_TOO])
def test_the_fast_path_never_skips_a_rejected_probe(allow: str) -> None:
    policy = parse_policy(policy_text(allow=allow))
    fast_path = compile_fastpath(policy, INSTANT)
    valid = rejects_valid_probes(policy, NAMESPACE, INSTANT)
    assert not fast_path.approves(NAMESPACE, probe_image(TOKEN, valid=valid), "validating")


IMAGE = probe_image(TOKEN, valid=True)
OURS = f'admission webhook "{POD_VALIDATION}" denied the request: '
NAMED = f'container "probe" (spec.containers[0].image): {IMAGE} is not approved'


NO_PROOF: dict[str, tuple[ProbeAnswer, str]] = {
    "admitted": (answer(201), "the API server admitted an image"),
    "rewritten-only": (
        answer(201, "", f"spec.containers[0].image: {IMAGE} was rewritten to a.io/x"),
        "the API server admitted an image",
    ),
    "left-as-written-only": (
        answer(201, "", f"spec.containers[0].image: {IMAGE} is left as written: no target"),
        "the API server admitted an image",
    ),
    "a-warning-about-another-field": (
        answer(201, "", f"spec.volumes[0].image: {IMAGE} is not approved"),
        "the API server admitted an image",
    ),
    "another-attempt": (
        answer(403, f"{OURS}{NAMED}".replace(TOKEN, OTHER_TOKEN)),
        "the webhook did not refuse the Pod",
    ),
    "another-webhook": (
        answer(403, f'admission webhook "policy.kyverno.svc" denied the request: {NAMED}'),
        "the webhook did not refuse the Pod",
    ),
    "another-webhook-of-the-product": (
        answer(403, f"{OURS}{NAMED}".replace(POD_VALIDATION, WORKLOAD_VALIDATION)),
        "the webhook did not refuse the Pod",
    ),
    "the-mutating-webhook": (
        answer(403, f"{OURS}{NAMED}".replace(POD_VALIDATION, POD_MUTATION)),
        "the webhook did not refuse the Pod",
    ),
    "a-quota": (
        answer(403, 'pods "x" is forbidden: exceeded quota: no-pods'),
        "the webhook did not refuse the Pod; the API server answered 403",
    ),
    "rbac": (
        answer(403, f'pods is forbidden: User "system:serviceaccount" cannot create {IMAGE}'),
        "the webhook did not refuse the Pod",
    ),
    "no-namespace": (answer(404, 'namespaces "x" not found'), "answered 404"),
    "unauthorized": (answer(401, "Unauthorized"), "answered 401"),
    "not-reached": (
        answer(500, f'Internal error: failed calling webhook "{POD_VALIDATION}": refused {TOKEN}'),
        "the API server got no answer from the webhook",
    ),
    "not-json": (ProbeAnswer(status=502, body=b"<html>"), "answered 502"),
    "no-text": (ProbeAnswer(status=500, body=b'{"message": 1}'), "answered 500"),
}


@pytest.mark.parametrize("case", NO_PROOF)
def test_everything_else_proves_nothing(case: str) -> None:
    found, problem = NO_PROOF[case]
    proof = read_answer(found, TOKEN)
    assert proof.outcome == "not_enforced"
    assert problem in proof.problem
    assert len(proof.problem) <= 300


def test_an_api_server_that_does_not_answer_proves_nothing_either_way() -> None:
    assert read_answer(ProbeAnswer(problem="cannot connect"), TOKEN) == Proof(
        outcome="unreachable", problem="cannot connect"
    )


PORTS = [{"name": "https", "port": 6443, "protocol": "TCP"}]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(None, (), id="absent"),
        pytest.param({}, (), id="empty"),
        pytest.param({"ports": PORTS, "endpoints": None}, (), id="no-endpoints"),
        pytest.param({"ports": [], "endpoints": [{"addresses": ["10.0.0.1"]}]}, (), id="no-port"),
        pytest.param(
            {"ports": PORTS, "endpoints": [{"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.1"]}]},
            ("10.0.0.1:6443", "10.0.0.2:6443"),
            id="two",
        ),
        pytest.param(
            {"ports": PORTS, "endpoints": [{"addresses": ["10.0.0.1", "10.0.0.1"]}]},
            ("10.0.0.1:6443",),
            id="twice-the-same",
        ),
        pytest.param(
            {"ports": PORTS, "endpoints": [{"addresses": ["fd00::1"]}]}, ("[fd00::1]:6443",), id="ipv6"
        ),
    ],
)
def test_addresses(found: dict[str, Any] | None, expected: tuple[str, ...]) -> None:
    assert addresses(found) == expected


def test_the_number_of_addresses_is_bounded() -> None:
    endpoints = [{"addresses": [f"10.0.{number}.1"]} for number in range(250)]
    assert len(addresses({"ports": PORTS, "endpoints": endpoints})) == MAX_SERVERS


async def no_way(*_: str) -> Session:
    raise SettingsError("no way there")


@pytest.fixture
def one_server() -> FakeCluster:
    """Return an API that knows the address of one API server."""
    api = FakeCluster()
    api.put(SLICE_PATH, {"ports": PORTS, "endpoints": [{"addresses": ["10.0.0.1"]}]})
    return api


async def test_addresses_are_read_in_a_pod(one_server: FakeCluster) -> None:
    servers = ApiServers(no_way, one_server, "probe", in_cluster=True)
    assert await servers.addresses() == ("10.0.0.1:6443",)


async def test_a_kubeconfig_leads_to_one_server_only(one_server: FakeCluster) -> None:
    servers = ApiServers(no_way, one_server, "probe", in_cluster=False)
    assert await servers.addresses() == ()


async def test_forbidden_addresses_count_as_unknown(one_server: FakeCluster) -> None:
    one_server.fail = lambda _verb, _path: True
    servers = ApiServers(no_way, one_server, "probe", in_cluster=True)
    assert await servers.addresses() == ()


async def test_a_probe_goes_to_the_server_that_is_named(one_server: FakeCluster) -> None:
    connections: list[tuple[str, ...]] = []

    async def connect(*address: str) -> Session:
        connections.append(address)
        return await no_way()

    servers = ApiServers(connect, one_server, "probe", in_cluster=True)
    for server in ("10.0.0.1:6443", ""):
        assert (await servers.send(server, "a.io/x")).problem == "no way there"
    assert connections == [("10.0.0.1:6443", SERVER_NAME), ()]


SILENT = ProbeAnswer(problem="cannot connect")
ADMITTED = ProbeAnswer(status=201, body=b"{}")


class Enough(Exception):
    """Ends an endless loop."""


class World:
    """A prover with API servers by address. A server without an entry refuses the Pod, as expected."""

    def __init__(self) -> None:
        self.servers: Sequence[str] = ()
        self.answers: dict[str, ProbeAnswer] = {}
        self.sent: list[tuple[str, str]] = []
        self.armed = True
        self.rejects_valid_images = True
        self.metrics = ControlMetrics()
        self.slept: list[float] = []
        self.log = RecordingLog()
        tokens = count()
        self.prover = Prover(
            self.send,
            self.addresses,
            armed=lambda: self.armed,
            rejects_valid_images=lambda: self.rejects_valid_images,
            metrics=EnforcementMetrics(self.metrics.registry),
            log=self.log,
            token=lambda: f"token{next(tokens)}",
            sleep=self.sleep,
        )

    async def addresses(self) -> Sequence[str]:
        return self.servers

    async def send(self, server: str, image: str) -> ProbeAnswer:
        self.sent.append((server, image))
        text = f'admission webhook \\"{POD_VALIDATION}\\" denied the request: {image}'
        refused = ProbeAnswer(status=403, body=f'{{"message": "{text}"}}'.encode())
        return self.answers.get(server, refused)

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"gatekeeper_py_control_{name}", labels)

    @property
    def reported(self) -> tuple[bool, dict[str, float]]:
        """Return whether the policy is enforced, and the API servers in the last round by outcome."""
        found = {each: self.sample("api_servers", outcome=each) for each in get_args(ProofResult)}
        return self.sample("enforced") == 1, {each: number for each, number in found.items() if number}

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


@pytest.mark.parametrize(
    ("servers", "answers", "probed", "reported", "failing"),
    [
        pytest.param(["a:1", "b:1"], {}, ["a:1", "b:1"], (True, {"enforced": 2}), [], id="all-enforce-it"),
        pytest.param(
            ["a:1", "b:1"], {"b:1": ADMITTED}, ["a:1", "b:1"], (False, {"enforced": 1, "not_enforced": 1}),
            ["b:1"], id="one-admits-the-image",
        ),
        pytest.param(
            ["a:1", "b:1"], {"b:1": SILENT}, ["a:1", "b:1"], (True, {"enforced": 1, "unreachable": 1}),
            ["b:1"], id="one-does-not-answer",
        ),
        pytest.param(
            ["a:1"], {"a:1": SILENT}, ["a:1", CONFIGURED], (True, {"enforced": 1, "unreachable": 1}),
            ["a:1"], id="none-is-reached-directly",
        ),
        pytest.param([], {}, [CONFIGURED], (True, {"enforced": 1}), [], id="without-addresses"),
        pytest.param(
            [], {CONFIGURED: SILENT}, [CONFIGURED], (False, {"unreachable": 1}),
            ["the configured API server"], id="no-answer-at-all",
        ),
    ],
)  # fmt: skip
async def test_a_round_proves_enforcement_if_every_server_that_answers_enforces_the_policy(
    world: World,
    servers: list[str],
    answers: dict[str, ProbeAnswer],
    probed: list[str],
    reported: tuple[bool, dict[str, float]],
    failing: list[str],
) -> None:
    world.servers, world.answers = servers, answers
    enforced = reported[0]
    assert await world.prover.round() == (PERIOD_SECONDS if enforced else RETRY_SECONDS)
    assert [server for server, _ in world.sent] == probed
    assert world.reported == reported
    [line] = world.log.named("enforced" if enforced else "not_enforced")
    assert list(line["problems"]) == failing


async def test_nothing_is_probed_while_the_webhook_is_not_armed(world: World) -> None:
    world.armed = False
    assert await world.prover.round() == WAITING_SECONDS
    assert world.sent == []
    assert world.reported == (False, {})
    assert world.log.events == []


async def test_a_policy_that_approves_valid_probes_gets_an_image_that_is_not_valid(world: World) -> None:
    world.rejects_valid_images = False
    await world.prover.round()
    assert "NOT-VALID" in world.sent[0][1]
    assert world.reported == (True, {"enforced": 1})


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


async def test_the_metrics_keep_the_time_of_the_last_proof(world: World) -> None:
    assert (world.sample("enforced"), world.sample("last_enforced_timestamp_seconds")) == (0, 0)
    await world.prover.round()
    proven = world.sample("last_enforced_timestamp_seconds")
    assert proven
    world.answers = {CONFIGURED: ADMITTED}
    await world.prover.round()
    assert world.sample("last_enforced_timestamp_seconds") == proven
    assert world.reported == (False, {"not_enforced": 1})
