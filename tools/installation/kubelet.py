"""Run the product's Pods as real processes: the part of a kubelet that kwok does not simulate.

kwok gives each Pod an address and marks it ready, but runs no container. For the Pods of one namespace, this
module runs the ``args`` of each container in a process that binds the address of the Pod. The process gets
the Pod's ConfigMap and Secret volumes as files (written and swapped by symlink, as a kubelet does), a
kubeconfig with the token of the service account, the readiness probe, and SIGTERM when the Pod is deleted. To
the API server, a process that is bound to the address of a Pod is that Pod.
"""

from __future__ import annotations

import base64
import http.client
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any, Self

from tools.controlplane.exchange import ApiError
from tools.controlplane.plane import ControlPlane

_TURN_SECONDS = 0.1
_PROBE_SECONDS = 2.0

DRAIN_SECONDS = 12
"""After this time, kwok removes a deleted Pod. A replica closes its socket after 5 s and ends after 3 s
without a request. The rest is a reserve, because this kubelet removes a Pod whose process has ended."""


@dataclass
class Running:
    """The process of one Pod."""

    name: str
    app: str
    """The Pod's label ``app.kubernetes.io/name``."""
    address: str
    process: Popen[bytes]
    volumes: list[tuple[dict[str, Any], Path]]
    restarts: bool = True
    """Whether the process is started again when it ends. The process of a Job's Pod is not."""
    failures_allowed: int | None = None
    """How many readiness probes in a row may fail before the Pod is not ready; ``None`` without a probe."""
    failures: int = 0
    ready: bool | None = None
    stopping: bool = False


@dataclass
class Kubelet:
    """A context manager that follows the Pods of ``namespace``."""

    plane: ControlPlane
    namespace: str
    running: dict[str, Running] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._turning = threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="kubelet-")
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)
        self._paused: set[str] = set()
        self._finished: set[str] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        for pod in self.running.values():
            self.plane.kill(pod.name)
        self._folder.cleanup()

    def pods(self, app: str) -> list[Running]:
        """Return the running Pods of an application, without those that are stopping."""
        return [pod for _, pod in sorted(self.running.items()) if pod.app == app and not pod.stopping]

    def crash(self, pod: Running) -> None:
        """Kill the process of a Pod, as an OOM kill does; the next turn starts it again."""
        pod.process.kill()
        pod.process.wait()

    def hold(self, prefix: str) -> None:
        """Start no process for Pods with this prefix until they are released, as if an image were absent."""
        self._paused.add(prefix)

    def release(self, prefix: str) -> None:
        self._paused.discard(prefix)

    def release_all(self) -> None:
        """Start processes for all Pods again."""
        self._paused.clear()

    @contextmanager
    def looking_away(self) -> Iterator[None]:
        """Request, start and probe nothing inside the ``with`` block. Running processes keep running."""
        with self._turning:
            yield

    def _run(self) -> None:
        while not self._stop.wait(_TURN_SECONDS):
            # A test may have stopped the API server. The next turn starts over.
            with self._turning, suppress(ApiError, OSError):
                self._turn()

    def _turn(self) -> None:
        listed = self.plane.api("GET", f"/api/v1/namespaces/{self.namespace}/pods")["items"]
        live = {
            pod["metadata"]["name"]: pod for pod in listed if not pod["metadata"].get("deletionTimestamp")
        }
        for name in {pod["metadata"]["name"] for pod in listed} - {*live, *self.running}:
            self._remove(name)
        for name, pod in list(self.running.items()):
            if name not in live:
                self._end(name, pod)
            elif pod.process.poll() is not None:
                # The process ended by itself. Start it again, as restartPolicy Always does.
                del self.running[name]
                if not pod.restarts:
                    self._finish(name, pod.process.returncode)
        for name, document in live.items():
            if name not in self.running and not name.startswith(tuple(self._paused)):
                self._start(name, document)
        for name, pod in list(self.running.items()):
            if not pod.stopping:
                self._sync(name, pod)

    def _start(self, name: str, document: dict[str, Any]) -> None:
        address = document.get("status", {}).get("podIP")
        if not address or name in self._finished:
            return
        if any(pod.address == address for pod in self.running.values()):
            # A kwok that was restarted may give an address again. The next Pod gets another one.
            self._remove(name)
            return
        container = document["spec"]["containers"][0]
        root = Path(self._folder.name) / name
        volumes = {volume["name"]: volume for volume in document["spec"].get("volumes", ())}
        mounted = [
            (volumes[mount["name"]], root / mount["mountPath"].lstrip("/"), mount["mountPath"])
            for mount in container.get("volumeMounts", ())
            if "secret" in volumes.get(mount["name"], {}) or "configMap" in volumes.get(mount["name"], {})
        ]
        if not all(self._write_volume(volume, place) for volume, place, _ in mounted):
            self.plane.set_ready(self.namespace, name, ready=False)
            return  # a kubelet also waits for the Secret
        declared = {entry["name"]: self._value(entry) for entry in container.get("env") or ()}
        # All Pods are in one network namespace, so a Pod may not take a port on every address.
        arguments = [
            _expanded(argument, declared).replace("=[::]:", f"={address}:") for argument in container["args"]
        ]
        argv = [sys.executable, "-m", "gatekeeper_py", *arguments]
        for _, place, path in mounted:
            argv = [argument.replace(f"={path}", f"={place}") for argument in argv]
        account = document["spec"]["serviceAccountName"]
        kubeconfig = self.plane.kubeconfig_for_service_account(self.namespace, account, name)
        environment = declared | {
            "KUBECONFIG": str(kubeconfig),
            "POD_NAMESPACE": self.namespace,
            "GATEKEEPER_PY_LISTEN": f"{address}:8443",
            "GATEKEEPER_PY_HEALTH_LISTEN": f"{address}:8080",
        }
        process_name = f"pod-{name}"
        self.plane.kill(process_name)
        self._extend_termination(name)
        process = self.plane.popen(argv, name=process_name, env=environment)
        watched = [(volume, place) for volume, place, _ in mounted]
        restarts = document["spec"].get("restartPolicy", "Always") == "Always"
        probe = container.get("readinessProbe")
        allowed = None if probe is None else probe.get("failureThreshold", 3) - 1
        app = document["metadata"].get("labels", {}).get("app.kubernetes.io/name", "")
        self.running[name] = Running(
            process_name, app, address, process, watched, restarts=restarts, failures_allowed=allowed
        )

    def _value(self, entry: dict[str, Any]) -> str:
        """Return the value of an environment variable. The namespace is the only supported field.

        Raises NotImplementedError for another field.
        """
        if "valueFrom" not in entry:
            return str(entry.get("value", ""))
        path = entry["valueFrom"]["fieldRef"]["fieldPath"]
        if path != "metadata.namespace":
            raise NotImplementedError(path)
        return self.namespace

    def _finish(self, name: str, status: int) -> None:
        """Report the end of a Pod that is not started again."""
        self._finished.add(name)
        phase = {"phase": "Failed" if status else "Succeeded"}
        self.plane.api("PATCH", f"/api/v1/namespaces/{self.namespace}/pods/{name}/status", {"status": phase})

    def _extend_termination(self, name: str) -> None:
        """Keep the Pod and its address until its process has drained, as a kubelet does."""
        metadata = {"annotations": {"controlplane/termination": f"{DRAIN_SECONDS}s"}}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}"
        self.plane.api("PATCH", path, {"metadata": metadata})

    def _end(self, name: str, pod: Running) -> None:
        if not pod.stopping:
            pod.stopping = True
            pod.process.send_signal(signal.SIGTERM)
        if pod.process.poll() is not None:
            del self.running[name]

    def _remove(self, name: str) -> None:
        """Delete a Pod without a process at once, as a kubelet does when the containers have ended."""
        with suppress(ApiError):  # kwok may have removed it
            self.plane.api("DELETE", f"/api/v1/namespaces/{self.namespace}/pods/{name}?gracePeriodSeconds=0")

    def _probe(self, name: str, pod: Running, failures_allowed: int) -> None:
        connection = http.client.HTTPConnection(pod.address, 8080, timeout=_PROBE_SECONDS)
        try:
            connection.request("GET", "/readyz")
            ready = connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            ready = False
        finally:
            connection.close()
        pod.failures = 0 if ready else pod.failures + 1
        if ready != pod.ready and not (pod.ready and pod.failures <= failures_allowed):
            self.plane.set_ready(self.namespace, name, ready=ready)
            pod.ready = ready

    def _sync(self, name: str, pod: Running) -> None:
        for volume, place in pod.volumes:
            self._write_volume(volume, place)
        if pod.failures_allowed is not None:
            self._probe(name, pod, pod.failures_allowed)

    def _write_volume(self, volume: dict[str, Any], place: Path) -> bool:
        """Write changed files and swap the symlink to them; return whether the volume's object exists."""
        contents = self._contents(volume)
        if contents is None:
            return False
        link = place / "..data"
        if link.exists() and {p.name: p.read_bytes() for p in link.iterdir()} == contents:
            return True
        place.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix="..", dir=place))
        for key, content in contents.items():
            (fresh / key).write_bytes(content)
            if not (place / key).is_symlink():
                (place / key).symlink_to(Path("..data") / key)
        staged = place / "..data_tmp"
        staged.symlink_to(fresh.name)
        staged.replace(link)
        return True

    def _contents(self, volume: dict[str, Any]) -> dict[str, bytes] | None:
        secret = volume.get("secret")
        source = secret or volume["configMap"]
        kind, name = ("secrets", source["secretName"]) if secret else ("configmaps", source["name"])
        path = f"/api/v1/namespaces/{self.namespace}/{kind}/{name}"
        found = self.plane.find(path)
        if found is None:
            return {} if source.get("optional") else None
        data = found.get("data") or {}
        contents = {key: base64.b64decode(value) if secret else value.encode() for key, value in data.items()}
        items = source.get("items")
        if items is None:
            return contents
        # If one of its keys is missing, keep the volume as it is, or wait for it.
        if not all(item["key"] in contents for item in items):
            return None
        return {item["path"]: contents[item["key"]] for item in items}


def _expanded(argument: str, variables: dict[str, str]) -> str:
    """Replace ``$(NAME)`` by the variable, as a kubelet does."""
    return re.sub(r"\$\((\w+)\)", lambda found: variables.get(found[1], found[0]), argument)
