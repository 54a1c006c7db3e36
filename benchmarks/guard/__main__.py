"""``python -m benchmarks.guard [--write]``: bytecode instructions and C calls of one review.

Counts from the bytes of a request to the bytes of its answer, through the connection's protocol, without a
socket or a clock. So the counts depend only on the minor version of Python. Fails when a count is more than
``TOLERANCE`` over the committed budget. This shows one more closure, logger or label look-up per request,
which is too small for a timing to show. ``--write`` writes the counts as the budget of this Python.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.bodies import pod_review
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.policy import parse_policy
from gatekeeper_py.http.connections.peers import Peer
from gatekeeper_py.http.listener import Listener
from gatekeeper_py.live.parser.process import Parser
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.process.logs import LogWriter, RateLimit, build_log
from gatekeeper_py.webhook.guard import PolicyGuard
from gatekeeper_py.webhook.metrics import Metrics
from gatekeeper_py.webhook.webhook import Webhook

BUDGET = Path(__file__).with_name("budget.json")
NOWHERE = Path(os.devnull)
TOLERANCE = 0.03
COUNTS = 3
POLICY = """
apiVersion: gatekeeper-py/v1
kind: ImagePolicy
mode: {mode}
allow: [registry.corp.example]
mirrors: [{{from: docker.io, to: registry.corp.example/hub}}]
"""
APPROVED = ("registry.corp.example/shop/web:1.4.2", "registry.corp.example/mesh/proxy:3.1.0") * 2
HUB = ("nginx:1.27", *APPROVED[1:])

CASES: dict[str, tuple[str, str, tuple[str, ...], bytes]] = {
    "allow": ("enforce", "/validate-image", APPROVED, b'"allowed":true'),
    "deny": ("enforce", "/validate-image", HUB, b'"allowed":false'),
    "warn": ("warn", "/validate-image", HUB, b'"warnings":['),
    "mutate": ("mutate", "/mutate-image", HUB, b'"patchType":"JSONPatch"'),
    "mutate nothing": ("mutate", "/mutate-image", APPROVED, b'"allowed":true'),
}
"""Case -> mode, path, images, and bytes that the answer must contain."""

Counts = dict[str, int]


class Transport(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ARG002 - the interface's
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: this transport has no buffer."""

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """Do nothing: there is no socket."""


async def count(case: str) -> Counts:
    """Return the counts of one review of a case, with its decisions in the cache."""
    mode, path, images, expected = CASES[case]
    live, counts = LivePolicy(), CacheCounts()
    compiled = parse_policy(POLICY.format(mode=mode)).at(datetime(2026, 1, 1, tzinfo=UTC))
    live.install(compiled.serving(16384, counts))
    with NOWHERE.open("wb", buffering=0) as nowhere:  # noqa: ASYNC230 - it never blocks
        writer = LogWriter(nowhere)
        metrics, log = Metrics(live, counts), build_log(writer, level="info", style="json", colors=False)
        webhook = Webhook(
            live,
            PolicyGuard(None, Parser(log=log, observer=metrics), live, observer=metrics, log=log),
            observer=metrics,
            log=log,
            limit=RateLimit(),
            max_body_bytes=7 * 1024 * 1024,
        )
        listener = Listener(webhook.handle, max_connections=1, answer=webhook.answer)
        transport = Transport()
        with socket.socket() as accepted:
            protocol = listener.enter(accepted, Peer("192.0.2.1", 1))
        protocol.connection_made(transport)
        body = pod_review(size=7 * 1024, images=images)
        head = f"POST {path}?timeout=5s HTTP/1.1\r\nHost: gatekeeper\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        for _ in range(3):
            protocol.data_received(request)
        transport.written = b""
        # The lowest of some counts, because a review may also do the work that is due once a second.
        counted = min(
            (counted_in(lambda: protocol.data_received(request)) for _ in range(COUNTS)),
            key=lambda each: each["bytecodes"],
        )
        if b" 200 OK\r\n" not in transport.written or expected not in transport.written:
            raise AssertionError(transport.written)
        protocol.connection_lost(None)
        await listener.close(0.1)
        writer.close()
    return counted


def counted_in(step: Callable[[], object]) -> Counts:
    """Return the bytecode instructions and calls of C functions in one call of ``step``."""
    counter = _instructions if sys.version_info >= (3, 12) else _traced_instructions
    calls = 0

    def profile(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        if event == "c_call":
            calls += 1

    sys.setprofile(profile)
    try:
        step()
    finally:
        sys.setprofile(None)
    return {"bytecodes": counter(step), "c_calls": calls - 1}  # one call is setprofile's own


def _traced_instructions(step: Callable[[], object]) -> int:
    count = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        step()
    finally:
        sys.settrace(before)  # otherwise a measurement of coverage would end here
    return count


def _instructions(step: Callable[[], object]) -> int:
    """Count with monitoring, from Python 3.12 on, because tracing misses instructions there."""
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
    count = 0

    def counted(_code: object, _offset: int) -> None:
        nonlocal count
        count += 1

    tool, event = monitoring.PROFILER_ID, monitoring.events.INSTRUCTION
    monitoring.use_tool_id(tool, "guard")
    try:
        monitoring.register_callback(tool, event, counted)
        monitoring.set_events(tool, event)
        step()
        monitoring.set_events(tool, 0)
    finally:
        monitoring.free_tool_id(tool)
    return count


def over_budget(counted: dict[str, Counts], budget: dict[str, Counts]) -> list[str]:
    """Return a line for each count that exceeds its budget by more than the tolerance."""
    return [
        f"{case}: {found:,} {name}, {100 * (found / budget[case][name] - 1):.1f} % over the budget of "
        f"{budget[case][name]:,}"
        for case, counts in counted.items()
        for name, found in counts.items()
        if found > budget[case][name] * (1 + TOLERANCE)
    ]


def main() -> int:
    """Count and print; compare with the budget or write it. Return 1 when a count is over budget."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__)
    parser.add_argument("--write", action="store_true", help="take the counts for the budget")
    arguments = parser.parse_args()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    budgets: dict[str, dict[str, Counts]] = json.loads(BUDGET.read_text())
    counted = {case: asyncio.run(count(case)) for case in CASES}
    for case, counts in counted.items():
        print(f"{case:16}{counts['bytecodes']:8,} bytecodes{counts['c_calls']:8,} C calls")
    if arguments.write:
        budgets[version] = counted
        BUDGET.write_text(json.dumps(dict(sorted(budgets.items())), indent=2) + "\n")
        return 0
    if version not in budgets:
        print(f"there is no budget for Python {version}: nothing was compared")
        return 0
    problems = over_budget(counted, budgets[version])
    print("\n".join(problems) or f"within {100 * TOLERANCE:.0f} % of the budget for Python {version}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
