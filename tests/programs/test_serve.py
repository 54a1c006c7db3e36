"""``serve`` as users run it: a process, its ports, its signals, its policy file."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gatekeeper_py.core import parse_policy
from support.builders import UID, pod, policy_text, review
from support.contract import check_response
from support.served import families
from support.server import CLEAN_ENVIRONMENT, Server, ask, ready_server

Servers = Callable[..., Server]

APPROVED = review(pod("registry.corp.io/web:1"))
REJECTED = review(pod("nginx:1.25"))


def verdict(server: Server, document: dict[str, Any] = APPROVED) -> bool:
    status, body = server.post(document)
    assert status == 200
    return check_response(body, document, "validate").allowed


def shown(server: Server) -> dict[str, Any]:
    status, body = server.get("/policy")
    assert status == 200
    document: dict[str, Any] = json.loads(body)
    return document


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the policy and the CA of ``server``."""
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """Yield a server with a policy that tests only ask."""
    with ready_server(folder, policy_text()) as server:
        yield server


def test_serve_logs_its_address_and_answers_with_a_verifiable_certificate(
    server: Server, folder: Path
) -> None:
    assert server.address("webhook")[0] == "127.0.0.1"
    assert server.address("health") != server.address("webhook")
    events = [line["event"] for line in server.lines]
    assert events.index("certificate_self_signed") < events.index("listening")
    assert (folder / "ca.crt").read_text().count("BEGIN CERTIFICATE") == 1
    assert verdict(server)
    assert not verdict(server, REJECTED)
    status, body = server.post(APPROVED, "/mutate-image")
    assert status == 200
    assert check_response(body, APPROVED, "mutate").patch == ()
    server.wait(lambda: server.events("review") != [])
    line = server.events("review")[0]
    assert {
        "uid": UID,
        "namespace": "shop",
        "name": "web",
        "kind": "Pod",
        "operation": "CREATE",
        "user": "system:serviceaccount:kube-system:replicaset-controller",
        "verdict": "denied",
        "policy": parse_policy(policy_text()).revision,
    }.items() <= line.items()
    assert [(image["path"], image["image"]) for image in line["images"]] == [
        ("spec.containers[0].image", "nginx:1.25")
    ]


def test_health_paths(server: Server, folder: Path) -> None:
    verdict(server)
    verdict(server, REJECTED)
    assert json.loads(server.get("/livez")[1]) == {"checks": {"loop": "ok"}}
    ready = json.loads(server.get("/readyz")[1])
    assert set(ready["checks"].items()) == {
        (check, "ok") for check in ("policy", "certificate", "exceptions", "registries", "draining")
    }
    policy = shown(server)
    assert set(policy) == {
        "mode", "revision", "source", "resourceVersion", "loadedAt", "counts", "findings", "refused",
    }  # fmt: skip
    assert policy["mode"] == "enforce"
    assert policy["revision"] == parse_policy(policy_text()).revision
    assert policy["source"] == str(folder / "policy.yaml")
    assert policy["refused"] is None
    assert policy["counts"]["allow"] == 1
    assert {finding["code"] for finding in policy["findings"]} == {"floating-latest"}
    status, body = server.get("/metrics")
    assert status == 200
    metrics = families(body)
    assert metrics["gatekeeper_py_reviews_total"] == {"endpoint", "operation", "verdict", "mode"}
    assert "process_open_fds" in metrics
    assert not [name for name in metrics if name.endswith("_created")]
    assert server.get("/nowhere")[0] == 404
    status, page = server.get("/")
    assert status == 200
    assert page.startswith(b"<!doctype html>")


def test_an_edited_policy_is_live_without_a_restart(servers: Servers, policy_file: Path) -> None:
    server = servers()
    server.wait(server.is_ready)
    connection = server.connect()
    try:
        assert check_response(ask(connection, APPROVED)[1], APPROVED, "validate").allowed
        policy_file.write_text(policy_text(allow="[docker.io/library]"))
        server.wait(lambda: not check_response(ask(connection, APPROVED)[1], APPROVED, "validate").allowed)
    finally:
        connection.close()
    server.wait(lambda: len(server.events("policy_loaded")) == 2)
    assert [line["revision"] for line in server.events("policy_loaded")] == [
        parse_policy(policy_text()).revision,
        parse_policy(policy_text(allow="[docker.io/library]")).revision,
    ]


@pytest.mark.parametrize("text", [None, "allow: [nginx]"], ids=["missing", "bad"])
def test_the_server_runs_without_a_policy_and_waits_for_a_good_one(
    servers: Servers, policy_file: Path, text: str | None
) -> None:
    server = servers(policy=text)
    server.wait(lambda: shown(server)["refused"] is not None)
    status, body = server.get("/readyz")
    assert status == 503
    assert json.loads(body)["checks"] == {
        "policy": "no policy is loaded", "certificate": "ok", "exceptions": "ok", "registries": "ok",
        "draining": "ok",
    }  # fmt: skip
    assert server.get("/livez")[0] == 200
    assert server.post(APPROVED)[0] == 503
    assert shown(server)["mode"] is None
    policy_file.write_text(policy_text())
    server.wait(server.is_ready)
    assert verdict(server)
    assert shown(server)["refused"] is None


def test_a_bad_policy_leaves_the_last_good_one_serving(servers: Servers, policy_file: Path) -> None:
    server = servers()
    server.wait(server.is_ready)
    for spoil in (lambda: policy_file.write_text(policy_text("colour: red\n")), policy_file.unlink):
        before = len(server.events("policy_refused"))
        spoil()
        server.wait(lambda before=before: len(server.events("policy_refused")) > before)  # type: ignore[misc]
        assert server.is_ready()
        assert verdict(server)
        policy = shown(server)
        assert policy["revision"] == parse_policy(policy_text()).revision
        assert set(policy["refused"]) == {"at", "findings"}
        assert policy["refused"]["findings"]
    assert any("colour" in text for text in server.events("policy_refused")[0]["findings"])
    policy_file.write_text(policy_text())
    server.wait(lambda: shown(server)["refused"] is None)


def test_a_signal_drains_and_exits_with_0(servers: Servers) -> None:
    server = servers("--drain-seconds", "0.3")
    server.wait(server.is_ready)
    connection = server.connect()
    try:
        assert ask(connection, APPROVED)[0] == 200
        server.signal(signal.SIGTERM)
        server.wait(lambda: not server.is_ready())
        assert json.loads(server.get("/readyz")[1])["checks"]["draining"] == "draining"
        # A review that comes while endpoints still lead here is answered, and its connection ends.
        connection.request(
            "POST", "/validate-image", json.dumps(APPROVED), {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        assert response.getheader("Connection") == "close"
        assert check_response(response.read(), APPROVED, "validate").allowed
    finally:
        connection.close()
    assert server.code() == 0
    assert server.errors == ""
    assert [line["event"] for line in server.lines[-2:]] == ["draining", "stopped"]


def test_a_second_signal_ends_the_server_at_once(servers: Servers) -> None:
    server = servers("--drain-seconds", "600")
    server.wait(server.is_ready)
    server.signal(signal.SIGTERM)
    server.wait(lambda: server.events("draining") != [])
    server.signal(signal.SIGINT)
    assert server.code() == 0
    assert server.events("exit_at_once")
    assert "Traceback" not in server.errors


def test_a_signal_ends_a_server_without_a_policy(servers: Servers) -> None:
    server = servers(policy=None)
    server.address("webhook")
    server.signal(signal.SIGTERM)
    assert server.code() == 0


def test_a_closed_log_pipe_does_not_end_the_server(servers: Servers, tmp_path: Path) -> None:
    server = servers(read=False)
    assert server.process.stdout is not None
    while len(server.events("listening")) < 2:
        server.lines.append(json.loads(server.process.stdout.readline()))
        # Who reads the log may connect at once, so the whole file is there before the line.
        if server.events("listening"):
            assert (tmp_path / "ca.crt").read_text().endswith("-----END CERTIFICATE-----\n")
    server.process.stdout.close()
    server.wait(server.is_ready)
    for _ in range(3):
        assert not verdict(server, REJECTED)
    server.signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
    assert "Traceback" not in server.errors


def test_noise_on_the_ports_costs_no_traceback_and_few_lines(servers: Servers) -> None:
    server = servers()
    server.wait(server.is_ready)
    for content in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff\xff", b"", b"\0" * 5000):
        for listener in ("webhook", "health"):
            for _ in range(5):
                with socket.create_connection(server.address(listener)) as plain:
                    plain.sendall(content)
    for _ in range(30):
        assert server.post(None)[0] == 400
    assert verdict(server)
    server.signal(signal.SIGTERM)
    assert server.code() == 0
    assert len(server.lines) < 25
    assert not [line for line in server.lines if "exception" in line or line["event"] == "library"]
    assert server.errors == ""


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gatekeeper_py", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=CLEAN_ENVIRONMENT,
    )


PORTS = ("--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        pytest.param(("--policy=x", f"--client-ca={__file__}"), "client CA", id="client-ca"),
        pytest.param(
            ("--configmap=a/b", "--tls-self-signed", "--kubeconfig=/nowhere"), "no such file", id="cluster"
        ),
    ],
)
def test_bad_settings_exit_with_2_and_no_traceback(arguments: tuple[str, ...], problem: str) -> None:
    done = _run(*arguments, *PORTS)
    assert done.returncode == 2
    assert problem in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_an_address_that_cannot_be_bound_exits_with_2(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n"
        "clusters: [{name: here, cluster: {server: 'https://127.0.0.1:1', insecure-skip-tls-verify: true}}]\n"
        "users: [{name: me, user: {token: abc}}]\n"
        "contexts: [{name: here, context: {cluster: here, user: me}}]\n"
    )
    configmap = ("--configmap", "a/b", "--kubeconfig", str(path), "--tls-self-signed")
    done = _run(*configmap, "--health-listen", "127.0.0.1:0", "--listen", "192.0.2.1:0")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr + done.stdout
    events = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert events.count("cannot_listen") == 1
    assert "library" not in events, "nothing was left open"


def test_environment_variables_set_options_and_arguments_override_them(
    servers: Servers, tmp_path: Path
) -> None:
    environment = {
        "GATEKEEPER_PY_POLICY": str(tmp_path / "not-this-one.yaml"),
        "GATEKEEPER_PY_LISTEN": "nonsense",
        "GATEKEEPER_PY_TLS_HOSTNAME": "localhost 127.0.0.1 third.example",
        "GATEKEEPER_PY_LOG_LEVEL": "debug",
        "GATEKEEPER_PY_CACHE_SIZE": "0",
        "GATEKEEPER_PY_DRAIN_SECONDS": "600",
    }
    server = servers(environment=environment)
    server.wait(server.is_ready)
    (made,) = server.events("certificate_self_signed")
    assert made["names"] == ["localhost", "127.0.0.1", "third.example"]
    assert verdict(server)
    server.wait(lambda: [line["level"] for line in server.events("review")] == ["debug"])
    assert b"gatekeeper_py_cache_misses_total 0.0" in server.get("/metrics")[1]
    server.signal(signal.SIGTERM)
    assert server.code() == 0


def test_options_set_the_limits(servers: Servers) -> None:
    server = servers("--max-connections", "1", "--max-body-bytes", "2000")
    server.wait(server.is_ready)
    assert server.post(review(pod("x" * 3000)))[0] == 413
    connection = server.connect()
    try:
        assert ask(connection, APPROVED)[0] == 200
        assert server.post(APPROVED)[0] == 200
        with pytest.raises((OSError, http.client.HTTPException)):
            ask(connection, APPROVED)
    finally:
        connection.close()


def test_the_certificate_can_come_from_files(servers: Servers, tmp_path: Path, policy_file: Path) -> None:
    import trustme  # noqa: PLC0415 - slow to import, and for this test only

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    leaf = authority.issue_cert("127.0.0.1")
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    cert.write_bytes(leaf.cert_chain_pems[0].bytes())
    key.write_bytes(leaf.private_key_pem.bytes())
    policy_file.write_text(policy_text())
    server = Server(
        "--policy", str(policy_file), *PORTS, "--tls-cert", str(cert), "--tls-key", str(key),
        ca=tmp_path / "ca.crt",
    )  # fmt: skip
    servers.running.append(server)  # type: ignore[attr-defined]
    server.wait(server.is_ready)
    assert verdict(server)
    assert os.getpid() != server.process.pid
