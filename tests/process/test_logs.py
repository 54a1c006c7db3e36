"""Logs have complete lines of valid JSON, and the server does not wait for the reader."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.process.logs import (
    MAX_LINE_BYTES,
    MAX_LINES,
    Format,
    LineLimit,
    LogWriter,
    RateLimit,
    build_log,
    stdout_stream,
)
from gatekeeper_py.process.shares import MAX_NAMESPACES, MAX_PEERS, OTHERS
from support.recording import RecordingLog


class Written:
    """A log writer into memory. ``lines`` closes it and returns the written lines."""

    def __init__(self, *, level: str = "info", style: Format = "json") -> None:
        self.stream = io.BytesIO()
        self.writer = LogWriter(self.stream)
        self.log = build_log(self.writer, level=level, style=style)

    def text(self) -> str:
        self.writer.close()
        return self.stream.getvalue().decode()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().removesuffix("\n").split("\n")]


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Restore the standard library's root logger after each test."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)


def test_an_event_is_one_json_line_with_its_keys() -> None:
    written = Written()
    written.log.info("review", uid="u", images=["a", "b"], count=2)
    (line,) = written.lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "review", "level": "info", "uid": "u", "images": ["a", "b"], "count": 2}


@pytest.mark.parametrize(
    ("level", "logged"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_levels(level: str, logged: int) -> None:
    written = Written(level=level)
    for name in ("debug", "info", "warning", "error"):
        getattr(written.log, name)("event")
    assert len(written.lines()) == logged


def test_line_breaks_stay_inside_their_line() -> None:
    written = Written()
    written.log.info("event", value="a\nb\r\n\u2028c\x1b[31m\0")
    assert written.text().count("\n") == 1


@given(value=st.one_of(st.text(), st.characters(categories=["Cs"]), st.integers(), st.floats(), st.binary()))
def test_any_value_makes_a_line_that_parses(value: object) -> None:
    written = Written()
    written.log.info("event", value=value)
    (line,) = written.lines()
    assert (line["event"], line["level"]) == ("event", "info")


def test_a_traceback_is_one_key_of_one_line() -> None:
    written = Written()
    written.log.error("internal_error", exc_info=ValueError("no"))
    (line,) = written.lines()
    assert "ValueError: no" in line["exception"]


@pytest.mark.parametrize("character", ["x", '"', "\\", "\x01", "é", "\U0001f600"])
@pytest.mark.parametrize("style", ["json", "console"])
def test_a_long_line_is_cut(character: str, style: Format) -> None:
    written = Written(style=style)
    written.log.info("event", value=character * 100_000)
    for line in written.text().splitlines():
        assert len(line.encode()) <= MAX_LINE_BYTES
        assert json.loads(line)["event"] == "log_line_cut"


def test_the_console_style_is_for_people() -> None:
    written = Written(style="console")
    written.log.error("internal_error", exc_info=ValueError("no"), key="value")
    text = written.text()
    assert "internal_error" in text
    assert "value" in text
    assert "ValueError: no" in text
    assert "\x1b[" not in text


def test_warnings_of_libraries_are_logged_as_events() -> None:
    written = Written()
    logging.getLogger("asyncio").error("task %s failed", 7)
    logging.getLogger("x").info("not logged")
    logging.getLogger("x").critical("logged")
    logging.getLogger("x").error("with a traceback", exc_info=ValueError("no"))
    first, second, third = written.lines()
    assert (first["event"], first["logger"], first["message"]) == ("library", "asyncio", "task 7 failed")
    assert second["level"] == "error"
    assert "ValueError: no" in third["exception"]


class Stuck:
    """A stream that blocks until it is released."""

    def __init__(self) -> None:
        self.entered, self.released = threading.Event(), threading.Event()
        self.content = b""

    def write(self, content: bytes) -> int:
        self.entered.set()
        assert self.released.wait(20)
        self.content += bytes(content)
        return len(content)

    def flush(self) -> None:
        return


def test_a_stopped_reader_loses_lines_and_causes_no_delay() -> None:
    stream = Stuck()
    writer = LogWriter(cast(BinaryIO, stream), capacity=10)
    writer.write(b"first\n")
    assert stream.entered.wait(20)
    for number in range(100):
        writer.write(b"%d\n" % number)
    assert writer.dropped == 90
    stream.released.set()
    writer.close()
    assert stream.content.splitlines() == [b"first", *(b"%d" % number for number in range(10))]


def test_long_lines_are_limited_by_their_bytes() -> None:
    stream = Stuck()
    writer = LogWriter(cast(BinaryIO, stream), capacity_bytes=100)
    writer.write(b"first\n")
    assert stream.entered.wait(20)
    for _ in range(15):
        writer.write(b"ten bytes\n")
    assert writer.dropped == 5
    stream.released.set()
    writer.close()
    assert stream.content == b"first\n" + b"ten bytes\n" * 10


@pytest.mark.parametrize(
    ("options", "others", "evidence"),
    [
        pytest.param({"capacity": 10}, 5, 5, id="lines"),
        pytest.param({"capacity_bytes": 200}, 10, 10, id="bytes"),
    ],
)
def test_half_of_the_queue_is_left_for_evidence(options: dict[str, int], others: int, evidence: int) -> None:
    stream = Stuck()
    writer = LogWriter(cast(BinaryIO, stream), **options)
    assert writer.has_room()
    writer.write(b"ten bytes\n")
    assert stream.entered.wait(20)
    written = 0
    while writer.has_room():
        writer.write(b"ten bytes\n")
        written += 1
    assert (written, writer.dropped) == (others, 1)
    for _ in range(evidence + 1):
        assert not writer.has_room()
        writer.write(b"evidence.\n")
    assert writer.dropped == 1 + (evidence + 1) + 1
    stream.released.set()
    writer.close()
    assert stream.content == b"ten bytes\n" * (1 + others) + b"evidence.\n" * evidence


def test_closing_does_not_wait_for_a_reader_that_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekeeper_py.process.logs.FLUSH_SECONDS", 0.05)
    stream = Stuck()
    for capacity in (1, 10):
        writer = LogWriter(cast(BinaryIO, stream), capacity=capacity)
        writer.write(b"first\n")
        assert stream.entered.wait(20)
        writer.write(b"second\n")
        writer.close()
    stream.released.set()


class Broken:
    """A stream whose other end is closed."""

    def write(self, content: bytes) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        return


def test_a_stream_that_fails_is_counted_and_does_not_end_the_thread() -> None:
    writer = LogWriter(cast(BinaryIO, Broken()))
    writer.write(b"a\n")
    writer.close()
    assert writer.dropped == 1


class Small:
    """A stream that accepts three bytes at a time, and no bytes after ``full_after``."""

    def __init__(self, *, full_after: int | None = None) -> None:
        self.content = b""
        self._full_after = full_after

    def write(self, content: bytes) -> int | None:
        if self._full_after is not None and len(self.content) >= self._full_after:
            return None
        taken = bytes(content)[:3]
        self.content += taken
        return len(taken)

    def flush(self) -> None:
        return


def test_the_rest_of_a_partial_write_is_written() -> None:
    stream = Small()
    writer = LogWriter(cast(BinaryIO, stream))
    writer.write(b"a line of some length\n")
    writer.close()
    assert stream.content == b"a line of some length\n"
    assert writer.dropped == 0


def test_a_pipe_that_does_not_block_is_counted_when_full() -> None:
    writer = LogWriter(cast(BinaryIO, Small(full_after=6)))
    writer.write(b"a line of some length\n")
    writer.close()
    assert writer.dropped == 1


def test_lines_are_written_whole_and_in_order() -> None:
    stream = io.BytesIO()
    writer = LogWriter(stream)
    for number in range(5000):
        writer.write(b"%d\n" % number)
    writer.close()
    assert stream.getvalue() == b"".join(b"%d\n" % number for number in range(5000))


def test_standard_output_is_written_without_a_buffer(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with os.fdopen(os.dup(1), "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        stdout_stream().write(b"at once\n")
        assert capfd.readouterr().out == "at once\n"


def test_one_event_of_a_kind_passes_per_second_and_the_others_are_counted() -> None:
    clock = [0.0]
    limit = RateLimit(1.0, monotonic=lambda: clock[0])
    assert limit.passes("a") == 0
    assert [limit.passes("a") for _ in range(3)] == [None] * 3
    assert limit.passes("b") == 0
    clock[0] = 0.99
    assert limit.passes("a") is None
    clock[0] = 1.0
    assert limit.passes("a") == 4
    assert limit.passes("a") is None
    clock[0] = 5.0
    assert limit.passes("a") == 1
    assert limit.passes("b") == 0


class Limited:
    """A limit with a clock, and the calls that it scheduled. ``has_room`` is ``None`` for evidence."""

    def __init__(self, has_room: Callable[[], bool] | None = lambda: True) -> None:
        self.now = 100.0
        self.log = RecordingLog()
        self.planned: list[tuple[float, Callable[[], None]]] = []
        self.limit = LineLimit(
            self.log,
            "denials_suppressed",
            "peer",
            has_room=has_room,
            monotonic=lambda: self.now,
            later=lambda seconds, call: self.planned.append((self.now + seconds, call)),
            kind="denied",
        )

    def passed(self, peer: str, times: int, namespace: str | None = "shop") -> int:
        return sum(self.limit.passes(peer, namespace) for _ in range(times))

    @property
    def suppressed(self) -> list[dict[str, object]]:
        return self.log.named("denials_suppressed")


def counted(peer: str, count: int) -> dict[str, object]:
    return {"peer": peer, "kind": "denied", "count": count}


def test_each_peer_has_200_lines_a_second_and_the_others_are_counted() -> None:
    limited = Limited()
    assert limited.passed("a", 1000) == MAX_LINES == 200
    assert limited.passed("b", 150) == 150
    assert limited.suppressed == []
    limited.now += 0.99
    assert limited.passed("a", 5) == 0
    limited.now += 0.01
    assert limited.passed("a", 5) == 5
    assert limited.suppressed == [counted("a", 805)]


def test_the_count_is_logged_at_the_end_of_the_second_even_if_no_line_follows() -> None:
    limited = Limited()
    limited.passed("a", MAX_LINES + 3)
    limited.passed("b", MAX_LINES + 2)
    limited.now += 1.0
    for at, call in limited.planned:
        assert at == 101.0
        call()
    assert limited.suppressed == [counted("a", 3), counted("b", 2)]


def test_a_storm_of_one_peer_is_counted_once_each_second() -> None:
    limited = Limited()
    for _ in range(5):
        limited.passed("a", 500)
        limited.now += 1.0
        for _, call in limited.planned:
            call()
    assert limited.suppressed == [counted("a", 300)] * 5


def test_a_namespace_has_its_part_after_another_one_used_up_the_lines_of_the_peer() -> None:
    limited = Limited()
    assert limited.passed("a", 1000, "storm") == MAX_LINES
    assert limited.passed("a", 1000, "late") == MAX_LINES / 2
    assert limited.passed("a", 20, None) == 20
    assert limited.passed("a", 1000, "storm") == 0
    limited.now += 1.0
    assert limited.passed("a", 20, "late") == 20
    assert limited.suppressed == [counted("a", 800 + 900 + 1000)]


def test_evidence_of_a_namespace_is_limited_by_no_other_lines_than_its_own() -> None:
    limited = Limited(has_room=None)
    for name in ("storm", "late", None, "x" * 1000):
        assert limited.passed("a", 300, name) == MAX_LINES
    limited.now += 1.0
    assert limited.passed("a", 1, "storm") == 1
    assert limited.suppressed == [counted("a", 400)]


def test_lines_are_counted_by_kind_while_the_queue_has_no_room() -> None:
    room = [False]
    limited = Limited(has_room=lambda: room[0])
    assert limited.passed("a", 3) == 0
    room[0] = True
    assert limited.passed("a", MAX_LINES) == MAX_LINES
    limited.now += 1.0
    assert limited.passed("a", 1) == 1
    assert limited.suppressed == [counted("a", 3)]


@pytest.mark.parametrize("has_room", [None, lambda: True], ids=["evidence", "others"])
def test_memory_is_bounded_for_any_number_of_peers_and_namespaces(
    has_room: Callable[[], bool] | None,
) -> None:
    limited = Limited(has_room)
    passed = sum(limited.limit.passes(f"peer-{number}", "shop") for number in range(1000))
    assert passed == MAX_PEERS + MAX_LINES
    for number in range(3 * MAX_NAMESPACES):
        limited.limit.passes("peer-1", f"namespace-{number}-" + "x" * 1000)
    counts = limited.limit._lines._namespaces
    assert set(counts) == {OTHERS} | {f"peer-{number}" for number in range(MAX_PEERS)}
    assert len(counts["peer-1"]) == MAX_NAMESPACES + 1
    assert all(len(name or "") < 100 for name in counts["peer-1"])
    limited.now += 1.0
    limited.limit.passes("peer-1", "shop")
    assert {line["peer"] for line in limited.suppressed} == {OTHERS, "peer-1"}
