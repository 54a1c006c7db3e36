"""Gatekeeper as a peer: its released source, our own minimal template, one process, webhook only.

Audit, mutation and external data are off, and the API server calls its webhook only for Pods, so it makes
the same decision as ours. Its address is in the Pod range, so the API server reaches it as it reaches us.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.churn import creating
from benchmarks.goprogram import cache, compiled, run_go
from tools.controlplane.exchange import ApiError, exchange
from tools.controlplane.plane import ControlPlane
from tools.polling import wait_until

MODULE = "github.com/open-policy-agent/gatekeeper/v3"
VERSION = "v3.23.1"
MANIFEST = "gatekeeper.yaml"
"""The project's own installation manifest, next to the binary. Its custom resource definitions are used."""

_NAMESPACE = "gatekeeper-system"
_ADDRESS = ("10.244.255.1", 8443)
_HEALTH = ("10.244.255.1", 9090)
_SECONDS = 60.0
_WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
_WEBHOOK = "gatekeeper"
_KIND = "ApprovedImages"

REGO = """\
package approvedimages

violation[{"msg": msg}] {
  image := images[_]
  not approved(image)
  msg := sprintf("image %v is from no approved registry", [image])
}

approved(image) {
  startswith(image, input.parameters.prefixes[_])
}

images[image] {
  image := input.review.object.spec.containers[_].image
}

images[image] {
  image := input.review.object.spec.initContainers[_].image
}

images[image] {
  image := input.review.object.spec.ephemeralContainers[_].image
}

images[image] {
  image := input.review.object.spec.volumes[_].image.reference
}
"""


def build() -> Path:
    """Return the path of the binary, with its manifest in the same folder.

    A binary that is not in the cache is built from sources of the Go module proxy. This takes minutes and
    needs the network, so run it outside the network namespace of the tests. Raises ``BuildError``.
    """
    found = run_go(creating.SOURCES, "mod", "download", "-json", f"{MODULE}@{VERSION}")
    folder = Path(json.loads(found)["Dir"])
    binary = compiled("gatekeeper", folder, released=VERSION)
    manifest = binary.parent / MANIFEST
    if not manifest.exists():
        shutil.copyfile(folder / "deploy" / "gatekeeper.yaml", manifest)
        manifest.chmod(0o644)
    return binary


def cached() -> Path | None:
    """Return the path of the binary that was built last, or ``None``."""
    found = sorted(cache().glob("gatekeeper-*/gatekeeper"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


@dataclass(frozen=True, slots=True)
class Gatekeeper:
    """A running Gatekeeper that has the template. It gets no requests outside of :meth:`registered`."""

    plane: ControlPlane
    namespaces: Sequence[str]
    process: str = "gatekeeper"

    @contextmanager
    def registered(self) -> Iterator[None]:
        """Register its webhook for Pods in all namespaces except ``namespaces`` and its own."""
        self.plane.api("POST", _WEBHOOKS, self._webhook())
        try:
            yield
        finally:
            self.plane.api("DELETE", f"{_WEBHOOKS}/{_WEBHOOK}")

    def _webhook(self) -> dict[str, Any]:
        host, port = _ADDRESS
        exempt = {
            "key": "kubernetes.io/metadata.name",
            "operator": "NotIn",
            "values": [*self.namespaces, _NAMESPACE],
        }
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": _WEBHOOK},
            "webhooks": [
                {
                    "name": "validation.gatekeeper.sh",
                    "admissionReviewVersions": ["v1"],
                    "clientConfig": {
                        "url": f"https://{host}:{port}/v1/admit",
                        "caBundle": self.plane.ca_bundle(),
                    },
                    "rules": [
                        {
                            "apiGroups": [""],
                            "apiVersions": ["v1"],
                            "operations": ["CREATE", "UPDATE"],
                            "resources": ["pods", "pods/ephemeralcontainers"],
                        }
                    ],
                    "namespaceSelector": {"matchExpressions": [exempt]},
                    "failurePolicy": "Fail",
                    "sideEffects": "None",
                    "timeoutSeconds": 5,
                }
            ],
        }


def start(
    plane: ControlPlane, binary: Path, prefixes: Sequence[str], namespaces: Sequence[str]
) -> Gatekeeper:
    """Install the definitions, start the process, apply the template, and wait until it is ready.

    Raises FileNotFoundError when the manifest is not next to the binary, and TimeoutError when Gatekeeper is
    not ready in time.
    """
    documents = yaml.safe_load_all((binary.parent / MANIFEST).read_text(encoding="utf-8"))
    objects = [
        each for each in documents if each and each["kind"] in {"Namespace", "CustomResourceDefinition"}
    ]
    _apply(plane, *objects)
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    certificates = plane.directory / "gatekeeper"
    certificates.mkdir()
    pair = plane.authority.server([_ADDRESS[0]], file="gatekeeper-webhook")
    shutil.copyfile(pair.certificate, certificates / "tls.crt")
    shutil.copyfile(pair.key, certificates / "tls.key")
    shutil.copyfile(plane.authority.certificate, certificates / "ca.crt")
    argv = [
        str(binary),
        f"--host={_ADDRESS[0]}",
        f"--port={_ADDRESS[1]}",
        f"--health-addr={_HEALTH[0]}:{_HEALTH[1]}",
        f"--cert-dir={certificates}",
        "--disable-cert-rotation",
        "--operation=webhook",
        "--operation=generate",  # makes the constraints' kinds; by default the audit process does
        "--debug-use-fake-pod",
        "--enable-external-data=false",
        "--disable-opa-builtin={http.send}",
        "--logtostderr",
    ]
    found = Gatekeeper(plane, namespaces)
    environment = {"POD_NAMESPACE": _NAMESPACE, "POD_NAME": "gatekeeper", "NAMESPACE": _NAMESPACE}
    plane.popen(argv, name=found.process, env=environment)
    _apply(plane, _template())
    constraint = _constraint(prefixes)
    try:
        wait_until(lambda: _applied(plane, constraint), seconds=_SECONDS, what="Gatekeeper's template read")
        wait_until(_ready, seconds=_SECONDS, what="Gatekeeper ready")
    except TimeoutError as error:
        tail = plane.log(found.process).read_text(encoding="utf-8", errors="replace")[-2000:]
        raise TimeoutError(f"{error}; its log ends with\n{tail}") from error
    return found


def _template() -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {"prefixes": {"type": "array", "items": {"type": "string"}}},
    }
    return {
        "apiVersion": "templates.gatekeeper.sh/v1",
        "kind": "ConstraintTemplate",
        "metadata": {"name": _KIND.lower()},
        "spec": {
            "crd": {
                "spec": {
                    "names": {"kind": _KIND},
                    "validation": {"openAPIV3Schema": parameters},
                }
            },
            "targets": [{"target": "admission.k8s.gatekeeper.sh", "rego": REGO}],
        },
    }


def _constraint(prefixes: Sequence[str]) -> dict[str, Any]:
    return {
        "apiVersion": "constraints.gatekeeper.sh/v1beta1",
        "kind": _KIND,
        "metadata": {"name": "approved-images"},
        "spec": {
            "match": {"kinds": [{"apiGroups": [""], "kinds": ["Pod"]}]},
            "parameters": {"prefixes": list(prefixes)},
        },
    }


def _apply(plane: ControlPlane, *documents: Any) -> None:
    items = {"apiVersion": "v1", "kind": "List", "items": documents}
    plane.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(items))


def _applied(plane: ControlPlane, document: Any) -> bool:
    """Apply a document and return whether the API server accepted it.

    A constraint's kind exists only once Gatekeeper has read the template.
    """
    text = json.dumps(document)
    return plane.kubectl("apply", "--server-side", "-f", "-", input=text, check=False).returncode == 0


def _ready() -> bool:
    try:
        exchange(_HEALTH, "GET", "/readyz")
    except (ApiError, OSError):
        return False
    return True
