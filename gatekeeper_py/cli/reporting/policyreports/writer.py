"""Update the reports in the cluster after an audit, with few write requests, and none if nothing changed.

The reports use one of two APIs. Reports in the other API are removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Literal, NamedTuple

from gatekeeper_py.cli.inventory.provenance import Provenance
from gatekeeper_py.cli.reporting.policyreports.apis import APIS, ApiChoice, ReportApi, served
from gatekeeper_py.cli.reporting.policyreports.placement import (
    DesiredReport,
    Live,
    Placement,
    digest_of,
    place,
)
from gatekeeper_py.cli.reporting.policyreports.results import SOURCE, Findings
from gatekeeper_py.cluster.api import ApiClient, listed
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.names import ORIGIN

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABELS: Final = {MANAGED_BY: SOURCE}
SELECTOR: Final = f"{MANAGED_BY}={SOURCE}"

PAGE_SIZE: Final = 20
"""Number of reports in one page. A report has up to 300 KB with usual names, and at most 1 MB."""

MAX_PROBLEMS: Final = 5

MAX_ANNOTATION: Final = 500
"""Maximum number of characters of one annotation. The API server accepts 256 KiB of all annotations."""

MADE: Final = f"{ORIGIN}time"
"""The annotation with the time of the audit that wrote a report. A later audit that finds the same leaves the
report, and its time, as they are."""

SUMMARY_KEYS: Final = ("pass", "fail", "warn", "error", "skip")


class ReportError(Exception):
    """The reports cannot be written at all."""


@dataclass(slots=True)
class Written:
    """The number of reports by outcome. ``failed`` counts failed writes; ``problems`` describes some."""

    created: int = 0
    replaced: int = 0
    deleted: int = 0
    unchanged: int = 0
    failed: int = 0
    problems: list[str] = field(default_factory=list)

    def fail(self, problem: ApiError) -> None:
        self.failed += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(str(problem))


class Published(NamedTuple):
    """The API of the reports, and the changes that were written.

    ``api`` is ``None`` with the choice ``none``, and if the cluster serves neither API.
    """

    api: Literal["openreports", "policyreport"] | None
    written: Written


async def publish(
    api: ApiClient,
    choice: ApiChoice,
    findings: Mapping[str | None, Findings],
    meta: Provenance,
    *,
    namespace: str | None,
) -> Published:
    """Write the reports; with ``namespace``, only those of this namespace. Raises ``ReportError``.

    ``auto`` uses the first API that the cluster serves. ``none`` writes nothing and deletes nothing.
    """
    if choice == "none":
        return Published(None, Written())
    try:
        available = await served(api)
        target = _target(choice, available)
        annotations = _annotations(meta)
        written = Written()
        if target is not None:
            written = await _write_reports(api, target, findings, annotations, namespace=namespace)
        for other in available:
            if other is not target:
                await _remove(api, other, namespace, written)
    except ApiError as problem:
        raise ReportError(str(problem)) from None
    return Published(None if target is None else target.name, written)


def _target(choice: ApiChoice, available: list[ReportApi]) -> ReportApi | None:
    if choice == "auto":
        return available[0] if available else None
    target = next(each for each in APIS if each.name == choice)
    if target not in available:
        raise ReportError(f"the cluster does not serve {target.plural} of {target.api_version}")
    return target


async def _remove(api: ApiClient, other: ReportApi, namespace: str | None, written: Written) -> None:
    """Remove our reports from an API that is no longer used, if RBAC allows it."""
    try:
        removed = await _write_reports(api, other, {}, {}, namespace=namespace)
    except ApiError as problem:
        if problem.status == HTTPStatus.FORBIDDEN:
            return
        raise
    written.deleted += removed.deleted
    written.failed += removed.failed
    written.problems += removed.problems


def _annotations(meta: Provenance) -> dict[str, str]:
    """Return the annotations that state where a report comes from."""
    known = {key: value for key, value in meta.properties().items() if value}
    return {f"{ORIGIN}{key}": escape(value, MAX_ANNOTATION) for key, value in known.items()}


async def _write_reports(
    api: ApiClient,
    kind: ReportApi,
    findings: Mapping[str | None, Findings],
    annotations: Mapping[str, str],
    *,
    namespace: str | None,
) -> Written:
    """Write the reports that changed and delete stale ones; with ``namespace``, only in this namespace.

    A failed write does not stop the others. Raises ``ApiError`` when the reports cannot be listed.
    """
    live = await _live(api, kind, namespace, annotations)
    written = Written()
    for each in sorted({*live, *findings}, key=lambda name: (name is not None, name or "")):
        placement = place(live.get(each, ()), findings.get(each, Findings()))
        await _write(api, kind, each, placement, annotations, written)
    return written


async def _write(
    api: ApiClient,
    kind: ReportApi,
    namespace: str | None,
    placement: Placement,
    annotations: Mapping[str, str],
    written: Written,
) -> None:
    written.unchanged += placement.unchanged
    path = kind.path(namespace)
    # A rebuild can move a result into another report. Write before deleting, so that the result is briefly in
    # two reports rather than in none.
    for report in placement.write:
        document = _document(kind, namespace, report, annotations)
        try:
            if report.live is None:
                await api.post(path, document)
                written.created += 1
            else:
                await api.replace(f"{path}/{report.name}", document)
                written.replaced += 1
        except ApiError as problem:
            if not _namespace_is_gone(problem):
                written.fail(problem)
    for name in placement.delete:
        try:
            await api.delete(f"{path}/{name}")
            written.deleted += 1
        except ApiError as problem:
            written.fail(problem)


def _namespace_is_gone(problem: ApiError) -> bool:
    """Return whether the namespace was deleted after it was audited, which is not a failure."""
    gone = problem.status == HTTPStatus.NOT_FOUND and 'namespaces "' in problem.explanation
    return gone or (problem.status == HTTPStatus.FORBIDDEN and "being terminated" in problem.explanation)


async def _live(
    api: ApiClient, kind: ReportApi, namespace: str | None, annotations: Mapping[str, str]
) -> dict[str | None, list[Live]]:
    """Return our reports by namespace, with digests instead of their results."""
    found: dict[str | None, list[Live]] = {}
    paths = (kind.path(None), kind.all_path) if namespace is None else (kind.path(namespace),)
    for path in paths:
        query = {"labelSelector": SELECTOR, "limit": str(PAGE_SIZE)}
        async for item in listed(api.read, path, query):
            where = item["metadata"].get("namespace")
            found.setdefault(where, []).append(_read(kind, where, item, annotations))
    return found


def _read(
    kind: ReportApi, namespace: str | None, item: Mapping[str, Any], annotations: Mapping[str, str]
) -> Live:
    metadata = item["metadata"]
    has = metadata.get("annotations") or {}
    results, summary = item.get("results"), item.get("summary")
    numbers = summary if isinstance(summary, dict) else {}
    return Live(
        name=metadata["name"],
        resource_version=metadata["resourceVersion"],
        digests=tuple(map(digest_of, results)) if isinstance(results, list) else (),
        summary={key: numbers.get(key, 0) for key in SUMMARY_KEYS},
        intact=all(has.get(key) == value for key, value in annotations.items() if key != MADE)
        and item.get("scope") == _scope(namespace)
        and (not kind.has_source or item.get("source") == SOURCE),
    )


def _document(
    kind: ReportApi, namespace: str | None, report: DesiredReport, annotations: Mapping[str, str]
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": report.name, "labels": LABELS, "annotations": dict(annotations)}
    if namespace is not None:
        metadata["namespace"] = namespace
    if report.live is not None:
        metadata["resourceVersion"] = report.live.resource_version
    document = {
        "apiVersion": kind.api_version,
        "kind": kind.kind_in(namespace),
        "metadata": metadata,
        "summary": report.summary,
        "results": report.results,
    }
    scope = _scope(namespace)
    if scope is not None:
        document["scope"] = scope
    if kind.has_source:
        document["source"] = SOURCE
    return document


def _scope(namespace: str | None) -> dict[str, str] | None:
    return None if namespace is None else {"apiVersion": "v1", "kind": "Namespace", "name": namespace}
