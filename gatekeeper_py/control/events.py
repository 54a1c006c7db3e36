"""Kubernetes Events about the webhook configurations and the policy, for ``kubectl get events``."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from gatekeeper_py.cluster.api import KubernetesApi
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.control.installation import Installation
from gatekeeper_py.control.webhooks.desired import API_VERSION, VALIDATING
from gatekeeper_py.control.webhooks.templates import VALIDATING_NAME
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.runtime.logs import Log

COMPONENT: Final = "gatekeeper-py-controller"

MAX_MESSAGE: Final = 1000
"""The API server accepts 1,024 characters."""

INTERVAL: Final = timedelta(minutes=1)
MAX_IN_INTERVAL: Final = 10
"""Maximum number of Events with the same reason in ``INTERVAL``, for the reasons in ``LIMITED``."""

Reason = Literal["Armed", "Disarmed", "Paused", "PauseIgnored", "PolicyRefused", "Repaired"]

WARNINGS: Final = frozenset({"Disarmed", "Paused", "PauseIgnored", "PolicyRefused", "Repaired"})

LIMITED: Final = frozenset({"PolicyRefused", "Repaired"})
"""Reasons whose Events are limited. Whoever can write the policy or the webhook configurations could
otherwise cause any number of these Events."""

CONFIGMAP: Final = "ConfigMap"


class Events:
    """Records Events in the installation's namespace."""

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
        self, reason: Reason, message: str, *, kind: str = VALIDATING, name: str = VALIDATING_NAME
    ) -> None:
        """Record one Event about a webhook configuration, or about the ConfigMap with the policy.

        If the Event cannot be recorded, the failure is only logged.
        """
        now = self._now()
        if reason in LIMITED:
            recent = [each for each in self._recorded.get(reason, ()) if now - each < INTERVAL]
            if len(recent) >= MAX_IN_INTERVAL:
                return
            self._recorded[reason] = [*recent, now]
        try:
            await self._api.post(
                self._installation.events_path, self._event(reason, message, kind, name, now)
            )
        except ApiError as problem:
            self._log.warning("event_not_recorded", reason=reason, problem=str(problem)[:300])

    def _event(self, reason: Reason, message: str, kind: str, name: str, now: datetime) -> dict[str, Any]:
        namespace, instant = self._installation.namespace, format_instant(now)
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{secrets.token_hex(8)}", "namespace": namespace},
            # The API server requires the namespace of the Event here, even for cluster-scoped objects.
            "involvedObject": {
                "apiVersion": "v1" if kind == CONFIGMAP else API_VERSION,
                "kind": kind,
                "name": name,
                "namespace": namespace,
            },
            "type": "Warning" if reason in WARNINGS else "Normal",
            "reason": reason,
            "message": message[:MAX_MESSAGE],
            "firstTimestamp": instant,
            "lastTimestamp": instant,
            "count": 1,
            "source": {"component": COMPONENT},
        }
