"""A Kubernetes control plane of released binaries, on one machine, without containers.

etcd, the API server, the controller manager and the scheduler are the real programs, with RBAC. kwok
simulates the nodes and their kubelets: a Pod is scheduled, gets an address and becomes ready, but no
container runs.
Every Pod address is local (see ``network.py``), so a process that binds one answers for that Pod. A webhook
configuration with ``clientConfig.service``, exactly as shipped, thus reaches the process that a test starts.

Everything runs inside the network namespace of the test run, on fixed ports of the loopback address, so a
namespace holds one control plane.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import tempfile
import weakref
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tools.controlplane.auditlog import read_events
from tools.controlplane.authority import KeyPair
from tools.controlplane.components import (
    API_ADDRESS,
    API_URL,
    APISERVER,
    COMPONENTS,
    CONTROLLER_MANAGER,
    ETCD,
    ETCD_ADDRESS,
    ETCD_PEER_ADDRESS,
    KWOK,
    SCHEDULER,
    AuditLevel,
    Credentials,
    apiserver_flags,
    audit_flags,
    controller_manager_flags,
    etcd_flags,
    kwok_flags,
    scheduler_flags,
)
from tools.controlplane.exchange import ApiError, exchange, listening
from tools.controlplane.network import require_isolation
from tools.controlplane.processes import Processes
from tools.polling import wait_until

# The start usually takes four seconds, and longer on a busy machine.
_START_SECONDS = 60.0

# Gives kubelets their rights, in place of the Node authorizer, which this API server does not use.
_KUBELETS: Mapping[str, Any] = {
    "metadata": {"name": "kubelets"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node"},
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}],
}


class ControlPlaneError(RuntimeError):
    """The control plane failed; the message ends with the log of the component that failed."""


class KubectlError(subprocess.CalledProcessError):
    """A CalledProcessError that shows the output of kubectl."""

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.stdout}{self.stderr}"


class ControlPlane:
    """One control plane with everything it needs below one directory.

    ``directory`` must be new or empty, and keeps the log files after :meth:`stop`; without it, a temporary
    directory is used and removed. The ``nodes`` are named ``node-0`` and so on, each in a zone of its own
    (``zone-0`` …). With ``audit``, the API server records every request at that level (see
    :meth:`audit_events`). ``flags`` are added to the API server's flags.

    The processes have the names of ``components.COMPONENTS``; :meth:`popen` starts more of them by name.
    """

    def __init__(
        self,
        binaries: Path,
        *,
        directory: Path | None = None,
        nodes: int = 3,
        audit: AuditLevel | None = None,
        flags: Sequence[str] = (),
    ) -> None:
        self.binaries = binaries
        self.directory = Path(tempfile.mkdtemp(prefix="controlplane-")) if directory is None else directory
        self.server = API_URL
        self._logs = self._folder("logs")
        self._home = self._folder("home")
        self._users = self._folder("users")
        self._data = self.directory / "etcd"
        self._nodes = nodes
        self._audit_log = None if audit is None else self._logs / "audit.log"

        self._credentials = Credentials.make(self._folder("pki"))
        self.authority = self._credentials.authority
        self._flags = [*apiserver_flags(self._credentials), *flags]
        if audit is not None and self._audit_log is not None:
            self._flags += audit_flags(audit, self._audit_log, self.directory / "audit-policy.json")

        administrator = self.authority.client("admin", "system:masters", file="admin")
        self.kubeconfig = self._write_kubeconfig("admin", _certificate_user(administrator))
        self.tls = self._tls(administrator)
        kubelet = self.authority.client("system:node:node-0", "system:nodes", file="kubelet")
        self._kubelet_tls = self._tls(kubelet)

        self._processes = Processes(self._logs, self._environment())
        # Also runs at interpreter exit, in case the test run ends before it calls stop().
        state = self.directory if directory is None else self._data
        self._finalizer = weakref.finalize(self, _tear_down, self._processes, state)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start every component and wait until all nodes are ready and Pods can be created; once.

        Raises IsolationError outside an isolated network namespace, ControlPlaneError when a component fails.
        """
        require_isolation()
        for address in (ETCD_ADDRESS, ETCD_PEER_ADDRESS, API_ADDRESS):
            if listening(address):
                raise ControlPlaneError(
                    f"port {address[1]} is taken: another control plane runs in this network namespace"
                )
        self._start_component(ETCD, etcd_flags(self._data))
        self._wait(lambda: listening(ETCD_ADDRESS), "etcd listening")
        self.start_apiserver()
        self.api("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", _KUBELETS)
        for number in range(self._nodes):
            self.api("POST", "/api/v1/nodes", _node(number))
        # The API server's built-in RBAC bindings are for these user names.
        kubeconfig = self.kubeconfig_for(f"system:{CONTROLLER_MANAGER}")
        self._start_component(CONTROLLER_MANAGER, controller_manager_flags(self._credentials, kubeconfig))
        self._start_component(SCHEDULER, scheduler_flags(self.kubeconfig_for(f"system:{SCHEDULER}")))
        self._start_component(KWOK, kwok_flags(self.kubeconfig_for("kwok", "system:masters")))
        self._wait(self._nodes_ready, "every node ready and untainted")
        self._wait(lambda: self._has_service_account("default"), "the default service account")
        self._assign_first_address()

    def stop(self) -> None:
        """End every process with SIGKILL and remove the state. May be called again."""
        self._finalizer()

    def start_apiserver(self) -> None:
        """Start the API server and wait until it is ready."""
        self._start_component(APISERVER, self._flags)
        self._wait(self._apiserver_ready, "the API server ready")

    def _assign_first_address(self) -> None:
        """Run one Pod alone. kwok may give its first two Pods the same address if they start at once."""
        pods = "/api/v1/namespaces/default/pods"
        container = {"name": "nothing", "image": "nothing"}
        spec = {"nodeName": "node-0", "terminationGracePeriodSeconds": 0, "containers": [container]}
        self.api("POST", pods, {"metadata": {"name": "first"}, "spec": spec})
        self._wait(
            lambda: "podIP" in self.api("GET", f"{pods}/first").get("status", {}),
            "an address of the first Pod",
        )
        self.api("DELETE", f"{pods}/first")

    def stop_apiserver(self) -> None:
        """Kill the API server as a crash would: connections of clients break, and new ones are refused.

        The controllers back off meanwhile and return late: several seconds after an outage of ten seconds,
        up to a minute after one of 45.
        """
        self._processes.kill(APISERVER)

    def restart_ended_apiserver(self) -> str:
        """Restart a crashed API server with its data; return a line about it, or "".

        Kubernetes 1.30 can crash while it compiles native policies.
        """
        status = self.exit_status(APISERVER)
        if status is None:
            return ""
        self.start_apiserver()
        return f"{APISERVER} ended with status {status} and was started again; see {self.log(APISERVER)}"

    def compact_etcd(self) -> None:
        """Delete every revision but the current one, as a cluster does after minutes.

        The API server serves watches and most lists from memory. Restart it too if older revisions must get a
        410. A watch is then answered with 200, and its first event is the 410.
        """
        status = json.loads(exchange(ETCD_ADDRESS, "POST", "/v3/maintenance/status", {}))
        compaction = {"revision": status["header"]["revision"], "physical": True}
        exchange(ETCD_ADDRESS, "POST", "/v3/kv/compaction", compaction)

    def api(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send a request as the administrator and return the JSON answer; a PATCH is a JSON merge patch.

        Raises ApiError for a status of 400 or more, and OSError if there is no answer.
        """
        return json.loads(exchange(API_ADDRESS, method, path, body, tls=self.tls))

    def find(self, path: str) -> dict[str, Any] | None:
        """Return an object, or ``None`` if it does not exist."""
        try:
            found: dict[str, Any] = self.api("GET", path)
        except ApiError as problem:
            if problem.status == http.client.NOT_FOUND:
                return None
            raise
        return found

    def make_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Create a namespace and wait for its service account, which Pods need."""
        metadata = {"name": name, "labels": dict(labels or {})}
        self.api("POST", "/api/v1/namespaces", {"metadata": metadata})
        self._wait(lambda: self._has_service_account(name), f"the default service account of {name}")

    def set_ready(self, namespace: str, pod: str, *, ready: bool) -> None:
        """Set the result of the Pod's readiness probe. By default, a Pod is ready.

        To keep a Pod unready from its start, give it the annotation ``controlplane/ready: "false"``.
        """
        metadata = {"annotations": {"controlplane/ready": None if ready else "false"}}
        self.api("PATCH", f"/api/v1/namespaces/{namespace}/pods/{pod}", {"metadata": metadata})

    def token_for(self, namespace: str, service_account: str, *, pod: str = "", seconds: int = 3600) -> str:
        """Return a bearer token of a service account; valid for at least 600 seconds.

        A kubelet requests it, as for a real Pod. With ``pod``, it is bound to the Pod of that name.
        """
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token"
        spec: dict[str, Any] = {"expirationSeconds": seconds}
        if pod:
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod}
        answer = json.loads(exchange(API_ADDRESS, "POST", path, {"spec": spec}, tls=self._kubelet_tls))
        token: str = answer["status"]["token"]
        return token

    def kubeconfig_for(self, user: str, group: str | None = None) -> Path:
        """Return a kubeconfig file with a client certificate of this user, whose rights come from RBAC."""
        file = _file_name("user", user, group or "")
        return self._write_kubeconfig(file, _certificate_user(self.authority.client(user, group, file=file)))

    def kubeconfig_for_service_account(self, namespace: str, service_account: str, pod: str = "") -> Path:
        """Return a kubeconfig file with a token of a service account that is valid for an hour.

        With ``pod``, the token is bound to the Pod of that name, and is valid as long as the Pod exists.
        """
        token = self.token_for(namespace, service_account, pod=pod)
        return self._write_kubeconfig(
            _file_name("serviceaccount", namespace, service_account, pod), {"token": token}
        )

    def _tls(self, client: KeyPair) -> ssl.SSLContext:
        """Return a context that shows this client certificate to the API server."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(client.certificate, client.key)
        return context

    def ca_bundle(self) -> str:
        """Return the CA certificate for the ``caBundle`` of a webhook configuration: PEM in base64."""
        return b64encode(self.authority.certificate.read_bytes()).decode("ascii")

    def kubectl(
        self,
        *args: str,
        input: str | None = None,  # noqa: A002, as subprocess.run calls it
        check: bool = True,
        env: Mapping[str, str] | None = None,
        kubeconfig: Path | None = None,
        seconds: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl, as the administrator unless another kubeconfig is given.

        With ``check``, raises KubectlError, which shows the output, for a status other than 0.
        """
        variables = dict(env or {})
        if kubeconfig is not None:
            variables["KUBECONFIG"] = str(kubeconfig)
        argv = [str(self.binaries / "kubectl"), *args]
        done = self.exec(argv, input=input, env=variables, seconds=seconds)
        if check and done.returncode != 0:
            raise KubectlError(done.returncode, argv, done.stdout, done.stderr)
        return done

    def exec(
        self,
        argv: Sequence[str],
        *,
        input: str | None = None,  # noqa: A002, as subprocess.run calls it
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        seconds: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, in the environment that :meth:`popen` describes."""
        return subprocess.run(
            argv,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            env=self._environment() | dict(env or {}),
            cwd=cwd,
            timeout=seconds,
            check=False,
        )

    def popen(
        self,
        argv: Sequence[str],
        *,
        name: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process, which ends at the latest when the control plane stops.

        Its environment is this one without proxies, with the administrator's KUBECONFIG, an empty HOME, and
        ``env`` on top. Its output goes to ``log(name)`` unless redirected.
        """
        return self._processes.start(name, argv, env=env, cwd=cwd, stdout=stdout, stderr=stderr)

    def kill(self, name: str) -> None:
        """Kill a component or another process by its name, and wait until it is gone."""
        self._processes.kill(name)

    def log(self, name: str) -> Path:
        """Return the log file of a component or another process by its name."""
        return self._processes.log(name)

    def cpu_seconds(self, name: str) -> float:
        """Return the user and system time of a running process in seconds, counted from its last start."""
        return self._processes.cpu_seconds(name)

    def pid(self, name: str) -> int:
        """Return the process ID of a component or another process by its name."""
        return self._processes.pid(name)

    def exit_status(self, name: str) -> int | None:
        """Return the status of a component or another process that ended by itself, and otherwise None."""
        return self._processes.exit_status(name)

    def rss_bytes(self, name: str) -> int:
        """Return the resident memory of a running process in bytes."""
        return self._processes.rss_bytes(name)

    def audit_bytes(self) -> int:
        """Return the size of the audit log so far, to pass to :meth:`audit_events`.

        Raises ValueError if the control plane was made without ``audit``.
        """
        return self._audit_file().stat().st_size

    def audit_events(self, *, since: int = 0, containing: str = "") -> list[dict[str, Any]]:
        """Return the audit events of all requests so far, oldest first. Webhooks add ``annotations``.

        The log of a long run has hundreds of megabytes. ``since``, from :meth:`audit_bytes`, leaves out
        earlier events; ``containing`` leaves out those whose JSON text does not contain it.

        Raises ValueError if the control plane was made without ``audit``.
        """
        return read_events(self._audit_file(), since=since, containing=containing)

    def _audit_file(self) -> Path:
        if self._audit_log is None:
            raise ValueError("this control plane records no audit events")
        return self._audit_log

    def _start_component(self, name: str, flags: Sequence[str]) -> None:
        self._processes.start(name, [str(self.binaries / name), *flags])

    def _wait(self, check: Callable[[], bool], what: str) -> None:
        def check_while_alive() -> bool:
            for name in COMPONENTS:
                status = self._processes.exit_status(name)
                if status is not None:
                    tail = self._processes.tail(name)
                    raise ControlPlaneError(f"{name} ended with status {status}; its log ends with\n{tail}")
            return check()

        try:
            wait_until(check_while_alive, seconds=_START_SECONDS, what=what)
        except TimeoutError as error:
            tails = [f"--- {name}\n{self._processes.tail(name)}" for name in COMPONENTS]
            raise ControlPlaneError("\n".join([str(error), *tails])) from error

    def _apiserver_ready(self) -> bool:
        try:
            exchange(API_ADDRESS, "GET", "/readyz", tls=self.tls)
        except (ApiError, OSError):  # not yet ready, not yet listening
            return False
        return True

    def _nodes_ready(self) -> bool:
        nodes = self.api("GET", "/api/v1/nodes")["items"]
        return all(_is_ready(node) and not node["spec"].get("taints") for node in nodes)

    def _has_service_account(self, namespace: str) -> bool:
        accounts = self.api("GET", f"/api/v1/namespaces/{namespace}/serviceaccounts")["items"]
        return any(account["metadata"]["name"] == "default" for account in accounts)

    def _folder(self, name: str) -> Path:
        folder = self.directory / name
        folder.mkdir(parents=True)
        return folder

    def _write_kubeconfig(self, name: str, user: Mapping[str, str]) -> Path:
        cluster = {"server": self.server, "certificate-authority": str(self.authority.certificate)}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "controlplane", "cluster": cluster}],
            "users": [{"name": name, "user": dict(user)}],
            "contexts": [{"name": name, "context": {"cluster": "controlplane", "user": name}}],
            "current-context": name,
        }
        path = self._users / f"{name}.yaml"
        path.write_text(json.dumps(document, indent=2), encoding="utf-8")  # JSON is YAML
        path.chmod(0o600)
        return path

    def _environment(self) -> dict[str, str]:
        # Nothing in the namespace can be reached through a proxy of the world outside.
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        return kept | {"HOME": str(self._home), "KUBECONFIG": str(self.kubeconfig)}


def _tear_down(processes: Processes, state: Path) -> None:
    processes.kill_all()
    shutil.rmtree(state, ignore_errors=True)


def _node(number: int) -> dict[str, Any]:
    name = f"node-{number}"
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "topology.kubernetes.io/zone": f"zone-{number}",
    }
    return {"metadata": {"name": name, "labels": labels}}


def _is_ready(node: Mapping[str, Any]) -> bool:
    conditions = node["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _certificate_user(pair: KeyPair) -> dict[str, str]:
    return {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}


def _file_name(*parts: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", "--".join(parts).lower())
