"""Gatekeeper and Kyverno as peers: one process each, built from a release, with policies of that release.

Neither policy library is a Go module, so the policies are those in the releases: ``K8sAllowedRepos``
for Gatekeeper, ``restrict-image-registries`` (ClusterPolicy) and ``advanced-restrict-image-registries``
(ValidatingPolicy) for Kyverno. Only their parameters are set. Where the library's copy checks more than that
of the release, this module adds the check. ``README.md`` lists every setting.

The webhooks are those that the product registers itself, reduced to Pods. Their addresses are in the Pod
range, so the API server reaches them as it reaches our replicas.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from subprocess import Popen
from typing import Any, Final

import yaml

from tools.controlplane.exchange import ApiError, exchange, listening
from tools.controlplane.plane import ControlPlane
from tools.gobuild import Product, Programs, run_go
from tools.polling import wait_until

WEBHOOKS: Final = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
PREFIXES: Final = ("registry.corp.example/", "docker.io/library/")
"""What ``policy.yaml`` approves. Without the slash, an image of ``registry.corp.example.evil`` would pass."""

_HERE: Final = Path(__file__).resolve().parent
_SECONDS: Final = 180.0
_GATEKEEPER: Final = ("10.244.255.1", 8443)
_HEALTH: Final = ("10.244.255.1", 9090)
_KYVERNO: Final = ("10.244.255.2", 443)
_PODS: Final = [
    {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["pods", "pods/ephemeralcontainers"],
    }
]

Start = Callable[[ControlPlane, Path, Path], "Peer"]
"""Starts a peer on a control plane, from its program and its sources."""


@dataclass(frozen=True, slots=True)
class Release:
    """A released Go module, and the package of its webhook."""

    name: str
    module: str
    version: str
    package: str
    start: Start

    def programs(self) -> tuple[Programs, Path]:
        """Return what to build, and the folder of the sources from the Go module proxy. Raises BuildError."""
        found = run_go(_HERE / "creator", "mod", "download", "-json", f"{self.module}@{self.version}")
        folder = Path(json.loads(found)["Dir"])
        product = Product(
            folder=folder,
            packages={self.name: self.package},
            variables=lambda _: {f"{self.module}/pkg/version.Version": self.version},
        )
        target = "make compare ARGS=--build"
        return Programs(name="go", products=(product,), title=self.name, target=target), folder

    def build(self) -> None:
        """Build the program, which takes minutes and needs the network. Raises BuildError."""
        self.programs()[0].build()

    def started(self, plane: ControlPlane) -> Peer:
        """Start the built program. Raises BuildError, and TimeoutError when it is not ready in time."""
        programs, folder = self.programs()
        return self.start(plane, programs.cached() / self.name, folder)


@dataclass(slots=True)
class Peer:
    """A running peer. It gets reviews only while one of ``webhooks`` is registered; their keys are cases."""

    plane: ControlPlane
    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    ready: Callable[[], bool]
    webhooks: Mapping[str, dict[str, Any]]
    process: Popen[bytes] | None = None

    def run(self) -> None:
        """Start the process, and wait until it is ready. Raises TimeoutError with the end of its log."""
        self.process = self.plane.popen(self.argv, name=self.name, env=self.environment)
        self.wait(self.ready, "ready")

    def end(self) -> None:
        self.plane.kill(self.name)

    def wait(self, check: Callable[[], Any], what: str) -> Any:
        try:
            return wait_until(check, seconds=_SECONDS, what=f"{self.name} {what}")
        except TimeoutError as error:
            tail = self.plane.log(self.name).read_text(encoding="utf-8", errors="replace")[-2000:]
            raise TimeoutError(f"{error}; its log ends with\n{tail}") from error

    def apply(self, *documents: Any) -> bool:
        """Apply documents, and return whether the API server accepted them."""
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
        command = ("apply", "--server-side", "--force-conflicts", "-f", "-")
        return self.plane.kubectl(*command, input=items, check=False, seconds=_SECONDS).returncode == 0

    def install(self, manifest: Path, *kinds: str) -> list[dict[str, Any]]:
        """Apply the objects of these kinds of a manifest; return all its objects."""
        found = [each for each in yaml.safe_load_all(manifest.read_text(encoding="utf-8")) if each]
        self.wait(lambda: self.apply(*(each for each in found if each["kind"] in kinds)), "installed")
        self.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        return found


def _webhook(shipped: Mapping[str, Any], client: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with one webhook as shipped, but for Pods only and at another address."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "peer"},
        "webhooks": [{**shipped, "clientConfig": dict(client), "rules": _PODS}],
    }


def _gatekeeper(plane: ControlPlane, program: Path, folder: Path) -> Peer:
    namespace = "gatekeeper-system"
    certificates = plane.directory / "gatekeeper"
    certificates.mkdir()
    pair = plane.authority.server([_GATEKEEPER[0]], file="gatekeeper-webhook")
    shutil.copyfile(pair.certificate, certificates / "tls.crt")
    shutil.copyfile(pair.key, certificates / "tls.key")
    shutil.copyfile(plane.authority.certificate, certificates / "ca.crt")
    argv = [
        str(program),
        f"--host={_GATEKEEPER[0]}",
        f"--port={_GATEKEEPER[1]}",
        f"--health-addr={_HEALTH[0]}:{_HEALTH[1]}",
        f"--cert-dir={certificates}",
        "--disable-cert-rotation",
        f"--exempt-namespace={namespace}",
        "--operation=webhook",
        "--operation=generate",  # creates the kinds of constraints; by default, the audit process does
        "--debug-use-fake-pod",
        "--enable-external-data=false",
        "--disable-opa-builtin={http.send}",
        "--logtostderr",
    ]
    environment = {"POD_NAMESPACE": namespace, "POD_NAME": "gatekeeper", "NAMESPACE": namespace}
    webhooks: dict[str, dict[str, Any]] = {}
    peer = Peer(plane, "gatekeeper", argv, environment, _gatekeeper_ready, webhooks)
    manifest = folder / "deploy" / "gatekeeper.yaml"
    shipped = peer.install(manifest, "Namespace", "CustomResourceDefinition")
    peer.process = plane.popen(argv, name=peer.name, env=environment)
    template, constraint = gatekeeper_policy(folder)
    peer.wait(lambda: peer.apply(template), "has the template")
    # A constraint's kind exists only once Gatekeeper has read the template.
    peer.wait(lambda: peer.apply(constraint), "has the constraint")
    peer.wait(peer.ready, "ready")
    client = {"url": "https://{}:{}/v1/admit".format(*_GATEKEEPER), "caBundle": plane.ca_bundle()}
    hooks = [hook for each in shipped for hook in each.get("webhooks", ())]
    webhooks["gatekeeper"] = _webhook(_named(hooks, "validation.gatekeeper.sh"), client)
    return peer


def gatekeeper_policy(folder: Path) -> list[dict[str, Any]]:
    """Return the template and a constraint with the prefixes.

    The Rego of the release checks containers and initContainers; that of the library (version 1.0.2) checks
    ephemeralContainers as well. The rule for them is that for initContainers with the other name.
    """
    template, constraint = (
        yaml.safe_load((folder / "test/gator/bench/both" / file).read_text(encoding="utf-8"))
        for file in ("template.yaml", "constraint.yaml")
    )
    (target,) = template["spec"]["targets"]
    del target["code"]  # the library has only the Rego
    rule = target["rego"][target["rego"].rindex("violation[") :]
    target["rego"] += rule.replace("initContainer", "ephemeralContainer")
    constraint["spec"]["parameters"]["repos"] = list(PREFIXES)
    return [template, constraint]


def _gatekeeper_ready() -> bool:
    try:
        exchange(_HEALTH, "GET", "/readyz")
    except (ApiError, OSError):
        return False
    return True


def _kyverno(plane: ControlPlane, program: Path, folder: Path) -> Peer:
    argv = [
        str(program),
        f"--kubeconfig={plane.kubeconfig}",
        f"--serverIP={_KYVERNO[0]}",
        f"--webhookServerHost={_KYVERNO[0]}",
        f"--webhookServerPort={_KYVERNO[1]}",
        "--caSecretName=kyverno-ca",
        "--tlsSecretName=kyverno-pair",
        "--tlsKeyAlgorithm=ECDSA",
        "--admissionReports=false",
        "--enableReporting=",
        "--omitEvents=PolicyApplied,PolicySkipped,PolicyViolation,PolicyError",
        "--controllerRuntimeMetricsAddress=0",
        "--disableMetrics=true",
    ]
    environment = {
        "KYVERNO_NAMESPACE": "kyverno",
        "KYVERNO_POD_NAME": "kyverno",
        "KYVERNO_SERVICEACCOUNT_NAME": "kyverno-admission-controller",
        "KYVERNO_DEPLOYMENT": "kyverno-admission-controller",
        "INIT_CONFIG": "kyverno",
        "METRICS_CONFIG": "kyverno-metrics",
    }
    webhooks: dict[str, dict[str, Any]] = {}
    peer = Peer(plane, "kyverno", argv, environment, lambda: listening(_KYVERNO), webhooks)
    manifest = folder / "config" / "install-latest-testing.yaml"
    peer.install(manifest, "Namespace", "CustomResourceDefinition", "ConfigMap")
    peer.run()
    peer.wait(lambda: peer.apply(*kyverno_policies(folder)), "has the policies")
    registered = f"{WEBHOOKS}/kyverno-resource-validating-webhook-cfg"
    found = peer.wait(
        lambda: len(each := (plane.find(registered) or {}).get("webhooks", [])) == 2 and each, "registered"
    )
    for webhook in found:
        case = "validatingpolicy" if "/vpol" in webhook["clientConfig"]["url"] else "clusterpolicy"
        webhooks[f"kyverno-{case}"] = _webhook(webhook, webhook["clientConfig"])
    # It registers its webhooks before it stores the certificate with which it answers them.
    secret = "/api/v1/namespaces/kyverno/secrets/kyverno-pair"
    peer.wait(lambda: plane.find(secret), "has its certificate")
    # Only the leader writes webhook configurations, and it restores deleted ones. The lease makes another
    # holder the leader, so that Kyverno only answers reviews, as its second and third replicas do.
    peer.end()
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    lease = {"holderIdentity": "benchmark", "leaseDurationSeconds": 86400, "renewTime": now}
    plane.api("PATCH", "/apis/coordination.k8s.io/v1/namespaces/kyverno/leases/kyverno", {"spec": lease})
    kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations"
    plane.kubectl("delete", kinds, "-l", "webhook.kyverno.io/managed-by=kyverno")
    peer.run()
    return peer


def kyverno_policies(folder: Path) -> list[dict[str, Any]]:
    """Return the ClusterPolicy and the ValidatingPolicy with the prefixes. Both refuse Pods.

    The list of registries is part of the ValidatingPolicy, as in the library's simple form, because a look-up
    in a ConfigMap would cost a request for each review. The subresource comes from that form, too.
    """
    tests = folder / "test"
    file = tests / "conformance/chainsaw/validate/clusterpolicy/cornercases/ephemeral-containers/policy.yaml"
    allowed = " | ".join(f"{prefix}*" for prefix in PREFIXES)
    cluster = yaml.safe_load(file.read_text(encoding="utf-8").replace("eu.foo.io/* | bar.io/*", allowed))
    file = tests / "cli/test-validating-policy/restrict-image-registries/policy.yaml"
    validating = yaml.safe_load(file.read_text(encoding="utf-8"))
    spec = validating["spec"]
    spec["validationActions"] = ["Deny"]
    spec["matchConstraints"]["resourceRules"][0]["resources"].append("pods/ephemeralcontainers")
    spec["variables"] = [each for each in spec["variables"] if each["name"] != "cm"]
    _named(spec["variables"], "cmRegistries")["expression"] = json.dumps(PREFIXES)
    return [cluster, validating]


def _named(found: Iterable[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the object with this name."""
    (one,) = (each for each in found if each["name"] == name)
    return one


GATEKEEPER: Final = Release(
    "gatekeeper", "github.com/open-policy-agent/gatekeeper/v3", "v3.23.1", ".", _gatekeeper
)
KYVERNO: Final = Release("kyverno", "github.com/kyverno/kyverno", "v1.19.1", "./cmd/kyverno", _kyverno)
