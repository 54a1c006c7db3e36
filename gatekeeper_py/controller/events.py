"""Events about the webhook configurations, the policy and exceptions, for ``kubectl get events``."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from http import HTTPStatus
from typing import Final, Literal

from gatekeeper_py.cluster.api import KubernetesApi
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.controller.installation import Installation
from gatekeeper_py.controller.webhooks.desired import API_VERSION, VALIDATING
from gatekeeper_py.controller.webhooks.templates import VALIDATING_NAME
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.process.logs import Log

COMPONENT: Final = "gatekeeper-py-controller"

MAX_MESSAGE: Final = 1000
"""The API server accepts 1,024 characters."""

INTERVAL: Final = timedelta(minutes=1)
MAX_IN_INTERVAL: Final = 10
"""Maximum number of Events with the same reason in ``INTERVAL``, for the reasons in ``LIMITED``."""

ExceptionReason = Literal["BreakGlass", "ExceptionEnds", "ExceptionsInvalid"]
Reason = Literal["Armed", "Disarmed", "Paused", "PauseIgnored", "PolicyRefused", "Repaired"] | ExceptionReason

NORMAL: Final = frozenset({"Armed", "ExceptionEnds"})
"""Reasons of Events that are not warnings."""

LIMITED: Final = frozenset({"PolicyRefused", "Repaired"})
"""Reasons whose Events are limited. Whoever can write the policy or the webhook configurations could
otherwise cause any number of these Events."""

CONFIGMAP: Final = "ConfigMap"


class Events:
    """Records Events, by default in the installation's namespace."""

    def __init__(
        self,
        api: KubernetesApi,
        installation: Installation,
        *,
        log: Log,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api = api
        self._installation = installation
        self._log = log
        self._now = now
        self._recorded: dict[Reason, list[datetime]] = {}

    async def record(
        self,
        reason: Reason,
        message: str,
        *,
        kind: str = VALIDATING,
        name: str = VALIDATING_NAME,
        namespace: str | None = None,
        once: bool = False,
    ) -> bool:
        """Record one Event about a webhook configuration or a ConfigMap.

        With ``once``, do nothing if the API server still has an Event with the same content. Return false if
        the Event was not recorded: because the reason had too many Events recently, or because the request
        failed, which is logged.
        """
        now = self._now()
        if reason in LIMITED:
            recent = [each for each in self._recorded.get(reason, ()) if now - each < INTERVAL]
            if len(recent) >= MAX_IN_INTERVAL:
                return False
            self._recorded[reason] = [*recent, now]
        namespace, instant = namespace or self._installation.namespace, format_instant(now)
        content = blake2b(f"{reason} {message}".encode(), digest_size=8).hexdigest()
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{name}.{content if once else secrets.token_hex(8)}",
                "namespace": namespace,
            },
            # The API server requires the namespace of the Event here, even for cluster-scoped objects.
            "involvedObject": {
                "apiVersion": "v1" if kind == CONFIGMAP else API_VERSION,
                "kind": kind,
                "name": name,
                "namespace": namespace,
            },
            "type": "Normal" if reason in NORMAL else "Warning",
            "reason": reason,
            "message": message[:MAX_MESSAGE],
            "firstTimestamp": instant,
            "lastTimestamp": instant,
            "count": 1,
            "source": {"component": COMPONENT},
        }
        try:
            await self._api.post(f"/api/v1/namespaces/{namespace}/events", event)
        except ApiError as problem:
            if once and problem.status == HTTPStatus.CONFLICT:
                return True
            self._log.warning("event_not_recorded", reason=reason, problem=str(problem)[:300])
            return False
        return True
