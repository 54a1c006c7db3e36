"""Judge every image of a live cluster as the webhook would.

Lists arrive in pages and only tallies are kept, so memory does not grow with the number of objects.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from gatekeeper_py.cluster.api import ApiClient, continue_token
from gatekeeper_py.core import admission
from gatekeeper_py.core.admission import ActivePolicy, Judgement
from gatekeeper_py.core.admission.fields import POD, GroupKind
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.inventory.reading import ClusterError, Expired, NotFound, read
from gatekeeper_py.inventory.resources import BUILT_IN, Resource, discover
from gatekeeper_py.inventory.tally import JudgedImage, Tally, Usage

PAGE_SIZE: Final = 500
"""The same as kubectl's. A page is some MiB, and the API server reads one page at a time from etcd."""

MAX_RESTARTS: Final = 3
"""How often a list that expired is started again before the audit fails."""

UID: Final = "audit"

OnPage = Callable[[Resource, int, int | None], None]
"""Called after each page: the resource, how many objects were read, and how many remain, if known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a cluster runs. ``missing`` are kinds that the policy declares and the cluster does not serve."""

    tally: Tally
    missing: tuple[GroupKind, ...]


async def survey(
    api: ApiClient,
    policy: ActivePolicy,
    *,
    namespace: str | None,
    exempt: frozenset[str] = frozenset(),
    keep_approved: bool,
    on_page: OnPage = lambda _resource, _seen, _left: None,
) -> Survey:
    """List everything that holds images, in one namespace or in all, and judge it.

    Images in the ``exempt`` namespaces have the verdict ``exempt``, since the webhook does not review them.
    Raises ``ClusterError`` when something cannot be listed, because an incomplete audit must not look
    complete.
    """
    declared, missing = await discover(api, policy.resources)
    total = Tally(keep_approved=keep_approved)
    for resource in (*BUILT_IN, *declared):
        if namespace is not None and not resource.namespaced:
            continue
        try:
            total.merge(
                await _Listing(api, policy, resource, namespace, exempt, on_page).tally(
                    keep_approved=keep_approved
                )
            )
        except NotFound:
            # Not every API server serves every kind, but one without Pods is not an API server.
            if (resource.group, resource.kind) == POD:
                raise
            missing.append((resource.group, resource.kind))
    # The API server returns empty lists for a namespace that does not exist, so a typo would look clean.
    if namespace is not None and not total.objects and not await _exists(api, namespace):
        raise ClusterError(f"there is no namespace {namespace}")
    return Survey(tally=total, missing=tuple(missing))


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

    def __init__(
        self,
        api: ApiClient,
        policy: ActivePolicy,
        resource: Resource,
        namespace: str | None,
        exempt: frozenset[str],
        on_page: OnPage,
    ) -> None:
        self._api = api
        self._exempt = exempt
        self._policy = policy
        self._resource = resource
        self._path = resource.path(namespace)
        self._on_page = on_page
        scope = f"in the namespace {namespace}" if namespace is not None else "in all namespaces"
        self._doing = f"list {resource} {scope if resource.namespaced else ''}".rstrip()

    async def tally(self, *, keep_approved: bool) -> Tally:
        """Read the whole list; start again when it expires and cannot be resumed."""
        for _ in range(MAX_RESTARTS):
            with suppress(Expired):
                return await self._pages(Tally(keep_approved=keep_approved))
        return await self._pages(Tally(keep_approved=keep_approved))

    async def _pages(self, tally: Tally) -> Tally:
        token = ""
        resumed = False
        while True:
            query = {"limit": str(PAGE_SIZE), **({"continue": token} if token else {})}
            try:
                # Not assigned to a name, so that a page is freed before the next one is read.
                token, left = self._take(await read(self._api, self._path, query, doing=self._doing), tally)
                resumed = False
            except Expired as expired:
                # Like kubectl, continue after the last object with the list as it is now. Objects created or
                # deleted meanwhile may be missed; none is counted twice.
                if not expired.token or resumed:
                    raise
                token, resumed = expired.token, True
                continue
            self._on_page(self._resource, tally.objects, left)
            if not token:
                return tally

    def _take(self, page: dict[str, Any], tally: Tally) -> tuple[str, int | None]:
        """Judge a page. Return the token for the next page and how many objects remain."""
        items = page.get("items", ())
        if items is None:
            items = ()  # Go encodes a nil slice as null
        if not isinstance(items, list | tuple):
            raise ClusterError(f"cannot {self._doing}: the answer is not a list")
        for item in items:
            self._judge(item, tally)
        metadata = page.get("metadata")
        left = metadata.get("remainingItemCount") if isinstance(metadata, dict) else None
        return continue_token(page), left if isinstance(left, int) else None

    def _judge(self, item: Any, tally: Tally) -> None:
        metadata = item.get("metadata") if isinstance(item, dict) else None
        if not isinstance(metadata, dict):
            raise ClusterError(f"cannot {self._doing}: an item without metadata")
        kind = self._resource.kind
        # The request that the webhook would receive if the object were created now.
        request = AdmissionRequest(
            uid=UID,
            group=self._resource.group,
            kind=kind,
            operation="CREATE",
            namespace=_text(metadata.get("namespace")) or None,
            name=_text(metadata.get("name")),
            object=item,
        )
        tally.objects += 1
        for judgement in admission.validate(request, self._policy).judgements:
            image = judged_image(judgement, self._policy, request.namespace)
            if request.namespace in self._exempt:
                image = image._replace(verdict="exempt")
            tally.add(image, Usage(kind, request.namespace, request.name, judgement.slot.path))


def judged_image(judgement: Judgement, policy: ActivePolicy, namespace: str | None) -> JudgedImage:
    """Return a judgement without its field. Image and canonical form are those before a mirror rewrite."""
    decision = judgement.decision
    value = judgement.slot.value
    image = value if isinstance(value, str) else ""
    written = decision if judgement.rewritten is None else policy.decide(namespace, image)
    return JudgedImage(
        image=image,
        canonical=written.canonical if written.reason != "invalid" else None,
        verdict="approved" if decision.approved else "rejected",
        reason=decision.reason,
        detail=decision.detail,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
