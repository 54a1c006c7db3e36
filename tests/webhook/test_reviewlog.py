"""A peer or a namespace cannot fill the log: its lines are limited, and the others are counted."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

from gatekeeper_py.core.exceptions.document import ExceptionDocument, ExceptionEntry
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions
from gatekeeper_py.core.images.pattern import parse_pattern
from gatekeeper_py.process.logs import MAX_LINES
from support.builders import pod, policy, review
from support.served import GUARDED, Served, Start
from support.wire import eventually, request

GRANTS = "exceptions: [{source: break-glass, images: [ghcr.io/**], longest: 400d}]"
STORM = MAX_LINES + 50


def content(image: str, namespace: str = "shop") -> bytes:
    return request(json.dumps(review(pod(image), namespace=namespace)).encode())


def bad_policy() -> bytes:
    """Return a change of the policy that is refused without a check."""
    obj = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": GUARDED.name, "namespace": GUARDED.namespace},
        "data": {"policy.yml": "a"},
    }
    document = review(obj, operation="UPDATE", namespace=GUARDED.namespace)
    return request(json.dumps(document).encode(), path="/validate-policy")


def admit_by_break_glass(served: Served) -> None:
    entry = ExceptionEntry(
        index=0,
        line=4,
        pattern=parse_pattern("ghcr.io/**"),
        until=datetime.now(UTC) + timedelta(days=1),
        reason="fire",
        owner="alice",
    )
    key = DocumentKey("break-glass", GUARDED.namespace)
    served.live.use_exceptions(Exceptions({key: ExceptionDocument(entries=(entry,))}))


def reviews(served: Served) -> Counter[tuple[str, str, str]]:
    """Count the lines about reviews by endpoint, namespace and verdict."""
    lines = served.log.named("review")
    return Counter((line["endpoint"], line["namespace"], line["verdict"]) for line in lines)


def suppressed(served: Served, event: str = "denials_suppressed") -> Counter[str]:
    """Return how many lines were left out, by kind."""
    counts = Counter[str]()
    for line in served.log.named(event):
        assert line["peer"] == "127.0.0.1"
        counts[line["kind"]] += line["count"]
    return counts


async def test_a_storm_of_denials_leaves_room_in_the_log(start: Start) -> None:
    served = start(policy())
    async with served.connected() as connection:
        for _ in range(STORM):
            assert not (await connection.ask(content("quay.io/x:1"))).json()["response"]["allowed"]
    left_out = STORM - len(served.log.named("review"))
    await eventually(lambda: suppressed(served) == Counter(denied=left_out))


async def test_a_storm_of_denials_in_one_namespace_hides_no_line_of_another_one(start: Start) -> None:
    """All of them come from the same address, as from one API server."""
    served = start(policy(GRANTS))
    admit_by_break_glass(served)
    async with served.connected() as connection:
        for _ in range(STORM):
            await connection.ask(content("quay.io/x:1", "storm"))
        for _ in range(40):
            assert (await connection.ask(content("ghcr.io/fire:1"))).json()["response"]["allowed"]
        for _ in range(20):
            await connection.ask(content("quay.io/x:1", "quiet"))
        assert not (await connection.ask(bad_policy())).json()["response"]["allowed"]
    counted = reviews(served)
    assert counted["validate", "shop", "allowed"] == 40
    assert counted["validate", "quiet", "denied"] == 20
    assert counted["policy", GUARDED.namespace, "denied"] == 1
    left_out = STORM - counted["validate", "storm", "denied"]
    await eventually(lambda: suppressed(served) == Counter(denied=left_out))
    assert not suppressed(served, "evidence_suppressed")


async def test_a_storm_of_rewrites_is_counted(start: Start) -> None:
    served = start(policy("mirrors: [{from: docker.io, to: registry.corp.io/hub}]", mode="mutate"))
    asked = request(json.dumps(review(pod("nginx:1"))).encode(), path="/mutate-image")
    async with served.connected() as connection:
        for _ in range(STORM):
            await connection.ask(asked)
    left_out = STORM - len(served.log.named("review"))
    await eventually(lambda: suppressed(served) == Counter(mutated=left_out))


async def test_evidence_beyond_its_own_limit_is_counted(start: Start) -> None:
    served = start(policy(GRANTS))
    admit_by_break_glass(served)
    async with served.connected() as connection:
        for _ in range(STORM):
            await connection.ask(content("ghcr.io/fire:1"))
        for _ in range(STORM):
            await connection.ask(bad_policy())
    counted = reviews(served)
    left_out = Counter(
        excepted=STORM - counted["validate", "shop", "allowed"],
        policy=STORM - counted["policy", GUARDED.namespace, "denied"],
    )
    await eventually(lambda: suppressed(served, "evidence_suppressed") == left_out)
    assert not suppressed(served)


async def test_only_evidence_is_logged_while_the_log_has_little_room(start: Start) -> None:
    served = start(policy(GRANTS), has_log_room=lambda: False, log_allowed=True)
    admit_by_break_glass(served)
    for asked in (
        content("quay.io/x:1"),
        content("registry.corp.io/web:1"),
        content("ghcr.io/fire:1"),
        bad_policy(),
    ):
        await served.ask(asked)
    assert [(line["endpoint"], line["verdict"]) for line in served.log.named("review")] == [
        ("validate", "allowed"),
        ("policy", "denied"),
    ]
    await eventually(lambda: suppressed(served) == Counter(denied=1))


async def test_refusals_of_other_requests_do_not_hide_those_of_policy_checks(start: Start) -> None:
    served = start(policy())
    async with served.connected() as connection:
        for path in ("/validate-image", "/validate-image", "/a", "/b", "/validate-policy"):
            assert (await connection.ask(request(b"{}", path=path, method="GET"))).status in {404, 405}
    lines = [(line["path"], line["status"]) for line in served.log.named("request_refused")]
    assert lines == [("/validate-image", 405), ("/a", 404), ("/validate-policy", 405)]
