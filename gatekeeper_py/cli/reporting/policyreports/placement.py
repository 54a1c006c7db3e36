"""Assign results to reports so that few reports change when few results do. Pure: no I/O.

A result stays in its report. New results fill reports that are not full. Reports that become empty are
deleted. If fewer than half as many reports suffice, all reports of the namespace are rebuilt.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

import orjson

from gatekeeper_py.cli.reporting.policyreports.results import Findings, Result

MAX_RESULTS: Final = 500
MAX_BYTES: Final = 900_000
"""Maximum size of the results of one report as JSON. The API server and etcd accept about 1.5 MB."""

PREFIX: Final = "gatekeeper-py-"

Digest = bytes
Summary = dict[str, int]

_FIELDS: Final = (
    "source", "policy", "rule", "category", "severity", "result", "scored", "message", "resources",
    "properties",
)  # fmt: skip
"""Fields of a result that this program writes. The API server may add others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A report in the cluster.

    ``intact`` is whether the fields ``scope`` and ``source``, and the annotations other than the time, have
    the values that this program writes.
    """

    name: str
    resource_version: str
    digests: tuple[Digest, ...]
    summary: Summary
    intact: bool


@dataclass(slots=True, kw_only=True)
class DesiredReport:
    """The desired state of a report. ``live`` is the report that it replaces; ``None`` for a new report."""

    name: str
    live: Live | None
    results: list[Result] = field(default_factory=list)
    digests: list[Digest] = field(default_factory=list)
    size: int = 0
    summary: Summary = field(default_factory=dict)

    def add(self, digest: Digest, result: Result, size: int) -> None:
        self.results.append(result)
        self.digests.append(digest)
        self.size += size

    def has_room(self, size: int) -> bool:
        return len(self.results) < MAX_RESULTS and self.size + size <= MAX_BYTES

    @property
    def unchanged(self) -> bool:
        live = self.live
        return (
            live is not None
            and live.intact
            and live.summary == self.summary
            and Counter(live.digests) == Counter(self.digests)
        )


@dataclass(frozen=True, slots=True)
class Placement:
    """The changes to the reports of one namespace, and the number of reports that stay as they are."""

    write: tuple[DesiredReport, ...]
    delete: tuple[str, ...]
    unchanged: int


def place(live: Iterable[Live], findings: Findings) -> Placement:
    """Distribute the results over the existing reports, and over new reports if necessary."""
    existing = sorted(live, key=lambda each: (len(each.name), each.name))
    entries = [_measured(result) for result in findings.results]
    reports = _distribute(existing, entries)
    fewest = _distribute([], entries)
    if len(reports) > 2 * max(len(fewest), 1):
        # The rebuilt reports have the first names. An existing report with such a name is replaced, instead
        # of deleted and created again.
        reports = fewest
        by_name = {each.name: each for each in existing}
        for report in reports:
            report.live = by_name.get(report.name)
    if not reports and (findings.passed or findings.skipped):
        first = next((each for each in existing if each.name == f"{PREFIX}1"), None)
        reports = [DesiredReport(name=f"{PREFIX}1", live=first)]
    for index, report in enumerate(reports):
        results = Counter(result["result"] for result in report.results)
        report.summary = {
            "pass": results["pass"] + (0 if index else findings.passed),
            "fail": results["fail"],
            "warn": results["warn"],
            "error": 0,
            "skip": 0 if index else findings.skipped,
        }
    kept = {report.name for report in reports}
    write = tuple(report for report in reports if not report.unchanged)
    delete = tuple(each.name for each in existing if each.name not in kept)
    return Placement(write, delete, len(reports) - len(write))


_Measured = tuple[Digest, Result, int]


def _distribute(existing: Sequence[Live], entries: Sequence[_Measured]) -> list[DesiredReport]:
    """Return the reports that are not empty: first the existing ones in their order, then new ones."""
    waiting: dict[Digest, list[_Measured]] = {}
    for entry in entries:
        waiting.setdefault(entry[0], []).append(entry)
    reports: list[DesiredReport] = []
    for each in existing:
        report = DesiredReport(name=each.name, live=each)
        for digest in each.digests:
            found = waiting.get(digest)
            if found and report.has_room(found[-1][2]):
                report.add(*found.pop())
        reports.append(report)
    taken = {each.name for each in existing}
    names = (name for number in count(1) if (name := f"{PREFIX}{number}") not in taken)
    rest = [entry for found in waiting.values() for entry in found]
    position = 0
    for digest, result, size in rest:
        while position < len(reports) and not reports[position].has_room(size):
            position += 1
        if position == len(reports):
            reports.append(DesiredReport(name=next(names), live=None))
        reports[position].add(digest, result, size)
    return [report for report in reports if report.results]


def _measured(result: Result) -> _Measured:
    text = orjson.dumps(result, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).digest(), result, len(text)


def digest_of(result: Any) -> Digest:
    """Return the digest of a result in the cluster.

    The digest of a result that this program did not write matches none of our results.
    """
    ours = {key: result[key] for key in _FIELDS if key in result} if isinstance(result, dict) else result
    try:
        return hashlib.sha256(orjson.dumps(ours, option=orjson.OPT_SORT_KEYS)).digest()
    except orjson.JSONEncodeError:
        return b""  # nested too deeply to be one of our results
