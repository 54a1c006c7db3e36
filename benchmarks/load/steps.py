"""Steps that run during a measurement: stalls, many new connections, policy changes."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.load.cases import ALLOWED, Load, Meanwhile, Part
from benchmarks.load.server import Server
from benchmarks.policies import policy_text

STALL_SECONDS: Final = 0.3
STORM: Final = 1000
REWRITE_SECONDS: Final = 2.0


def stall(meanwhile: Meanwhile) -> dict[str, Any]:
    """Stop the server for 300 ms, two seconds into the measurement."""
    time.sleep(2)
    process = meanwhile.server.process
    process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(STALL_SECONDS)
    finally:
        process.send_signal(signal.SIGCONT)
    return {"stalled_seconds": STALL_SECONDS}


def storm(meanwhile: Meanwhile) -> dict[str, Any]:
    """Open a thousand connections at once, two seconds into the measurement, each with one review."""
    time.sleep(2)
    load = Load(
        parts=(Part("approved-7k", ALLOWED),), images=None, rate=STORM * 100, seconds=0.01, warmup=0.0,
        fresh_connections=True, max_dials=0, max_in_flight=2 * STORM, timeout=20,
    )  # fmt: skip
    result = meanwhile.run(load)
    return {
        "storm_ok": result["ok"],
        "storm_failed": result["failed"],
        "storm_wrong": result["wrong"],
        "storm_served_seconds": result["latency_ms"]["max"] / 1000,
        "storm_handshake_p99_ms": result["handshake_ms"]["p99"],
    }


def rewrite(meanwhile: Meanwhile) -> dict[str, Any]:
    """Replace the policy every two seconds by one with the same rules and another revision."""
    written = 0
    begun = time.monotonic()
    while not meanwhile.ended():
        written += 1
        put(meanwhile.server.policy, policy_text(1000, message=f"edition {written}"))
        until(begun + written * REWRITE_SECONDS, meanwhile.ended)
    return {"policies_written": written}


def compile_many(rules: int) -> Callable[[Meanwhile], dict[str, Any]]:
    """Write a policy of many rules two seconds into the measurement; return the seconds until it is live."""

    def step(meanwhile: Meanwhile) -> dict[str, Any]:
        until(time.monotonic() + 2, meanwhile.ended)
        text = policy_text(rules)
        put(meanwhile.server.policy, text)
        begun = time.monotonic()
        while not meanwhile.ended():
            if json.loads(meanwhile.server.health("/policy")[1])["counts"].get("allow") == rules:
                return {"live_seconds": time.monotonic() - begun}
            time.sleep(0.1)  # between two requests
        return {"live_seconds": None}

    return step


def put(policy: Path, text: str) -> None:
    """Replace a file atomically."""
    new = policy.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(policy)


def until(instant: float, ended: Callable[[], bool]) -> None:
    """Wait until ``instant`` or until the measurement has ended."""
    while (left := instant - time.monotonic()) > 0 and not ended():
        time.sleep(min(left, 0.1))


def memory_of_connections(server: Server, count: int) -> dict[str, Any]:
    """Return the resident memory without connections, and the average that an idle TLS connection adds."""
    idle = server.usage().rss_mib
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(contextlib.closing(server.connect()))
            connection.request("POST", "/", b"")
            response = connection.getresponse()
            response.read()
            if response.status != 404:
                raise ConnectionError(f"an idle connection was answered with {response.status}")
        full = server.usage().rss_mib
    return {"idle_rss_mib": idle, "connection_mib": (full - idle) / count, "connections": count}
