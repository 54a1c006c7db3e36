"""The dashboard has what Grafana needs and what its users expect."""

from __future__ import annotations

import re

import pytest

from support.monitoring_files import MONITORING, dashboard, panel_queries
from tools.monitoring.dashboard import rendered

PANELS = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def test_the_file_is_what_the_tool_writes() -> None:
    assert (MONITORING / "dashboard.json").read_text(encoding="utf-8") == rendered(), "run: make manifests"


def test_it_can_be_provisioned_without_an_import_dialog() -> None:
    document = dashboard()
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,40}", document["uid"])
    assert document.get("id") is None
    assert "__inputs" not in document
    assert "__requires" not in document


def test_every_panel_uses_the_data_source_that_the_user_chose() -> None:
    assert dashboard()["templating"]["list"][0]["name"] == "datasource"
    for panel in PANELS:
        for each in (panel, *panel["targets"]):
            assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_describes_what_it_shows(panel: dict[str, object]) -> None:
    assert panel["title"]
    assert str(panel["description"]).endswith(".")
    defaults = panel["fieldConfig"]["defaults"]  # type: ignore[index]
    assert defaults["unit"]


def test_titles_and_identifiers_are_unique() -> None:
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    identifiers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(identifiers)) == len(identifiers)


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("query", panel_queries().values(), ids=panel_queries())
def test_a_query_works_at_every_zoom_and_with_every_variable(query: str) -> None:
    if re.search(r"\b(rate|increase)\(", query):
        assert set(re.findall(r"\[(.+?)\]", query)) == {"$__rate_interval"}
    for metric, selector in re.findall(r"\b((?:gatekeeper_py|apiserver|process)_\w+)(\{[^}]*\})?", query):
        if metric != "gatekeeper_py_event_loop_lag_seconds" or selector:
            assert 'cluster=~"$cluster"' in selector, metric
            assert ('namespace=~"$namespace"' in selector) == (not metric.startswith("apiserver_")), metric
            of_server = not re.match("apiserver_|gatekeeper_py_(control|fastpath|audit)_", metric)
            assert ('pod=~"$pod"' in selector) == of_server, metric
