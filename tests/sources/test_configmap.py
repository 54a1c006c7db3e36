"""The list and watch loop against an API server on a real socket that misbehaves."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builders import policy_text
from gatekeeper_py.cluster.configuration import ClusterConfiguration
from gatekeeper_py.delivery import Delivery
from gatekeeper_py.live import CacheCounts, LivePolicy
from gatekeeper_py.parser.process import Parser
from gatekeeper_py.reload import Reloader
from gatekeeper_py.serving.metrics import Metrics
from gatekeeper_py.settings import ConfigMapName, SettingsError
from gatekeeper_py.sources.configmap import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    ConfigMapSource,
)
from gatekeeper_py.sources.events import MAX_BYTES
from gatekeeper_py.sources.listwatch import HttpSession, Timing
from recording import RecordingLog
from sources.fakeapi import (
    NAME,
    NAMESPACE,
    TOKEN,
    FakeApi,
    Script,
    answer,
    bookmark,
    close,
    configmap,
    drip,
    error,
    event,
    hang,
    listed,
    stream,
    until,
)

NAMED = ConfigMapName(NAMESPACE, NAME)
PATIENT = Timing(connect=5.0, read=5.0, list=5.0, silence=5.0)
HASTY = Timing(connect=5.0, read=0.1, list=0.15, silence=0.1)


class Clock:
    """A clock that only a sleep advances. ``pauses`` holds the lengths of the sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []
        self.stop_after: int | None = None

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(round(seconds, 6))
        self.now += seconds
        if self.stop_after is not None and len(self.pauses) >= self.stop_after:
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    def monotonic(self) -> float:
        return self.now


class Followed:
    """A running source and its deliveries so far."""

    source: ConfigMapSource

    def __init__(self) -> None:
        self.clock = Clock()
        self.log = RecordingLog()
        self.synced = 0
        self.deliveries: list[Delivery] = []
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        async for delivery in self.source.deliveries():
            self.deliveries.append(delivery)

    @property
    def last(self) -> Delivery:
        return self.deliveries[-1]

    @property
    def texts(self) -> list[str | None]:
        return [delivery.text for delivery in self.deliveries]

    @property
    def problems(self) -> list[str]:
        return [keys["problem"] for keys in self.log.named("policy_source_failed")]

    def count_synced(self) -> None:
        self.synced += 1

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


Follow = Callable[..., Followed]


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    fake.apply("first")
    await fake.start()
    yield fake
    await fake.stop()


def build(
    connect: Callable[[], Any],
    timing: Timing = PATIENT,
    uniform: Callable[[float, float], float] = lambda low, _high: low,
) -> Followed:
    followed = Followed()
    followed.source = ConfigMapSource(
        NAMED,
        connect,
        log=followed.log,
        on_synced=followed.count_synced,
        timing=timing,
        sleep=followed.clock.sleep,
        monotonic=followed.clock.monotonic,
        uniform=uniform,
    )
    return followed


@pytest.fixture
async def follow(api: FakeApi, tmp_path: Path) -> AsyncIterator[Follow]:
    """Return a function that starts a source for the fake's ConfigMap. The source ends with the test."""
    following: list[Followed] = []

    def follow(timing: Timing = PATIENT, **options: Any) -> Followed:
        kubeconfig = api.write_kubeconfig(tmp_path / "kubeconfig")
        followed = build(ClusterConfiguration(kubeconfig=kubeconfig, environ={}).connect, timing, **options)
        followed.task = asyncio.create_task(followed.run())
        following.append(followed)
        return followed

    yield follow
    for followed in following:
        await followed.stop()


class TestFollowing:
    """Events of a healthy API server."""

    async def test_lists_by_name_then_watches_from_there(self, api: FakeApi, follow: Follow) -> None:
        api.apply("the policy", mode="warn")

        followed = follow()
        await until(lambda: api.watching)

        assert followed.deliveries == [Delivery(text="the policy", mode="warn", resource_version="102")]
        first, second = api.requests
        assert first.verb == "list"
        assert first.path == "/api/v1/namespaces/gatekeeper/configmaps"
        assert first.query == {"fieldSelector": "metadata.name=policy"}
        assert second.query == {
            "fieldSelector": "metadata.name=policy",
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": "102",
            "timeoutSeconds": "270",
        }
        assert second.headers["User-Agent"].startswith("gatekeeper-py/")

    async def test_the_bounds_are_those_of_the_reliability_rules(self, api: FakeApi, follow: Follow) -> None:
        """The API server sends a bookmark each minute, and ends a watch after the requested five minutes."""
        followed = follow(Timing(), uniform=lambda _low, high: high)
        await until(lambda: api.watching)

        assert api.last("watch").query["timeoutSeconds"] == "330"
        assert followed.source._timing == Timing(connect=10, read=30, list=45, silence=70, watch=300)
        assert (FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS) == (0.8, 30.0)

    async def test_any_event_resets_the_silence_timer(self, api: FakeApi, follow: Follow) -> None:
        followed = follow(replace(PATIENT, silence=2.0))
        await until(lambda: api.watching)

        for number in range(12):
            await asyncio.sleep(0.2)
            api.bookmark()
            await until(lambda number=number: followed.synced == 2 + number)  # type: ignore[misc]

        assert followed.problems == []
        assert api.count("watch") == 1

    async def test_delivers_each_change(self, api: FakeApi, follow: Follow) -> None:
        followed = follow()
        await until(lambda: api.watching)

        api.apply("second")
        api.apply("second", mode="mutate")
        await until(lambda: len(followed.deliveries) == 3)

        assert followed.texts == ["first", "second", "second"]
        assert followed.last == Delivery(text="second", mode="mutate", resource_version="103")
        assert api.count("list") == 1

    async def test_a_label_moves_the_version_without_a_delivery(self, api: FakeApi, follow: Follow) -> None:
        followed = follow()
        await until(lambda: api.watching)

        api.apply("first", labels={"team": "web"})
        await until(lambda: followed.synced == 2)
        followed.clock.now += 60
        api.end_watches()
        await until(lambda: api.count("watch") == 2)

        assert len(followed.deliveries) == 1
        assert api.last("watch").query["resourceVersion"] == "102"

    async def test_a_bookmark_moves_the_version(self, api: FakeApi, follow: Follow) -> None:
        followed = follow()
        await until(lambda: api.watching)

        api.bookmark()
        await until(lambda: followed.synced == 2)
        followed.clock.now += 300
        api.end_watches()
        await until(lambda: api.count("watch") == 2)

        assert api.last("watch").query["resourceVersion"] == "102"
        assert api.count("list") == 1, "a regular end needs no new list"
        assert followed.clock.pauses == []
        assert len(followed.deliveries) == 1

    async def test_a_change_between_list_and_watch_is_not_missed(self, api: FakeApi, follow: Follow) -> None:
        changes = ["while listing"]
        api.after_list = lambda: api.apply(changes.pop()) if changes else None

        followed = follow()
        await until(lambda: followed.texts == ["first", "while listing"])

        assert api.count("list") == 1

    async def test_a_change_while_a_watch_ends_is_not_missed(self, api: FakeApi, follow: Follow) -> None:
        followed = follow()
        await until(lambda: api.watching)
        api.bookmark()
        await until(lambda: followed.synced == 2)

        followed.clock.now += 300
        api.end_watches()
        api.apply("between watches")

        await until(lambda: followed.texts == ["first", "between watches"])
        assert api.count("list") == 1

    async def test_deleted_and_recreated(self, api: FakeApi, follow: Follow) -> None:
        followed = follow()
        await until(lambda: api.watching)

        api.delete()
        await until(lambda: len(followed.deliveries) == 2)
        gone = followed.last
        api.apply("first")
        await until(lambda: len(followed.deliveries) == 3)

        assert gone.text is None
        assert gone.problem == "ConfigMap gatekeeper/policy was deleted"
        assert followed.last.text == "first"

    async def test_absent_and_created(self, api: FakeApi, follow: Follow) -> None:
        api.object = None

        followed = follow()
        await until(lambda: api.watching)
        assert followed.last.problem == "ConfigMap gatekeeper/policy does not exist"
        assert followed.synced == 1

        api.apply("created")
        await until(lambda: followed.texts == [None, "created"])

    @pytest.mark.parametrize(
        ("fields", "places"),
        [
            pytest.param({"data": {"mode": "warn"}}, ["data.policy.yaml"], id="mode-alone"),
            pytest.param({"data": None}, ["data.policy.yaml"], id="no-data"),
            pytest.param(
                {"data": {}, "binaryData": {"policy.yaml": "//4="}},
                ["data.policy.yaml", "binaryData"],
                id="binary",
            ),
            pytest.param(
                {"data": {"policy.yml": "a", "policy.yaml.bak": "b"}},
                ["data.policy.yaml", "data.policy.yml", "data.policy.yaml.bak"],
                id="renamed",
            ),
            pytest.param({"data": {"policy.yaml": "x" * (2**20 + 1)}}, ["data.policy.yaml"], id="too-long"),
        ],
    )
    async def test_a_text_that_is_missing_is_reported(
        self, api: FakeApi, follow: Follow, fields: dict[str, Any], places: list[str]
    ) -> None:
        assert api.object is not None
        api.object.update(fields)

        followed = follow()
        await until(lambda: followed.deliveries)

        assert followed.last.problem.startswith("ConfigMap gatekeeper/policy: line 1, data.policy.yaml: ")
        assert [finding.path for finding in followed.last.findings] == places
        assert followed.last.text is None

    async def test_a_text_beside_other_keys_is_delivered_with_the_problem(
        self, api: FakeApi, follow: Follow
    ) -> None:
        assert api.object is not None
        data = {"policy.yaml": "a", "mode": "audit", "x": ""}
        api.object.update({"data": data, "binaryData": {"y": "AA=="}})

        followed = follow()
        await until(lambda: followed.deliveries)

        assert (followed.last.text, followed.last.mode) == ("a", None)
        assert [finding.path for finding in followed.last.findings] == ["mode", "data.x", "binaryData"]
        assert followed.last.problem != ""

    async def test_a_megabyte_in_a_list_and_in_an_event(self, api: FakeApi, follow: Follow) -> None:
        listed_text, watched_text = "# list \x01\n" * 110_000, "# watch é\n" * 90_000
        api.apply(listed_text)

        followed = follow()
        await until(lambda: api.watching)
        api.apply(watched_text)
        await until(lambda: len(followed.deliveries) == 2)

        assert followed.texts == [listed_text, watched_text]
        assert followed.clock.pauses == []

    @pytest.mark.parametrize(
        "size",
        [
            pytest.param(1, id="byte-by-byte"),
            pytest.param(37, id="lines-split"),
            pytest.param(10**6, id="at-once"),
        ],
    )
    async def test_lines_are_read_regardless_of_their_chunks(
        self, api: FakeApi, follow: Follow, size: int
    ) -> None:
        lines = (
            event("MODIFIED", configmap({"policy.yaml": "zwei: ü"}, 102))
            + bookmark(103)
            + event("MODIFIED", configmap({"policy.yaml": "drei"}, 104))
        )
        api.watches.append(stream(*(lines[i : i + size] for i in range(0, len(lines), size)), then="hang"))

        followed = follow()
        await until(lambda: followed.synced == 4)

        assert followed.texts == ["first", "zwei: ü", "drei"]

    async def test_only_the_named_configmap_is_trusted(self, api: FakeApi, follow: Follow) -> None:
        other = configmap({"policy.yaml": "evil"}, 100, name="other")
        elsewhere = configmap({"policy.yaml": "evil"}, 100, namespace="default")
        assert api.object is not None
        api.lists.append(answer(200, listed([other, elsewhere, api.object], 101)))
        deleted = event("DELETED", elsewhere)
        api.watches.append(stream(event("MODIFIED", other), event("ADDED", elsewhere), deleted, then="hang"))

        followed = follow()
        await until(lambda: followed.synced == 4)

        assert followed.texts == ["first"]


def script_row(where: str, script: Script, problem: str, id: str) -> Any:  # noqa: A002 - pytest's own word
    return pytest.param(where, script, problem, id=id)


ODD = [
    script_row("list", hang, "no answer in time: the peer is silent", "silent-list"),
    script_row("list", stream(b"{", then="hang"), "no answer in time: the peer is silent", "list-stalls"),
    script_row("list", drip(0.02), "no answer in time: the peer is silent", "list-drips"),
    script_row("list", close, "connection lost: ServerDisconnectedError", "list-closed-at-once"),
    script_row("list", stream(b"{", then="abort"), "connection lost: ClientPayloadError", "list-cut"),
    script_row("list", answer(200, b"<html>"), "a list that is not JSON", "list-not-json"),
    script_row("list", answer(200, b"[]"), "a list that is not an object", "list-no-object"),
    script_row("list", answer(200, b"{}"), "a list without a resourceVersion", "list-without-version"),
    script_row("list", answer(200, listed([], 1)[:-3]), "a list that is not JSON", "list-cut-short"),
    script_row(
        "list",
        answer(200, b'{"metadata":{"resourceVersion":"1"},"items":{"a":1}}'),
        "a list whose items are not a list",
        "list-items-object",
    ),
    script_row(
        "list", answer(200, b" " * (MAX_BYTES + 1)), f"a list of more than {MAX_BYTES} bytes", "list-endless"
    ),
    script_row("list", answer(403), "the API server answered 403 Forbidden: does the Role allow", "list-403"),
    script_row("list", answer(404), "the API server answered 404 Not Found", "list-404"),
    script_row("list", answer(410), "the API server answered 410 Gone", "list-410"),
    script_row("list", answer(429), "the API server answered 429 Too Many Requests", "list-429"),
    script_row("list", answer(500), "the API server answered 500 Internal Server Error", "list-500"),
    script_row("list", answer(503), "the API server answered 503 Service Unavailable", "list-503"),
    script_row("list", answer(599), "the API server answered 599", "list-unknown-status"),
    script_row(
        "list",
        answer(302, Location="http://127.0.0.1:1/"),
        "the API server answered 302 Found",
        "list-redirect",
    ),
    script_row("watch", hang, "no answer in time: the peer is silent", "silent-watch"),
    script_row("watch", stream(then="hang"), "no answer in time: the peer is silent", "silent-after-headers"),
    script_row(
        "watch",
        stream(bookmark(101), then="hang"),
        "no answer in time: the peer is silent",
        "silent-after-an-event",
    ),
    script_row("watch", drip(0.02), "no answer in time: the peer is silent", "watch-drips"),
    script_row("watch", close, "connection lost: ServerDisconnectedError", "watch-closed-at-once"),
    script_row("watch", stream(), "a watch ended without an event", "empty-stream"),
    script_row("watch", answer(200), "a watch ended without an event", "empty-body"),
    script_row("watch", stream(bookmark(101)), "a watch ended at once", "watch-ends-at-once"),
    script_row("watch", stream(bookmark(101), then="abort"), "connection lost: ", "watch-reset"),
    script_row("watch", stream(bookmark(101)[:-9]), "a watch ended within an event", "watch-cut-in-a-line"),
    script_row("watch", stream(b"garbage\n", then="hang"), "a watch event that is not JSON", "garbage-line"),
    script_row("watch", stream(b"\xff\xfe\n", then="hang"), "a watch event that is not JSON", "binary-line"),
    script_row("watch", stream(b"[]\n", then="hang"), "a watch event that is not an object", "array-line"),
    script_row("watch", stream(b"{}\n", then="hang"), "a watch event without an object", "empty-event"),
    script_row(
        "watch",
        stream(event("MODIFIED", {"metadata": {"name": NAME}}), then="hang"),
        "a watch event without a resourceVersion",
        "event-without-version",
    ),
    script_row(
        "watch",
        stream(event("MOVED", configmap({}, 105)), then="hang"),
        "a watch event of an unknown type",
        "unknown-event",
    ),
    script_row(
        "watch",
        stream(b" " * (MAX_BYTES + 1), then="hang"),
        f"a watch event of more than {MAX_BYTES} bytes",
        "endless-line",
    ),
    script_row("watch", answer(410), "the API server answered 410 Gone", "watch-410"),
    script_row("watch", stream(error(410, "Expired")), "the watch reported the error 410", "error-event-410"),
    script_row("watch", stream(error(500, "Oops")), "the watch reported the error 500", "error-event-500"),
    script_row(
        "watch", stream(event("ERROR", {"code": TOKEN})), "the watch reported the error None", "error-no-code"
    ),
    script_row("watch", answer(403), "the API server answered 403 Forbidden: does the Role", "watch-403"),
    script_row("watch", answer(429), "the API server answered 429 Too Many Requests", "watch-429"),
    script_row("watch", answer(500, TOKEN.encode()), "the API server answered 500", "watch-500"),
]


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class TestSourceErrors:
    """Every unusable event causes a pause and a new list, and a change made meanwhile is delivered."""

    @pytest.mark.parametrize(("where", "script", "problem"), ODD)
    async def test_pauses_and_lists_again(
        self, api: FakeApi, follow: Follow, where: str, script: Script, problem: str
    ) -> None:
        scripts = api.lists if where == "list" else api.watches
        # aiohttp itself repeats a request when a connection closes before an answer.
        scripts.extend([script] * (2 if script is close else 1))

        followed = follow(HASTY if "silent" in problem else PATIENT)
        await until(lambda: api.requests)
        api.apply("changed meanwhile")
        await until(lambda: followed.deliveries and followed.last.text == "changed meanwhile")

        assert followed.clock.pauses[0] == 0.8
        assert followed.problems[0].startswith(problem)
        events = ["policy_source_failed", "policy_source_synced"]
        assert followed.log.events[:3] == (events if where == "list" else ["policy_source_synced", *events])
        assert TOKEN not in str(followed.log.lines)

    @pytest.mark.parametrize(
        "script", [stream(), stream(bookmark(101)), answer(410)], ids=["empty", "brief", "410"]
    )
    async def test_a_watch_that_always_fails_does_not_spin(
        self, api: FakeApi, follow: Follow, script: Script
    ) -> None:
        api.always["watch"] = script

        followed = follow()
        followed.clock.stop_after = 8
        await until(lambda: len(followed.clock.pauses) == 8)

        assert followed.clock.pauses == [0.8, 1.6, 3.2, 6.4, 12.8, 20.0, 20.0, 20.0]
        assert api.count("list") == 8, "one list a pause"
        assert api.count("watch") == 8
        assert len(followed.deliveries) == 1

    async def test_an_empty_stream_does_not_shorten_the_pauses(self, api: FakeApi, tmp_path: Path) -> None:
        """The pauses are real. There are four requests, where other clients send thousands."""
        api.always["watch"] = stream()
        cluster = ClusterConfiguration(kubeconfig=api.write_kubeconfig(tmp_path / "kubeconfig"), environ={})
        followed = Followed()
        followed.source = ConfigMapSource(NAMED, cluster.connect, log=followed.log)
        started = time.monotonic()
        followed.task = asyncio.create_task(followed.run())
        await until(lambda: api.count("list") == 3, seconds=30)
        await followed.stop()

        assert time.monotonic() - started >= 0.8 + 1.6
        assert api.count("watch") <= 3

    @pytest.mark.parametrize(
        "script", [answer(410), stream(error(410, "Expired"), then="hang")], ids=["status", "event"]
    )
    async def test_an_expired_version_is_not_requested_again(
        self, api: FakeApi, follow: Follow, script: Script
    ) -> None:
        followed = follow()
        await until(lambda: api.watching)
        api.bookmark()
        await until(lambda: followed.synced == 2)
        api.watches.append(script)
        api.version = 500
        followed.clock.now += 300
        api.end_watches()
        await until(lambda: api.count("watch") == 3)

        versions = [
            requests.query["resourceVersion"] for requests in api.requests if requests.verb == "watch"
        ]
        assert versions == ["101", "102", "500"]
        assert followed.clock.pauses == [0.8]

    async def test_an_older_version_after_a_restored_backup_is_delivered(
        self, api: FakeApi, follow: Follow
    ) -> None:
        """Versions are not compared: the answer of the server is the current state."""
        api.version = 900
        api.apply("from before the backup was put back")
        followed = follow()
        await until(lambda: api.watching)

        await api.stop()
        api._history.clear()
        api.version = 400
        api.apply("from the backup")
        await api.start()
        await until(lambda: api.watching)
        api.apply("after it")
        await until(lambda: len(followed.deliveries) == 3)

        assert followed.texts[1:] == ["from the backup", "after it"]
        assert followed.last.resource_version == "402"

    @pytest.mark.parametrize("spoken", [False, True], ids=["not-accepted", "no-handshake"])
    async def test_a_peer_that_never_connects_times_out(self, tmp_path: Path, *, spoken: bool) -> None:
        """A full listen queue drops a SYN, as a firewall does; an unread one never answers TLS."""
        with socket.socket() as listening, ExitStack() as stack:
            listening.bind(("127.0.0.1", 0))
            listening.listen(100 if spoken else 0)
            if not spoken:
                for _ in range(8):
                    waiting = stack.enter_context(socket.socket())
                    waiting.setblocking(False)
                    waiting.connect_ex(listening.getsockname())
            peer = FakeApi(ssl.create_default_context())
            peer.port = listening.getsockname()[1]
            kubeconfig = peer.write_kubeconfig(tmp_path / "kubeconfig", **{"insecure-skip-tls-verify": True})
            followed = build(
                ClusterConfiguration(kubeconfig=kubeconfig, environ={}).connect, replace(PATIENT, connect=0.2)
            )
            followed.clock.stop_after = 2
            followed.task = asyncio.create_task(followed.run())
            await until(lambda: len(followed.clock.pauses) == 2)
            await followed.stop()

        assert followed.problems == ["no connection in time"] * 2
        assert followed.clock.pauses == [0.8, 1.6]

    @pytest.mark.parametrize("seed", range(5))
    async def test_the_source_recovers_from_any_sequence_of_faults(
        self, api: FakeApi, follow: Follow, seed: int
    ) -> None:
        """The test draws forty of the faults above, with changes between them. No connection stays open."""
        chosen = random.Random(seed)
        quick = [row.values for row in ODD if "silent" not in str(row.id) and "endless" not in str(row.id)]
        followed = follow(HASTY)
        await until(lambda: api.watching)
        before = open_files()

        for number in range(40):
            where, script, _ = chosen.choice(quick)
            (api.lists if where == "list" else api.watches).append(script)
            api.apply(f"change {number}")
            api.end_watches()
            await until(lambda: not api.lists and not api.watches)
        api.apply("the last")
        await until(lambda: followed.last.text == "the last")
        await until(lambda: open_files() <= before + 4)

        assert "unexpected" not in str(followed.problems)
        assert TOKEN not in str(followed.log.lines)
        assert len(followed.problems) >= 30

    async def test_pauses_are_jittered_and_bounded(self, api: FakeApi, follow: Follow) -> None:
        api.always["list"] = answer(503)

        followed = follow(uniform=random.Random(7).uniform)
        followed.clock.stop_after = 40
        await until(lambda: len(followed.clock.pauses) == 40)

        pauses = followed.clock.pauses
        assert 0.8 <= pauses[0] <= 1.2
        assert all(20.0 <= pause <= 30.0 for pause in pauses[5:])
        assert len(set(pauses)) == 40

    async def test_after_a_steady_minute_pauses_are_short_again(self, api: FakeApi, follow: Follow) -> None:
        api.lists.extend([answer(500)] * 5)
        followed = follow()
        await until(lambda: api.watching)
        assert followed.clock.pauses[-1] == 12.8

        followed.clock.now += 59
        api.end_watches()
        await until(lambda: len(followed.clock.pauses) == 6)
        assert followed.clock.pauses[-1] == 20.0, "not steady for long enough"

        await until(lambda: api.watching)
        followed.clock.now += 60
        api.end_watches()
        await until(lambda: len(followed.clock.pauses) == 7)
        assert followed.clock.pauses[-1] == 0.8

    @pytest.mark.parametrize(
        ("requests", "pause"),
        [
            pytest.param("7", 7.0, id="honoured"),
            pytest.param("0", 0.8, id="never-less-than-ours"),
            pytest.param("86400", 60.0, id="bounded"),
            pytest.param("9" * 400, 60.0, id="beyond-a-float"),
            pytest.param("-5", 0.8, id="negative"),
            pytest.param("soon", 0.8, id="not-a-number"),
            pytest.param("Wed, 21 Oct 2015 07:28:00 GMT", 0.8, id="a-date"),
        ],
    )
    @pytest.mark.parametrize("status", [429, 503])
    async def test_retry_after(
        self, api: FakeApi, follow: Follow, status: int, requests: str, pause: float
    ) -> None:
        api.lists.append(answer(status, Retry_After=requests))

        followed = follow()
        await until(lambda: followed.deliveries)

        assert followed.clock.pauses == [pause]

    async def test_an_unauthorized_identity_is_read_again_at_once_but_only_once(
        self, api: FakeApi, follow: Follow
    ) -> None:
        api.always["list"] = answer(401)

        followed = follow()
        followed.clock.stop_after = 3
        await until(lambda: len(followed.clock.pauses) == 3)

        assert [keys["retry_seconds"] for keys in followed.log.named("policy_source_failed")] == [
            0.0,
            0.8,
            1.6,
            3.2,
        ]
        assert api.count("list") == 4

    async def test_a_watch_that_is_always_unauthorized_does_not_spin(
        self, api: FakeApi, follow: Follow
    ) -> None:
        api.always["watch"] = answer(401)

        followed = follow()
        followed.clock.stop_after = 3
        await until(lambda: len(followed.clock.pauses) == 3)

        assert followed.clock.pauses == [0.8, 1.6, 3.2]
        assert api.count("list") == 4

    async def test_the_server_goes_and_comes_back(self, api: FakeApi, follow: Follow) -> None:
        followed = follow()
        await until(lambda: api.watching)

        await api.stop()
        await until(lambda: len(followed.clock.pauses) > 3)
        assert followed.texts == ["first"], "an outage is no delivery: the last good policy stays"
        assert any(problem.startswith("cannot connect to 127.0.0.1:") for problem in followed.problems)
        api.apply("while we could not see it")
        await api.start()

        await until(lambda: followed.texts == ["first", "while we could not see it"])

    async def test_a_configuration_that_breaks_is_tried_again(self, api: FakeApi, tmp_path: Path) -> None:
        cluster = ClusterConfiguration(kubeconfig=api.write_kubeconfig(tmp_path / "kubeconfig"), environ={})
        problems = [SettingsError("kubeconfig: Permission denied")]

        async def connect() -> HttpSession:
            if problems:
                raise problems.pop()
            return await cluster.connect()

        followed = build(connect)
        followed.task = asyncio.create_task(followed.run())
        await until(lambda: followed.deliveries)
        await followed.stop()

        assert followed.problems == ["kubeconfig: Permission denied"]

    async def test_a_bug_is_logged_with_its_traceback_and_does_not_end_the_source(
        self, api: FakeApi, tmp_path: Path
    ) -> None:
        cluster = ClusterConfiguration(kubeconfig=api.write_kubeconfig(tmp_path / "kubeconfig"), environ={})
        problems = [ZeroDivisionError("secret")]

        async def connect() -> HttpSession:
            if problems:
                raise problems.pop()
            return await cluster.connect()

        followed = build(connect)
        followed.task = asyncio.create_task(followed.run())
        await until(lambda: followed.deliveries)
        await followed.stop()

        level, name, keys = followed.log.lines[0]
        assert (level, name) == ("error", "policy_source_failed")
        assert keys["problem"] == "unexpected ZeroDivisionError"
        assert isinstance(keys["exc_info"], ZeroDivisionError)


class TestCancelling:
    """A cancelled source leaves nothing open; warnings are errors here."""

    @pytest.mark.parametrize("verb", ["list", "watch"])
    async def test_cancelling_during_a_request_closes_its_connection(
        self, api: FakeApi, follow: Follow, verb: str
    ) -> None:
        api.always[verb] = hang
        followed = follow()
        await until(lambda: api.count(verb) == 1)

        await followed.stop()

        await until(lambda: api.open == 0)
        assert followed.task is not None
        assert followed.task.cancelled()

    async def test_cancelling_during_a_watch_closes_the_watch(self, api: FakeApi, follow: Follow) -> None:
        followed = follow()
        await until(lambda: api.watching)

        await followed.stop()

        await until(lambda: api.watching == 0)

    async def test_cancelling_during_a_pause_ends_the_source(self, api: FakeApi, follow: Follow) -> None:
        api.always["list"] = answer(500)
        followed = follow()
        followed.clock.stop_after = 1
        await until(lambda: followed.clock.pauses)

        await followed.stop()

        assert followed.task is not None
        assert followed.task.cancelled()

    async def test_closing_during_a_delivery_closes_the_connection(
        self, api: FakeApi, tmp_path: Path
    ) -> None:
        cluster = ClusterConfiguration(kubeconfig=api.write_kubeconfig(tmp_path / "kubeconfig"), environ={})
        async with aclosing(build(cluster.connect).source.deliveries()) as deliveries:
            await anext(deliveries)

        assert api.open == 0


class TestReloading:
    """The source with the consumer of the server: the live policy and the metrics are right."""

    @pytest.fixture
    async def live(self) -> LivePolicy:
        return LivePolicy()

    @pytest.fixture
    async def metrics(
        self, api: FakeApi, live: LivePolicy, tmp_path: Path
    ) -> AsyncIterator[Callable[[str], float]]:
        """Follow the fake as ``serve`` does; return a function that reads a metric."""
        cluster = ClusterConfiguration(kubeconfig=api.write_kubeconfig(tmp_path / "kubeconfig"), environ={})
        counts = CacheCounts()
        metrics = Metrics(live, counts)
        log = RecordingLog()
        parser = Parser(log=log, observer=metrics)
        reloader = Reloader(
            live,
            parser,
            source="configmap",
            source_name=str(NAMED),
            cache_size=10,
            counts=counts,
            observer=metrics,
            log=log,
        )
        source = ConfigMapSource(
            NAMED, cluster.connect, log=log, on_synced=metrics.policy_synced, timing=PATIENT
        )
        task = asyncio.create_task(reloader.run(source.deliveries()))

        def sample(name: str, **labels: str) -> float:
            return metrics.registry.get_sample_value(f"gatekeeper_py_{name}", labels) or 0.0

        yield sample
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await parser.close()

    async def test_fifty_changes_in_a_burst_end_at_the_last(
        self, api: FakeApi, live: LivePolicy, metrics: Callable[..., float]
    ) -> None:
        await until(lambda: api.watching)

        for number in range(50):
            api.apply(policy_text(f"message: change {number}\n"))
            await asyncio.sleep(0)

        await until(lambda: live.snapshot is not None and live.snapshot.message == "change 49")
        assert metrics("policy_reloads_total", result="loaded") < 50, "what came while compiling was skipped"

    async def test_fifty_changes_a_second_end_at_the_last(
        self, api: FakeApi, live: LivePolicy, metrics: Callable[..., float]
    ) -> None:
        """Good and bad policies arrive for two seconds, faster than the server can compile them."""
        await until(lambda: api.watching)
        rules = "".join(f"\n  - r{number}.corp.io/**" for number in range(3000))
        served: set[str] = set()
        start = time.monotonic()

        for number in range(100):
            bad = "colour: red\n" if number % 5 == 4 else ""
            api.apply(policy_text(f"message: change {number}\n{bad}", allow=rules))
            while time.monotonic() < start + number / 50:
                await asyncio.sleep(0.005)
                if live.snapshot is not None:
                    served.add(live.snapshot.message)
        api.apply(policy_text("message: the last\n", allow=rules))
        await until(lambda: live.snapshot is not None and live.snapshot.message == "the last", seconds=30)

        results = [metrics("policy_reloads_total", result=each) for each in ("loaded", "refused")]
        assert sum(results) < 101, "what came while compiling was skipped"
        assert results[0] > 1, "and yet it did not wait for the flapping to end"
        assert not served & {f"change {number}" for number in range(4, 100, 5)}

    @pytest.mark.long
    async def test_reviews_continue_while_a_megabyte_of_rules_is_loaded(
        self, api: FakeApi, live: LivePolicy, metrics: Callable[..., float]
    ) -> None:
        """The last good policy decides while the new one loads. The event loop is never blocked for long."""
        await until(lambda: api.watching)
        api.apply(policy_text("message: small\n"))
        await until(lambda: live.snapshot)
        rules = "".join(f"\n  - r{number}.io" for number in range(75_000))
        text = policy_text("message: huge\n", allow=rules)
        gaps: list[float] = []
        start = turned = time.monotonic()

        api.apply(text)
        while live.snapshot is not None and live.snapshot.message != "huge":
            assert live.snapshot.decide("shop", f"registry.corp.io/a:{len(gaps)}").approved
            await asyncio.sleep(0.001)
            now = time.monotonic()
            gaps.append(now - turned)
            turned = now
            assert now - start < 90

        assert len(gaps) > 50, "reviews were judged all the time"
        assert max(gaps) < (turned - start) / 10, "no wait is a good part of the time"
        assert metrics("policy_rules", kind="allow") == 75_000
        assert live.snapshot is not None
        assert live.snapshot.decide("shop", "r74999.io/team/app:1").approved

    async def test_the_last_good_policy_outlives_the_configmap(
        self, api: FakeApi, live: LivePolicy, metrics: Callable[..., float]
    ) -> None:
        await until(lambda: api.watching)
        api.apply(policy_text())
        await until(lambda: live.snapshot)
        good = live.snapshot

        api.delete()
        await until(lambda: metrics("policy_present") == 0)
        assert live.snapshot is good

        api.apply(policy_text())
        await until(lambda: metrics("policy_present") == 1)
        assert live.snapshot is good
        assert metrics("policy_reloads_total", result="unchanged") == 1

    async def test_labels_do_not_cause_a_reload(
        self, api: FakeApi, live: LivePolicy, metrics: Callable[..., float]
    ) -> None:
        await until(lambda: api.watching)
        api.apply(policy_text())
        await until(lambda: live.snapshot)

        synced = metrics("policy_synced_timestamp_seconds")
        api.apply(policy_text(), annotations={"touched": "yes"})
        await until(lambda: metrics("policy_synced_timestamp_seconds") > synced)

        assert metrics("policy_reloads_total", result="loaded") == 1
        assert metrics("policy_reloads_total", result="unchanged") == 0

    async def test_the_mode_key_alone_is_a_change(
        self, api: FakeApi, live: LivePolicy, metrics: object
    ) -> None:
        await until(lambda: api.watching)
        api.apply(policy_text())
        await until(lambda: live.snapshot)

        api.apply(policy_text(), mode="warn")
        await until(lambda: live.snapshot is not None and live.snapshot.mode(None) == "warn")
