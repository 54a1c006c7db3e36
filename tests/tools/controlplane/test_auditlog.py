"""Audit events are read while the API server writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.controlplane.auditlog import read_events

TEXT = b"".join(json.dumps({"id": number}).encode() + b"\n" for number in range(3))
LINE = len(TEXT) // 3


@pytest.mark.parametrize("size", range(len(TEXT) + 1))
def test_only_complete_events_are_read(tmp_path: Path, size: int) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(TEXT[:size])
    assert [event["id"] for event in read_events(log)] == list(range(size // LINE))


@pytest.mark.parametrize("since", range(len(TEXT) + 1))
def test_events_that_began_after_a_size_are_read_once(tmp_path: Path, since: int) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(TEXT)
    began_before = -(-since // LINE)
    assert [event["id"] for event in read_events(log, since=since)] == list(range(began_before, 3))


def test_a_half_written_event_at_the_beginning_and_the_end_is_not_an_event(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(TEXT[:-4])
    assert read_events(log, since=len(TEXT) - 6) == []


def test_events_can_be_chosen_by_a_text(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(TEXT)
    assert read_events(log, containing='"id": 1') == [{"id": 1}]
