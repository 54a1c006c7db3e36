"""The bodies of the benchmarks have the intended sizes, kinds and verdicts."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from benchmarks import bodies
from benchmarks.load.bodyfiles import BODIES
from benchmarks.load.scenarios import SCENARIOS
from benchmarks.policies import FIRST, LAST, MIRRORED, UNLISTED, policy_text
from gatekeeper_py.core import admission, parse_policy
from gatekeeper_py.core.admission import review

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FRESH = (FIRST % 7, FIRST % 8, FIRST % 9)


@pytest.mark.parametrize("size", [2300, 7000, 33_000, 1 << 20])
def test_pods_have_about_the_requested_size(size: int) -> None:
    body = bodies.pod_review(size=size)
    assert abs(len(body) - size) < max(0.02 * size, 150)
    spec = json.loads(body)["request"]["object"]["spec"]
    images = [each["image"] for each in spec["containers"] + spec["initContainers"]]
    assert images == list(bodies.IMAGES)


@pytest.mark.parametrize("size", [2300, 7000, 33_000])
def test_about_half_of_a_pod_is_managed_fields_and_user(size: int) -> None:
    request = json.loads(bodies.pod_review(size=size))["request"]
    parts = request["object"]["metadata"]["managedFields"], request["userInfo"]
    share = sum(len(json.dumps(part, separators=(",", ":"))) for part in parts) / size
    assert 0.33 < share < 0.66


@pytest.mark.parametrize("name", [name for name in BODIES if name not in {"empty", "no-json-7k"}])
def test_every_body_has_its_markers_and_size(name: str) -> None:
    body = BODIES[name]()
    assert body.count(bodies.UID.encode()) == 1
    kilobytes = {"2k": 2.3, "7k": 7, "33k": 33, "1m": 1048.6}[name.rpartition("-")[2]]
    assert len(body) / 1000 == pytest.approx(kilobytes, rel=0.08)


@pytest.mark.parametrize(
    ("body", "allowed"),
    [
        pytest.param(bodies.pod_review(size=7000, images=FRESH), True, id="approved"),
        pytest.param(BODIES["refused-7k"](), False, id="refused"),
        pytest.param(bodies.deployment_review(size=7000, images=FRESH), True, id="deployment"),
        pytest.param(
            bodies.deployment_review(size=7000, images=(UNLISTED % 1,)), False, id="deployment-refused"
        ),
        pytest.param(
            bodies.ephemeral_review(size=7000, debugger=UNLISTED % 1), False, id="debugger-is-judged"
        ),
        pytest.param(
            bodies.ephemeral_review(size=7000, debugger=FIRST % 1, images=(UNLISTED % 1,)),
            True,
            id="only-the-debugger-is-judged",
        ),
        pytest.param(
            bodies.pod_update(size=7000, images=(UNLISTED % 1,)), True, id="update-without-a-new-image"
        ),
        pytest.param(
            bodies.image_update(size=7000, old=FIRST % 0, images=(UNLISTED % 1,)), False, id="image-update"
        ),
        pytest.param(bodies.pod_delete(size=7000, images=(UNLISTED % 1,)), True, id="delete"),
    ],
)
def test_bodies_get_the_verdicts_that_scenarios_expect(body: bytes, *, allowed: bool) -> None:
    policy = parse_policy(policy_text(100)).at(NOW)
    assert admission.validate(review.parse(json.loads(body)), policy).response.allowed is allowed


@pytest.mark.parametrize("rules", [10, 11, 1000])
def test_policies_have_the_requested_rules_and_images_match_the_intended_ones(rules: int) -> None:
    policy = parse_policy(policy_text(rules)).at(NOW)
    assert len(policy.allow) == rules
    assert policy.decide("shop", FIRST % 1).approved
    assert policy.decide("shop", LAST % 1).approved
    assert not policy.decide("shop", UNLISTED % 1).approved
    assert policy.rewrite("shop", MIRRORED % 1) == "registry.corp.example/hub/shop/app-1:1.0"


def test_a_message_makes_another_revision() -> None:
    texts = [policy_text(10, message=message) for message in ("", "one", "two")]
    assert len({parse_policy(text).revision for text in texts}) == 3


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("key", [key for key in SCENARIOS if key != "S11"])
def test_scenarios_name_existing_bodies_and_each_case_once(key: str, *, quick: bool) -> None:
    cases = SCENARIOS[key].cases(quick)
    names = [case.name for case in cases]
    assert len(set(names)) == len(names)
    assert all(name.startswith(f"{key}/") for name in names)
    assert {part.body for case in cases for part in case.load.parts} <= set(BODIES)
