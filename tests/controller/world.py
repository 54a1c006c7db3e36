"""A cluster in memory with an installation: objects with versions, and replicas with certificates."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from gatekeeper_py.cluster.errors import ApiError
from gatekeeper_py.controller.certificates import (
    CertificateSettings,
    CertificateStore,
    InvalidSecret,
    KeyPair,
    parse_secret,
)
from gatekeeper_py.controller.configurations import Wanted, Write
from gatekeeper_py.controller.installation import Installation
from gatekeeper_py.controller.plan import Observed, Report, stored_certificates
from gatekeeper_py.controller.reconcile import Passes
from gatekeeper_py.controller.replicas import ProbeResult, addresses
from gatekeeper_py.controller.webhooks.desired import Conditions, Desired, with_conditions
from gatekeeper_py.controller.webhooks.drift import bundles
from gatekeeper_py.controller.webhooks.settings import WebhookSettings
from gatekeeper_py.controller.webhooks.templates import mutating, validating
from gatekeeper_py.core.names import PAUSED_UNTIL
from gatekeeper_py.process.settings import ConfigMapName

START: Final = datetime(2026, 1, 1, tzinfo=UTC)


def desired(kind: str, name: str, *webhooks: str) -> Desired:
    return Desired(
        kind=f"{kind}WebhookConfiguration",
        name=name,
        labels={"part-of": "gk"},
        webhooks=tuple(
            {"name": webhook, "clientConfig": {"service": {"name": "gk", "namespace": "ns"}}}
            for webhook in webhooks
        ),
    )


INSTALLATION: Final = Installation(
    namespace="ns",
    service="gk",
    deployment="gk",
    secret="gk-tls",
    owner="gk-controller",
    policy=ConfigMapName("ns", "policy"),
)
TEMPLATES: Final = (
    validating(INSTALLATION.target, WebhookSettings()),
    mutating(INSTALLATION.target, WebhookSettings()),
)
CONFIGURATIONS: Final = tuple(each.path for each in TEMPLATES)
VALIDATING, MUTATING = CONFIGURATIONS
BOTH: Final = Wanted(mutates=True)
"""The desired state has both configurations, default settings and no fast path."""

WATCHED: Final = tuple(each.path for each in INSTALLATION.watched())
PARTS: Final = (
    INSTALLATION.namespace_path,
    INSTALLATION.owner_path,
    INSTALLATION.deployment_path,
    INSTALLATION.service_path,
)
CERTIFICATES: Final = CertificateSettings(
    names=("gk.ns.svc",), lifetime=timedelta(days=90), renew_before=timedelta(days=30)
)


class FakeCluster:
    """A ``KubernetesApi`` over a dictionary, with resource versions and conflicts.

    A request fails if ``fail`` returns true for it, or raises an error. ``texts`` holds what Pods answer, by
    path. ``posted`` holds the objects that were added to collections.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.texts: dict[str, str] = {}
        self.posted: list[tuple[str, dict[str, Any]]] = []
        self.requests: list[tuple[str, str]] = []
        self.fail: Callable[[str, str], bool] = lambda _verb, _path: False
        self._version = 0

    async def get(self, path: str) -> dict[str, Any] | None:
        self._record_request("get", path)
        return copy.deepcopy(self.objects.get(path))

    async def text(self, path: str) -> str:
        self._record_request("text", path)
        if path not in self.texts:
            raise ApiError("text", path, 503, "no endpoints")
        return self.texts[path]

    async def post(self, path: str, document: dict[str, Any]) -> None:
        self._record_request("post", path)
        self.posted.append((path, document))

    async def create(self, path: str, document: dict[str, Any]) -> None:
        self._record_request("create", path)
        if path in self.objects:
            raise ApiError("create", path, 409, "")
        self.put(path, document)

    async def replace(self, path: str, document: dict[str, Any]) -> None:
        self._record_request("replace", path)
        live = self.objects.get(path, {"metadata": {}})
        if live["metadata"].get("resourceVersion") != document["metadata"]["resourceVersion"]:
            raise ApiError("replace", path, 409, "")
        self.put(path, document)

    async def delete(self, path: str) -> None:
        self._record_request("delete", path)
        self.objects.pop(path, None)

    def put(self, path: str, document: dict[str, Any]) -> None:
        """Store a document under a new version."""
        self._version += 1
        metadata = {**document.get("metadata", {}), "resourceVersion": str(self._version)}
        metadata.setdefault("uid", f"uid-{self._version}")
        self.objects[path] = copy.deepcopy({**document, "metadata": metadata})

    def edit(self, path: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change an object as another client does."""
        document = copy.deepcopy(self.objects[path])
        change(document)
        self.put(path, document)

    def writes(self) -> list[tuple[str, str]]:
        return [(verb, path) for verb, path in self.requests if verb != "get"]

    def _record_request(self, verb: str, path: str) -> None:
        self.requests.append((verb, path))
        if self.fail(verb, path):
            raise ApiError(verb, path, 500, "")


@dataclass
class Replica:
    """One Pod of the server. ``mounted`` is the content of its volume at its last read."""

    host: str
    mounted: bytes | None = None
    addressed: bool = True
    reachable: bool = True
    judges: bool = True
    leaving: bool = False


class World:
    """The installation, its replicas and a clock. The Secret reaches a replica by ``pick_up``."""

    def __init__(self, replicas: int = 2) -> None:
        self.cluster = FakeCluster()
        self.now = START
        self.replicas: list[Replica] = []
        for path in PARTS:
            self.cluster.put(path, {"kind": "Part"})
        self.announce()
        for _ in range(replicas):
            self.add_replica()

    def add_replica(self, *, addressed: bool = True) -> Replica:
        replica = Replica(f"10.0.0.{len(self.replicas) + 1}", addressed=addressed)
        self.replicas.append(replica)
        self.pick_up(replica)
        return replica

    def pick_up_all(self) -> None:
        for replica in self.replicas:
            self.pick_up(replica)

    def pause(self, until: str | None) -> None:
        """Write the annotation of the namespace that pauses the webhook, or remove it."""
        annotations = {} if until is None else {PAUSED_UNTIL: until}
        self.cluster.edit(
            INSTALLATION.namespace_path, lambda live: live["metadata"].update(annotations=annotations)
        )

    def put_conditions(self, conditions: Conditions) -> None:
        """Write conditions as the fast path does."""
        for each in TEMPLATES:
            live = self.cluster.objects[each.path]
            self.cluster.put(each.path, with_conditions(live, each.names, conditions))

    def pick_up(self, replica: Replica) -> None:
        """Mount the Secret's pair in a replica, as the kubelet does; the replica loads it if it is usable."""
        data = self.secret.get("data") or {}
        try:
            store = parse_secret({**data, "next.crt": "", "ca.crt": data["ca.crt"]})
        except (InvalidSecret, KeyError):
            store = None
        if store is not None and store.current is not None:
            replica.mounted = store.current.certificate
        self.announce()

    def announce(self) -> None:
        """Write the EndpointSlices and the status of the replicas, as the cluster's controllers do."""
        endpoints = [
            {
                "addresses": [each.host],
                "targetRef": {"uid": each.host},
                "conditions": {"ready": each.judges, "terminating": each.leaving},
            }
            for each in self.replicas
            if each.addressed
        ]
        ports = [{"name": "webhook", "port": 8443}]
        slices = {"items": [{"ports": ports, "endpoints": endpoints}]}
        self.cluster.put(INSTALLATION.slices_path, slices)
        counted = sum(not each.leaving for each in self.replicas)
        self.cluster.put(INSTALLATION.deployment_path, {"status": {"replicas": counted}})

    async def probe(self, host: str, _port: int, bundle: bytes) -> ProbeResult:
        return self.probed(host, bundle)

    def probed(self, host: str, bundle: bytes) -> ProbeResult:
        replica = next(each for each in self.replicas if each.host == host)
        if not replica.reachable or replica.mounted is None:
            return ProbeResult(problem="refused")
        if not trusts(bundle, replica.mounted):
            return ProbeResult(untrusted=True, problem="unknown authority")
        pair = KeyPair(certificate=replica.mounted, key=b"")
        return ProbeResult(fingerprint=pair.fingerprint, answered=replica.judges)

    @property
    def secret(self) -> dict[str, Any]:
        return self.cluster.objects.get(INSTALLATION.secret_path, {})

    @property
    def store(self) -> CertificateStore:
        return parse_secret(self.secret["data"])

    def configured(self) -> dict[str, tuple[bytes, ...]]:
        """Return the CA bundles of our webhooks in each existing configuration."""
        return {
            each.path: bundles(self.cluster.objects[each.path], each)
            for each in TEMPLATES
            if each.path in self.cluster.objects
        }

    def observed(self) -> Observed:
        """Return what a pass observes at this moment."""
        objects = self.cluster.objects
        secret = objects.get(INSTALLATION.secret_path)
        store = stored_certificates(secret)
        found = addresses(objects.get(INSTALLATION.slices_path, {}), "webhook")
        return Observed(
            namespace=objects.get(INSTALLATION.namespace_path),
            owner=objects.get(INSTALLATION.owner_path),
            configurations={path: objects[path] for path in CONFIGURATIONS if path in objects},
            secret=secret,
            certificates=store,
            service=objects.get(INSTALLATION.service_path),
            deployment=objects.get(INSTALLATION.deployment_path),
            probed={each: self.probed(each.host, store.bundle) for each in found} if store else {},
        )

    def carry_out(self, write: Write) -> None:
        """Store what a plan writes. Its document has the version of the object that it replaces."""
        live = self.cluster.objects.pop(write.path, None)
        assert (live is None) is (write.verb == "create")
        if write.document is not None:
            version = None if live is None else live["metadata"]["resourceVersion"]
            assert write.document["metadata"].get("resourceVersion") == version
            self.cluster.put(write.path, write.document)

    def process(self, store: LateStore | None = None) -> Passes:
        """Return a new controller process without any state."""
        shown = None if store is None else store.get
        return Passes(self.cluster, INSTALLATION, CERTIFICATES, shown=shown, probe_replica=self.probe)

    async def reconcile(
        self, process: Passes | None = None, wanted: Wanted = BOTH, *, direct: bool = True
    ) -> Report:
        """Run one pass, in a new process unless one is given."""
        return await (process or self.process()).run(lambda: wanted, lambda: self.now, direct=direct)

    async def converge(
        self, process: Passes | None = None, rounds: int = 20, wanted: Wanted = BOTH
    ) -> Report:
        """Run passes, 20 s apart and with updated replicas, until a pass has nothing to do."""
        process = process or self.process()
        for _ in range(rounds):
            report = await self.reconcile(process, wanted)
            if report.steady and not report.changes.any:
                return report
            self.pick_up_all()
            self.now += timedelta(seconds=20)
        raise AssertionError(f"not converged: {report}")


class LateStore:
    """What the watches of a controller show: each object as it was some time ago."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.shown: dict[str, dict[str, Any] | None] = {}
        for path in WATCHED:
            self.catch_up(path)

    def catch_up(self, path: str) -> None:
        self.shown[path] = copy.deepcopy(self.world.cluster.objects.get(path))

    async def get(self, path: str) -> dict[str, Any] | None:
        return self.shown[path]


def trusts(bundle: bytes, certificate: bytes) -> bool:
    """Return whether a bundle holds the CA of a leaf."""
    leaf = x509.load_pem_x509_certificate(certificate)
    for authority in x509.load_pem_x509_certificates(bundle) if bundle.strip() else []:
        try:
            leaf.verify_directly_issued_by(authority)
        except (ValueError, InvalidSignature):
            continue
        return True
    return False


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()
