"""Every image of a live cluster, judged as the webhook would judge it.

Lists come in pages and only their tallies stay, so memory does not grow with the objects.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from gatekeeper_py.core import admission
from gatekeeper_py.core.admission import ActivePolicy, Judgement
from gatekeeper_py.core.admission.fields import POD, GroupKind
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.inventory.api import Api, ClusterError, Expired, NotFound, continue_token
from gatekeeper_py.inventory.resources import BUILT_IN, Resource, discover
from gatekeeper_py.inventory.tally import JudgedImage, Place, Tally

PAGE_SIZE: Final = 500
"""As kubectl's. A page is some MiB, and what the API server reads from etcd at a time."""

MAX_RESTARTS: Final = 3
"""A list that expires again and again does not end by asking once more."""

UID: Final = "audit"

OnPage = Callable[[Resource, int, int | None], None]
"""Told of each page: the list, objects of it so far, and how many are left when that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a cluster holds. ``missing`` are declared kinds that it does not serve."""

    tally: Tally
    missing: tuple[GroupKind, ...]


async def survey(
    api: Api,
    policy: ActivePolicy,
    *,
    namespace: str | None,
    keep_approved: bool,
    on_page: OnPage = lambda _resource, _seen, _left: None,
) -> Survey:
    """List everything that holds images, in one namespace or in all, and judge it.

    Raises ``ClusterError`` when something cannot be listed: half an audit must not look like a
    whole one. Raises what the client raises, too.
    """
    declared, missing = await discover(api, policy.resources)
    total = Tally(keep_approved=keep_approved)
    for resource in (*BUILT_IN, *declared):
        if namespace is not None and not resource.namespaced:
            continue
        try:
            total.merge(
                await _Listing(api, policy, resource, namespace, on_page).tally(keep_approved=keep_approved)
            )
        except NotFound:
            # Not every API server serves every kind. One that serves no Pods is none.
            if (resource.group, resource.kind) == POD:
                raise
            missing.append((resource.group, resource.kind))
    # Of a namespace that does not exist the API server gives empty lists: a typo would look clean.
    if namespace is not None and not total.objects and not await _exists(api, namespace):
        raise ClusterError(f"there is no namespace {namespace}")
    return Survey(tally=total, missing=tuple(missing))


async def _exists(api: Api, namespace: str) -> bool:
    """Whether there is such a namespace; whoever may list Pods may not be allowed to know."""
    try:
        await api.get(f"/api/v1/namespaces/{quote(namespace, safe='')}", {}, doing="get the namespace")
    except NotFound:
        return False
    except ClusterError:
        return True
    return True


class _Listing:
    """One kind, page by page."""

    def __init__(
        self, api: Api, policy: ActivePolicy, resource: Resource, namespace: str | None, on_page: OnPage
    ) -> None:
        self._api = api
        self._policy = policy
        self._resource = resource
        self._path = resource.path(namespace)
        self._on_page = on_page
        place = f"in the namespace {namespace}" if namespace is not None else "in all namespaces"
        self._doing = f"list {resource} {place if resource.namespaced else ''}".rstrip()

    async def tally(self, *, keep_approved: bool) -> Tally:
        """The whole list. When it expires and cannot go on, it starts again."""
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
                # The page has no name here, so it is gone before the next one comes.
                token, left = self._take(await self._api.get(self._path, query, doing=self._doing), tally)
                resumed = False
            except Expired as expired:
                # As kubectl, go on behind the last object with the list as it is now. What was
                # created or deleted meanwhile may be missed; nothing is counted twice.
                if not expired.token or resumed:
                    raise
                token, resumed = expired.token, True
                continue
            self._on_page(self._resource, tally.objects, left)
            if not token:
                return tally

    def _take(self, page: dict[str, Any], tally: Tally) -> tuple[str, int | None]:
        """Judge a page. Answers the token for the next and how many objects are left."""
        items = page.get("items", ())
        if items is None:
            items = ()  # how Go writes an empty list, where nobody cared
        if not isinstance(items, list | tuple):
            raise ClusterError(f"cannot {self._doing}: the answer is no list")
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
        # The question the webhook would be asked if the object were made anew.
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
            tally.add(image, Place(kind, request.namespace, request.name, judgement.slot.path))


def judged_image(judgement: Judgement, policy: ActivePolicy, namespace: str | None) -> JudgedImage:
    """A judgement without its place. The image and its canonical form are those before a mirror."""
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
