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
from typing import Any, Final

import yaml

from tools.controlplane.exchange import ApiError, exchange
from tools.controlplane.plane import ControlPlane
from tools.gobuild import BuildError, Product, Programs, run_go
from tools.polling import wait_until

MODULE: Final = "github.com/open-policy-agent/gatekeeper/v3"
VERSION: Final = "v3.23.1"

_HERE: Final = Path(__file__).resolve().parent
_NAMESPACE: Final = "gatekeeper-system"
_ADDRESS: Final = ("10.244.255.1", 8443)
_HEALTH: Final = ("10.244.255.1", 9090)
_SECONDS: Final = 60.0
_WEBHOOKS: Final = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
WEBHOOK: Final = f"{_WEBHOOKS}/gatekeeper"


@dataclass(frozen=True, slots=True)
class Release:
    """The released binary, and the project's own installation manifest."""

    binary: Path
    manifest: Path


def build(*, cached: bool = False) -> Release:
    """Return the release. If its binary is not in the cache, build it from the Go module proxy.

    This takes minutes and needs the network, so run it outside the network namespace of the tests. With
    ``cached``, builds nothing. Raises ``BuildError``.
    """
    found = run_go(_HERE / "creator", "mod", "download", "-json", f"{MODULE}@{VERSION}")
    folder = Path(json.loads(found)["Dir"])
    product = Product(
        folder=folder,
        packages={"gatekeeper": "."},
        variables=lambda _: {f"{MODULE}/pkg/version.Version": VERSION},
    )
    programs = Programs(
        name="go", products=(product,), title="Gatekeeper", target="make bench ARGS='cluster gatekeeper'"
    )
    binaries = programs.cached() if cached else programs.build()
    return Release(binaries / "gatekeeper", folder / "deploy" / "gatekeeper.yaml")


def cached() -> Release | None:
    """Return the release if it was built before."""
    try:
        return build(cached=True)
    except BuildError:
        return None


@dataclass(frozen=True, slots=True)
class Gatekeeper:
    """A running Gatekeeper that has the template. It gets no requests outside of :meth:`registered`."""

    plane: ControlPlane
    webhook: dict[str, Any]
    process: str = "gatekeeper"

    @contextmanager
    def registered(self) -> Iterator[None]:
        """Register the webhook of Gatekeeper for Pods."""
        self.plane.api("POST", _WEBHOOKS, self.webhook)
        try:
            yield
        finally:
            self.plane.api("DELETE", WEBHOOK)


def start(
    plane: ControlPlane, release: Release, prefixes: Sequence[str], namespaces: Sequence[str]
) -> Gatekeeper:
    """Install the definitions, start the process, apply the template, and wait until it is ready.

    ``prefixes`` are approved, and ``namespaces`` are exempt. Raises TimeoutError when Gatekeeper is not ready
    in time.
    """
    installed = yaml.safe_load_all(release.manifest.read_text(encoding="utf-8"))
    _apply(
        plane,
        *(each for each in installed if each and each["kind"] in {"Namespace", "CustomResourceDefinition"}),
    )
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    template, constraint, webhook = documents(plane.ca_bundle(), prefixes, namespaces)
    certificates = plane.directory / "gatekeeper"
    certificates.mkdir()
    pair = plane.authority.server([_ADDRESS[0]], file="gatekeeper-webhook")
    shutil.copyfile(pair.certificate, certificates / "tls.crt")
    shutil.copyfile(pair.key, certificates / "tls.key")
    shutil.copyfile(plane.authority.certificate, certificates / "ca.crt")
    argv = [
        str(release.binary),
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
    found = Gatekeeper(plane, webhook)
    environment = {"POD_NAMESPACE": _NAMESPACE, "POD_NAME": "gatekeeper", "NAMESPACE": _NAMESPACE}
    plane.popen(argv, name=found.process, env=environment)
    _apply(plane, template)
    try:
        # A constraint's kind exists only once Gatekeeper has read the template.
        wait_until(
            lambda: _apply(plane, constraint, check=False),
            seconds=_SECONDS,
            what="Gatekeeper's template read",
        )
        wait_until(_ready, seconds=_SECONDS, what="Gatekeeper ready")
    except TimeoutError as error:
        tail = plane.log(found.process).read_text(encoding="utf-8", errors="replace")[-2000:]
        raise TimeoutError(f"{error}; its log ends with\n{tail}") from error
    return found


def documents(bundle: str, prefixes: Sequence[str], namespaces: Sequence[str]) -> list[dict[str, Any]]:
    """Return the template, the constraint, and the webhook's configuration."""
    found = list(yaml.safe_load_all((_HERE / "gatekeeper.yaml").read_text(encoding="utf-8")))
    _, constraint, configuration = found
    constraint["spec"]["parameters"]["prefixes"] = list(prefixes)
    (webhook,) = configuration["webhooks"]
    host, port = _ADDRESS
    webhook["clientConfig"] = {"url": f"https://{host}:{port}/v1/admit", "caBundle": bundle}
    webhook["namespaceSelector"]["matchExpressions"][0]["values"] += namespaces
    return found


def _apply(plane: ControlPlane, *documents: Any, check: bool = True) -> bool:
    """Apply documents, and return whether the API server accepted them."""
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    done = plane.kubectl("apply", "--server-side", "-f", "-", input=items, check=check)
    return done.returncode == 0


def _ready() -> bool:
    try:
        exchange(_HEALTH, "GET", "/readyz")
    except (ApiError, OSError):
        return False
    return True
