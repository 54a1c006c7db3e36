"""An additional replica with replaceable tokens, connected to the API server through a breakable proxy."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
from base64 import b64decode
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from typing import Self

from e2e.replicas import Replica, size
from tools.controlplane.components import API_ADDRESS
from tools.controlplane.plane import ControlPlane
from tools.installation.product import NAMESPACE, POLICY, SECRET

EXTRA_REPLICA_ADDRESS = "10.244.255.1"
"""An address in the range of Pods that no Pod uses, because kwok assigns addresses from the other end."""


class ApiProxy:
    """A proxy to the API server. Its connections can be broken while the server runs."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.port = self._listening.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        _end(self._listening)
        self.break_connections()

    def break_connections(self) -> None:
        """Break every open connection. New connections still work."""
        while self._open:
            _end(self._open.pop())

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
                far = socket.create_connection(API_ADDRESS)
            except OSError:
                return
            self._open += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_carry, args=(source, target), daemon=True).start()


def _carry(source: socket.socket, target: socket.socket) -> None:
    try:
        while content := source.recv(65536):
            target.sendall(content)
    except OSError:
        pass
    _end(source)
    _end(target)


def _end(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


class ExtraReplica:
    """A fourth replica with the identity of a Pod: a token and a CA where the kubelet mounts them.

    The replica has a separate mount namespace, and a symbolic link replaces the files. It starts when the
    context is entered. ``proxy`` connects it to the API server.
    """

    def __init__(self, plane: ControlPlane, directory: Path, proxy: ApiProxy) -> None:
        self.proxy = proxy
        self._plane = plane
        secret = plane.api("GET", SECRET)["data"]
        self._certificate = [directory / "tls.crt", directory / "tls.key"]
        for path in self._certificate:
            path.write_bytes(b64decode(secret[path.name]))
        self._mounted = directory / "serviceaccount"
        self._mounted.mkdir()
        for name in ("token", "ca.crt"):
            (self._mounted / name).symlink_to(Path("..data") / name)
        self._tokens = 0
        self.write_token()
        self.replica = Replica(EXTRA_REPLICA_ADDRESS, plane.log("extra_replica"))
        self.process: Popen[bytes] | None = None

    def write_token(self) -> None:
        """Write a new token as the kubelet does."""
        self.token = self._plane.token_for(NAMESPACE, "gatekeeper-py")
        self._tokens += 1
        fresh = self._mounted / f"..{self._tokens}"
        fresh.mkdir()
        (fresh / "token").write_text(self.token)
        shutil.copy(self._plane.authority.certificate, fresh / "ca.crt")
        staged = self._mounted / "..data_tmp"
        staged.symlink_to(fresh.name)
        staged.replace(self._mounted / "..data")

    def token_is_valid(self) -> bool:
        """Return whether the API server accepts the token."""
        authority = f"--certificate-authority={self._plane.authority.certificate}"
        identity = [f"--token={self.token}", f"--server={self._plane.server}", authority]
        done = self._plane.kubectl("auth", "whoami", *identity, kubeconfig=Path(os.devnull), check=False)
        return done.returncode == 0

    def __enter__(self) -> Self:
        mount = (
            "mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io"
            ' && ln -s "$1" /run/secrets/kubernetes.io/serviceaccount && shift && exec "$@"'
        )
        self.replica.skip = size(self.replica.log_file)
        serve = [
            *(sys.executable, "-m", "gatekeeper_py", "serve", f"--configmap={NAMESPACE}/{POLICY}"),
            *(f"--tls-{path.suffix[1:].replace('crt', 'cert')}={path}" for path in self._certificate),
            f"--listen={EXTRA_REPLICA_ADDRESS}:8443",
            f"--health-listen={EXTRA_REPLICA_ADDRESS}:8080",
        ]
        self.process = self._plane.popen(
            ["unshare", "--mount", "sh", "-c", mount, "sh", str(self._mounted), *serve],
            name="extra_replica",
            env={"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.proxy.port)},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._plane.kill("extra_replica")
