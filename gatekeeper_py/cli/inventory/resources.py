"""Read from the API server, and find the kinds to list.

The kinds are those in the core's table of image fields, and those that the policy declares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from gatekeeper_py.cluster.api import ApiClient
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.core.admission.fields import POD_SPECS, WORKLOAD_KINDS, GroupKind


class ClusterError(Exception):
    """The cluster cannot be read. The message is one line and names the request."""


class NotFound(ClusterError):
    """There is no such object, kind or group."""


class Forbidden(ClusterError):
    """The caller may not read this."""


class Expired(ClusterError):
    """A list's continue token is too old. ``token``, if any, resumes in the current state of the list."""

    def __init__(self, message: str, token: str) -> None:
        super().__init__(message)
        self.token = token


async def read(api: ApiClient, path: str, query: Mapping[str, str], *, doing: str) -> dict[str, Any]:
    """Return the object or list at a path; ``doing`` names the request in errors, e.g. ``list pods``.

    Raises ``ClusterError``.
    """
    try:
        return await api.read(path, query)
    except ApiError as problem:
        message = f"cannot {doing}: {problem.explanation}"
        if problem.status == HTTPStatus.NOT_FOUND:
            raise NotFound(message) from None
        if problem.status == HTTPStatus.FORBIDDEN:
            raise Forbidden(message) from None
        if problem.status == HTTPStatus.GONE:
            raise Expired(message, problem.continue_token) from None
        raise ClusterError(message) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A kind that the API server serves."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    def __str__(self) -> str:
        """Return the name that kubectl uses, e.g. ``deployments.apps``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None) -> str:
        """Return the path to list the objects of this kind, in one namespace or in all."""
        scope = f"namespaces/{quote(namespace, safe='')}/" if namespace is not None else ""
        return f"{_root(self.group, self.version)}/{scope}{self.plural}"


BUILT_IN: Final = tuple(
    Resource(group=kind.group, version=kind.versions[0], plural=kind.plural, kind=kind.kind)
    for kind in WORKLOAD_KINDS
)
"""Every kind in the core's table. All Kubernetes versions in use serve the first API version in the table."""


def kind_text(kind: GroupKind) -> str:
    """Return a kind as kubectl accepts it, e.g. ``Workflow.argoproj.io``."""
    return ".".join((kind[1], kind[0])) if kind[0] else kind[1]


async def discover(api: ApiClient, kinds: Iterable[GroupKind]) -> tuple[list[Resource], list[GroupKind]]:
    """Return which of the kinds the cluster can list, and which it cannot.

    Leaves out kinds in the core's table. Tries the preferred version of each group first. Raises
    ``ClusterError``.
    """
    kinds_by_group: dict[str, set[str]] = {}
    for group, kind in kinds:
        if (group, kind) not in POD_SPECS:
            kinds_by_group.setdefault(group, set()).add(kind)
    found: list[Resource] = []
    missing: list[GroupKind] = []
    for group, names in sorted(kinds_by_group.items()):
        served = await _served(api, group, names)
        found += (served[name] for name in sorted(served))
        missing += ((group, name) for name in sorted(names - served.keys()))
    return found, missing


async def _served(api: ApiClient, group: str, names: set[str]) -> dict[str, Resource]:
    """Return the resources of a group by kind, each in the first version that can be listed."""
    doing = f"discover the kinds of {group or 'the core group'}"
    served: dict[str, Resource] = {}
    try:
        versions = ["v1"] if not group else _versions(await read(api, _root(group), {}, doing=doing))
    except NotFound:
        return {}
    for version in versions:
        try:
            document = await read(api, _root(group, version), {}, doing=doing)
        except NotFound:
            continue
        for entry in _mappings(document.get("resources")):
            resource = _resource(group, version, entry)
            if resource is not None and resource.kind in names:
                served.setdefault(resource.kind, resource)
        if served.keys() >= names:
            break
    return served


def _root(group: str, version: str | None = None) -> str:
    root = f"/apis/{quote(group, safe='')}" if group else "/api"
    return root if version is None else f"{root}/{quote(version, safe='')}"


def _versions(document: Mapping[str, Any]) -> list[str]:
    """Return the versions of an APIGroup, the preferred one first."""
    entries = [document.get("preferredVersion"), *_mappings(document.get("versions"))]
    texts = (entry.get("version") for entry in entries if isinstance(entry, dict))
    return list(dict.fromkeys(text for text in texts if isinstance(text, str) and text))


def _resource(group: str, version: str, entry: Mapping[str, Any]) -> Resource | None:
    """Read an entry of an APIResourceList; ``None`` if it cannot be listed or is a subresource."""
    plural, kind, verbs = entry.get("name"), entry.get("kind"), entry.get("verbs")
    if not isinstance(plural, str) or not isinstance(kind, str) or "/" in plural:
        return None
    if not isinstance(verbs, list) or "list" not in verbs:
        return None
    return Resource(
        group=group, version=version, plural=plural, kind=kind, namespaced=entry.get("namespaced") is True
    )


def _mappings(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
