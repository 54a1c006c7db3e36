"""The TypeScript compiler checks the dashboard against the types that Grafana publishes."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.monitoring_files import ROOT, dashboard

SOURCE = ROOT / "tools" / "monitoring" / "grafana"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the locked versions of the compiler and the types."""
    directory = tmp_path_factory.mktemp("grafana")
    for path in SOURCE.iterdir():
        if path.is_file():
            shutil.copy(path, directory)
    subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=directory, check=True, timeout=110
    )
    return directory


def compiled(document: dict[str, Any], project: Path) -> str:
    """Return the errors of the compiler; an empty text if there are none."""
    (project / "dashboard.ts").write_text(
        'import type { PlainDashboard } from "./plain";\n'
        f"export const dashboard: PlainDashboard = {json.dumps(document, indent=2)};\n"
    )
    done = subprocess.run(
        ["node", "node_modules/typescript/bin/tsc", "-p", "."],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_the_dashboard_has_the_types_of_grafana(project: Path) -> None:
    problem = compiled(dashboard(), project)
    assert not problem, problem


def _first(document: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(panel for panel in document["panels"] if panel["type"] == kind)
    return found


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda d: _first(d, "stat").update(options=None), id="options-null"),
        pytest.param(lambda d: _first(d, "stat")["options"].update(colorMode="bright"), id="unknown-word"),
        pytest.param(lambda d: _first(d, "timeseries")["options"].pop("tooltip"), id="option-missing"),
        pytest.param(lambda d: _first(d, "timeseries").update(tittle="x"), id="unknown-field"),
        pytest.param(lambda d: _first(d, "timeseries")["gridPos"].update(w="8"), id="text-for-a-number"),
        pytest.param(lambda d: d["templating"]["list"][0].update(hide=9), id="unknown-number"),
    ],
)
def test_the_check_finds_mistakes(spoil: Callable[[dict[str, Any]], object], project: Path) -> None:
    document = copy.deepcopy(dashboard())
    spoil(document)
    assert "error TS" in compiled(document, project)
