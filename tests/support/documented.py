"""Check log events, status codes and metrics against docs/interface.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).parents[2] / "docs"


def _section(page: str, heading: str) -> str:
    """Return the text of one section, without its heading."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(f"docs/{page} has no section {heading!r}")
    return found[1]


LOG_EVENTS: Final = frozenset(
    re.findall(r"`([a-z_]+)`", _section("interface.md", "Logs") + (DOCS / "fast-path.md").read_text("utf-8"))
)
STATUSES: Final = frozenset(
    int(status)
    for cell in re.findall(r"^\| ([0-9, ]+) \|", _section("interface.md", "HTTP"), re.MULTILINE)
    for status in cell.split(", ")
)
METRICS: Final = {
    name: frozenset(labels.split(",")) - {""}
    for row in _section("interface.md", "Metrics").splitlines()
    if re.match(r"\| `[^`]*`(, `| \|)", row)
    for name, labels in re.findall(r"`([a-z_]+)(?:\{([a-z,]+)\})?`", row.split("|")[1])
}
"""The metrics of both processes, each with its labels."""

PATHS: Final = frozenset(re.findall(r"`(/[a-z-]+)`", _section("interface.md", "HTTP")))


def check_event(event: str) -> None:
    """Raise AssertionError for a log event that the documentation does not name."""
    assert event in LOG_EVENTS, f"the log event {event} is not in docs/interface.md"


def check_status(status: int) -> None:
    """Raise AssertionError for the status of a final answer that the documentation does not name."""
    assert status in STATUSES or 100 <= status < 200, f"the status {status} is not in docs/interface.md"
