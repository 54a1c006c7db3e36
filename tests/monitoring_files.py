"""The files of monitoring/, parsed for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[1]
MONITORING: Final = ROOT / "monitoring"
RUNBOOKS: Final = ROOT / "docs" / "runbooks"


LATER: Final = frozenset({"gatekeeper_py_fastpath_revision"})
"""Metrics that a controller exposes only once it knows the policy."""


def groups() -> list[dict[str, Any]]:
    """Return the groups of rules, as Prometheus reads them."""
    document = yaml.safe_load((MONITORING / "rules.yaml").read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = document["spec"]["groups"]
    return found


def alerts() -> dict[str, dict[str, Any]]:
    """Return every alert by its name."""
    return {rule["alert"]: rule for group in groups() for rule in group["rules"]}


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    return found


def panel_queries() -> dict[str, str]:
    """Return the expressions of the dashboard by panel and letter."""
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard()["panels"]
        for target in panel.get("targets", ())
    }
