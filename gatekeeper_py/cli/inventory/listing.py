"""Read all objects that hold images from a live cluster, page by page.

A collector keeps only the parts of each object that a command needs, so memory does not grow with the number
of objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, Protocol, Self, TypeVar
from urllib.parse import quote

from gatekeeper_py.cli.inventory.resources import (
    BUILT_IN,
    ClusterError,
    Expired,
    NotFound,
    Resource,
    discover,
    read,
)
from gatekeeper_py.cluster.api import ApiClient, continue_token
from gatekeeper_py.core.admission.fields import POD, GroupKind
from gatekeeper_py.core.admission.review import AdmissionRequest

PAGE_SIZE: Final = 500
"""Objects in one page, the same number as in kubectl. A page is some MiB, and the API server reads one page
at a time from etcd."""

MAX_RESTARTS: Final = 3
"""How often an expired list is read again from the start before the command fails."""

UID: Final = "audit"

OnPage = Callable[[Resource, int, int | None], None]
"""Called after each page: the resource, how many objects were read, and how many remain, if known."""

C = TypeVar("C", bound="Collector")


class Collector(Protocol):
    """Keeps the parts of the given objects that a command needs, and counts the objects."""

    @property
    def objects(self) -> int: ...

    def take(self, request: AdmissionRequest) -> None:
        """Process an object. ``request`` is the request that would create the object now."""

    def empty(self) -> Self:
        """Return a collector of the same kind that holds nothing."""

    def merge(self, other: Self) -> None:
        """Take over the contents of another collector, which must not be used afterwards."""


async def collect(
    api: ApiClient,
    declared: Iterable[GroupKind],
    collector: C,
    *,
    namespace: str | None,
    on_page: OnPage = lambda _resource, _seen, _left: None,
) -> tuple[GroupKind, ...]:
    """Pass every object that holds images to a collector, in one namespace or in all.

    ``declared`` are kinds to list besides the built-in ones. Returns the kinds that the cluster does not
    serve. Raises ``ClusterError`` when a kind cannot be listed, because an incomplete answer must not look
    complete.
    """
    found, missing = await discover(api, declared)
    for resource in (*BUILT_IN, *found):
        if namespace is not None and not resource.namespaced:
            continue
        try:
            collector.merge(await _Listing(api, resource, namespace, on_page).read(collector))
        except NotFound:
            # An API server need not serve every kind, but every API server of Kubernetes serves Pods.
            if (resource.group, resource.kind) == POD:
                raise
            missing.append((resource.group, resource.kind))
    # For a namespace that does not exist, the API server returns empty lists: a typo would look like success.
    if namespace is not None and not collector.objects and not await _exists(api, namespace):
        raise ClusterError(f"there is no namespace {namespace}")
    return tuple(missing)


async def _exists(api: ApiClient, namespace: str) -> bool:
    """Return whether the namespace exists.

    Assume so if the namespace cannot be read, because the caller may be allowed to list Pods, but not to read
    namespaces.
    """
    try:
        await read(api, f"/api/v1/namespaces/{quote(namespace, safe='')}", {}, doing="get the namespace")
    except NotFound:
        return False
    except ClusterError:
        return True
    return True


class _Listing:
    """Reads all objects of one kind, page by page."""

    def __init__(self, api: ApiClient, resource: Resource, namespace: str | None, on_page: OnPage) -> None:
        self._api = api
        self._resource = resource
        self._path = resource.path(namespace)
        self._on_page = on_page
        scope = f"in the namespace {namespace}" if namespace is not None else "in all namespaces"
        self._doing = f"list {resource} {scope if resource.namespaced else ''}".rstrip()

    async def read(self, collector: C) -> C:
        """Read the whole list into a new collector; start again when it expires and cannot be resumed."""
        for _ in range(MAX_RESTARTS):
            with suppress(Expired):
                return await self._pages(collector.empty())
        return await self._pages(collector.empty())

    async def _pages(self, collector: C) -> C:
        token = ""
        resumed = False
        while True:
            query = {"limit": str(PAGE_SIZE), **({"continue": token} if token else {})}
            try:
                # The page is not assigned to a name, so it is freed before the next page is read.
                token, left = self._take(
                    await read(self._api, self._path, query, doing=self._doing), collector
                )
                resumed = False
            except Expired as expired:
                # As in kubectl, continue after the last object, in the current state of the list. Objects
                # that are created or deleted meanwhile may be missed; no object is counted twice.
                if not expired.token or resumed:
                    raise
                token, resumed = expired.token, True
                continue
            self._on_page(self._resource, collector.objects, left)
            if not token:
                return collector

    def _take(self, page: dict[str, Any], collector: Collector) -> tuple[str, int | None]:
        """Process a page. Return the token for the next page, and how many objects remain, if known."""
        items = page.get("items", ())
        if items is None:
            items = ()  # Go encodes a nil slice as null
        if not isinstance(items, list | tuple):
            raise ClusterError(f"cannot {self._doing}: the answer is not a list")
        for item in items:
            metadata = item.get("metadata") if isinstance(item, dict) else None
            if not isinstance(metadata, dict):
                raise ClusterError(f"cannot {self._doing}: an item without metadata")
            collector.take(
                # The request that the webhook would receive if the object were created now.
                AdmissionRequest(
                    uid=UID,
                    group=self._resource.group,
                    kind=self._resource.kind,
                    operation="CREATE",
                    namespace=_text(metadata.get("namespace")) or None,
                    name=_text(metadata.get("name")),
                    object=item,
                )
            )
        metadata = page.get("metadata")
        left = metadata.get("remainingItemCount") if isinstance(metadata, dict) else None
        return continue_token(page), left if isinstance(left, int) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
