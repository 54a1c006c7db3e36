"""The two APIs for reports. Their results have the same fields."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Literal
from urllib.parse import quote

from gatekeeper_py.cluster.api import ApiClient
from gatekeeper_py.cluster.errors import ApiError

ApiChoice = Literal["auto", "openreports", "policyreport", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportApi:
    """One API. It has a kind of report for a namespace, and one for cluster-scoped objects."""

    name: Literal["openreports", "policyreport"]
    group: str
    version: str
    kind: str
    plural: str
    has_source: bool
    """Whether the report itself has a field ``source``. Results always have one."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"

    @property
    def root(self) -> str:
        return f"/apis/{self.group}/{self.version}"

    def kind_in(self, namespace: str | None) -> str:
        return self.kind if namespace is not None else f"Cluster{self.kind}"

    def path(self, namespace: str | None) -> str:
        """Return the path of the reports in a namespace, or of those about cluster-scoped objects."""
        if namespace is None:
            return f"{self.root}/cluster{self.plural}"
        return f"{self.root}/namespaces/{quote(namespace, safe='')}/{self.plural}"

    @property
    def all_path(self) -> str:
        """The path of the reports in all namespaces."""
        return f"{self.root}/{self.plural}"


OPENREPORTS: Final = ReportApi(
    name="openreports",
    group="openreports.io",
    version="v1alpha1",
    kind="Report",
    plural="reports",
    has_source=True,
)
POLICYREPORT: Final = ReportApi(
    name="policyreport",
    group="wgpolicyk8s.io",
    version="v1alpha2",
    kind="PolicyReport",
    plural="policyreports",
    has_source=False,
)
APIS: Final = (OPENREPORTS, POLICYREPORT)
"""The APIs in the order of preference. If the cluster serves both, viewers show the reports of only one."""


async def served(api: ApiClient) -> list[ReportApi]:
    """Return the APIs that the cluster serves. Raises ``ApiError``."""
    found = []
    for each in APIS:
        try:
            document = await api.read(each.root)
        except ApiError as problem:
            if problem.status == HTTPStatus.NOT_FOUND:
                continue
            raise
        resources = document.get("resources")
        names = (
            [entry.get("name") for entry in resources if isinstance(entry, dict)]
            if isinstance(resources, list)
            else []
        )
        if each.plural in names:
            found.append(each)
    return found
