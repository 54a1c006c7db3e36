"""Record Events about Pods with warnings, if a controller such as the ReplicaSet controller created the Pods.

A person who creates a Pod sees its warnings. A controller of Kubernetes drops them, so nobody would see them.
When a Pod is denied, the controller of Kubernetes records an Event itself, so only the mode ``warn`` and
requirements that only warn need these Events.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from gatekeeper_py.cli.inventory.survey import ObjectReference
from gatekeeper_py.cluster.api import ApiClient
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.decision import Reason
from gatekeeper_py.core.policy.instant import format_instant

REASON: Final = "ImageNotApproved"
COMPONENT: Final = "gatekeeper-py-reports"

MAX_NOTE: Final = 1000
"""Maximum number of characters of an Event's message. The API server accepts 1,024."""

MAX_OWNER_NAME: Final = 200
"""Maximum number of characters of the owner's name in an Event's name, which may have 253 in total."""

MAX_IMAGES_SHOWN: Final = 3

MAX_EVENTS: Final = 25
"""Maximum number of Events in one audit. The rest follow in later audits."""

INTERVAL: Final = timedelta(hours=24)
"""Minimum time between two Events about one owner."""

RETRY: Final = timedelta(hours=1)
"""Time before an Event that the API server refused is tried again. Meanwhile other owners get their
Events."""

MAX_REMEMBERED: Final = 10_000
"""Maximum number of owners remembered. A forgotten owner may get its next Event early."""

Images = tuple[tuple[str, Reason], ...]
"""Images of Pods that cause warnings, each with the reason."""


class WarningEvents:
    """Records an Event about each owner of a Pod with warnings, at a limited rate."""

    def __init__(self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._due: dict[ObjectReference, datetime] = {}

    async def record(
        self, api: ApiClient, warned: Iterable[tuple[ObjectReference, Images]]
    ) -> tuple[int, list[str]]:
        """Record the Events that are due. Return how many were recorded, and the problems."""
        now = self._now()
        self._due = {owner: at for owner, at in self._due.items() if at > now}
        due = [each for each in warned if each[0] not in self._due]
        done, problems = 0, []
        for owner, images in due[:MAX_EVENTS]:
            try:
                await api.post(_path(owner.namespace), _event(owner, images, now))
            except ApiError as problem:
                problems.append(str(problem))
                self._due[owner] = now + RETRY
            else:
                done += 1
                self._due[owner] = now + INTERVAL
            if len(self._due) > MAX_REMEMBERED:
                del self._due[next(iter(self._due))]
        return done, problems


def _path(namespace: str) -> str:
    return f"/api/v1/namespaces/{quote(namespace, safe='')}/events"


def _event(owner: ObjectReference, images: Images, now: datetime) -> dict[str, Any]:
    shown = ", ".join(
        f"{escape(image, 250) or '(none)'} ({reason})" for image, reason in images[:MAX_IMAGES_SHOWN]
    )
    more = f" and {len(images) - MAX_IMAGES_SHOWN} more" if len(images) > MAX_IMAGES_SHOWN else ""
    instant = format_instant(now)
    # The name must be a DNS subdomain, so the character before the dot must be a letter or digit.
    name = owner.name[:MAX_OWNER_NAME].rstrip("-.")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.{secrets.token_hex(8)}", "namespace": owner.namespace},
        "involvedObject": {
            "apiVersion": owner.api_version,
            "kind": owner.kind,
            "name": owner.name,
            "namespace": owner.namespace,
            "uid": owner.uid,
        },
        "type": "Warning",
        "reason": REASON,
        "message": f"Pods use images that cause warnings: {shown}{more}"[:MAX_NOTE],
        "firstTimestamp": instant,
        "lastTimestamp": instant,
        "count": 1,
        "source": {"component": COMPONENT},
    }
