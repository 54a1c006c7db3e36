"""A watch of an API server on a real socket that misbehaves continues, and misses no change."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from cluster.following import PATH, PATIENT, SELECTOR, Followed, connecting
from gatekeeper_py.cluster.configuration import ClusterConfiguration
from gatekeeper_py.cluster.session import Session
from gatekeeper_py.cluster.watch import MAX_BYTES, PAGE_BYTES, ListWatch, Timing
from gatekeeper_py.process.settings import SettingsError
from support.fakeapi import (
    NAME,
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
    stream,
    until,
)

HASTY = Timing(connect=5.0, read=0.1, list=0.15, silence=0.1)

Follow = Callable[..., Followed]


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    fake.apply("first")
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def follow(api: FakeApi, tmp_path: Path) -> AsyncIterator[Follow]:
    """Return a function that starts a watch of the fake's ConfigMap. The watch ends with the test."""
    running: list[Followed] = []

    def follow(timing: Timing = PATIENT, **options: Any) -> Followed:
        running.append(Followed(connecting(api, tmp_path), timing, **options))
        return running[-1]

    yield follow
    for each in running:
        await each.stop()


async def end_regularly(api: FakeApi, followed: Followed) -> None:
    """End the watch after a bookmark and five minutes, as an API server does."""
    await until(lambda: api.watching)
    api.bookmark()
    await until(lambda: len(followed.seen) == 2)
    followed.now += 300
    api.end_watches()


class TestFollowing:
    """Events of a healthy API server."""

    async def test_lists_by_name_then_watches_from_there(self, api: FakeApi, follow: Follow) -> None:
        followed = follow()
        await until(lambda: api.watching)

        assert followed.texts == ["first"]
        first, second = api.requests
        assert (first.verb, first.path, first.query) == ("list", PATH, SELECTOR)
        assert second.query == {
            **SELECTOR,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": "101",
            "timeoutSeconds": "270",
        }
        assert second.headers["User-Agent"].startswith("gatekeeper-py/")

    async def test_the_bounds_are_those_of_the_reliability_rules(self, api: FakeApi, follow: Follow) -> None:
        """The API server sends a bookmark each minute, and ends a watch after the requested five minutes."""
        follow(Timing(), uniform=lambda _low, high: high)
        await until(lambda: api.watching)

        assert api.last("watch").query["timeoutSeconds"] == "330"
        assert Timing() == Timing(
            connect=10, read=30, list=45, silence=70, watch=300, first_pause=0.8, longest_pause=30
        )

    async def test_any_event_resets_the_silence_timer(self, api: FakeApi, follow: Follow) -> None:
        followed = follow(replace(PATIENT, silence=2.0))
        await until(lambda: api.watching)

        for number in range(12):
            await asyncio.sleep(0.2)
            api.bookmark()
            await until(lambda number=number: len(followed.seen) == 2 + number)  # type: ignore[misc]

        assert followed.problems == []
        assert api.count("watch") == 1

    async def test_every_event_is_seen(self, api: FakeApi, follow: Follow) -> None:
        followed = follow()
        await until(lambda: api.watching)
        api.apply("second")
        api.bookmark()
        api.delete()
        api.apply("third")
        await until(lambda: len(followed.seen) == 5)

        kinds = [(seen.kind, seen.version) for seen in followed.seen]
        assert kinds == [
            ("LISTED", "101"), ("MODIFIED", "102"), ("BOOKMARK", "103"), ("DELETED", "104"), ("ADDED", "105"),
        ]  # fmt: skip
        assert followed.texts == ["first", "second", None, "third"]
        assert api.count("list") == 1

    async def test_a_change_between_list_and_watch_is_not_missed(self, api: FakeApi, follow: Follow) -> None:
        changes = ["while listing"]
        api.after_list = lambda: api.apply(changes.pop()) if changes else None

        followed = follow()
        await until(lambda: followed.texts == ["first", "while listing"])

        assert api.count("list") == 1

    async def test_after_its_end_a_watch_continues_from_the_version_of_the_last_bookmark(
        self, api: FakeApi, follow: Follow
    ) -> None:
        followed = follow()
        await end_regularly(api, followed)
        api.apply("between watches")

        await until(lambda: followed.texts == ["first", "between watches"])
        assert api.last("watch").query["resourceVersion"] == "102"
        assert api.count("list") == 1, "a regular end needs no new list"
        assert followed.pauses == []

    async def test_a_megabyte_in_a_list_and_in_an_event(self, api: FakeApi, follow: Follow) -> None:
        listed_text, watched_text = "# list \x01\n" * 110_000, "# watch é\n" * 90_000
        api.apply(listed_text)

        followed = follow()
        await until(lambda: api.watching)
        api.apply(watched_text)
        await until(lambda: len(followed.texts) == 2)

        assert followed.texts == [listed_text, watched_text]
        assert followed.pauses == []

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
        await until(lambda: len(followed.seen) == 4)

        assert followed.texts == ["first", "zwei: ü", "drei"]

    async def test_a_whole_collection_is_watched_without_a_selector(
        self, api: FakeApi, tmp_path: Path
    ) -> None:
        watch = ListWatch(
            connecting(api, tmp_path), "/all", {}, read=lambda seen: seen, on_failed=lambda *_: None
        )
        async with aclosing(watch.results()) as seen:
            assert (await anext(seen)).kind == "LISTED"
        assert (api.requests[0].path, api.requests[0].query) == ("/all", {})


SILENT = "no answer in time: the peer is silent"
ANSWERED = "the API server answered"
NO_LIST = b'{"metadata":{"resourceVersion":"1"},"items":{"a":1}}'
NO_VERSION = event("MODIFIED", {"metadata": {"name": NAME}})
MOVED = event("MOVED", configmap({}, 105))
ENDLESS = b" " * (MAX_BYTES + 1)

LIST_FAULTS: list[tuple[Script, str]] = [
    (hang, SILENT),
    (stream(b"{", then="hang"), SILENT),
    (drip(0.02), SILENT),
    (close, "connection lost: ServerDisconnectedError"),
    (stream(b"{", then="abort"), "connection lost: ClientPayloadError"),
    (answer(200, b"<html>"), "a list that is not JSON"),
    (answer(200, b"[]"), "a list that is not an object"),
    (answer(200, b"{}"), "a list without a resourceVersion"),
    (answer(200, NO_LIST), "a list whose items are not a list"),
    (answer(200, ENDLESS), f"a list of more than {MAX_BYTES} bytes"),
    (answer(403), f"{ANSWERED} 403 Forbidden"),
    (answer(404), f"{ANSWERED} 404 Not Found"),
    (answer(599), f"{ANSWERED} 599"),
    (answer(302, Location="http://127.0.0.1:1/"), f"{ANSWERED} 302 Found"),
]
WATCH_FAULTS: list[tuple[Script, str]] = [
    (hang, SILENT),
    (stream(then="hang"), SILENT),
    (stream(bookmark(101), then="hang"), SILENT),
    (drip(0.02), SILENT),
    (close, "connection lost: ServerDisconnectedError"),
    (stream(), "a watch ended without an event"),
    (stream(bookmark(101)), "a watch ended at once"),
    (stream(bookmark(101), then="abort"), "connection lost: "),
    (stream(bookmark(101)[:-9]), "a watch ended within an event"),
    (stream(b"garbage\n", then="hang"), "a watch event that is not JSON"),
    (stream(b"[]\n", then="hang"), "a watch event that is not an object"),
    (stream(b"{}\n", then="hang"), "a watch event without an object"),
    (stream(NO_VERSION, then="hang"), "a watch event without a resourceVersion"),
    (stream(MOVED, then="hang"), "a watch event of an unknown type"),
    (stream(ENDLESS, then="hang"), f"a watch event of more than {MAX_BYTES} bytes"),
    (stream(error(410, "Expired")), "the watch reported the error 410"),
    (stream(error(500, "Oops")), "the watch reported the error 500"),
    (stream(event("ERROR", {"code": TOKEN})), "the watch reported the error None"),
    (answer(403), f"{ANSWERED} 403 Forbidden"),
    (answer(500, TOKEN.encode()), f"{ANSWERED} 500"),
]
FAULTS = [
    *(("list", script, problem) for script, problem in LIST_FAULTS),
    *(("watch", script, problem) for script, problem in WATCH_FAULTS),
]


BACKED_OFF = [0.8, 1.6, 3.2, 6.4, 12.8, 20.0, 20.0, 20.0]
"""The pauses after failures, without jitter."""


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def page(*texts: str, rest: str = "") -> Script:
    """Return a script for one page of a list, with the token of the next page if there is one."""
    items = [configmap({"policy.yaml": text}, 101) for text in texts]
    metadata = {"resourceVersion": "101", "continue": rest}
    return answer(200, orjson.dumps({"metadata": metadata, "items": items}))


class TestPages:
    """Lists of many objects."""

    async def test_a_list_arrives_in_pages_and_the_watch_follows_the_last(
        self, api: FakeApi, follow: Follow
    ) -> None:
        api.lists.extend((page("a", "b", rest="next"), page("c")))
        followed = follow(pages=True)
        await until(lambda: api.watching)

        assert [(len(seen.objects), seen.rest) for seen in followed.seen] == [(2, "next"), (1, "")]
        first, second = (each.query for each in api.requests if each.verb == "list")
        assert first == {**SELECTOR, "limit": "500"}
        assert second == {**SELECTOR, "limit": "500", "continue": "next"}
        assert api.last("watch").query["resourceVersion"] == "101"

    async def test_a_page_that_is_too_long_is_requested_with_fewer_objects(
        self, api: FakeApi, follow: Follow
    ) -> None:
        large = "x" * PAGE_BYTES
        api.lists.extend((page("a", rest="next"), *([page(large)] * 3), page(large, rest="last"), page("c")))
        followed = follow(pages=True)
        await until(lambda: api.watching)

        limits = [(each.query["limit"], each.query.get("continue")) for each in api.requests[:-1]]
        assert limits == [
            ("500", None), ("500", "next"), ("62", "next"), ("7", "next"), ("1", "next"), ("1", "last"),
        ]  # fmt: skip
        assert [len(seen.objects) for seen in followed.seen] == [1, 1, 1]
        assert followed.problems == []

    async def test_a_failure_between_two_pages_starts_over_with_the_first(
        self, api: FakeApi, follow: Follow
    ) -> None:
        api.lists.extend((page("a", rest="next"), answer(410), page("b")))
        followed = follow(pages=True)
        await until(lambda: api.watching)

        assert followed.problems == ["the API server answered 410 Gone"]
        assert "continue" not in api.last("list").query

    async def test_a_token_in_a_list_without_pages_is_ignored(self, api: FakeApi, follow: Follow) -> None:
        api.lists.append(page("a", rest="next"))
        follow()
        await until(lambda: api.watching)
        assert api.count("list") == 1


class TestFailures:
    """Every unusable event causes a pause and a new list, and a change made meanwhile is delivered."""

    @pytest.mark.parametrize(
        ("where", "script", "problem"), FAULTS, ids=lambda each: each if isinstance(each, str) else ""
    )
    async def test_pauses_and_lists_again(
        self, api: FakeApi, follow: Follow, where: str, script: Script, problem: str
    ) -> None:
        scripts = api.lists if where == "list" else api.watches
        # aiohttp itself repeats a request when a connection closes before an answer.
        scripts.extend([script] * (2 if script is close else 1))

        followed = follow(HASTY if "silent" in problem else PATIENT)
        await until(lambda: api.requests)
        api.apply("changed meanwhile")
        await until(lambda: followed.texts[-1:] == ["changed meanwhile"])

        assert followed.pauses[0] == 0.8
        assert followed.problems[0].startswith(problem)
        assert TOKEN not in str(followed.problems)

    @pytest.mark.parametrize(
        ("where", "script", "retries"),
        [
            pytest.param("watch", stream(), BACKED_OFF, id="empty"),
            pytest.param("watch", stream(bookmark(101)), BACKED_OFF, id="brief"),
            pytest.param("watch", answer(410), BACKED_OFF, id="410"),
            # The identity is read again at once, but only once.
            pytest.param("watch", answer(401), [0.0, 0.8, 1.6, 3.2], id="unauthorized-watch"),
            pytest.param("list", answer(401), [0.0, 0.8, 1.6, 3.2], id="unauthorized-list"),
        ],
    )
    async def test_what_always_fails_is_not_repeated_in_a_tight_loop(
        self, api: FakeApi, follow: Follow, where: str, script: Script, retries: list[float]
    ) -> None:
        api.always[where] = script

        followed = follow()
        followed.stop_after = len(retries) - retries.count(0.0)
        await until(lambda: len(followed.pauses) == followed.stop_after)

        assert followed.retries == retries
        assert api.count("list") == len(retries), "one list a pause"
        assert api.count("watch") == (len(retries) if where == "watch" else 0)
        assert followed.texts == (["first"] if where == "watch" else [])

    @pytest.mark.parametrize(
        "script", [answer(410), stream(error(410, "Expired"), then="hang")], ids=["status", "event"]
    )
    async def test_an_expired_version_is_not_requested_again(
        self, api: FakeApi, follow: Follow, script: Script
    ) -> None:
        followed = follow()
        await until(lambda: api.watching)
        api.bookmark()
        await until(lambda: len(followed.seen) == 2)
        api.watches.append(script)
        api.version = 500
        followed.now += 300
        api.end_watches()
        await until(lambda: api.count("watch") == 3)

        versions = [
            requests.query["resourceVersion"] for requests in api.requests if requests.verb == "watch"
        ]
        assert versions == ["101", "102", "500"]
        assert followed.pauses == [0.8]

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
        await until(lambda: len(followed.texts) == 3)

        assert followed.texts[1:] == ["from the backup", "after it"]
        assert followed.seen[-1].version == "402"

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
            followed = Followed(
                ClusterConfiguration(kubeconfig=kubeconfig, environ={}).connect, replace(PATIENT, connect=0.2)
            )
            followed.stop_after = 2
            await until(lambda: len(followed.pauses) == 2)
            await followed.stop()

        assert followed.problems == ["no connection in time"] * 2
        assert followed.pauses == [0.8, 1.6]

    @pytest.mark.parametrize("seed", range(5))
    async def test_the_watch_recovers_from_any_sequence_of_faults(
        self, api: FakeApi, follow: Follow, seed: int
    ) -> None:
        """The test draws forty of the faults above, with changes between them. No connection stays open."""
        chosen = random.Random(seed)
        quick = [fault for fault in FAULTS if fault[2] != SILENT and "more than" not in fault[2]]
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
        await until(lambda: followed.texts[-1] == "the last")
        await until(lambda: open_files() <= before + 4)

        assert "unexpected" not in str(followed.problems)
        assert TOKEN not in str(followed.problems)
        assert len(followed.problems) >= 30

    async def test_pauses_are_jittered_and_bounded(self, api: FakeApi, follow: Follow) -> None:
        api.always["list"] = answer(503)

        followed = follow(uniform=random.Random(7).uniform)
        followed.stop_after = 40
        await until(lambda: len(followed.pauses) == 40)

        pauses = followed.pauses
        assert 0.8 <= pauses[0] <= 1.2
        assert all(20.0 <= pause <= 30.0 for pause in pauses[5:])
        assert len(set(pauses)) == 40

    async def test_after_a_steady_minute_pauses_are_short_again(self, api: FakeApi, follow: Follow) -> None:
        api.lists.extend([answer(500)] * 5)
        followed = follow()
        await until(lambda: api.watching)
        assert followed.pauses[-1] == 12.8

        followed.now += 59
        api.end_watches()
        await until(lambda: len(followed.pauses) == 6)
        assert followed.pauses[-1] == 20.0, "not steady for long enough"

        await until(lambda: api.watching)
        followed.now += 60
        api.end_watches()
        await until(lambda: len(followed.pauses) == 7)
        assert followed.pauses[-1] == 0.8

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
        await until(lambda: followed.texts)

        assert followed.pauses == [pause]

    async def test_the_server_goes_and_comes_back(self, api: FakeApi, follow: Follow) -> None:
        followed = follow()
        await until(lambda: api.watching)

        await api.stop()
        await until(lambda: len(followed.pauses) > 3)
        assert followed.texts == ["first"], "an outage changes nothing"
        assert any(problem.startswith("cannot connect to 127.0.0.1:") for problem in followed.problems)
        api.apply("while we could not see it")
        await api.start()

        await until(lambda: followed.texts == ["first", "while we could not see it"])

    @pytest.mark.parametrize(
        ("problem", "shown", "is_bug"),
        [
            pytest.param(SettingsError("f: Permission denied"), "f: Permission denied", False, id="settings"),
            pytest.param(ZeroDivisionError("secret"), "unexpected ZeroDivisionError", True, id="bug"),
        ],
    )
    async def test_a_connection_that_cannot_be_made_is_tried_again(
        self, api: FakeApi, tmp_path: Path, problem: Exception, shown: str, *, is_bug: bool
    ) -> None:
        problems, connect = [problem], connecting(api, tmp_path)

        async def try_to_connect() -> Session:
            if problems:
                raise problems.pop()
            return await connect()

        async with Followed(try_to_connect) as followed:
            await until(lambda: followed.texts)

        assert followed.problems == [shown]
        assert followed.failures[0].bug is (problem if is_bug else None)


class TestCancelling:
    """A cancelled watch leaves nothing open; warnings are errors here."""

    @pytest.mark.parametrize(
        ("script", "begun"),
        [
            pytest.param({"list": hang}, lambda api, _: api.count("list"), id="list"),
            pytest.param({"watch": hang}, lambda api, _: api.count("watch"), id="request-of-a-watch"),
            pytest.param({}, lambda api, _: api.watching, id="watch"),
            pytest.param({"list": answer(500)}, lambda _, followed: followed.pauses, id="pause"),
        ],
    )
    async def test_cancelling_closes_every_connection(
        self,
        api: FakeApi,
        follow: Follow,
        script: dict[str, Script],
        begun: Callable[[FakeApi, Followed], object],
    ) -> None:
        api.always.update(script)
        followed = follow()
        followed.stop_after = 1
        await until(lambda: begun(api, followed))

        await followed.stop()

        await until(lambda: api.open == 0 and api.watching == 0)
        assert followed.task.cancelled()

    async def test_closing_after_a_list_closes_the_connection(self, api: FakeApi, tmp_path: Path) -> None:
        watch = ListWatch(
            connecting(api, tmp_path), PATH, SELECTOR, read=lambda seen: seen, on_failed=lambda *_: None
        )
        async with aclosing(watch.results()) as seen:
            await anext(seen)

        assert api.open == 0
