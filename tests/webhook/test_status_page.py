"""The status page and ``/policy``: their content and size, and how often the page is rendered."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest

from gatekeeper_py.core.admission import Outcome
from gatekeeper_py.core.admission.judge import Verdict
from gatekeeper_py.core.admission.review import AdmissionRequest, AdmissionResponse
from gatekeeper_py.core.admission.slot import Slot
from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.configmap import ExceptionsText
from gatekeeper_py.core.policy.decision import Decision
from gatekeeper_py.core.policy.document import ENFORCE
from gatekeeper_py.core.policy.finding import MAX_FINDINGS, Finding
from gatekeeper_py.core.policy.limits import MAX_TEXT_LENGTH
from gatekeeper_py.http.health import PAGE_SECONDS, Health
from gatekeeper_py.http.listener import Listener
from gatekeeper_py.live.exceptions.counting import MAX_SHOWN
from gatekeeper_py.live.exceptions.keeper import ExceptionsKeeper
from gatekeeper_py.live.reload import RefusedDelivery, Reloader
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.live.sources import Delivery
from gatekeeper_py.process.settings import Address
from gatekeeper_py.webhook.denials import MAX_DENIALS, MAX_OF_PEER, MAX_TEXT, Denials
from gatekeeper_py.webhook.metrics import Metrics
from gatekeeper_py.webhook.statuspage import MAX_RULES, StatusPage, describe_policy
from support.builders import INSTANT, policy_text
from support.paging import lines, sections
from support.parsing import InProcessParser
from support.recording import RecordingLog
from support.wire import Answer, Connection, request


class World:
    """Everything that the page shows."""

    def __init__(self, *, details: bool = False) -> None:
        self.live, counts = LivePolicy(), CacheCounts()
        self.metrics = Metrics(self.live, counts)
        self.reloader = Reloader(
            self.live,
            InProcessParser(),
            source="configmap",
            source_name="gatekeeper-py/gatekeeper-py-policy",
            cache_size=10,
            counts=counts,
            observer=self.metrics,
            log=RecordingLog(),
            now=lambda: INSTANT,
        )
        self.keeper = ExceptionsKeeper(
            self.live, InProcessParser(), observer=self.metrics, log=RecordingLog(), now=lambda: INSTANT
        )
        self.denials = Denials(details=details, now=INSTANT.timestamp)
        self.problem = ""
        self.files_problem = ""
        self.page = StatusPage(
            describe=self.describe,
            live=self.live,
            ready={"certificate": lambda: self.problem},
            certificates=self,
            counts=self.metrics,
            denials=self.denials,
            version="1.2.3",
            now=lambda: INSTANT,
        )

    def describe(self) -> dict[str, Any]:
        return describe_policy(self.reloader, self.live, self.keeper, dict)

    def summary(self) -> tuple[datetime, tuple[str, ...]] | None:
        return None if self.problem else (INSTANT + timedelta(days=30), ("gatekeeper-py.gatekeeper-py.svc",))

    def deny(
        self,
        image: str = "quay.io/secret:1",
        kind: str = "Pod",
        peer: str | None = None,
        namespace: str = "hidden",
    ) -> None:
        decision = Decision(image=image, approved=False, reason="unlisted", detail="x")
        verdict = Verdict(Slot(("spec",), "image", image), decision)
        self.denials.add(
            AdmissionRequest(
                uid="a", group="", kind=kind, operation="CREATE", namespace=namespace, name="n" * 1000,
                object={}, username="alice",
            ),
            Outcome(AdmissionResponse(uid="a", allowed=False), "denied", ENFORCE, (verdict, verdict)),
            peer,
        )  # fmt: skip


async def test_it_shows_the_policy_the_certificate_and_what_was_decided() -> None:
    world = World()
    await world.reloader.apply(Delivery(text=policy_text("deny: ['*/**:latest']\n"), resource_version="7"))
    for verdict, count in (("allowed", 3), ("denied", 1)):
        for _ in range(count):
            world.metrics.review("validate", "CREATE", verdict, "enforce", 0.0003)
    world.metrics.review("policy", "UPDATE", "allowed", "enforce", 7.0)
    page = sections(world.page.render())
    assert world.live.snapshot is not None
    status = lines(page["status"])
    assert status[1] == "Ready"
    for value in ("enforce", world.live.snapshot.revision, "2026-03-31"):
        assert value in status
    assert "Certificate for gatekeeper-py.gatekeeper-py.svc." in status
    reviews = lines(page["reviews"])
    assert {"allowed 3", "denied 1"} <= set(reviews)
    assert "Half within 0.5 ms, 99 of 100 within 0.5 ms; 4 in all." in page["reviews"]
    assert "Half in more than 5 s, 99 of 100 in more than 5 s; 1 in all." in page["reviews"]
    policy = page["policy"]
    source = "gatekeeper-py/gatekeeper-py-policy, loaded 2026-03-01T12:00:00Z, resource version 7."
    assert f"Source {source}" in policy
    assert "deny[0] */**:latest" in policy
    assert "No request has been denied yet." in page["denials"]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        pytest.param(policy_text(mode="warn"), "The mode warn refuses nothing: ", id="warn"),
        pytest.param(
            policy_text("namespaces: [{names: [secret-name], mode: warn}]"),
            "An override sets the mode warn: ",
            id="override",
        ),
        pytest.param(
            policy_text("namespaces: [{names: [dev], mode: warn, until: 2026-01-01}]"),
            "",
            id="expired-override",
        ),
    ],
)
async def test_it_states_if_images_only_cause_warnings(text: str, note: str) -> None:
    world = World()
    await world.reloader.apply(Delivery(text=text))
    status = sections(world.page.render())["status"]
    assert note in status
    assert bool(note) == ("the mode warn" in status.lower())
    assert "secret-name" not in status


async def test_before_the_first_policy_and_with_a_problem() -> None:
    world = World()
    world.problem = "<b>expired</b>"
    page = sections(world.page.render())
    assert lines(page["status"])[1:3] == ["Not ready", "certificate: <b>expired</b>"]
    assert "not loaded yet" in page["policy"]
    assert "No review has arrived yet." in page["reviews"]


@pytest.mark.parametrize("not_ready", ["", "bad files"])
async def test_certificate_files_that_cannot_be_used_are_shown_once(not_ready: str) -> None:
    world = World()
    assert "bad files" not in sections(world.page.render())["status"]
    world.files_problem, world.problem = "bad files", not_ready
    status = sections(world.page.render())["status"]
    assert status.count("bad files") == 1
    assert ("the certificate before them stays in use" in status) == (not not_ready)


async def test_exceptions_are_shown_with_the_documents_that_are_bad() -> None:
    world = World()
    grants = "exceptions: [{source: namespace, images: [ghcr.io/**], longest: 14d}]\n"
    await world.reloader.apply(Delivery(text=policy_text(grants)))
    assert world.live.snapshot is not None
    world.keeper.use_policy(world.live.snapshot)
    await world.keeper.deliver(ExceptionsText(key=DocumentKey("namespace", "team-a"), text="{"))
    await world.keeper.step()
    await world.keeper.entries.count()
    shown = sections(world.page.render())["policy"]
    assert "Live exceptions by source: 0 namespace, 0 installation, 0 break-glass." in shown
    assert "Invalid ConfigMaps with exceptions, which approve nothing: 1." in shown
    assert "team-a" in shown


async def test_a_refused_policy_is_shown_with_its_findings() -> None:
    world = World()
    await world.reloader.apply(Delivery(text=policy_text()))
    await world.reloader.apply(Delivery(text=policy_text("colour: blue\n")))
    page = sections(world.page.render())
    assert "Ready, but a newer policy was refused" in page["status"]
    assert "unknown-field: unknown field 'colour'" in page["policy"]
    assert "The last good policy stays in use." in page["policy"]


def test_denials_name_no_user_without_status_details() -> None:
    world = World()
    world.deny()
    page = sections(world.page.render())["denials"]
    assert "2 unlisted" in page
    for secret in ("quay.io", "hidden", "alice", "nnn"):
        assert secret not in page
    world = World(details=True)
    world.deny()
    page = sections(world.page.render())["denials"]
    for shown in ("quay.io/secret:1", "hidden/nnn", "alice"):
        assert shown in page


def kept(world: World) -> list[str]:
    """Return the first image of each of the last denials, the newest first."""
    return [denial.details.images[0] for denial in world.denials if denial.details is not None]


def test_one_peer_has_at_most_20_of_the_last_denials() -> None:
    world = World(details=True)
    for index in range(10):
        world.deny(f"other-{index}", peer=f"10.0.0.{index}")
    for index in range(1000):
        world.deny(f"storm-{index}", peer="10.1.1.1")
    storm = [f"storm-{999 - index}" for index in range(MAX_OF_PEER)]
    others = [f"other-{index}" for index in range(39, -1, -1)]
    assert kept(world) == [*storm, *others[30:]]
    for index in range(10, 40):
        world.deny(f"other-{index}", peer=f"10.0.0.{index}")
    assert kept(world) == [*others[:30], *storm[: MAX_DENIALS - 40], *others[30:]]
    assert len(world.denials._numbers) == 41


def test_a_namespace_does_not_push_out_the_denials_of_others_behind_the_same_peer() -> None:
    world = World(details=True)
    for name in ("quiet", "modest"):
        for index in range(3):
            world.deny(f"{name}-{index}", peer="10.1.1.1", namespace=name)
    for index in range(1000):
        world.deny(f"storm-{index}", peer="10.1.1.1", namespace="storm")
    assert kept(world) == [
        *(f"storm-{999 - index}" for index in range(MAX_OF_PEER - 6)),
        *(f"{name}-{index}" for name in ("modest", "quiet") for index in (2, 1, 0)),
    ]


def test_only_the_last_denials_are_kept_in_little_memory() -> None:
    world = World(details=True)
    for index in range(MAX_DENIALS + 20):
        world.deny(
            f"{index}-" + "x" * 10**6, kind="K" * 10**6, peer=f"10.0.0.{index % 5}", namespace="n" * 10**6
        )
    denials = list(world.denials)
    assert len(denials) == MAX_DENIALS
    assert kept(world)[0].startswith(f"{MAX_DENIALS + 19}-")
    assert all(len(each.kind) == MAX_TEXT for each in denials)
    assert all(len(image) == MAX_TEXT for each in denials if each.details for image in each.details.images)
    assert all(len(share.namespace or "") < MAX_TEXT for share in world.denials._numbers)


@pytest.mark.parametrize("character", ['"', "<", "\\", "x", "\N{GRINNING FACE}", "\x01"])
async def test_the_page_and_the_policy_stay_small_after_long_problems_and_denials(character: str) -> None:
    world = World(details=True)
    rules = ", ".join(f"r{i}.example.com" for i in range(MAX_RULES + 3))
    grants = "exceptions: [{source: namespace, images: [ghcr.io/**], longest: 14d}]\n"
    await world.reloader.apply(Delivery(text=policy_text(grants, allow=f"[{rules}]")))
    long = character * 10_000
    text = long[:MAX_TEXT_LENGTH]
    end: dict[str, str | None]
    end = {"entry": escape(long) + "n" * 90, "at": "2026-03-01T12:00:00Z", "owner": text, "reason": text}
    world.keeper.entries.ends = {"ending": [end] * MAX_SHOWN, "ended": [end] * MAX_SHOWN}
    finding = Finding(severity="error", code="x", path=long, line=1, message=long, proposal=character * 300)
    findings = (finding,) * (MAX_FINDINGS + 1)
    assert world.reloader.loaded is not None
    world.reloader.loaded = dataclasses.replace(world.reloader.loaded, findings=findings)
    world.reloader.refused = RefusedDelivery(at=INSTANT, findings=findings, delivery=Delivery(text=""))
    for _ in range(MAX_DENIALS):
        world.deny(character * 1000, kind=character * 1000)
    page = world.page.render()
    assert len(page.encode()) < 512 * 1024
    assert "3 more rules are not shown." in page
    shown = world.describe()
    assert 80_000 < len(orjson.dumps(shown)) < 256 * 1024
    for entries in (shown["findings"], shown["refused"]["findings"]):
        assert len(entries) == MAX_FINDINGS + 1 or entries[-1]["code"] == "more-findings"


async def test_the_page_is_rendered_at_most_once_a_second_and_never_cached_elsewhere() -> None:
    clock, rendered = [100.0], []

    def render() -> str:
        rendered.append(clock[0])
        return f"<!doctype html>{len(rendered)}"

    health = Health(live={}, ready={}, exposition=lambda: b"", page=render, monotonic=lambda: clock[0])
    listener = Listener(health.handle, max_connections=10)
    port = listener.bind(Address("127.0.0.1", 0)).port

    async def get(method: str = "GET") -> Answer:
        connection = await Connection.open("127.0.0.1", port)
        try:
            await connection.send(request(path="/", method=method, headers=[]))
            return await connection.receive(head=method == "HEAD")
        finally:
            await connection.close()

    try:
        first = await get()
        assert [(await get()).body for _ in range(3)] == [first.body] * 3
        clock[0] += PAGE_SECONDS
        assert (await get()).body == b"<!doctype html>2"
        assert first.headers["content-type"] == "text/html; charset=utf-8"
        assert first.headers["cache-control"] == "no-store"
        assert first.headers["server"] == "gatekeeper-py"
        assert "frame-ancestors 'none'" in first.headers["content-security-policy"]
        assert first.headers["x-content-type-options"] == "nosniff"
        assert (await get("HEAD")).status == 200
        assert (await get("POST")).status == 405
    finally:
        await listener.close(0.5)
