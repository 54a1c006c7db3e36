"""Every alert leads to a section of a runbook, and the sections have one form."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

from support.documented import LOG_EVENTS
from support.monitoring_files import MONITORING, ROOT, RUNBOOKS, alerts, groups

QUESTIONS = ["Meaning.", "Impact.", "Look.", "Fix."]


@cache
def sections() -> dict[str, str]:
    """Return the text of every section, by file and heading."""
    found: dict[str, str] = {}
    for path in RUNBOOKS.glob("*.md"):
        _, *parts = re.split(r"^## (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        found |= {f"{path.name}#{parts[i]}": parts[i + 1] for i in range(0, len(parts), 2)}
    return found


@pytest.mark.parametrize("alert", alerts())
def test_an_alert_names_its_section(alert: str) -> None:
    path, _, anchor = alerts()[alert]["annotations"]["runbook"].partition("#")
    assert (ROOT / path).parent == RUNBOOKS
    assert f"{(ROOT / path).name}#{alert}" in sections()
    assert anchor == alert.lower()


def test_the_documented_command_gives_every_alert_a_link(tmp_path: Path) -> None:
    (command,) = re.findall(
        r"^\$ (sed .+)$", (MONITORING / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    shutil.copytree(MONITORING, tmp_path / "monitoring")
    subprocess.run(shlex.split(command), cwd=tmp_path, check=True)
    changed = yaml.safe_load((tmp_path / "monitoring/rules.yaml").read_text(encoding="utf-8"))
    for group in changed["spec"]["groups"]:
        for rule in group["rules"]:
            annotations = rule["annotations"]
            section = annotations["runbook"].removeprefix("docs/runbooks/")
            assert annotations.pop("runbook_url") == f"https://wiki.corp.example/runbooks/{section}"
    assert changed["spec"]["groups"] == groups()


def test_every_section_belongs_to_an_alert() -> None:
    assert {name.partition("#")[2] for name in sections()} == set(alerts())


@pytest.mark.parametrize("section", sections())
def test_a_section_answers_four_questions_in_order(section: str) -> None:
    assert re.findall(r"^\*\*(.+?)\*\*", sections()[section], re.MULTILINE) == QUESTIONS


def test_a_runbook_has_the_alerts_of_one_group_in_order() -> None:
    for group in groups():
        file = f"{group['name'].removeprefix('gatekeeper-py.')}.md"
        named = [name.partition("#")[2] for name in sections() if name.startswith(f"{file}#")]
        assert named == [rule["alert"] for rule in group["rules"]], file


def test_the_log_events_that_runbooks_search_for_exist() -> None:
    searched = {
        event
        for text in sections().values()
        for pattern in re.findall(r"grep (?:-E )?(\S+)", text)
        for event in re.findall(r"[a-z]+(?:_[a-z]+)+", pattern)
    }
    assert len(searched) > 5
    assert searched - {"fastpath_"} <= LOG_EVENTS
