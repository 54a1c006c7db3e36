"""The maximum cost of parsing: memory and time for the heaviest bodies that are accepted."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from gatekeeper_py.http.answers import Refusal
from gatekeeper_py.process.memory import collector_off
from gatekeeper_py.webhook.body import MAX_BRACKETS, MAX_WEIGHT, check_weight, parse_json, weigh
from support.hostilejson import VALUES

MAX_BODY: Final = 7 * 1024 * 1024
MOST_MIB: Final = 110
MOST_TIMES: Final = 25.0
"""Bound of the CPU time, as a multiple of that for ``SAMPLE``, which takes 0.01 s on an idle machine. The
heaviest body takes 14 times as long. A busy machine takes longer for both."""

SAMPLE: Final = b"[" + b",".join([b'{"a":[1],"b":{}}'] * 50_000) + b"]"

TRIES: Final = 3


@pytest.fixture(scope="module")
def costs() -> dict[str, dict[str, float]]:
    """Return MiB, and CPU time as a multiple of that for ``SAMPLE``, by kind of body."""
    command = [sys.executable, __file__]
    tests = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={"PYTHONPATH": tests})
    measured: dict[str, dict[str, float]] = json.loads(done.stdout)
    return measured


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", VALUES)
def test_the_heaviest_accepted_body_is_cheap_to_parse(costs: dict[str, dict[str, float]], name: str) -> None:
    assert costs[name]["mib"] < MOST_MIB
    assert costs[name]["times"] < MOST_TIMES


def heaviest(name: str) -> bytes:
    """Return nearly the largest body of a kind that is accepted."""
    sample = VALUES[name](MAX_BODY // 100).encode()
    brackets = sample.count(b"[") + sample.count(b"{")
    times = min(97.0, MAX_WEIGHT / max(weigh(sample), 1), MAX_BRACKETS / max(brackets, 1))
    body = VALUES[name](int(times * MAX_BODY // 100)).encode()
    while len(body) > MAX_BODY or is_refused(body):
        times *= 0.99
        body = VALUES[name](int(times * MAX_BODY // 100)).encode()
    return body


def is_refused(body: bytes) -> bool:
    try:
        check_weight(body)
    except Refusal:
        return True
    return False


def measure(body: bytes) -> dict[str, float]:
    """Return the CPU time of parsing a body, and by how much resident memory grows at most."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # reset the peak
    before = _peak_mib()
    with collector_off():
        seconds = min(_seconds(body) for _ in range(TRIES))
        peak = _peak_mib()
        sample = min(_seconds(SAMPLE) for _ in range(TRIES))
    return {"mib": peak - before, "times": seconds / sample}


def _seconds(body: bytes) -> float:
    started = time.thread_time()
    parse_json(body)
    return time.thread_time() - started


def _peak_mib() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    json.dump({name: measure(heaviest(name)) for name in VALUES}, sys.stdout)
