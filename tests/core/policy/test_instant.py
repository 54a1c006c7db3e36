"""Dates and times as policies write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gatekeeper_py.core.policy.instant import format_instant, parse_instant


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC), id="date-is-midnight-utc"),
        pytest.param("2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC), id="utc"),
        pytest.param("2026-03-01t12:00:00z", datetime(2026, 3, 1, 12, tzinfo=UTC), id="lower-case"),
        pytest.param("2026-03-01 12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC), id="space"),
        pytest.param("2026-03-01T12:00:00+02:00", datetime(2026, 3, 1, 10, tzinfo=UTC), id="east"),
        pytest.param("2026-03-01T23:30:00-01:00", datetime(2026, 3, 2, 0, 30, tzinfo=UTC), id="west"),
        pytest.param("2026-03-01T12:00:00.5Z", datetime(2026, 3, 1, 12, 0, 0, 500000, tzinfo=UTC), id="half"),
        pytest.param(
            "2026-03-01T12:00:00.123456789Z",
            datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC),
            id="nanoseconds",
        ),
        pytest.param(
            "2026-03-01T23:59:59.000009-23:59",
            datetime(2026, 3, 2, 23, 58, 59, 9, tzinfo=UTC),
            id="largest-offset",
        ),
    ],
)
def test_instants(text: str, expected: datetime) -> None:
    assert parse_instant(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("2026-03-01T12:00:00", "offset", id="no-offset"),
        pytest.param("2026-03-01T12:00:00.5", "offset", id="no-offset-but-a-fraction"),
        pytest.param("2026-03-01T12:00Z", "neither", id="no-seconds"),
        pytest.param("2026-3-1", "neither", id="one-digit"),
        pytest.param("01.03.2026", "neither", id="another-order"),
        pytest.param("2026-W09-7", "neither", id="iso-week"),
        pytest.param("20260301", "neither", id="no-dashes"),
        pytest.param("2026-03-01T12:00:00+0200", "neither", id="offset-without-colon"),
        pytest.param("2026-03-01\n", "neither", id="final-newline"),
        pytest.param("\u0662\u0660\u0662\u0666-03-01", "neither", id="arabic-digits"),
        pytest.param("", "neither", id="empty"),
        pytest.param("2026-02-29", "no such time", id="no-leap-year"),
        pytest.param("2026-03-01T24:00:00Z", "no such time", id="hour-24"),
        pytest.param("2026-03-01T12:00:60Z", "no such time", id="second-60"),
        pytest.param("2026-03-01T12:00:00+24:00", "no such time", id="offset-of-a-day"),
        pytest.param("2026-03-01T12:00:00+02:60", "neither", id="offset-with-minute-60"),
        pytest.param("2026-03-01T12:60:00Z", "no such time", id="minute-60"),
        pytest.param("2026-13-01", "no such time", id="month-13"),
        pytest.param("2026-03-01T" + "1" * 64, "neither", id="too-long"),
        pytest.param("2026-03-01T12:00:00,5Z", "neither", id="comma"),
        pytest.param("0000-01-01", "no such time", id="year-0"),
        pytest.param("0001-01-01T00:00:00+01:00", "no such time", id="before-the-first-year"),
        pytest.param("9999-12-31T23:59:59-01:00", "no such time", id="after-the-last-year"),
    ],
)
def test_an_invalid_instant_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_instant(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "0999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"])
def test_an_instant_is_written_as_it_is_read(text: str) -> None:
    assert format_instant(parse_instant(text)) == text
