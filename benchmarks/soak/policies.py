"""Two policies that alternate and disagree about one image, and a probe that reviews this image."""

from __future__ import annotations

import http.client
import json
import threading
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.bodies import pod_review
from benchmarks.load.server import Server
from benchmarks.policies import policy_text
from gatekeeper_py.core import parse_policy

TOGGLED: Final = "toggled.example/app:1"
PROBE_SECONDS: Final = 0.1
RULES: Final = 200


class PolicyFile:
    """The file that the server polls. Each text differs, so its revision identifies the write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written: dict[str, tuple[int, bool]] = {}
        """Revision -> its number, and whether it approves the toggled image."""

        self.revision = ""
        self.toggle()

    def toggle(self) -> None:
        """Write the next policy, which decides the opposite of the last."""
        number = len(self.written)
        approves = number % 2 == 1
        text = policy_text(RULES, message=f"number {number}")
        if approves:
            text = text.replace("allow:\n", "allow:\n  - toggled.example\n", 1)
        self.revision = parse_policy(text).revision
        self.written[self.revision] = number, approves
        self.path.write_text(text, encoding="utf-8")

    def spoil(self) -> None:
        """Write a text that is not a policy. The next ``toggle`` replaces it."""
        self.path.write_text("allow: [nonsense\n", encoding="utf-8")


class VerdictProbe(threading.Thread):
    """Sends reviews of the toggled image on one connection. Each answer must fit the policy it names.

    Once a policy has answered, no earlier policy may answer.
    """

    def __init__(self, server: Server, policies: PolicyFile) -> None:
        super().__init__(daemon=True)
        self.reviews_sent = 0
        self.wrong: list[str] = []
        self.failed: list[str] = []
        self.seen = ""
        """The revision that answered last."""

        self._server = server
        self._policies = policies
        self._number = -1
        self._ended = threading.Event()

    def run(self) -> None:
        connection = self._server.connect()
        while not self._ended.wait(PROBE_SECONDS):
            uid = f"probe-{self.reviews_sent}"
            body = pod_review(size=2300, images=(TOGGLED, TOGGLED), uid=uid)
            self.reviews_sent += 1
            sent = time.monotonic()
            try:
                status, answer = self._server.ask(connection, body)
            except (OSError, http.client.HTTPException) as problem:
                self.failed.append(f"{problem!r} after {time.monotonic() - sent:.1f} s")
                connection.close()
                connection = self._server.connect()
                continue
            if status != 200:
                self.failed.append(f"status {status}: {answer[:200]!r}")
                continue
            problem_text = self._problem(json.loads(answer)["response"], uid)
            if problem_text:
                self.wrong.append(problem_text)
        connection.close()

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def _problem(self, response: dict[str, Any], uid: str) -> str:
        revision = response["auditAnnotations"]["policy"]
        if response["uid"] != uid:
            return f"uid {response['uid']}, not {uid}"
        if revision not in self._policies.written:
            return f"revision {revision}, which nobody wrote"
        number, approves = self._policies.written[revision]
        if response["allowed"] is not approves:
            return f"allowed is {response['allowed']} by policy number {number}"
        if number < self._number:
            return f"policy number {number} after number {self._number}"
        self._number, self.seen = number, revision
        return ""
