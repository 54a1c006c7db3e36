"""Choose the API for reports, write them, and remove those in the other API."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Literal, NamedTuple

from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.reporting.policyreports.apis import APIS, ApiChoice, ReportApi, served
from gatekeeper_py.reporting.policyreports.results import Findings
from gatekeeper_py.reporting.policyreports.writer import Writes, Written, write_reports


class ReportError(Exception):
    """The reports cannot be written at all."""


class Published(NamedTuple):
    """The API of the reports, and the changes that were written.

    ``api`` is ``None`` with the choice ``none``, and if the cluster serves neither API.
    """

    api: Literal["openreports", "policyreport"] | None
    written: Written


async def publish(
    api: Writes, choice: ApiChoice, findings: Mapping[str | None, Findings], *, namespace: str | None
) -> Published:
    """Write the reports; with ``namespace``, only those of this namespace. Raises ``ReportError``.

    ``auto`` uses the first API that the cluster serves. ``none`` writes nothing and deletes nothing.
    """
    if choice == "none":
        return Published(None, Written())
    try:
        available = await served(api)
        target = _target(choice, available)
        written = Written()
        if target is not None:
            written = await write_reports(api, target, findings, namespace=namespace)
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


async def _remove(api: Writes, other: ReportApi, namespace: str | None, written: Written) -> None:
    """Remove our reports from an API that is no longer used, if RBAC allows it."""
    try:
        removed = await write_reports(api, other, {}, namespace=namespace)
    except ApiError as problem:
        if problem.status == HTTPStatus.FORBIDDEN:
            return
        raise
    written.deleted += removed.deleted
    written.failed += removed.failed
    written.problems += removed.problems
