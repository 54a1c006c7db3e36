"""Replicas of ``serve`` behind a list of endpoints, restarted one by one like a Deployment.

The list is a file that the Go generator reads at each dial. It stands in for the EndpointSlice and
kube-proxy: a new connection goes to a listed replica, and an open connection stays where it is.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from benchmarks import bodies, policies
from benchmarks.load.generator import build
from gatekeeper_py.cluster.issuing import issue
from support.server import Server

SERVER_NAME: Final = "localhost"

NOT_OURS: Final = frozenset({"generator_late", "generator_full"})
"""Requests that the generator never sent, because the machine was too busy to run it."""

Leaving = Callable[[Server, Callable[[], None]], None]
"""Removes a stopping replica from the endpoints at the right time.

The arguments are the replica, which just got SIGTERM, and the function that removes it from the list.
"""


def leaves_when_unready(replica: Server, leave: Callable[[], None]) -> None:
    """Remove the replica after its readiness probe fails, as in a cluster."""
    replica.wait(lambda: not replica.is_ready())
    leave()


def refuses(address: tuple[str, int]) -> bool:
    """Return whether nothing listens at the address."""
    try:
        socket.create_connection(address, timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


class Site:
    """A directory with certificates, a policy, a review and the list of endpoints, and its processes.

    The processes end with the context. ``replicas`` are those on the list, the oldest first. ``ended`` are
    those that got SIGTERM.
    """

    def __init__(self, directory: Path, policy: str | None = None) -> None:
        self.endpoints = directory / "endpoints"
        self.ca = directory / "ca.crt"
        self.body = directory / "review.json"
        self.replicas: list[Server] = []
        self.ended: list[Server] = []
        self._ends = ExitStack()
        self._cert, self._key = directory / "tls.crt", directory / "tls.key"
        self._policy = directory / "policy.yaml"
        made = issue((SERVER_NAME, "127.0.0.1"), datetime.now(UTC), timedelta(days=90))
        for path, content in (
            (self.ca, made.ca),
            (self._cert, made.leaf),
            (self._key, made.key),
            (self._policy, (policy or policies.policy_text(20)).encode()),
            # The body has the size of the review of a real Pod, which takes more than one read.
            (self.body, bodies.pod_review(size=7000, uid=bodies.UID)),
        ):
            path.write_bytes(content)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ends.close()

    def start(self, *arguments: str, health: str = "127.0.0.1:0", listen: str = "127.0.0.1:0") -> Server:
        """Start a replica that is not on the list."""
        server = Server(
            "--policy", str(self._policy), "--tls-cert", str(self._cert), "--tls-key", str(self._key),
            "--listen", listen, "--health-listen", health, *arguments,
            ca=self.ca,
        )  # fmt: skip
        self._ends.callback(server.end)
        return server

    def join(self, *arguments: str) -> Server:
        """Start a replica and add it to the list once it is ready."""
        server = self.start(*arguments)
        server.wait(server.is_ready)
        self.replicas.append(server)
        self._publish()
        return server

    def leave(self, server: Server) -> None:
        """Remove a replica from the list."""
        self.replicas.remove(server)
        self._publish()

    def replace(self, *arguments: str, leaving: Leaving = leaves_when_unready) -> None:
        """Do one step of a rollout (maxSurge 1, maxUnavailable 0): start a new one, then end the oldest."""
        oldest = self.replicas[0]
        self.join(*arguments)
        oldest.signal(signal.SIGTERM)
        self.ended.append(oldest)
        leaving(oldest, lambda: self.leave(oldest))

    def exit_codes(self) -> list[int]:
        """Return the exit codes of all stopped replicas, once they have ended."""
        return [server.code() for server in self.ended]

    def plan(self, **changes: Any) -> dict[str, Any]:
        """Return a plan of the generator: approved reviews over the transport of an API server.

        200 in flight is what one API server lets mutate at once; with what fits beside it, that is also
        below what a replica accepts in connections.
        """
        return {
            "targets_file": str(self.endpoints),
            "server_name": SERVER_NAME,
            "ca_file": str(self.ca),
            "path": "/validate-image?timeout=10s",
            "mode": "open",
            "client": "net/http",
            "max_idle": 25,
            "max_in_flight": 200,
            "warmup_seconds": 0.5,
            "bodies": [{"file": str(self.body), "weight": 1, "expect": {"status": 200, "allowed": True}}],
            **changes,
        }

    def _publish(self) -> None:
        # Replaced atomically: a half-written list would look like a Service without endpoints.
        staged = self.endpoints.with_suffix(".new")
        staged.write_text("".join("{}:{}\n".format(*each.address("webhook")) for each in self.replicas))
        staged.replace(self.endpoints)


class GeneratorRun:
    """The generator, running until its plan ends; a context manager."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [str(build())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(plan))
        self._process.stdin.close()
        self._process.stdin = None  # so that communicate() does not flush it
        assert json.loads(self._process.stdout.readline()) == {"event": "measuring"}, self._errors()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """Stop early; the measurements so far are still reported."""
        self._process.send_signal(signal.SIGINT)

    def result(self) -> dict[str, Any]:
        """Return the measurements, after the end."""
        output, errors = self._process.communicate(timeout=90)
        assert self._process.returncode == 0, errors
        found: dict[str, Any] = json.loads(output.splitlines()[-1])
        return found

    def _errors(self) -> str:
        self._process.kill()
        return self._process.communicate()[1]


def lost(result: dict[str, Any]) -> dict[str, Any]:
    """Return the problems of the requests that were sent; empty if there are none."""
    errors = {kind: count for kind, count in result["errors"].items() if kind not in NOT_OURS}
    unlike = {kind: result[kind] for kind in ("wrong", "shed") if result[kind]}
    return errors | unlike | ({"examples": result["wrong_examples"]} if result["wrong"] else {})


def answered(results: Sequence[dict[str, Any]]) -> int:
    """Return the number of requests that were answered as expected."""
    return sum(result["ok"] for result in results)
