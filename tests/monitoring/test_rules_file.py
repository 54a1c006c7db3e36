"""The rules have the labels and annotations that alert routing and people depend on."""

from __future__ import annotations

import pytest
import yaml

from support.monitoring_files import MONITORING, ROOT, alerts


@pytest.mark.parametrize("alert", alerts())
def test_an_alert_has_a_severity_and_texts(alert: str) -> None:
    rule = alerts()[alert]
    assert alert.startswith("GatekeeperPy")
    assert set(rule["labels"]) == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    for text in (rule["annotations"]["summary"], rule["annotations"]["description"]):
        assert text[0] != " "
        assert text.endswith(".")


def test_the_monitor_selects_the_pods_of_the_installation_and_their_port() -> None:
    monitor = yaml.safe_load((MONITORING / "podmonitor.yaml").read_text(encoding="utf-8"))["spec"]
    for manifest in ("base/deployment.yaml", "base/controller.yaml", "components/reports/deployment.yaml"):
        documents = yaml.safe_load_all((ROOT / "k8s" / manifest).read_text(encoding="utf-8"))
        template = next(each for each in documents if each["kind"] == "Deployment")["spec"]["template"]
        labels = template["metadata"]["labels"]
        assert monitor["selector"]["matchLabels"].items() <= labels.items()
        assert set(monitor["podTargetLabels"]) <= set(labels)
        ports = {port["name"] for each in template["spec"]["containers"] for port in each["ports"]}
        assert {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]} <= ports
