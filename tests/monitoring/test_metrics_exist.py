"""A new server, controller or audit exposes every metric that the dashboard and the rules name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from gatekeeper_py.controller.metrics import ControlMetrics, FastPathMetrics
from support.monitoring_files import LATER, alerts, exceptions_metrics, panel_queries
from support.scraped import start_audit, start_controller
from support.served import families
from support.server import Server

NEXT_END = "gatekeeper_py_exceptions_next_end_timestamp_seconds"

TARGET_LABELS = {"namespace", "pod", "cluster", "job", "instance"}
"""Labels that the scrape adds."""

QUERIES = {**{name: rule["expr"] for name, rule in alerts().items()}, **panel_queries()}


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, set[str]]]:
    """Return all metrics of a new server, controller and audit, each with the names of its labels."""
    directory = tmp_path_factory.mktemp("scraped")
    policy = directory / "policy.yaml"
    policy.write_text(
        "apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: mutate\n"
        "allow: [registry.example, {image: old.example, until: 2999-01-01}]\n"
        "require: [{images: [registry.example], exists: true}]\n"
        "mirrors: [{from: docker.io, to: registry.example/hub}]\n"
        "exceptions: [{source: namespace, images: [quay.io/**], longest: 400d}]\n"
    )
    until = f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%d}"
    exceptions = directory / "exceptions.yaml"
    exceptions.write_text(
        "kind: ConfigMap\nmetadata: {name: gatekeeper-py-exceptions, namespace: shop}\ndata:\n"
        "  exceptions.yaml: |\n    apiVersion: gatekeeper-py/v1\n    kind: ImageExceptions\n"
        f"    exceptions: [{{image: quay.io/a, until: {until}, reason: x}}]\n"
    )
    ca = directory / "ca.crt"
    server = Server(
        "--policy", str(policy), "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0",
        "--tls-ca-out", str(ca), "--exceptions", str(exceptions), ca=ca,
    )  # fmt: skip
    try:
        server.wait(server.is_ready)
        # The entries are counted a moment after they are live.
        server.wait(lambda: NEXT_END in families(server.get("/metrics")[1]))
        found = families(server.get("/metrics")[1])
        with start_controller(directory) as controller, start_audit(directory) as audit:
            for each in (controller, audit):
                for name, labels in families(each.metrics()).items():
                    found[name] = found.get(name, set()) | labels
        yield found | exposed_later()
    finally:
        server.end()


def exposed_later() -> dict[str, set[str]]:
    """Return the metrics that a controller or a server exposes only once it knows their values."""
    metrics = ControlMetrics()
    FastPathMetrics(metrics.registry).fastpath_known("0123456789ab")
    found = families(metrics.exposition())
    return {name: found[name] for name in LATER} | families(exceptions_metrics())


def selected(query: str) -> list[tuple[str, set[str]]]:
    """Return the metrics of the product that a query selects, with the labels in its selectors."""
    return [
        (metric, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)))
        for metric, selector in re.findall(r"\b((?:gatekeeper_py|process)_\w+)(\{[^}]*\})?", query)
    ]


def test_every_query_names_metrics_and_labels_that_exist(exposed: dict[str, set[str]]) -> None:
    """One test reads all queries, so that only one process of pytest-xdist starts the programs."""
    for name, query in QUERIES.items():
        metrics = selected(query)
        assert metrics or "apiserver_" in query, name
        grouped = {
            label for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for label in group.split(", ")
        }
        known = TARGET_LABELS | {"le"}
        for metric, labels in metrics:
            assert metric in exposed, name
            assert labels <= exposed[metric] | TARGET_LABELS, (name, metric)
            known |= exposed[metric]
        if metrics:
            assert grouped - {""} <= known, name


def test_the_check_would_find_a_wrong_name() -> None:
    assert selected('sum by (x) (rate(gatekeeper_py_old_total{code="500"}[5m]))') == [
        ("gatekeeper_py_old_total", {"code"})
    ]
