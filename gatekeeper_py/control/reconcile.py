"""One pass of the controller: read the cluster, take the certificate step that is due, repair drift.

A pass can be interrupted anywhere and repeated by any controller: each write is idempotent, carries the
resource version that it was decided on, and leaves a state that the next pass continues from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Protocol

from gatekeeper_py.control import certificates, replicas, webhooks
from gatekeeper_py.control.certificates import (
    CertificateSettings,
    CertificateStore,
    Change,
    InvalidSecret,
    Observed,
)
from gatekeeper_py.control.webhooks import NO_CONDITIONS, Conditions, Desired, Owner

FIELD_MANAGER: Final = "gatekeeper-py-controller"
SERVICE_PORT: Final = "webhook"

SOON_SECONDS: Final = 2.0
ROTATING_SECONDS: Final = 5.0
STEADY_SECONDS: Final = 60.0


class KubernetesApi(Protocol):
    """The requests that a pass needs; every method raises the client's own errors.

    ``get`` returns ``None`` for an object that does not exist. ``create`` fails for one that exists, and
    ``replace`` for one whose resource version is not the live one.
    """

    async def get(self, path: str) -> dict[str, Any] | None: ...

    async def create(self, path: str, document: dict[str, Any]) -> None: ...

    async def replace(self, path: str, document: dict[str, Any]) -> None: ...

    async def delete(self, path: str) -> None: ...


ProbeReplica = Callable[[str, int, bytes], Awaitable[replicas.ProbeResult]]
"""Takes host, port and the CA bundle to trust."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The names of the objects that make up one installation."""

    namespace: str
    service: str
    deployment: str
    secret: str
    owner: str
    desired: tuple[Desired, ...]

    @property
    def server_name(self) -> str:
        """The DNS name under which API servers call the Service."""
        return f"{self.service}.{self.namespace}.svc"

    @property
    def secret_path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/secrets/{self.secret}"

    @property
    def owner_path(self) -> str:
        return f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{self.owner}"

    @property
    def slices_path(self) -> str:
        slices = f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices"
        return f"{slices}?labelSelector=kubernetes.io/service-name%3D{self.service}"

    @property
    def deployment_path(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{self.deployment}"

    @property
    def parts(self) -> tuple[str, ...]:
        """When one of these is missing or being deleted, the installation is being removed."""
        return (
            f"/api/v1/namespaces/{self.namespace}",
            self.owner_path,
            self.deployment_path,
            f"/api/v1/namespaces/{self.namespace}/services/{self.service}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a pass found and did. ``next_seconds`` is when the next pass is due without a change."""

    armed: bool
    removed: bool = False
    change: Change = ""
    repaired: tuple[str, ...] = ()
    not_after: datetime | None = None
    replicas: int = 0
    waiting: str = ""
    settled: bool = False
    conditions_differ: bool = False
    """A configuration carries other conditions than the fast path wants."""

    @property
    def next_seconds(self) -> float:
        if not self.armed:
            return SOON_SECONDS
        return STEADY_SECONDS if self.settled else ROTATING_SECONDS

    @property
    def steady(self) -> bool:
        """Whether the webhook is armed and no rotation is in progress."""
        return self.armed and self.settled


class TrustTimer:
    """Measures how long every configuration has trusted the CAs in the Secret.

    In memory only: a controller that restarts waits again, and no other machine's clock matters.
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


async def reconcile(
    api: KubernetesApi,
    installation: Installation,
    settings: CertificateSettings,
    trust_timer: TrustTimer,
    *,
    now: datetime,
    probe_replica: ProbeReplica | None = None,
    wanted: Callable[[], Conditions] | None = None,
) -> Report:
    """Do one pass. Raises the client's errors; the rest of the pass is then skipped.

    ``wanted`` returns the conditions that the fast path wants at that moment; ``None`` without a fast path.
    """
    live = {desired.path: await api.get(desired.path) for desired in installation.desired}
    missing = await _missing_part(api, installation)
    if missing:
        await disarm(api, installation)
        return Report(armed=False, removed=True, waiting=f"{missing} is not there, or being deleted")
    secret = await api.get(installation.secret_path)
    store = _parse(secret)
    replicas = [] if store is None else await _probe_replicas(api, installation, store, probe_replica)
    observed = await _observe(api, installation, live, replicas)
    observed = replace(observed, trusted_since=trust_timer.since(store, observed, now))
    after, change = certificates.advance(store, observed, settings, now)
    if change:
        await _write_secret(api, installation, secret, after)
    existing = any(configuration is not None for configuration in live.values())
    # Once armed, always armed: a failing replica must not open the cluster.
    armed = existing or (not change and _may_arm(replicas))
    bundle = certificates.bundle(after, observed, now)
    repaired: tuple[str, ...] = ()
    conditions_differ = False
    if armed:
        owner = await _owner(api, installation)
        repaired, conditions_differ = await _repair(api, installation, live, bundle, owner, wanted)
    return Report(
        armed=armed,
        change=change,
        repaired=repaired,
        not_after=after.not_after,
        replicas=len({endpoint.replica for endpoint, _ in replicas if not endpoint.leaving}),
        waiting="" if armed else _why_not_armed(replicas),
        settled=certificates.settled(after) and bundle == after.bundle,
        conditions_differ=conditions_differ,
    )


async def disarm(api: KubernetesApi, installation: Installation) -> None:
    """Delete the webhook configurations, so that API servers do not call a server that is going away."""
    for desired in installation.desired:
        await api.delete(desired.path)


async def removal_under_way(api: KubernetesApi, installation: Installation) -> bool:
    """Whether a part of the installation is missing or being deleted."""
    return bool(await _missing_part(api, installation))


async def _missing_part(api: KubernetesApi, installation: Installation) -> str:
    for path in installation.parts:
        part = await api.get(path)
        if part is None or part.get("metadata", {}).get("deletionTimestamp"):
            return path
    return ""


def _parse(secret: dict[str, Any] | None) -> CertificateStore | None:
    if secret is None:
        return None
    try:
        return certificates.parse_secret(secret.get("data") or {})
    except InvalidSecret:
        return None  # the step that is due replaces it, and is logged


Replicas = list[tuple[replicas.ReplicaAddress, replicas.ProbeResult]]


async def _probe_replicas(
    api: KubernetesApi,
    installation: Installation,
    store: CertificateStore,
    probe_replica: ProbeReplica | None,
) -> Replicas:
    """Probe every replica behind the Service."""

    async def probe_directly(host: str, port: int, bundle: bytes) -> replicas.ProbeResult:
        return await replicas.probe(host, port, server_name=installation.server_name, bundle=bundle)

    slices = await api.get(installation.slices_path) or {}
    endpoints = list(dict.fromkeys(replicas.addresses(slices, SERVICE_PORT)))
    probes = ((probe_replica or probe_directly)(each.host, each.port, store.bundle) for each in endpoints)
    answers = await asyncio.gather(*probes)
    return list(zip(endpoints, answers, strict=True))


async def _observe(
    api: KubernetesApi,
    installation: Installation,
    live: dict[str, dict[str, Any] | None],
    replicas: Replicas,
) -> Observed:
    # A Pod without an address is in no EndpointSlice yet but may have mounted the Secret; status counts it.
    deployment = await api.get(installation.deployment_path) or {}
    counted = (deployment.get("status") or {}).get("replicas") or 0
    staying = {endpoint.replica for endpoint, _ in replicas if not endpoint.leaving}
    return Observed(
        trusted=tuple(
            bundle
            for desired in installation.desired
            if (configuration := live[desired.path]) is not None
            for bundle in webhooks.bundles(configuration, desired)
        ),
        served={f"{each.host} {each.port}": answer.fingerprint for each, answer in replicas},
        unseen=len(staying) < counted,
    )


def _may_arm(replicas: Replicas) -> bool:
    """Whether some replica answers reviews, and none serves a leaf that API servers would refuse."""
    staying = [answer for endpoint, answer in replicas if not endpoint.leaving]
    return any(answer.judged for answer in staying) and not any(answer.untrusted for answer in staying)


async def _write_secret(
    api: KubernetesApi, installation: Installation, live: dict[str, Any] | None, store: CertificateStore
) -> None:
    if live is not None:
        # Without a key pair to serve, keep what is there: the Secret's type may require the keys.
        ours = certificates.KEYS if store.current is not None else certificates.KEYS[2:]
        kept = {key: value for key, value in (live.get("data") or {}).items() if key not in ours}
        await api.replace(installation.secret_path, {**live, "data": {**kept, **store.data()}})
        return
    document = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": installation.secret,
            "namespace": installation.namespace,
            "labels": {"app.kubernetes.io/part-of": "gatekeeper-py"},
        },
        # Not kubernetes.io/tls, which requires tls.crt even before one may be served. Until it exists, the
        # kubelet keeps what running replicas have mounted, and new replicas wait.
        "type": "Opaque",
        "data": store.data(),
    }
    await api.create(installation.secret_path, document)


async def _owner(api: KubernetesApi, installation: Installation) -> Owner:
    owner = await api.get(installation.owner_path)
    if owner is None:
        raise LookupError(f"the owner {installation.owner_path} was deleted during the pass")
    return Owner(
        api_version="rbac.authorization.k8s.io/v1",
        kind="ClusterRole",
        name=installation.owner,
        uid=owner["metadata"]["uid"],
    )


async def _repair(
    api: KubernetesApi,
    installation: Installation,
    live: dict[str, dict[str, Any] | None],
    bundle: bytes,
    owner: Owner,
    wanted: Callable[[], Conditions] | None,
) -> tuple[tuple[str, ...], bool]:
    """Create or repair each configuration.

    Returns the names of those that were written, and ``Report.conditions_differ``. Conditions of the fast
    path are kept as found, because only the fast path knows which policy they were compiled from. Without a
    fast path nobody keeps them in step, so they are removed.
    """
    changed, conditions_differ = [], False
    for desired in installation.desired:
        current = live[desired.path]
        kept = (
            NO_CONDITIONS
            if current is None or wanted is None
            else webhooks.found_conditions(current, desired)
        )
        document = desired.document(bundle, owner, kept)
        conditions_differ = conditions_differ or (
            wanted is not None and not webhooks.carries(document, desired, wanted())
        )
        if current is None:
            await api.create(desired.path, document)
        elif webhooks.drifted(current, document):
            await api.replace(desired.path, webhooks.repaired(current, document))
        else:
            continue
        changed.append(desired.name)
    return tuple(changed), conditions_differ


def _why_not_armed(replicas: Replicas) -> str:
    if not replicas:
        return "there is no replica behind the Service yet"
    return "; ".join(
        f"{endpoint.host}: {answer.problem or ('leaving' if endpoint.leaving else 'judges')}"
        for endpoint, answer in replicas[:3]
    )
