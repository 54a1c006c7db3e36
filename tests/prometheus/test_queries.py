"""Run every query of the dashboard and the rules on a real Prometheus that scrapes a server under load."""

from __future__ import annotations

import http.server
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import cycle
from typing import Any, Final

import pytest

from prometheus.running import Jobs, Prometheus, start_prometheus
from support.builders import pod, policy_text, review
from support.monitoring_files import LATER, ROOT, alerts, exceptions_metrics, groups, panel_queries
from support.scraped import start_audit, start_controller
from support.server import Server, ask

API_SERVER: Final = (ROOT / "tests/data/monitoring/apiserver-metrics.txt").read_bytes()
"""Recorded metrics of an API server. A test in tests/e2e compares the names with a real one."""

LOAD_SECONDS: Final = 12.0
"""Duration of the load. Rates need several scrapes."""

FAULTS: Final = {
    "GatekeeperPyNotArmed",  # the controller cannot reach its API server
    "GatekeeperPyPolicyRefused",
    "GatekeeperPyFewServers",
    "GatekeeperPyRuleExpiresSoon",
    "GatekeeperPyBreakGlass",
    "GatekeeperPyExceptionsUnreadable",
    "GatekeeperPyExceptionsInvalid",
    "GatekeeperPyExceptionEndsSoon",
    "GatekeeperPyAuditOverdue",  # the audit cannot reach its API server
}
"""Alerts whose condition this test makes true."""

OTHER_MODE: Final = 'gatekeeper_py_mode_since_timestamp_seconds{mode="warn"}'
"""A series that is missing, because the server of this test has the mode mutate."""


class _Metrics(http.server.BaseHTTPRequestHandler):
    def __init__(self, page: bytes, *connection: Any) -> None:
        self._page = page
        super().__init__(*connection)

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(self._page)

    def log_message(self, *_: Any) -> None:
        """Do not log requests."""


@contextmanager
def exposing(page: bytes) -> Iterator[str]:
    """Serve recorded metrics, and yield HOST:PORT."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Metrics, page)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def closed_port() -> int:
    """Return a port on which nothing listens, so that look-ups fail."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def reviews(registry: str) -> list[tuple[str, Any]]:
    """Return requests with every verdict, a look-up that fails, and one that is not a review."""
    return [
        ("/validate-image", review(pod("registry.corp.io/web:1"))),
        ("/validate-image", review(pod("quay.io/somebody/app:1"))),
        ("/validate-image", review(pod("registry.corp.io/web:latest"))),
        ("/validate-image", review(pod("UPPER CASE"))),
        ("/validate-image", review(pod(f"{registry}/app:1"))),
        ("/validate-image", review(pod("quay.io/somebody/app:1"), namespace="sandbox-1")),
        ("/validate-image", review(pod("registry.corp.io/web:1"), operation="DELETE")),
        ("/mutate-image", review(pod("nginx:1.27"))),
        ("/validate-policy", review(pod("registry.corp.io/web:1"))),
        ("/validate-image", {"kind": "Pod"}),
    ]


def load(server: Server, registry: str, end: threading.Event) -> None:
    """Send about 100 reviews a second on one connection until ``end`` is set."""
    connection = server.connect()
    requests = cycle(reviews(registry))
    while not end.wait(0.01):
        path, document = next(requests)
        ask(connection, document, path)
    connection.close()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Yield a Prometheus that has scraped a server under load, a controller, an audit and an API server."""
    directory = tmp_path_factory.mktemp("prometheus")
    registry = f"127.0.0.1:{closed_port()}"
    more = (
        'deny: [{image: "*/**:latest", reason: moves}]\n'
        "mirrors: [{from: docker.io, to: registry.corp.io/hub}]\n"
        'namespaces: [{names: ["sandbox-*"], mode: warn}]\n'
        f"registries: [{{host: {registry!r}, plainHTTP: true}}]\n"
        f"require: [{{images: [{registry!r}], exists: true, onError: deny}}]\n"
    )
    soon = (datetime.now(UTC) + timedelta(days=10)).date()
    dated = f"{{image: old.corp.io, until: {soon}}}"
    allow = f"[registry.corp.io, {dated}, {registry!r}]"
    policy, ca = directory / "policy.yaml", directory / "ca.crt"
    policy.write_text(policy_text(more, mode="mutate", allow=allow))
    server = Server(
        "--policy", str(policy), "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0",
        "--tls-ca-out", str(ca), ca=ca,
    )  # fmt: skip
    end = threading.Event()
    loading = threading.Thread(target=load, args=(server, registry, end))
    try:
        server.wait(server.is_ready)
        loading.start()
        with (
            start_controller(directory) as controller,
            start_audit(directory) as audit,
            exposing(API_SERVER) as api_server,
            exposing(exceptions_metrics()) as excepting,
        ):
            host, port = server.address("health")
            jobs: Jobs = {
                "gatekeeper-py/gatekeeper-py": [
                    (f"{host}:{port}", {"namespace": "gatekeeper-py", "pod": "server-a"}),
                    (controller.address, {"namespace": "gatekeeper-py", "pod": "controller-a"}),
                    (audit.address, {"namespace": "gatekeeper-py", "pod": "reports-a"}),
                    # Only a server in a cluster reads exceptions.
                    (excepting, {"namespace": "gatekeeper-py", "pod": "server-b"}),
                ],
                "apiserver": [(api_server, {})],
            }
            # The alerts fire after seconds instead of minutes, so that the test need not wait.
            quick = [
                {**group, "rules": [{**rule, "for": "2s"} for rule in group["rules"]]} for group in groups()
            ]
            with start_prometheus(directory, jobs, groups=quick) as running:
                scraped = f"min(count_over_time(up[{LOAD_SECONDS:.0f}s])) >= {LOAD_SECONDS - 2:.0f}"
                running.wait(lambda: running.query(scraped) != [], "enough scrapes")
                policy.write_text("kind: nothing\n")
                refused = 'gatekeeper_py_policy_reloads_total{result="refused"} > 0'
                running.wait(lambda: running.query(refused) != [], "a refused policy")
                yield running
    finally:
        end.set()
        if loading.ident is not None:
            loading.join()
        server.end()


def filled_in(query: str) -> str:
    """Return a query of the dashboard with Grafana's variables replaced."""
    values = {"$__rate_interval": "10s", "$cluster": ".*", "$namespace": "gatekeeper-py", "$pod": ".*"}
    for variable, value in values.items():
        query = query.replace(variable, value)
    return query


@pytest.mark.parametrize("query", panel_queries().values(), ids=panel_queries())
def test_a_panel_shows_data(query: str, prometheus: Prometheus) -> None:
    assert "$" not in filled_in(query)
    found = prometheus.query(filled_in(query))
    assert found


@pytest.mark.parametrize("alert", alerts())
def test_the_metrics_of_an_alert_are_scraped(alert: str, prometheus: Prometheus) -> None:
    expression = alerts()[alert]["expr"]
    prometheus.query(expression)
    selectors = re.findall(r"\b(?:gatekeeper_py|apiserver)_\w+(?:\{[^}]*\})?", expression)
    assert selectors
    for selector in selectors:
        assert selector in {*LATER, OTHER_MODE} or prometheus.query(selector), selector


def test_prometheus_evaluates_every_rule(prometheus: Prometheus) -> None:
    for group in prometheus.get("rules")["groups"]:
        for rule in group["rules"]:
            assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), rule["name"]


def test_alerts_fire_for_the_faults_that_exist(prometheus: Prometheus) -> None:
    prometheus.wait(lambda: prometheus.firing() >= FAULTS, "alerts for the faults")
    quiet = {"GatekeeperPyServersMissing", "GatekeeperPyInternalErrors", "GatekeeperPyPaused"}
    assert not prometheus.firing() & quiet


def test_a_query_for_a_missing_series_returns_nothing(prometheus: Prometheus) -> None:
    """If it returned something, the tests above would prove nothing."""
    assert prometheus.query("gatekeeper_py_old_total") == []
