"""The files of monitoring/, parsed for tests."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from gatekeeper_py.core.exceptions.grants import SOURCES, Source
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.webhook.metrics import Metrics

ROOT: Final = Path(__file__).parents[2]
MONITORING: Final = ROOT / "monitoring"
RUNBOOKS: Final = ROOT / "docs" / "runbooks"


LATER: Final = frozenset({"gatekeeper_py_fastpath_revision"})
"""Metrics that a controller exposes only once it knows the policy."""


def exceptions_metrics() -> bytes:
    """Return what a server exposes that reads two sources of exceptions and may not read the third one."""
    metrics = Metrics(LivePolicy(), CacheCounts())
    counts: Counter[tuple[Source, str]] = Counter(
        {("break-glass", "live"): 1, ("namespace", "live"): 2, ("namespace", "invalid"): 1}
    )
    metrics.exceptions_counted(counts, datetime.now(UTC) + timedelta(days=1))
    for source in SOURCES:
        metrics.exceptions_readable(source, readable=source != "installation")
    lines = metrics.exposition().splitlines(keepends=True)
    return b"".join(line for line in lines if b"gatekeeper_py_exceptions" in line)


@cache
def groups() -> list[dict[str, Any]]:
    """Return the groups of rules, as Prometheus reads them."""
    document = yaml.safe_load((MONITORING / "rules.yaml").read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = document["spec"]["groups"]
    return found


@cache
def alerts() -> dict[str, dict[str, Any]]:
    """Return every alert by its name."""
    return {rule["alert"]: rule for group in groups() for rule in group["rules"]}


@cache
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
