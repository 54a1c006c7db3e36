"""Plan a pass of the controller. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from gatekeeper_py.controller import certificates
from gatekeeper_py.controller.certificates import (
    CertificateSettings,
    CertificateStore,
    CertificateUse,
    InvalidSecret,
    Step,
)
from gatekeeper_py.controller.configurations import Changes, Memory, Wanted, Write, changes_to, complete
from gatekeeper_py.controller.installation import Installation
from gatekeeper_py.controller.pause import read_pause
from gatekeeper_py.controller.replicas import ProbeResult, ReplicaAddress
from gatekeeper_py.controller.webhooks import drift
from gatekeeper_py.core.names import PART_OF, PART_OF_LABEL

SOON_SECONDS: Final = 2.0
ROTATING_SECONDS: Final = 5.0
STEADY_SECONDS: Final = 60.0

Alarm = Literal[
    "service", "deployment", "endpoints", "secret", "settings", "pause", "selector", "policy", "exceptions"
]
"""What needs attention, as label values of a metric."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The webhook is not armed yet; ``why`` is the reason."""

    why: str = ""


@dataclass(frozen=True, slots=True)
class Armed:
    """The webhook configurations exist, and come back if somebody deletes them.

    ``settled``: no rotation of certificates is in progress.
    """

    settled: bool = False


@dataclass(frozen=True, slots=True)
class Paused:
    """There are no webhook configurations until an instant."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Removing:
    """There are no webhook configurations, because the Namespace or the owner is gone; ``why`` names it."""

    why: str


Stage = Waiting | Armed | Paused | Removing


class Observed(NamedTuple):
    """The objects of an installation, and the probe results of its replicas.

    An object is ``None`` if it does not exist or was not read.
    """

    namespace: dict[str, Any] | None
    owner: dict[str, Any] | None
    configurations: Mapping[str, dict[str, Any]]
    """The webhook configurations that exist, by path."""
    secret: dict[str, Any] | None
    certificates: CertificateStore | None
    """The content of the Secret, ``None`` if it is unusable: the next certificate step replaces it."""
    service: dict[str, Any] | None
    deployment: dict[str, Any] | None
    probed: Mapping[ReplicaAddress, ProbeResult]


def stored_certificates(secret: Mapping[str, Any] | None) -> CertificateStore | None:
    """Return the content of a Secret, ``None`` if it is missing or unusable."""
    try:
        return None if secret is None else certificates.parse_secret(secret.get("data") or {})
    except InvalidSecret:
        return None


class State(NamedTuple):
    """What one controller remembers between its passes, because it is not in the cluster.

    A controller that restarts knows none of it: it waits again, and the clocks of other machines do not
    matter.
    """

    stage: Stage = Waiting()
    bundles: tuple[bytes, ...] = ()
    """The CA bundles of the configurations when they were last seen."""
    trusted: tuple[bytes, ...] = ()
    trusted_since: datetime | None = None
    """Since when every configuration trusts these CAs, which are those in the Secret."""
    configurations: Memory = Memory()

    def leaving(self, path: str, after: State) -> State:
        """Return this state, with one configuration as the state ``after`` records it."""
        left = {**self.configurations.left, path: after.configurations.left[path]}
        return self._replace(configurations=self.configurations._replace(left=left))

    def with_trust_of(self, before: State) -> State:
        """Return this state, but without a trust that began since ``before``, because a watch may lag."""
        return (
            self
            if self.trusted_since is None
            else self._replace(trusted=before.trusted, trusted_since=before.trusted_since)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a pass found and did."""

    stage: Stage
    change: Step = ""
    changes: Changes = field(default_factory=Changes)
    alarms: dict[Alarm, str] = field(default_factory=dict)
    not_after: datetime | None = None
    replicas: int = 0
    next_seconds: float = STEADY_SECONDS
    """The time until the next pass if nothing changes."""

    @property
    def armed(self) -> bool:
        return isinstance(self.stage, Armed)

    @property
    def steady(self) -> bool:
        """Whether the webhook is armed and no rotation is in progress."""
        return self.stage == Armed(settled=True)


class Plan(NamedTuple):
    """The writes that are due, in their order, and what to report once they are done.

    ``seen`` is the state to remember in any case, ``state`` the one to remember once the writes are done.
    ``asks_replicas`` is whether the plan depends on which certificates the replicas serve.
    """

    writes: tuple[Write, ...]
    report: Report
    seen: State
    state: State
    asks_replicas: bool = False


def plan(
    observed: Observed,
    wanted: Wanted,
    state: State,
    now: datetime,
    installation: Installation,
    settings: CertificateSettings,
) -> Plan:
    """Return the plan of one pass."""
    stage = unarmed(installation, observed, now)
    if stage is None:
        return _Installed(observed, wanted, state, now, installation, settings).plan()
    state_after = _forgotten(state, stage)
    if isinstance(stage, Removing) or observed.configurations:
        report = Report(stage=stage, next_seconds=SOON_SECONDS)
        writes = (Write("delete", path, reason="removed") for path in observed.configurations)
        return Plan(tuple(writes), report, state, state_after)
    # Keep renewing certificates, so that the webhook can be armed at once after the pause.
    found = _Installed(observed, wanted, state_after, now, installation, settings).plan()
    left = min(max((stage.until - now).total_seconds(), 0.0), STEADY_SECONDS)
    return found._replace(report=replace(found.report, next_seconds=left))


def unarmed(installation: Installation, observed: Observed, now: datetime) -> Removing | Paused | None:
    """Return the stage if there must be no configurations, else ``None``.

    While configurations exist, removing them needs no other objects. A pause is for emergencies.
    """
    removed = removal(installation, observed.namespace, observed.owner)
    if removed:
        return Removing(removed)
    until = read_pause(observed.namespace or {}, now).until
    return None if until is None else Paused(until)


def removal(
    installation: Installation, namespace: dict[str, Any] | None, owner: dict[str, Any] | None
) -> str:
    """Return why an installation counts as being removed; empty if it does not.

    Only the Namespace and the owning ClusterRole count. If the Service or the Deployment is missing, the
    webhook stays armed, so that nothing unapproved is admitted.
    """
    for path, part in ((installation.namespace_path, namespace), (installation.owner_path, owner)):
        if part is None:
            return f"{path} does not exist"
        if part.get("metadata", {}).get("deletionTimestamp"):
            return f"{path} is being deleted"
    return ""


def _forgotten(state: State, stage: Stage) -> State:
    """Return the state after an intended removal: arm again only once a replica answers."""
    memory = state.configurations._replace(left={}, carried={})
    return state._replace(stage=stage, bundles=(), configurations=memory)


class _Installed:
    """The plan of an installation that is not being removed. During a pause, nothing is armed."""

    def __init__(
        self,
        observed: Observed,
        wanted: Wanted,
        state: State,
        now: datetime,
        installation: Installation,
        settings: CertificateSettings,
    ) -> None:
        self._observed = observed
        self._wanted = wanted
        self._now = now
        self._installation = installation
        self._pause = read_pause(observed.namespace or {}, now)
        self._store = observed.certificates
        bundles = self._bundles() if observed.configurations else state.bundles
        use = self._use(bundles)
        since = self._trusted_since(state, use)
        self._used = replace(use, trusted_since=since)
        self._seen = state._replace(
            bundles=bundles, trusted=self._store.cas if self._store and since else (), trusted_since=since
        )
        self._after, self._change = certificates.advance(self._store, self._used, settings, now)

    def plan(self) -> Plan:
        seen, after = self._seen, self._after
        bundle = certificates.bundle(after, self._used, self._now)
        widest = certificates.bundle(after, replace(self._used, unseen=True), self._now)
        writes = self._secret_writes() if self._change else ()
        changes, alarms = Changes(), self._alarms()
        stage, memory = self._stage(), seen.configurations
        if isinstance(stage, Armed):
            owner = self._installation.owner_of((self._observed.owner or {})["metadata"]["uid"])
            live, target = self._observed.configurations, self._installation.target
            found, changes, memory = changes_to(target, live, self._wanted, bundle, owner, memory, self._now)
            seen = seen._replace(configurations=seen.configurations._replace(found=memory.found))
            writes = (*writes, *found)
            alarms["selector"] = changes.selector_problem
            stage = Armed(settled=certificates.settled(after) and bundle == after.bundle)
        report = Report(
            stage=stage,
            change=self._change,
            changes=changes,
            alarms=alarms,
            not_after=after.not_after,
            replicas=len({each.replica for each in self._observed.probed if not each.leaving}),
            next_seconds=_next_seconds(stage, changes),
        )
        state = seen._replace(stage=stage, configurations=memory)
        return Plan(writes, report, seen, state, bool(self._change) or widest != after.bundle)

    def _stage(self) -> Stage:
        """Return the stage: paused, armed or waiting.

        Once armed, it stays armed: neither a failing replica nor a deleted configuration may open the
        cluster.
        """
        if self._pause.until is not None:
            return Paused(self._pause.until)
        armed = bool(self._observed.configurations) or isinstance(self._seen.stage, Armed)
        if armed or (not self._change and _may_arm(self._observed.probed)):
            return Armed()
        return Waiting(_why_not_armed(self._observed.probed))

    def _bundles(self) -> tuple[bytes, ...]:
        live = self._observed.configurations
        return tuple(
            bundle
            for template in complete(self._installation.target)
            if template.path in live
            for bundle in drift.bundles(live[template.path], template)
        )

    def _use(self, bundles: tuple[bytes, ...]) -> CertificateUse:
        # A Pod without an address is in no EndpointSlice yet, but may have mounted the Secret already.
        counted = ((self._observed.deployment or {}).get("status") or {}).get("replicas") or 0
        probed = self._observed.probed
        staying = {address.replica for address in probed if not address.leaving}
        return CertificateUse(
            # Configurations that somebody deleted are created again with the CAs that they trusted.
            trusted=bundles,
            served={f"{each.host} {each.port}": result.fingerprint for each, result in probed.items()},
            unseen=len(staying) < counted,
        )

    def _trusted_since(self, state: State, use: CertificateUse) -> datetime | None:
        if self._store is None or not certificates.trusted_by_all(self._store, use):
            return None
        return state.trusted_since if state.trusted == self._store.cas else self._now

    def _alarms(self) -> dict[Alarm, str]:
        observed, installation = self._observed, self._installation
        service = "" if observed.service else f"the Service {installation.service} is missing"
        deployment = "" if observed.deployment else f"the Deployment {installation.deployment} is missing"
        missing_secret = "is missing" if observed.secret is None else "holds no usable certificate"
        answered = any(result.answered for result in observed.probed.values())
        # Before the webhook is armed for the first time there is no Secret yet.
        lost_secret = self._store is None and observed.configurations
        return {
            "service": service,
            "deployment": deployment,
            "secret": f"the Secret {installation.secret} {missing_secret}" if lost_secret else "",
            "endpoints": "" if answered else _why_not_armed(observed.probed),
            "pause": self._pause.problem,
        }

    def _secret_writes(self) -> tuple[Write, ...]:
        path, store, live = self._installation.secret_path, self._after, self._observed.secret
        if live is not None:
            # Without a key pair to serve, keep tls.crt and tls.key: the Secret's type may require both.
            ours = certificates.KEYS if store.current is not None else certificates.KEYS[2:]
            kept = {key: value for key, value in (live.get("data") or {}).items() if key not in ours}
            return (Write("replace", path, {**live, "data": {**kept, **store.data()}}),)
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
        return (Write("create", path, document),)


def _next_seconds(stage: Stage, changes: Changes) -> float:
    if not isinstance(stage, Armed) or changes.registered != changes.active:
        return SOON_SECONDS
    return STEADY_SECONDS if stage.settled else ROTATING_SECONDS


def _may_arm(probed: Mapping[ReplicaAddress, ProbeResult]) -> bool:
    """Return whether some replica answers reviews, and none serves a leaf that API servers refuse."""
    staying = [result for address, result in probed.items() if not address.leaving]
    return any(result.answered for result in staying) and not any(result.untrusted for result in staying)


def _why_not_armed(probed: Mapping[ReplicaAddress, ProbeResult]) -> str:
    if not probed:
        return "there is no replica behind the Service"
    return "; ".join(
        f"{address.host}: {result.problem or ('shutting down' if address.leaving else 'answers')}"
        for address, result in list(probed.items())[:3]
    )
