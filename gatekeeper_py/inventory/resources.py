"""Which lists hold images: the kinds of the core's table, and those that the policy declares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from gatekeeper_py.core.admission.fields import POD_SPECS, WORKLOAD_KINDS, GroupKind
from gatekeeper_py.inventory.api import Api, NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One kind as the API server serves it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    def __str__(self) -> str:
        """As kubectl names it: ``deployments.apps``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None) -> str:
        """Where its objects are listed, of one namespace or of all."""
        place = f"namespaces/{quote(namespace, safe='')}/" if namespace is not None else ""
        return f"{_root(self.group, self.version)}/{place}{self.plural}"


BUILT_IN: Final = tuple(
    Resource(group=kind.group, version=kind.versions[0], plural=kind.plural, kind=kind.kind)
    for kind in WORKLOAD_KINDS
)
"""Every kind of the core's table; all versions of Kubernetes in use serve the first version named there."""


def kind_text(kind: GroupKind) -> str:
    """``Workflow.argoproj.io``, as kubectl would take it."""
    return ".".join((kind[1], kind[0])) if kind[0] else kind[1]


async def discover(api: Api, kinds: Iterable[GroupKind]) -> tuple[list[Resource], list[GroupKind]]:
    """The kinds beyond the core's table that are served with a list, and those that are not.

    The preferred version of a group is asked first. Raises what ``Api.get`` raises.
    """
    wanted: dict[str, set[str]] = {}
    for group, kind in kinds:
        if (group, kind) not in POD_SPECS:
            wanted.setdefault(group, set()).add(kind)
    found: list[Resource] = []
    missing: list[GroupKind] = []
    for group, names in sorted(wanted.items()):
        served = await _served(api, group, names)
        found += (served[name] for name in sorted(served))
        missing += ((group, name) for name in sorted(names - served.keys()))
    return found, missing


async def _served(api: Api, group: str, names: set[str]) -> dict[str, Resource]:
    """By kind, each as the first version that lists it serves it."""
    doing = f"discover the kinds of {group or 'the core group'}"
    served: dict[str, Resource] = {}
    try:
        versions = ["v1"] if not group else _versions(await api.get(_root(group), {}, doing=doing))
    except NotFound:
        return {}
    for version in versions:
        try:
            document = await api.get(_root(group, version), {}, doing=doing)
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
    """Versions of an APIGroup, the preferred one first."""
    entries = [document.get("preferredVersion"), *_mappings(document.get("versions"))]
    texts = (entry.get("version") for entry in entries if isinstance(entry, dict))
    return list(dict.fromkeys(text for text in texts if isinstance(text, str) and text))


def _resource(group: str, version: str, entry: Mapping[str, Any]) -> Resource | None:
    """An entry of an APIResourceList; ``None`` for what has no list, and for subresources."""
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
