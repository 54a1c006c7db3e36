"""Read everything that holds images from a live cluster, page by page.

A collector decides what to keep of each object, so memory does not grow with the number of objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, Protocol, Self, TypeVar
from urllib.parse import quote

from gatekeeper_py.cluster.api import ApiClient, continue_token
from gatekeeper_py.core.admission.fields import POD, GroupKind
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.inventory.reading import ClusterError, Expired, NotFound, read
from gatekeeper_py.inventory.resources import BUILT_IN, Resource, discover

PAGE_SIZE: Final = 500
"""The same as kubectl's. A page is some MiB, and the API server reads one page at a time from etcd."""

MAX_RESTARTS: Final = 3
"""How often a list that expired is started again before the command fails."""

UID: Final = "audit"

OnPage = Callable[[Resource, int, int | None], None]
"""Called after each page: the resource, how many objects were read, and how many remain, if known."""

C = TypeVar("C", bound="Collector")


class Collector(Protocol):
    """Keeps what a command needs of the objects it is given. ``objects`` counts them."""

    objects: int

    def take(self, request: AdmissionRequest) -> None:
        """Look at an object: the request is the one that would create it now."""

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
    """Give every object that holds images to a collector, in one namespace or in all.

    ``declared`` are kinds to list besides the built-in ones. Returns those that the cluster does not serve.
    Raises ``ClusterError`` when something cannot be listed, because an incomplete answer must not look
    complete.
    """
    found, missing = await discover(api, declared)
    for resource in (*BUILT_IN, *found):
        if namespace is not None and not resource.namespaced:
            continue
        try:
            collector.merge(await _Listing(api, resource, namespace, on_page).read(collector))
        except NotFound:
            # Not every API server serves every kind, but one without Pods is not an API server.
            if (resource.group, resource.kind) == POD:
                raise
            missing.append((resource.group, resource.kind))
    # The API server returns empty lists for a namespace that does not exist, so a typo would look clean.
    if namespace is not None and not collector.objects and not await _exists(api, namespace):
        raise ClusterError(f"there is no namespace {namespace}")
    return tuple(missing)


async def _exists(api: ApiClient, namespace: str) -> bool:
    """Whether the namespace exists; assume so when the caller may list Pods but not read namespaces."""
    try:
        await read(api, f"/api/v1/namespaces/{quote(namespace, safe='')}", {}, doing="get the namespace")
    except NotFound:
        return False
    except ClusterError:
        return True
    return True


class _Listing:
    """All objects of one kind, page by page."""

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
                # Not assigned to a name, so that a page is freed before the next one is read.
                token, left = self._take(
                    await read(self._api, self._path, query, doing=self._doing), collector
                )
                resumed = False
            except Expired as expired:
                # Like kubectl, continue after the last object with the list as it is now. Objects created or
                # deleted meanwhile may be missed; none is counted twice.
                if not expired.token or resumed:
                    raise
                token, resumed = expired.token, True
                continue
            self._on_page(self._resource, collector.objects, left)
            if not token:
                return collector

    def _take(self, page: dict[str, Any], collector: Collector) -> tuple[str, int | None]:
        """Look at a page. Return the token for the next page and how many objects remain."""
        items = page.get("items", ())
        if items is None:
            items = ()  # Go encodes a nil slice as null
        if not isinstance(items, list | tuple):
            raise ClusterError(f"cannot {self._doing}: the answer is not a list")
        for item in items:
            metadata = item.get("metadata") if isinstance(item, dict) else None
            if not isinstance(metadata, dict):
                raise ClusterError(f"cannot {self._doing}: an item without metadata")
            collector.objects += 1
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
