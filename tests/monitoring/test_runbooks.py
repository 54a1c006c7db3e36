"""Every alert leads to a section of a runbook, and the sections have one form."""

from __future__ import annotations

import re

import pytest

from documented import LOG_EVENTS
from monitoring_files import RUNBOOKS, alerts, groups

QUESTIONS = ["What it means.", "What users feel.", "What to look at.", "What to do."]


def sections() -> dict[str, str]:
    """Return the text of every section, by file and heading."""
    found: dict[str, str] = {}
    for path in RUNBOOKS.glob("*.md"):
        _, *parts = re.split(r"^## (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        found |= {f"{path.name}#{parts[i]}": parts[i + 1] for i in range(0, len(parts), 2)}
    return found


@pytest.mark.parametrize("alert", alerts())
def test_the_link_of_an_alert_leads_to_its_section(alert: str) -> None:
    file, _, anchor = (
        alerts()[alert]["annotations"]["runbook_url"].rpartition("/docs/runbooks/")[2].partition("#")
    )
    assert f"{file}#{alert}" in sections()
    assert anchor == alert.lower()


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
