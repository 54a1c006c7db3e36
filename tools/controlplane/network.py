"""The network namespace in which the control plane and all its clients run.

``python3 -m tools.controlplane.network COMMAND…`` runs a command in a new namespace in which

* only the loopback device is up and no route leads out, so ports cannot collide with other processes of the
  machine and no test reaches another host;
* every address of :data:`POD_RANGE` is local, so a process can bind the address of a Pod that has no
  container. To the API server, that process is the Pod.

The namespace has no name and ends with its last process, so there is nothing to clean up. The test run itself
runs inside, so its own Python clients and every process that it starts reach the API server.

Needs ``unshare`` and ``setpriv`` (util-linux) and ``ip`` (iproute2). Works as root, and as any user where
unprivileged user namespaces are allowed.

Standard library only, and no import from this package: it also runs as a script, by its path.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

POD_RANGE = "10.244.0.0/16"
_PREPARE = "--prepare"  # the second half of run_isolated(), inside the namespace


class IsolationError(RuntimeError):
    """This process is not isolated, or cannot be; the message says what to do."""


def isolated() -> bool:
    """Return whether this process is in a namespace that this module prepared."""
    return not _leads_out() and _is_local("10.244.0.1")


def require_isolation() -> None:
    """Raise IsolationError unless this process is in a namespace that this module prepared."""
    if not isolated():
        raise IsolationError(
            "the control plane and its clients need a network namespace of their own; "
            "start the run with: python -m tools.controlplane.network COMMAND"
        )


def run_isolated(command: Sequence[str]) -> None:
    """Replace this process by the command, in a new isolated namespace or in this one if it is isolated.

    Raises IsolationError if the namespace cannot be made. Otherwise it does not return.
    """
    if isolated():
        _become(command)
    for program in ("unshare", "setpriv", "ip"):
        if _program(program) is None:
            raise IsolationError(f"`{program}` is missing; install util-linux and iproute2")
    unshare = str(_program("unshare"))
    errors = []
    # Root with its capabilities needs no user namespace. Most containers drop the capabilities.
    for options in (["--net"], ["--net", "--user", "--map-root-user"]):
        probe = subprocess.run([unshare, *options, "true"], capture_output=True, text=True, check=False)
        if probe.returncode == 0:
            _become([unshare, *options, sys.executable, str(Path(__file__).resolve()), _PREPARE, *command])
        errors.append(f"`unshare {' '.join(options)}`: {probe.stderr.strip()}")
    raise IsolationError(
        "cannot make a network namespace: run as root, or allow unprivileged user namespaces; "
        + "; ".join(errors)
    )


def _prepare() -> None:
    ip = str(_program("ip"))
    for arguments in (
        ("link", "set", "lo", "up"),
        ("route", "replace", "local", POD_RANGE, "dev", "lo"),
    ):
        done = subprocess.run([ip, *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise IsolationError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")


def _leads_out() -> bool:
    """Return whether a route uses a device other than the loopback.

    /proc/self/net shows this process's own namespace; /sys shows the one in which it was mounted.
    """
    devices = set()
    for table, column, header in (("route", 0, 1), ("ipv6_route", -1, 0)):
        path = Path("/proc/self/net") / table
        if path.exists():  # a kernel without IPv6 has no such table
            lines = path.read_text(encoding="ascii").splitlines()[header:]
            devices |= {line.split()[column] for line in lines}
    return bool(devices - {"lo"})


def _is_local(address: str) -> bool:
    # Connecting a datagram socket sends nothing. It selects a route, and a local address is its own source.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:
            return False
        source: str = probe.getsockname()[0]
    return source == address


def _program(name: str) -> str | None:
    # On some systems `ip` is in a directory that only root has on PATH.
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def _become(command: Sequence[str]) -> None:
    try:
        os.execvp(command[0], list(command))
    except OSError as error:
        raise IsolationError(f"cannot run {command[0]}: {error.strerror}") from error


def main(arguments: Sequence[str]) -> int:
    """Run a command isolated. Return an exit status only if that fails."""
    if not arguments:
        sys.stderr.write("error: COMMAND is missing\n")
        return 2
    try:
        if arguments[0] == _PREPARE:
            _prepare()
            _become(arguments[1:])
        run_isolated(arguments)
    except IsolationError as error:
        sys.stderr.write(f"error: {error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
