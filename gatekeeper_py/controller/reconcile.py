"""One pass of the controller: read the cluster, take the certificate step that is due, repair drift.

A pass can be interrupted anywhere and repeated by any controller. Each write is idempotent, carries the
resource version on which the controller based its decision, and leaves a state from which the next pass
continues.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal

from gatekeeper_py.cluster.api import KubernetesApi
from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.controller import certificates, replicas
from gatekeeper_py.controller.certificates import (
    CertificateSettings,
    CertificateStore,
    InvalidSecret,
    Observed,
    Step,
)
from gatekeeper_py.controller.configurations import Changes, Configurations, DesiredState
from gatekeeper_py.controller.installation import Installation
from gatekeeper_py.controller.pause import Pause, read_pause
from gatekeeper_py.controller.webhooks import drift
from gatekeeper_py.controller.webhooks.desired import OwnerReference
from gatekeeper_py.core.names import PART_OF, PART_OF_LABEL

SERVICE_PORT: Final = "webhook"

SOON_SECONDS: Final = 2.0
ROTATING_SECONDS: Final = 5.0
STEADY_SECONDS: Final = 60.0


Alarm = Literal[
    "service", "deployment", "endpoints", "secret", "settings", "pause", "selector", "policy", "exceptions"
]
"""What needs attention, as label values of a metric."""

PASS_ERRORS: Final = (ApiError, LookupError)
"""The exceptions that end a pass: a request failed, or the owner was deleted during the pass."""

ProbeReplica = Callable[[str, int, bytes], Awaitable[replicas.ProbeResult]]
"""Takes host, port and the CA bundle to trust."""

Probed = list[tuple[replicas.ReplicaAddress, replicas.ProbeResult]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a pass found and did. ``next_seconds`` is the time until the next pass if nothing changes."""

    armed: bool
    removed: str = ""
    """The part of the installation whose removal disarmed the webhook."""
    pause: Pause = field(default_factory=Pause)
    change: Step = ""
    changes: Changes = field(default_factory=Changes)
    alarms: dict[Alarm, str] = field(default_factory=dict)
    not_after: datetime | None = None
    replicas: int = 0
    waiting: str = ""
    """Why the webhook is not armed yet."""
    settled: bool = False
    seconds: float = STEADY_SECONDS

    @property
    def next_seconds(self) -> float:
        if self.removed or self.pause.until is not None:
            return self.seconds
        if not self.armed or self.changes.registered != self.changes.active:
            return SOON_SECONDS
        return STEADY_SECONDS if self.settled else ROTATING_SECONDS

    @property
    def steady(self) -> bool:
        """Whether the webhook is armed and no rotation is in progress."""
        return self.armed and self.settled


class TrustTimer:
    """Measures how long every configuration has trusted the CAs in the Secret.

    The time is held only in memory. So a controller that restarts waits again, and the clocks of other
    machines do not matter.
    """

    def __init__(self) -> None:
        self._cas: tuple[bytes, ...] = ()
        self._since: datetime | None = None

    def since(self, store: CertificateStore | None, observed: Observed, now: datetime) -> datetime | None:
        if store is None or not certificates.trusted_by_all(store, observed):
            self._since = None
        elif self._since is None or store.cas != self._cas:
            self._cas, self._since = store.cas, now
        return self._since


class Passes:
    """Runs passes over one installation.

    Between passes it keeps state that is not in the cluster, such as whether the webhook was armed and which
    CA bundles the configurations had.
    """

    def __init__(
        self,
        api: KubernetesApi,
        installation: Installation,
        settings: CertificateSettings,
        *,
        probe_replica: ProbeReplica | None = None,
    ) -> None:
        self.configurations = Configurations(api, installation.target)
        self._api = api
        self._installation = installation
        self._settings = settings
        self._probe_replica = probe_replica or self._probe_directly
        self._trust_timer = TrustTimer()
        self._was_armed = False
        self._bundles: tuple[bytes, ...] = ()
        """The CA bundles of the configurations when they were last seen."""

    async def run(self, desired_state: DesiredState, now: datetime) -> Report:
        """Run one pass.

        Raises the client's errors, and ``LookupError`` if the owner is deleted during the pass. An error ends
        the pass.
        """
        live = await self.configurations.read()
        namespace, removed = await self._removal()
        if removed or namespace is None:
            if live:
                await self.configurations.remove()
            self._forget()
            return Report(armed=False, removed=removed, seconds=SOON_SECONDS)
        pause = read_pause(namespace, now)
        if pause.until is not None:
            if live:
                await self.configurations.remove()
            live = {}
            self._forget()
        secret = await self._api.get(self._installation.secret_path)
        store = _parse(secret)
        if store is None and not live and pause.until is None:
            # Another controller may have created them meanwhile, with a CA that this Secret lost.
            live = await self.configurations.read()
        probed = [] if store is None else await self._probe_replicas(store)
        service = await self._api.get(self._installation.service_path)
        deployment = await self._api.get(self._installation.deployment_path)
        observed = self._observe(live, probed, deployment)
        observed = replace(observed, trusted_since=self._trust_timer.since(store, observed, now))
        after, change = certificates.advance(store, observed, self._settings, now)
        if change:
            await self._write_secret(secret, after)
        alarms = self._alarms(service, deployment, secret, store, probed, pause, live=bool(live))
        changes, waiting = Changes(), ""
        bundle = certificates.bundle(after, observed, now)
        # Once armed, the webhook stays armed: neither a failing replica nor a deleted configuration may open
        # the cluster.
        armed = pause.until is None and (bool(live) or self._was_armed or (not change and _may_arm(probed)))
        if armed:
            changes = await self.configurations.apply(live, desired_state, bundle, await self._owner(), now)
            alarms["selector"] = changes.selector_problem
            self._was_armed = True
        elif pause.until is None:
            waiting = _why_not_armed(probed)
        return Report(
            armed=armed,
            pause=pause,
            change=change,
            changes=changes,
            alarms=alarms,
            not_after=after.not_after,
            replicas=len({address.replica for address, _ in probed if not address.leaving}),
            waiting=waiting,
            settled=certificates.settled(after) and bundle == after.bundle,
            seconds=_seconds_until(pause, now),
        )

    def _forget(self) -> None:
        """Reset the state after an intended removal: arm again only once a replica answers."""
        self._was_armed, self._bundles = False, ()

    async def shut_down(self) -> bool:
        """Remove the configurations if the installation is being removed; return whether it is."""
        _, removed = await self._removal()
        if removed:
            await self.configurations.remove()
        return bool(removed)

    async def _removal(self) -> tuple[dict[str, Any] | None, str]:
        """Return the Namespace, and why the installation counts as being removed; empty if it does not.

        Only the Namespace and the owning ClusterRole are checked. If the Service or the Deployment is
        missing, the webhook stays armed, so that nothing unapproved is admitted.
        """
        namespace = await self._api.get(self._installation.namespace_path)
        owner = await self._api.get(self._installation.owner_path)
        for path, part in (
            (self._installation.namespace_path, namespace),
            (self._installation.owner_path, owner),
        ):
            if part is None:
                return namespace, f"{path} does not exist"
            if part.get("metadata", {}).get("deletionTimestamp"):
                return namespace, f"{path} is being deleted"
        return namespace, ""

    async def _probe_replicas(self, store: CertificateStore) -> Probed:
        """Probe every replica behind the Service."""
        slices = await self._api.get(self._installation.slices_path) or {}
        addresses = list(dict.fromkeys(replicas.addresses(slices, SERVICE_PORT)))
        probes = (self._probe_replica(each.host, each.port, store.bundle) for each in addresses)
        return list(zip(addresses, await asyncio.gather(*probes), strict=True))

    async def _probe_directly(self, host: str, port: int, bundle: bytes) -> replicas.ProbeResult:
        name = self._installation.server_name
        return await replicas.probe(host, port, server_name=name, bundle=bundle)

    def _observe(
        self,
        live: dict[str, dict[str, Any]],
        probed: Probed,
        deployment: dict[str, Any] | None,
    ) -> Observed:
        # A Pod without an address is in no EndpointSlice yet, but may have mounted the Secret already.
        counted = ((deployment or {}).get("status") or {}).get("replicas") or 0
        staying = {address.replica for address, _ in probed if not address.leaving}
        if live:
            self._bundles = tuple(
                bundle
                for template in self.configurations.templates
                if template.path in live
                for bundle in drift.bundles(live[template.path], template)
            )
        return Observed(
            # Configurations that somebody deleted are created again with the CAs that they trusted.
            trusted=self._bundles,
            served={f"{address.host} {address.port}": result.fingerprint for address, result in probed},
            unseen=len(staying) < counted,
        )

    def _alarms(
        self,
        service: dict[str, Any] | None,
        deployment: dict[str, Any] | None,
        secret: dict[str, Any] | None,
        store: CertificateStore | None,
        probed: Probed,
        pause: Pause,
        *,
        live: bool,
    ) -> dict[Alarm, str]:
        installation = self._installation
        missing_secret = "is missing" if secret is None else "holds no usable certificate"
        return {
            "service": "" if service is not None else f"the Service {installation.service} is missing",
            "deployment": (
                "" if deployment is not None else f"the Deployment {installation.deployment} is missing"
            ),
            # Before the webhook is armed for the first time there is no Secret yet.
            "secret": (
                f"the Secret {installation.secret} {missing_secret}" if store is None and live else ""
            ),
            "endpoints": "" if any(result.answered for _, result in probed) else _why_not_armed(probed),
            "pause": pause.problem,
        }

    async def _write_secret(self, live: dict[str, Any] | None, store: CertificateStore) -> None:
        path = self._installation.secret_path
        if live is not None:
            # Without a key pair to serve, keep tls.crt and tls.key: the Secret's type may require both.
            ours = certificates.KEYS if store.current is not None else certificates.KEYS[2:]
            kept = {key: value for key, value in (live.get("data") or {}).items() if key not in ours}
            await self._api.replace(path, {**live, "data": {**kept, **store.data()}})
            return
        document = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self._installation.secret,
                "namespace": self._installation.namespace,
                "labels": {PART_OF_LABEL: PART_OF},
            },
            # Not kubernetes.io/tls, because this type requires tls.crt even before a leaf may be served.
            # While tls.crt is missing, running replicas keep the mounted files, and new replicas wait.
            "type": "Opaque",
            "data": store.data(),
        }
        await self._api.create(path, document)

    async def _owner(self) -> OwnerReference:
        owner = await self._api.get(self._installation.owner_path)
        if owner is None:
            raise LookupError(f"the owner {self._installation.owner_path} was deleted during the pass")
        return self._installation.owner_of(owner["metadata"]["uid"])


def _parse(secret: dict[str, Any] | None) -> CertificateStore | None:
    if secret is None:
        return None
    try:
        return certificates.parse_secret(secret.get("data") or {})
    except InvalidSecret:
        return None  # the next certificate step replaces the Secret, and the step is logged


def _may_arm(probed: Probed) -> bool:
    """Return whether some replica answers reviews, and none serves a leaf that API servers refuse."""
    staying = [result for address, result in probed if not address.leaving]
    return any(result.answered for result in staying) and not any(result.untrusted for result in staying)


def _why_not_armed(probed: Probed) -> str:
    if not probed:
        return "there is no replica behind the Service"
    return "; ".join(
        f"{address.host}: {result.problem or ('shutting down' if address.leaving else 'answers')}"
        for address, result in probed[:3]
    )


def _seconds_until(pause: Pause, now: datetime) -> float:
    """Return the seconds until the pause ends, but at most a minute; a minute if there is no pause."""
    if pause.until is None:
        return STEADY_SECONDS
    return min(max((pause.until - now).total_seconds(), 0.0), STEADY_SECONDS)
