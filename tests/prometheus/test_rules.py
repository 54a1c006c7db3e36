"""Every alert fires, stays silent and recovers on its timelines. promtool evaluates them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from prometheus.running import promtool
from prometheus.timelines import TIMELINES, Timeline
from support.monitoring_files import alerts, groups


def expected(timeline: Timeline) -> list[dict[str, Any]]:
    """Return the alerts that promtool must find at the first minute of firing and at each silent minute."""
    rule = alerts()[timeline.alert]
    firing = {
        "exp_labels": {**timeline.labels, **rule["labels"]},
        "exp_annotations": {**rule["annotations"], "description": timeline.description},
    }
    first = [(minute, [firing]) for minute in timeline.fires[:1]]
    return [
        {"eval_time": f"{minute}m", "alertname": timeline.alert, "exp_alerts": exp_alerts}
        for minute, exp_alerts in (*first, *((minute, []) for minute in timeline.silent))
    ]


def promtool_test(timeline: Timeline) -> dict[str, Any]:
    """Return the promtool test for a timeline."""
    still_firing = [
        {
            "expr": f'count(ALERTS{{alertname="{timeline.alert}",alertstate="firing"}})',
            "eval_time": f"{minute}m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for minute in timeline.fires
    ]
    return {
        "interval": "1m",
        "name": timeline.name,
        "input_series": [{"series": name, "values": values} for name, values in timeline.series.items()],
        "alert_rule_test": expected(timeline),
        "promql_expr_test": still_firing,
    }


def run(timelines: Sequence[Timeline], directory: Path) -> str:
    """Run promtool on some timelines of one alert, and return the differences from the expectation."""
    (alert,) = {each.alert for each in timelines}
    rules = {"groups": [{"name": "one", "rules": [alerts()[alert]]}]}
    (directory / "rules.yaml").write_text(yaml.safe_dump(rules))
    document = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [promtool_test(timeline) for timeline in timelines],
    }
    (directory / "test.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return promtool("test", "rules", "test.yaml", directory=directory)


def test_the_rules_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups()}))
    assert promtool("check", "rules", "rules.yaml", directory=tmp_path) == ""


@pytest.mark.parametrize("alert", alerts())
def test_an_alert_on_its_timelines(alert: str, tmp_path: Path) -> None:
    problem = run([each for each in TIMELINES if each.alert == alert], tmp_path)
    assert not problem, problem


def test_every_alert_fires_recovers_and_stays_silent() -> None:
    assert {timeline.alert for timeline in TIMELINES} == set(alerts())
    for alert in alerts():
        timelines = [each for each in TIMELINES if each.alert == alert]
        assert any(each.fires and max(each.silent) > max(each.fires) for each in timelines), alert
        assert any(not each.fires and each.silent for each in timelines), alert


@pytest.mark.parametrize("alert", [name for name, rule in alerts().items() if "increase(" in rule["expr"]])
def test_an_alert_on_a_counter_fires_at_the_first_event(alert: str) -> None:
    """The counter is 0, or absent on a server that was scraped before, and then has one event."""
    firsts = [
        each
        for each in TIMELINES
        if each.alert == alert and any(values.startswith(("0x", "_x")) for values in each.series.values())
    ]
    assert any(each.fires for each in firsts)


def test_a_wrong_expectation_fails(tmp_path: Path) -> None:
    """If it passed, the tests above would prove nothing."""
    timeline = next(each for each in TIMELINES if each.fires)
    silent = Timeline(
        alert=timeline.alert, name="never", series=timeline.series, silent=[*timeline.fires, *timeline.silent]
    )
    assert "got:" in run([silent], tmp_path)
