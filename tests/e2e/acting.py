"""What several end-to-end tests do with an installation: create objects, edit it, and read its state."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from subprocess import CompletedProcess
from typing import Any, Final

from gatekeeper_py.core.admission.fields import POD
from gatekeeper_py.core.admission.workload import slots
from tools.controlplane.components import API_ADDRESS
from tools.controlplane.plane import ControlPlane
from tools.installation.product import (
    K8S,
    MUTATING,
    NAMESPACE,
    OVERLAYS,
    SETTLE_SECONDS,
    UNLISTED,
    VALIDATING,
    Installed,
    pod,
)
from tools.polling import wait_until

Document = dict[str, Any]

SETTINGS: Final = f"/api/v1/namespaces/{NAMESPACE}/configmaps/gatekeeper-py-webhooks"
SERVICE: Final = f"/api/v1/namespaces/{NAMESPACE}/services/gatekeeper-py"
CONTROLLER: Final = "gatekeeper-py-controller"
PAUSED_UNTIL: Final = "gatekeeper-py/paused-until"
COMPONENTS: Final = K8S / "components"
CLIENTS: Final = 8


def apply(plane: ControlPlane, namespace: str, document: Document, *arguments: str) -> CompletedProcess[str]:
    """Apply an object as a user does; it may be refused."""
    return plane.kubectl(
        "apply", "-n", namespace, "-f", "-", *arguments, input=json.dumps(document), check=False
    )


def identity(product: Installed, name: str) -> Path:
    """Return a kubeconfig for a service account of the installation."""
    if name == CONTROLLER:
        return product.controller_identity()
    return product.plane.kubeconfig_for_service_account(NAMESPACE, name)


def use_images(plane: ControlPlane, namespace: str, host: str, number: int) -> None:
    """Create Pods with images of a host, each until it is admitted: the only replica may be unavailable."""
    for each in range(number):
        document = pod(f"{host.partition('.')[0]}-{each}", f"{host}/app{each}:1")
        wait_until(
            lambda document=document: apply(plane, namespace, document).returncode == 0,  # type: ignore[misc]
            seconds=SETTLE_SECONDS,
            what=f"a Pod with {host}/app{each}:1",
        )


def try_pod(plane: ControlPlane, namespace: str, image: str = UNLISTED) -> CompletedProcess[str]:
    """Create a Pod in dry run, and print it as JSON if it is admitted."""
    return plane.kubectl(
        *("create", "-n", namespace, "--dry-run=server", "-o", "json", "-f", "-"),
        input=json.dumps(pod("tried", image)),
        check=False,
    )


def refused(product: Installed, namespace: str, image: str = UNLISTED) -> bool:
    """Return whether a new Pod with this image is refused, for any reason."""
    return try_pod(product.plane, namespace, image).returncode != 0


def control(product: Installed, name: str, **labels: str) -> float:
    """Return a metric of the controller, 0 while it starts."""
    for controller in product.controllers():
        try:
            return product.metric(controller.address, f"gatekeeper_py_control_{name}", **labels)
        except OSError:
            continue
    return 0.0


def alarm(product: Installed, what: str) -> float:
    return control(product, "alarm", what=what)


def scale(product: Installed, deployment: str, replicas: int) -> None:
    """Scale the controller or the server; with 0, wait until every process of it was told to end."""
    product.plane.kubectl(
        "scale", "-n", product.namespace, f"deployment/{deployment}", f"--replicas={replicas}"
    )
    if replicas == 0:
        running = product.controllers if deployment == CONTROLLER else product.servers
        wait_until(lambda: not running(), seconds=SETTLE_SECONDS, what=f"no {deployment}")


def edit(product: Installed, change: Callable[[Document], object]) -> None:
    """Edit the validating webhook configuration as an administrator could."""
    live = product.plane.api("GET", VALIDATING)
    change(live)
    product.plane.api("PUT", VALIDATING, live)


def recreate(plane: ControlPlane, path: str, document: Document) -> None:
    """Create a deleted object again, with the metadata that its owner wrote."""
    kept = {key: document["metadata"].get(key) for key in ("name", "labels", "annotations")}
    body = {key: value for key, value in document.items() if key != "status"} | {"metadata": kept}
    if document["kind"] == "Service":
        body["spec"] = {key: document["spec"][key] for key in ("selector", "ports")}
    plane.api("POST", path.rpartition("/")[0], body)


def pause(product: Installed, until: timedelta) -> datetime:
    """Pause the webhook as docs/operate.md describes; return the end of the pause."""
    end = datetime.now(UTC).replace(microsecond=0) + until
    annotate(product, f"{PAUSED_UNTIL}={end:%Y-%m-%dT%H:%M:%SZ}")
    return end


def annotate(product: Installed, annotation: str) -> None:
    """Write an annotation of the installation's namespace. One that ends with ``-`` is removed."""
    product.plane.kubectl("annotate", "namespace", NAMESPACE, annotation, "--overwrite")


def wait_another_pass(product: Installed) -> None:
    """Wait until the controller completed a pass that began after this call."""
    passes = 'reconciles_total{result="completed"}'
    started = control(product, passes)
    # Each change of the namespace starts a pass. One may be in progress already.
    for done in (1, 2):
        annotate(product, f"example.com/pass={time.monotonic()}")
        wait_until(
            lambda least=started + done: control(product, passes) >= least,  # type: ignore[misc]
            seconds=60,
            what="another pass",
        )


@contextmanager
def without_guard(product: Installed) -> Iterator[None]:
    """Switch the check of policies off, as an administrator could."""
    before = product.plane.api("GET", SETTINGS)["data"]
    product.plane.api("PATCH", SETTINGS, {"data": {"webhooks.yaml": "policyGuard: {enabled: false}"}})
    wait_until(
        lambda: len(product.plane.api("GET", VALIDATING)["webhooks"]) == 2, seconds=30, what="no policy guard"
    )
    yield
    product.plane.api("PATCH", SETTINGS, {"data": before})


def kustomization(folder: Path, overlay: str, *components: str, **fields: Any) -> Path:
    """Write a kustomization over an overlay as an administrator would; ``fields`` are more of it."""
    folder = folder.resolve()
    document: Document = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"} | fields
    document |= {
        "resources": [os.path.relpath(OVERLAYS / overlay, folder)],
        "components": [os.path.relpath(K8S / "components" / each, folder) for each in components],
        "generatorOptions": {"disableNameSuffixHash": True},
    }
    (folder / "kustomization.yaml").write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML
    return folder


class Reply:
    """The API server's answer to one document."""

    def __init__(self, sent: Document, audit: str, response: http.client.HTTPResponse) -> None:
        self.sent = sent
        self.audit = audit
        self.status = response.status
        self.body: Document = json.loads(response.read())
        self.warnings = "\n".join(response.headers.get_all("Warning") or ())


def send(
    connection: http.client.HTTPSConnection, method: str, path: str, document: Document, *, kind: str = "json"
) -> Reply:
    """Send one document under an audit ID of its own; return the answer."""
    audit = os.urandom(16).hex()
    headers = {"Content-Type": f"application/{kind}", "Audit-ID": audit}
    connection.request(method, path, json.dumps(document), headers)
    return Reply(document, audit, connection.getresponse())


def connected(plane: ControlPlane) -> http.client.HTTPSConnection:
    return http.client.HTTPSConnection(*API_ADDRESS, context=plane.tls, timeout=60)


def send_all(
    plane: ControlPlane,
    method: str,
    path: str,
    documents: Iterable[Document],
    *,
    kind: str = "json",
    clients: int = CLIENTS,
) -> list[Reply]:
    """Send each document in dry run, on several connections; return the answers in the same order."""
    connections: SimpleQueue[http.client.HTTPSConnection] = SimpleQueue()
    for _ in range(clients):
        connections.put(connected(plane))

    def send_one(document: Document) -> Reply:
        connection = connections.get()
        try:
            return send(connection, method, f"{path}?dryRun=All", document, kind=kind)
        finally:
            connections.put(connection)  # without it, the other threads would wait for ever

    with ThreadPoolExecutor(clients) as pool:
        replies = list(pool.map(send_one, documents))
    for _ in range(clients):
        connections.get().close()
    return replies


def decoded(value: Any) -> Any:
    """Return an object as an API server decodes it, which drops nulls."""
    if isinstance(value, dict):
        return {key: decoded(each) for key, each in value.items() if each is not None}
    return [decoded(each) for each in value] if isinstance(value, list) else value


def images_of(document: Document) -> list[Any]:
    """Return the images of a Pod."""
    return [slot.value for slot in slots(POD, document, {})]


def no_webhooks(plane: ControlPlane) -> bool:
    return plane.find(VALIDATING) is None and plane.find(MUTATING) is None


@contextmanager
def components(plane: ControlPlane, folder: Path, *names: str) -> Iterator[None]:
    """Apply components of ``k8s/components`` with a kustomization in ``folder``; delete them at the end."""
    relative = os.path.relpath(COMPONENTS, folder.resolve())
    listed = ", ".join(f"{relative}/{name}" for name in names)
    (folder / "kustomization.yaml").write_text(
        f"apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\ncomponents: [{listed}]\n"
    )
    plane.kubectl("apply", "-k", str(folder))
    try:
        yield
    finally:
        plane.kubectl("delete", "-k", str(folder))


def events_about_images(plane: ControlPlane, namespace: str) -> list[dict[str, Any]]:
    """Return the Events that the audit recorded about objects whose Pods cause warnings."""
    items = plane.api("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
    return [each for each in items if each["reason"] == "ImageNotApproved"]
