"""One pass: look at the cluster, take the certificate step that is due, put the configurations right.

A pass can be interrupted anywhere and repeated by anybody: each write is idempotent, carries the
resource version it was decided on, and leaves a state from which the next pass goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Protocol

from gatekeeper_py.control import certificates, probe, webhooks
from gatekeeper_py.control.certificates import Change, InvalidSecret, Observed, Store, Terms
from gatekeeper_py.control.webhooks import ASK_ALWAYS, Conditions, Desired, Owner

FIELD_MANAGER: Final = "gatekeeper-py-controller"
SERVICE_PORT: Final = "webhook"

SOON_SECONDS: Final = 2.0
ROTATING_SECONDS: Final = 5.0
STEADY_SECONDS: Final = 60.0


class Cluster(Protocol):
    """What a pass needs of the API server.

    ``get`` answers ``None`` for what does not exist; ``create`` fails for what does, ``replace`` when
    the resource version is not the live one. Every method raises the client's own errors.
    """

    async def get(self, path: str) -> dict[str, Any] | None: ...

    async def create(self, path: str, document: dict[str, Any]) -> None: ...

    async def replace(self, path: str, document: dict[str, Any]) -> None: ...

    async def delete(self, path: str) -> None: ...


Ask = Callable[[str, int, bytes], Awaitable[probe.Answer]]
"""Host, port and the authorities to trust."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The names of what belongs together."""

    namespace: str
    service: str
    deployment: str
    secret: str
    owner: str
    desired: tuple[Desired, ...]

    @property
    def server_name(self) -> str:
        """The name under which an API server calls the Service."""
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
        """Without any of these, or when one is being deleted, the installation is on its way out."""
        return (
            f"/api/v1/namespaces/{self.namespace}",
            self.owner_path,
            self.deployment_path,
            f"/api/v1/namespaces/{self.namespace}/services/{self.service}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a pass found and did. ``next_seconds`` says when to look again without being told."""

    armed: bool
    removed: bool = False
    change: Change = ""
    repaired: tuple[str, ...] = ()
    not_after: datetime | None = None
    replicas: int = 0
    waiting: str = ""
    settled: bool = False
    astray: bool = False
    """A configuration carries something else than the fast path wants there."""

    @property
    def next_seconds(self) -> float:
        if not self.armed:
            return SOON_SECONDS
        return STEADY_SECONDS if self.settled else ROTATING_SECONDS

    @property
    def steady(self) -> bool:
        """Armed, and nothing under way."""
        return self.armed and self.settled


class Settling:
    """From when on this process saw every configuration trust the authorities of the Secret.

    In memory only: a controller that starts anew waits anew, and no other clock has a say.
    """

    def __init__(self) -> None:
        self._authorities: tuple[bytes, ...] = ()
        self._since: datetime | None = None

    def since(self, store: Store | None, observed: Observed, now: datetime) -> datetime | None:
        if store is None or not certificates.trusted_by_all(store, observed):
            self._since = None
        elif self._since is None or store.authorities != self._authorities:
            self._authorities, self._since = store.authorities, now
        return self._since


async def reconcile(
    cluster: Cluster,
    installation: Installation,
    terms: Terms,
    settling: Settling,
    *,
    now: datetime,
    ask: Ask | None = None,
    wanted: Callable[[], Conditions] | None = None,
) -> Report:
    """Do one pass. Raises the client's errors; then nothing further was done in this pass.

    ``wanted`` answers what the fast path wants at the moment it is asked; ``None`` without a fast path.
    """
    live = {desired.path: await cluster.get(desired.path) for desired in installation.desired}
    missing = await _missing_part(cluster, installation)
    if missing:
        await disarm(cluster, installation)
        return Report(armed=False, removed=True, waiting=f"{missing} is not there, or being deleted")
    secret = await cluster.get(installation.secret_path)
    store = _parse(secret)
    replicas = [] if store is None else await _asked(cluster, installation, store, ask)
    observed = await _observe(cluster, installation, live, replicas)
    observed = replace(observed, trusted_since=settling.since(store, observed, now))
    after, change = certificates.advance(store, observed, terms, now)
    if change:
        await _write_secret(cluster, installation, secret, after)
    existing = any(configuration is not None for configuration in live.values())
    # Armed once, always armed: what a replica does today must not open the cluster.
    armed = existing or (not change and _may_arm(replicas))
    bundle = certificates.bundle(after, observed, now)
    repaired: tuple[str, ...] = ()
    astray = False
    if armed:
        owner = await _owner(cluster, installation)
        repaired, astray = await _put_right(cluster, installation, live, bundle, owner, wanted)
    return Report(
        armed=armed,
        change=change,
        repaired=repaired,
        not_after=after.not_after,
        replicas=len({endpoint.replica for endpoint, _ in replicas if not endpoint.leaving}),
        waiting="" if armed else _why_not_armed(replicas),
        settled=certificates.settled(after) and bundle == after.bundle,
        astray=astray,
    )


async def disarm(cluster: Cluster, installation: Installation) -> None:
    """Delete the webhook configurations, so that nobody waits for a server that leaves."""
    for desired in installation.desired:
        await cluster.delete(desired.path)


async def removal_under_way(cluster: Cluster, installation: Installation) -> bool:
    """Whether a part of the installation is gone or going."""
    return bool(await _missing_part(cluster, installation))


async def _missing_part(cluster: Cluster, installation: Installation) -> str:
    for path in installation.parts:
        part = await cluster.get(path)
        if part is None or part.get("metadata", {}).get("deletionTimestamp"):
            return path
    return ""


def _parse(secret: dict[str, Any] | None) -> Store | None:
    if secret is None:
        return None
    try:
        return certificates.parse_secret(secret.get("data") or {})
    except InvalidSecret:
        return None  # replaced by the step that is due then, and reported as such


Replicas = list[tuple[probe.Endpoint, probe.Answer]]


async def _asked(cluster: Cluster, installation: Installation, store: Store, ask: Ask | None) -> Replicas:
    """Every replica behind the Service with what it answered."""

    async def ask_directly(host: str, port: int, bundle: bytes) -> probe.Answer:
        return await probe.ask(host, port, server_name=installation.server_name, bundle=bundle)

    slices = await cluster.get(installation.slices_path) or {}
    endpoints = list(dict.fromkeys(probe.endpoints(slices, SERVICE_PORT)))
    asked = ((ask or ask_directly)(each.host, each.port, store.bundle) for each in endpoints)
    answers = await asyncio.gather(*asked)
    return list(zip(endpoints, answers, strict=True))


async def _observe(
    cluster: Cluster,
    installation: Installation,
    live: dict[str, dict[str, Any] | None],
    replicas: Replicas,
) -> Observed:
    # A Pod that mounted the Secret and has no address yet is in no EndpointSlice, but counted here.
    deployment = await cluster.get(installation.deployment_path) or {}
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
    """Whether a replica that stays judged, and none serves a leaf that an API server would refuse."""
    staying = [answer for endpoint, answer in replicas if not endpoint.leaving]
    return any(answer.judged for answer in staying) and not any(answer.untrusted for answer in staying)


async def _write_secret(
    cluster: Cluster, installation: Installation, live: dict[str, Any] | None, store: Store
) -> None:
    if live is not None:
        # Without a pair to serve, what stands there stays: its type may demand that it is there.
        ours = certificates.KEYS if store.current is not None else certificates.KEYS[2:]
        kept = {key: value for key, value in (live.get("data") or {}).items() if key not in ours}
        await cluster.replace(installation.secret_path, {**live, "data": {**kept, **store.data()}})
        return
    document = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": installation.secret,
            "namespace": installation.namespace,
            "labels": {"app.kubernetes.io/part-of": "gatekeeper-py"},
        },
        # Not kubernetes.io/tls, which demands a tls.crt also while none may be served yet. Until it is
        # there, the kubelet leaves what running replicas have mounted, and lets new ones wait.
        "type": "Opaque",
        "data": store.data(),
    }
    await cluster.create(installation.secret_path, document)


async def _owner(cluster: Cluster, installation: Installation) -> Owner:
    owner = await cluster.get(installation.owner_path)
    if owner is None:
        raise LookupError(f"the owner {installation.owner_path} went away during the pass")
    return Owner(
        api_version="rbac.authorization.k8s.io/v1",
        kind="ClusterRole",
        name=installation.owner,
        uid=owner["metadata"]["uid"],
    )


async def _put_right(
    cluster: Cluster,
    installation: Installation,
    live: dict[str, dict[str, Any] | None],
    bundle: bytes,
    owner: Owner,
    wanted: Callable[[], Conditions] | None,
) -> tuple[tuple[str, ...], bool]:
    """Make or repair each configuration.

    Answers the names of those that were not as they should be, and ``Report.astray``. The fast path's
    part is left as it is found, to be written by the fast path alone: a pass does not know how old the
    policy is that it was made of. Without a fast path nobody keeps it in step, and it is taken out.
    """
    changed, astray = [], False
    for desired in installation.desired:
        current = live[desired.path]
        kept = ASK_ALWAYS if current is None or wanted is None else webhooks.found(current, desired)
        document = desired.document(bundle, owner, kept)
        astray = astray or (wanted is not None and not webhooks.carries(document, desired, wanted()))
        if current is None:
            await cluster.create(desired.path, document)
        elif webhooks.drifted(current, document):
            await cluster.replace(desired.path, webhooks.repaired(current, document))
        else:
            continue
        changed.append(desired.name)
    return tuple(changed), astray


def _why_not_armed(replicas: Replicas) -> str:
    if not replicas:
        return "no replica stands behind the Service yet"
    return "; ".join(
        f"{endpoint.host}: {answer.problem or ('leaving' if endpoint.leaving else 'judges')}"
        for endpoint, answer in replicas[:3]
    )
