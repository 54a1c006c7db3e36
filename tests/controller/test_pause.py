"""The pause annotation is read strictly, and never lasts longer than a day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gatekeeper_py.controller.pause import Pause, read_pause
from gatekeeper_py.core.names import PAUSED_UNTIL

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def namespace(value: Any) -> dict[str, Any]:
    return {"metadata": {"annotations": {PAUSED_UNTIL: value}}}


@pytest.mark.parametrize(
    ("value", "until"),
    [
        pytest.param("2026-05-01T13:00:00Z", NOW + timedelta(hours=1), id="utc"),
        pytest.param("2026-05-01T14:30:00+02:00", NOW + timedelta(minutes=30), id="with-offset"),
        pytest.param("2026-05-01T12:00:00.5Z", NOW + timedelta(seconds=0.5), id="fraction"),
        pytest.param("2026-05-02T12:00:00Z", NOW + timedelta(hours=24), id="exactly-a-day"),
    ],
)
def test_a_pause(value: str, until: datetime) -> None:
    assert read_pause(namespace(value), NOW) == Pause(until=until)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param({}, id="no-metadata"),
        pytest.param({"metadata": {}}, id="no-annotations"),
        pytest.param({"metadata": {"annotations": None}}, id="null-annotations"),
        pytest.param(namespace("2026-05-01T12:00:00Z"), id="now"),
        pytest.param(namespace("2020-01-01T00:00:00Z"), id="past"),
    ],
)
def test_no_pause(found: dict[str, Any]) -> None:
    assert read_pause(found, NOW) == Pause()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param("2026-05-02T12:00:01Z", "more than 24 hours ahead", id="too-far"),
        pytest.param("9999-12-31T23:59:59Z", "more than 24 hours ahead", id="for-ever"),
        pytest.param("2026-05-01T13:00:00", "needs its offset", id="no-offset"),
        pytest.param("2026-05-02", "not an RFC 3339 time", id="date"),
        pytest.param("1h", "not an RFC 3339 time", id="duration"),
        pytest.param("true", "not an RFC 3339 time", id="word"),
        pytest.param("", "not an RFC 3339 time", id="empty"),
        pytest.param("2026-13-01T00:00:00Z", "no such time", id="no-such-month"),
        pytest.param("2026-05-01T13:00:00Z" + " " * 100, "not an RFC 3339 time", id="long"),
        pytest.param("12:00", "neither a date", id="clock"),
    ],
)
def test_a_bad_value_is_ignored_with_its_reason(value: str, reason: str) -> None:
    found = read_pause(namespace(value), NOW)
    assert found.until is None
    assert reason in found.problem
    assert PAUSED_UNTIL in found.problem


def test_a_value_is_shown_on_one_line() -> None:
    problem = read_pause(namespace("a:\n\u202eb" + "x" * 1000), NOW).problem
    assert problem.isprintable()
    assert len(problem) < 300
