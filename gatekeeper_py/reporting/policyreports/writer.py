"""Update the reports in the cluster after an audit, with few write requests, and none if nothing changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Protocol

from gatekeeper_py.cluster.api import continue_token
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.reporting.policyreports.apis import ReportApi
from gatekeeper_py.reporting.policyreports.placement import Live, Report, digest_of, place
from gatekeeper_py.reporting.policyreports.results import SOURCE, Findings

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABELS: Final = {MANAGED_BY: SOURCE}
SELECTOR: Final = f"{MANAGED_BY}={SOURCE}"

PAGE_SIZE: Final = 20
"""Number of reports in one page. A report has up to 300 KB with usual names, and at most 1 MB."""

MAX_PROBLEMS: Final = 5

SUMMARY_KEYS: Final = ("pass", "fail", "warn", "error", "skip")


class Writes(Protocol):
    """The requests that writing needs. All raise ``ApiError``."""

    async def read(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]: ...

    async def post(self, path: str, document: dict[str, Any]) -> None: ...

    async def replace(self, path: str, document: dict[str, Any]) -> None: ...

    async def delete(self, path: str) -> None: ...


@dataclass(slots=True)
class Written:
    """The number of reports by outcome. ``failed`` counts failed writes; ``problems`` describes some."""

    created: int = 0
    replaced: int = 0
    deleted: int = 0
    unchanged: int = 0
    failed: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def writes(self) -> int:
        return self.created + self.replaced + self.deleted

    def fail(self, problem: ApiError) -> None:
        self.failed += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(str(problem))


async def write_reports(
    api: Writes, kind: ReportApi, findings: Mapping[str | None, Findings], *, namespace: str | None
) -> Written:
    """Write the reports that changed and delete stale ones; with ``namespace``, only in this namespace.

    A failed write does not stop the others. Raises ``ApiError`` when the reports cannot be listed.
    """
    live = await _live(api, kind, namespace)
    written = Written()
    for each in sorted({*live, *findings}, key=lambda name: (name is not None, name or "")):
        await _write(api, kind, each, live.get(each, ()), findings.get(each, Findings()), written)
    return written


async def _write(
    api: Writes,
    kind: ReportApi,
    namespace: str | None,
    live: Iterable[Live],
    findings: Findings,
    written: Written,
) -> None:
    placement = place(live, findings)
    written.unchanged += placement.unchanged
    path = kind.path(namespace)
    # A rebuild can move a result into another report. Write before deleting, so that the result is briefly in
    # two reports rather than in none.
    for report in placement.write:
        document = _document(kind, namespace, report)
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


async def _live(api: Writes, kind: ReportApi, namespace: str | None) -> dict[str | None, list[Live]]:
    """Return our reports by namespace, with digests instead of their results."""
    found: dict[str | None, list[Live]] = {}
    paths = (kind.path(None), kind.all_path) if namespace is None else (kind.path(namespace),)
    for path in paths:
        async for item in _listed(api, path):
            where = item["metadata"].get("namespace")
            found.setdefault(where, []).append(_read(kind, where, item))
    return found


async def _listed(api: Writes, path: str) -> AsyncIterator[dict[str, Any]]:
    token = ""
    while True:
        query = {"labelSelector": SELECTOR, "limit": str(PAGE_SIZE)}
        page = await api.read(path, {**query, "continue": token} if token else query)
        for item in page.get("items") or ():
            yield item
        token = continue_token(page)
        if not token:
            return


def _read(kind: ReportApi, namespace: str | None, item: Mapping[str, Any]) -> Live:
    metadata = item["metadata"]
    results, summary = item.get("results"), item.get("summary")
    numbers = summary if isinstance(summary, dict) else {}
    return Live(
        name=metadata["name"],
        resource_version=metadata["resourceVersion"],
        digests=tuple(map(digest_of, results)) if isinstance(results, list) else (),
        summary={key: numbers.get(key, 0) for key in SUMMARY_KEYS},
        intact=item.get("scope") == _scope(namespace)
        and (not kind.has_source or item.get("source") == SOURCE),
    )


def _document(kind: ReportApi, namespace: str | None, report: Report) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": report.name, "labels": LABELS}
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
