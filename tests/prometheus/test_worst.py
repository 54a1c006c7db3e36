"""With several clusters, a panel with a single value shows the worst one. promtool evaluates its query."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from prometheus.running import promtool
from support.monitoring_files import dashboard

MINUTE: Final = 100
"""The time of the queries, in minutes since the Unix epoch."""

SERIES: Final = {
    # Metric and its labels: the value in a good cluster, and in a bad one. Times are in seconds.
    'gatekeeper_py_control_enforced{%s,pod="controller"}': (1, 0),
    'gatekeeper_py_control_last_enforced_timestamp_seconds{%s,pod="controller"}': (5990, 3000),
    'gatekeeper_py_control_armed{%s,pod="controller"}': (1, 0),
    'gatekeeper_py_policy_present{%s,pod="server-a"}': (1, 1),
    'gatekeeper_py_policy_present{%s,pod="server-b"}': (1, "_"),
    'gatekeeper_py_control_paused_until_timestamp_seconds{%s,pod="controller"}': (0, 9000),
    'gatekeeper_py_policy_synced_timestamp_seconds{%s,pod="server-a"}': (5990, 3000),
    'gatekeeper_py_certificate_not_after_timestamp_seconds{%s,pod="server-a"}': (9000000, 10000),
    'gatekeeper_py_policy_next_expiry_timestamp_seconds{%s,pod="server-a"}': (9000000, 10000),
    'gatekeeper_py_policy_refused{%s,pod="server-a"}': (0, 1),
    'gatekeeper_py_control_alarm{%s,pod="controller",what="secret"}': (0, 1),
    'gatekeeper_py_audit_last_success_timestamp_seconds{%s,pod="reports"}': (5990, 3000),
}

STATS: Final = {
    panel["title"]: panel["targets"][0]["expr"]
    for panel in dashboard()["panels"]
    # The panel Mode shows every mode in use.
    if panel["type"] == "stat" and panel["title"] != "Mode"
}


def selecting(query: str, clusters: str) -> str:
    """Return a query of the dashboard with its variables replaced."""
    return query.replace("$cluster", clusters).replace("$namespace", ".*").replace("$pod", ".*")


def equality(query: str, clusters: str, expected: int) -> dict[str, Any]:
    """Return the check whether a query has the same value for all clusters as for ``clusters``: 1 or 0."""
    return {
        "expr": f"({selecting(query, '.*')}) == bool ({selecting(query, clusters)})",
        "eval_time": f"{MINUTE}m",
        "exp_samples": [{"labels": "{}", "value": expected}],
    }


@pytest.mark.parametrize("title", STATS)
def test_a_panel_with_one_value_shows_the_worst_cluster(title: str, tmp_path: Path) -> None:
    """Its value for both clusters is that of the bad one, and is not that of the good one."""
    labels = {"good": 'cluster="good",namespace="gatekeeper-py"', "bad": 'cluster="bad",namespace="images"'}
    series = [
        {"series": name % labels[cluster], "values": f"{value}x{MINUTE}"}
        for name, values in SERIES.items()
        for cluster, value in zip(("good", "bad"), values, strict=True)
    ]
    checks = [equality(STATS[title], "bad", 1), equality(STATS[title], "good", 0)]
    document = {"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": checks}]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(document))
    problem = promtool("test", "rules", "test.yaml", directory=tmp_path)
    assert not problem, problem
