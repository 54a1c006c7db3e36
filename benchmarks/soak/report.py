"""The report of a soak: ``soak.json`` with all samples, and ``soak.md``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import commit
from benchmarks.report import table
from benchmarks.soak.verdict import MOST_GROWTH, Outcome, stood_still, trends

RESOURCES: Final = ("rss_mib", "files", "tasks", "threads", "connections")


def write(folder: Path, *, made: str, machine: dict[str, Any], outcome: Outcome, found: list[str]) -> None:
    """Write both files."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "made": made,
        **machine,
        "passed": not found,
        "problems": found,
        "trends": {name: asdict(each) for name, each in _trends(outcome).items()},
        **asdict(outcome),
    }
    (folder / "soak.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (folder / "soak.md").write_text("\n".join(_lines(made, machine, outcome, found)) + "\n", encoding="utf-8")


def _trends(outcome: Outcome) -> dict[str, Any]:
    try:
        return trends(outcome.samples)
    except ValueError:
        return {}


def _lines(made: str, machine: dict[str, Any], outcome: Outcome, found: list[str]) -> Iterator[str]:
    load = outcome.load
    seconds = outcome.samples[-1].second if outcome.samples else 0
    yield f"# Soak of {seconds:.0f} s, {made}: {'failed' if found else 'passed'}"
    yield ""
    yield f"Commit {commit(machine)}, "
    yield f"{machine['machine']['processor']}, {machine['machine']['cores']} cores."
    for problem in found:
        yield ""
        yield f"**{problem}**"
    if still := stood_still(outcome):
        yield ""
        yield f"The machine stood still for {still:.1f} s: what failed may be its fault."
    latency = load["latency_ms"]
    percentiles = ", ".join(f"{latency[name]:.1f}" for name in ("p50", "p99", "max"))
    wrong, failed = len(outcome.probe_wrong), len(outcome.probe_failed)
    due, dropped = outcome.reviews_counted, outcome.lines_dropped
    rows = (
        ("reviews answered", f"{load['ok']:,} at {load['achieved_rate']:.0f}/s"),
        ("wrong, failed, shed", f"{load['wrong']}, {load['failed']}, {load['shed']}"),
        ("latency p50, p99, max, ms", percentiles),
        ("dials", f"{load['dials']:,}"),
        ("verdicts probed across reloads, wrong, failed", f"{outcome.probe_reviews:,}, {wrong}, {failed}"),
        ("log lines of reviews, due, dropped", f"{outcome.reviews_logged:,}, {due:,.0f}, {dropped:.0f}"),
        ("exit code", outcome.exit_code),
    )
    yield from table(("load", ""), rows)
    growths = (
        (name, "{1:+.2f} ({0:+.2f} to {2:+.2f})".format(*each.growth), f"{MOST_GROWTH[name]:g}")
        for name, each in _trends(outcome).items()
    )
    yield from table(("over the second half", "growth, 95 % interval", "allowed"), growths)
    held = (
        (name, f"{getattr(outcome.before, name):g}", f"{getattr(outcome.after, name):g}")
        for name in RESOURCES
    )
    yield from table(("without clients", "before", "after"), held)
    yield from table(("fault", "times", "seconds", "problems"), _faults(outcome.faults))


def _faults(faults: Sequence[dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    for name in dict.fromkeys(fault["name"] for fault in faults):
        each_time = [fault for fault in faults if fault["name"] == name]
        took = sum(fault["end"] - fault["begin"] for fault in each_time) / len(each_time)
        yield name, len(each_time), f"{took:.1f}", sum(1 for fault in each_time if fault["problem"])
