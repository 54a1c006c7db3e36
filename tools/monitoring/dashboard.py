"""The dashboard: its rows, its variables, and the file that holds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from tools.monitoring.panels import DATA_SOURCE, layout
from tools.monitoring.rows import ROWS

PATH: Final = Path(__file__).parents[2] / "monitoring" / "dashboard.json"

UID: Final = "gatekeeper-py"


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana stores it."""
    return {
        "uid": UID,
        "title": "gatekeeper-py",
        "description": "Admission of images: verdicts, latency, policy, certificates, the API servers' view.",
        "tags": ["gatekeeper-py", "kubernetes", "admission"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [],
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Data source",
                    "type": "datasource",
                    "query": "prometheus",
                    "refresh": 1,
                    "hide": 0,
                },
                {
                    "name": "namespace",
                    "label": "Namespace",
                    "type": "query",
                    "datasource": DATA_SOURCE,
                    "query": {
                        "qryType": 1,
                        "query": "label_values(gatekeeper_py_policy_present, namespace)",
                        "refId": "PrometheusVariableQueryEditor-VariableQuery",
                    },
                    "refresh": 2,
                    "sort": 1,
                    "includeAll": True,
                    "allValue": ".*",
                    "multi": True,
                    "current": {"selected": True, "text": "All", "value": "$__all"},
                    "hide": 0,
                },
            ]
        },
        "panels": layout(ROWS),
    }


def rendered() -> str:
    """Return the file's text."""
    return json.dumps(dashboard(), indent=2) + "\n"
