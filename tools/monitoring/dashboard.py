"""Make ``monitoring/dashboard.json`` from ``dashboard.yaml``. ``make manifests`` writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

SOURCE: Final = Path(__file__).with_name("dashboard.yaml")
PATH: Final = Path(__file__).parents[2] / "monitoring" / "dashboard.json"

COLUMNS: Final = 24
"""The width of a row of panels in Grafana."""

Document = dict[str, Any]


def rendered() -> str:
    """Return the file's text: the dashboard as Grafana stores it."""
    source = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    dashboard = source["dashboard"]
    dashboard["templating"]["list"] += _variables(source["variables"])
    text = json.dumps(dashboard | {"panels": _panels(source)}, indent=2) + "\n"
    for name, matchers in source["filters"].items():
        text = text.replace(f"<{name}>", json.dumps(matchers)[1:-1])
    return text


def _variables(source: Document) -> Iterator[Document]:
    """Yield a variable for each label. The choice of one variable limits the values of the next ones."""
    matchers: list[str] = []
    for label, title in source["labels"].items():
        query = {
            "qryType": 1,
            "query": f"label_values({source['of']}{{{','.join(matchers)}}}, {label})",
            "refId": "PrometheusVariableQueryEditor-VariableQuery",
        }
        yield {"name": label, "label": title, "query": query, **source["common"]}
        matchers.append(f'{label}=~"${label}"')


def _panels(source: Document) -> list[Document]:
    """Return the panels of all rows, each beside or below the previous one. Their ids begin at 1."""
    found: list[Document] = []
    y = 0
    for row in source["rows"]:
        place = {"h": 1, "w": COLUMNS, "x": 0, "y": y}
        heading = {"type": "row", "title": row["title"], "collapsed": False, "gridPos": place, "panels": []}
        found.append({"id": len(found) + 1, **heading})
        y += 1
        x = height = 0
        for panel in row["panels"]:
            common = source["graph" if "graph" in panel else "stat"]
            width = panel.get("width", common["width"])
            if x + width > COLUMNS:
                x, y, height = 0, y + height, 0
            place = {"h": common["height"], "w": width, "x": x, "y": y}
            found.append(
                {"id": len(found) + 1, "gridPos": place, **_panel(panel, common, source["datasource"])}
            )
            x, height = x + width, max(height, common["height"])
        y += height
    return found


def _panel(panel: Document, common: Document, datasource: Document) -> Document:
    """Return one panel without its place. ``common`` holds what all panels of its type share."""
    is_stat = "stat" in panel
    defaults = {"unit": panel.get("unit", "short"), **common["defaults"]}
    options = common["options"]
    if is_stat:
        defaults |= _thresholds(panel.get("steps", {"green": None}), panel.get("texts", {}))
        if panel.get("label"):
            options = {**options, "textMode": "name"}
    elif panel.get("stacked"):
        defaults["custom"] = defaults["custom"] | common["stacked"]
    queries = panel["queries"] if "queries" in panel else {"": panel["query"]}
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": datasource,
            "editorMode": "code",
            "expr": expression,
            "legendFormat": legend or "__auto",
            **({"range": False, "instant": True} if is_stat else {"range": True}),
        }
        for number, (legend, expression) in enumerate(queries.items())
    ]
    return {
        "type": common["type"],
        "title": panel["stat"] if is_stat else panel["graph"],
        "description": panel["description"],
        "datasource": datasource,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": targets,
    }


def _thresholds(steps: Mapping[str, int | None], texts: Mapping[int, tuple[str, str]]) -> Document:
    """Return the colours of a value, and the texts for numbers."""
    colours = [{"color": colour, "value": least} for colour, least in steps.items()]
    found: Document = {"thresholds": {"mode": "absolute", "steps": colours}}
    if texts:
        options = {
            str(value): {"text": text, "color": colour, "index": index}
            for index, (value, (text, colour)) in enumerate(texts.items())
        }
        found["mappings"] = [{"type": "value", "options": options}]
    return found
