"""The load generator finds wrong answers, counts failures and ends at an interrupt."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.load.generator import build

pytestmark = pytest.mark.go

Answer = Callable[[dict[str, Any]], tuple[int, dict[str, str], Any]]


def allowed(review: dict[str, Any], **more: Any) -> tuple[int, dict[str, str], Any]:
    response = {"uid": review["request"]["uid"], "allowed": True, **more}
    return 200, {}, {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response}


class Webhook:
    """An HTTP server that answers each review with the result of a function."""

    def __init__(self, answer: Answer) -> None:
        self.reviews: list[dict[str, Any]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # sends each answer in one piece

            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.reviews.append(review)
                status, headers, document = answer(review)
                body = json.dumps(document).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                """Do not log requests."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def webhooks() -> Iterator[Callable[[Answer], Webhook]]:
    made: list[Webhook] = []

    def make(answer: Answer) -> Webhook:
        made.append(Webhook(answer))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def plan(tmp_path: Path) -> dict[str, Any]:
    body = tmp_path / "body.json"
    body.write_text('{"request": {"uid": "@UID@", "images": ["@IMAGE@"]}}')
    return {
        "targets": [],
        "path": "/",
        "mode": "open",
        "client": "own",
        "rate": 200,
        "connections": 4,
        "warmup_seconds": 0,
        "seconds": 0.5,
        "timeout": 5,
        "bodies": [{"file": str(body), "weight": 1, "expect": {"status": 200, "allowed": True}}],
        "images": {"count": 100, "zipf": 1.1, "fresh_share": 0, "format": "r.example/a-%d:1"},
    }


def generate(plan: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [build()], input=json.dumps(plan), capture_output=True, text=True, check=True, timeout=60
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events] == ["measuring", "measured", "result"]
    result: dict[str, Any] = events[-1]
    return result


@pytest.mark.parametrize("client", ["own", "net/http"])
def test_an_open_loop_sends_what_is_planned(
    webhooks: Callable[[Answer], Webhook], plan: dict[str, Any], client: str
) -> None:
    webhook = webhooks(allowed)
    result = generate({**plan, "client": client, "targets": [webhook.address]})
    assert (result["sent"], result["ok"], result["wrong"], result["failed"]) == (100, 100, 0, 0)
    assert len({review["request"]["uid"] for review in webhook.reviews}) == 100
    assert sum(count for _, count in result["latency_histogram"]) == 100
    assert sum(second["sent"] for second in result["timeline"]) == 100
    assert result["lag_ms"]["max"] >= 0
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p99"] <= result["latency_ms"]["max"]


def test_a_closed_loop_keeps_its_connections(
    webhooks: Callable[[Answer], Webhook], plan: dict[str, Any]
) -> None:
    webhook = webhooks(allowed)
    result = generate({**plan, "mode": "closed", "targets": [webhook.address]})
    assert result["dials"] == 4
    # Each connection may have a request under way when the interval ends. It does not count.
    assert 0 < result["ok"] == result["sent"] <= len(webhook.reviews) <= result["sent"] + 4


@pytest.mark.parametrize(
    ("answer", "expect", "example"),
    [
        pytest.param(allowed, {"allowed": False}, "allowed is true", id="verdict"),
        pytest.param(allowed, {"patch": True}, "with a patch: false", id="patch"),
        pytest.param(allowed, {"warnings": True}, "0 warnings", id="warnings"),
        pytest.param(allowed, {"status": 404}, "status 200, not 404", id="status"),
        pytest.param(lambda review: (500, {}, {}), {}, "status 500", id="error"),
        pytest.param(lambda review: allowed({"request": {"uid": "other"}}), {}, "uid other", id="uid"),
        pytest.param(lambda review: (200, {}, []), {}, "not JSON", id="no-review"),
    ],
)
def test_a_wrong_answer_is_found(
    webhooks: Callable[[Answer], Webhook],
    plan: dict[str, Any],
    answer: Answer,
    expect: dict[str, Any],
    example: str,
) -> None:
    plan["bodies"][0]["expect"] = expect
    result = generate({**plan, "targets": [webhooks(answer).address]})
    assert (result["wrong"], result["ok"]) == (100, 0)
    assert example in result["wrong_examples"][0]


def test_shed_reviews_are_not_wrong_and_are_retried_when_planned(
    webhooks: Callable[[Answer], Webhook], plan: dict[str, Any]
) -> None:
    shed: set[str] = set()

    def answer(review: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        uid = review["request"]["uid"]
        if uid in shed:
            return allowed(review)
        shed.add(uid)
        return 503, {"Retry-After": "0"}, {}

    webhook = webhooks(answer)
    result = generate({**plan, "targets": [webhook.address]})
    assert (result["shed"], result["wrong"], result["ok"]) == (100, 0, 0)
    result = generate({**plan, "targets": [webhook.address], "retry_shed": True, "seed": 2})
    assert (result["shed"], result["wrong"], result["ok"]) == (0, 0, 100)


def test_an_answer_of_a_superseded_policy_is_wrong(
    webhooks: Callable[[Answer], Webhook], plan: dict[str, Any]
) -> None:
    count = 0

    def answer(review: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        nonlocal count
        count += 1
        revision = "old" if count < 20 or count == 50 else "new"
        return allowed(review, auditAnnotations={"policy": revision})

    # There is only one connection, so the answers come in the order of the requests.
    closed = {**plan, "mode": "closed", "connections": 1, "targets": [webhooks(answer).address]}
    result = generate({**closed, "check_revisions": True})
    assert (result["revisions"], result["stale"], result["wrong"]) == (2, 1, 1)


def test_a_closed_port_is_a_failure_to_dial(plan: dict[str, Any]) -> None:
    result = generate({**plan, "targets": ["127.0.0.1:1"]})
    assert (result["ok"], result["errors"]) == (0, {"dial": 100})


def test_fresh_connections_are_dialled_each_time(
    webhooks: Callable[[Answer], Webhook], plan: dict[str, Any]
) -> None:
    result = generate({**plan, "fresh_connections": True, "targets": [webhooks(allowed).address]})
    assert (result["ok"], result["dials"]) == (100, 100)


def test_targets_come_from_a_file(
    webhooks: Callable[[Answer], Webhook], plan: dict[str, Any], tmp_path: Path
) -> None:
    two = [webhooks(allowed), webhooks(allowed)]
    file = tmp_path / "targets"
    file.write_text("".join(f"{each.address}\n" for each in two))
    result = generate({**plan, "targets_file": str(file), "fresh_connections": True})
    assert result["ok"] == 100
    assert [len(each.reviews) for each in two] == [50, 50]


def test_an_interrupt_ends_it_with_a_result(
    webhooks: Callable[[Answer], Webhook], plan: dict[str, Any]
) -> None:
    endless = {**plan, "seconds": 600, "targets": [webhooks(allowed).address]}
    with subprocess.Popen([build()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(endless))
        process.stdin.close()
        assert json.loads(process.stdout.readline())["event"] == "measuring"
        process.send_signal(signal.SIGINT)
        result = json.loads(process.stdout.read().splitlines()[-1])
    assert process.returncode == 0
    assert (result["event"], result["wrong"], result["failed"]) == ("result", 0, 0)
    assert result["seconds"] < 60


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param({"mode": "sideways"}, "neither open nor closed", id="mode"),
        pytest.param({"rate": 0}, "needs a rate", id="rate"),
        pytest.param({"targets": []}, "no targets", id="targets"),
        pytest.param({"colour": "red"}, "unknown field", id="unknown"),
        pytest.param({"images": None}, "wants images", id="images"),
    ],
)
def test_a_bad_plan_is_refused(plan: dict[str, Any], change: dict[str, Any], problem: str) -> None:
    bad = {**plan, "targets": ["127.0.0.1:1"], **change}
    done = subprocess.run(
        [build()], input=json.dumps(bad), capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert problem in done.stderr


@pytest.mark.long
def test_the_sources_are_clean_and_their_own_tests_pass() -> None:
    sources = Path(__file__).parents[2] / "benchmarks" / "generator"
    for command in (["go", "vet", "./..."], ["go", "test", "./..."]):
        done = subprocess.run(
            command,
            cwd=sources,
            env={**os.environ, "GOWORK": "off"},
            capture_output=True,
            text=True,
            check=False,
            timeout=110,
        )
        assert done.returncode == 0, done.stdout + done.stderr
