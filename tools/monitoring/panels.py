"""Panels of a Grafana dashboard, laid out in rows of 24 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

COLUMNS: Final = 24
GRAPH_HEIGHT: Final = 8
STAT_HEIGHT: Final = 4

DATA_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

GREEN, YELLOW, RED = "green", "yellow", "red"


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression, and the legend of its series."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Series over time."""

    title: str
    description: str
    queries: Sequence[Query]
    unit: str = "short"
    width: int = 8
    stacked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """The newest value, coloured by thresholds.

    ``steps`` are pairs of a colour and its lowest value; the first value is ``None``. ``texts`` replace
    numbers. With ``label``, the panel shows the name of the series from the query's legend.
    """

    title: str
    description: str
    query: Query
    steps: Sequence[tuple[str, float | None]] = ((GREEN, None),)
    unit: str = "short"
    texts: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    label: bool = False
    width: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A heading and the panels below it."""

    title: str
    panels: Sequence[Graph | Stat]


def layout(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the panels of all rows as Grafana stores them. Identifiers are numbered from 1."""
    found: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        found.append(_heading(row.title, len(found) + 1, y))
        y += 1
        x = height = 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            size = GRAPH_HEIGHT if isinstance(panel, Graph) else STAT_HEIGHT
            place = {"h": size, "w": panel.width, "x": x, "y": y}
            found.append({"id": len(found) + 1, "gridPos": place, **_panel(panel)})
            x, height = x + panel.width, max(height, size)
        y += height
    return found


def _heading(title: str, number: int, y: int) -> dict[str, Any]:
    place = {"h": 1, "w": COLUMNS, "x": 0, "y": y}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(panel: Graph | Stat) -> dict[str, Any]:
    return _graph(panel) if isinstance(panel, Graph) else _stat(panel)


def _graph(panel: Graph) -> dict[str, Any]:
    custom: dict[str, Any] = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never"}
    if panel.stacked:
        custom |= {"stacking": {"group": "A", "mode": "normal"}, "fillOpacity": 30}
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": DATA_SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {
            "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom",
                       "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [_target(query, chr(ord("A") + i)) for i, query in enumerate(panel.queries)],
    }  # fmt: skip


def _stat(panel: Stat) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "color": {"mode": "thresholds"},
        "thresholds": {
            "mode": "absolute",
            "steps": [{"color": color, "value": value} for color, value in panel.steps],
        },
    }
    if panel.texts:
        options = {
            str(value): {"text": text, "color": color, "index": index}
            for index, (value, (text, color)) in enumerate(panel.texts.items())
        }
        defaults["mappings"] = [{"type": "value", "options": options}]
    return {
        "type": "stat",
        "title": panel.title,
        "description": panel.description,
        "datasource": DATA_SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "colorMode": "background",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showPercentChange": False,
            "textMode": "name" if panel.label else "auto",
            "wideLayout": True,
        },
        "targets": [{**_target(panel.query, "A"), "instant": True, "range": False}],
    }


def _target(query: Query, letter: str) -> dict[str, Any]:
    return {
        "refId": letter,
        "datasource": DATA_SOURCE,
        "editorMode": "code",
        "expr": query.expression,
        "legendFormat": query.legend or "__auto",
        "range": True,
    }
