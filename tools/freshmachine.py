"""Run the README's two commands in a new clone on a new system, and print their times.

``python3 -m tools.freshmachine RELEASE...`` makes a root file system of each Debian release. It has Python
with its venv module, make, git and certificate authorities, but no Go, no compiler and no cache. The user is
unprivileged and has an empty home. The network, the proxy and the certificate authorities are those of the
machine, because downloads from the package index need them.

The tool needs root, git and mmdebstrap. Standard library only: it runs before there is a virtualenv.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools import debian
from tools.gobuild import BuildError

ROOT = Path(__file__).parents[1]
PACKAGES = ("python3", "python3-venv", "make", "git", "ca-certificates")
COMMANDS = (("make", "demo", "ARGS=--once"), ("make", "test"))

USER = 1000
HOME = "/home/newcomer"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")

IN_ROOT = f"""
root=$1 bundle=$2; shift 2
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
for file in /etc/resolv.conf /etc/hosts; do
    : >>"$root$file"
    mount --bind "$file" "$root$file"
done
mount --bind "$bundle" "$root{BUNDLE}"
chroot --userspec={USER}:{USER} --groups= "$root" "$@"
exit  # so that the shell stays: process 1 has to wait for orphans
"""
"""Runs a command in a root file system. Arguments: the root, the certificate authorities, the command."""


def main(releases: list[str]) -> None:
    """Run the commands on each release. Raises ``CalledProcessError`` or ``BuildError``."""
    lines = []
    try:
        with ThreadPoolExecutor(max_workers=1) as executor:
            # The next root file system is made while the commands run in the one before.
            made = [executor.submit(debian.root_file_system, release, PACKAGES) for release in releases]
            for release, tar in zip(releases, made, strict=True):
                with tempfile.TemporaryDirectory(
                    prefix="fresh-machine-", dir=debian.cache("debian")
                ) as folder:
                    machine = FreshMachine(Path(folder), tar.result())
                    python = machine.output("python3", "--version")
                    for command in COMMANDS:
                        seconds = machine.seconds(*command)
                        lines.append(f"Debian {release}, {python}: {' '.join(command)}: {seconds:.0f} s\n")
    finally:
        sys.stdout.writelines(lines)


class FreshMachine:
    """A root file system with a clone of the project's last commit in the home of its only user."""

    def __init__(self, root: Path, tar: Path) -> None:
        self._root = root
        root.chmod(0o755)
        # The devices are the machine's.
        debian.run("tar", "--extract", "--file", str(tar), "--directory", str(root), "--exclude=./dev/*")
        for file, entry in (
            ("passwd", f"newcomer:x:{USER}:{USER}::{HOME}:/bin/sh\n"),
            ("group", f"newcomer:x:{USER}:\n"),
        ):
            with (root / "etc" / file).open("a", encoding="utf-8") as accounts:
                accounts.write(entry)
        home = root / HOME.lstrip("/")
        debian.run("git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(home / ROOT.name))
        debian.run("chown", "--recursive", f"{USER}:{USER}", str(home))

    def seconds(self, *command: str) -> float:
        """Run a command in the clone, once more if it fails. Return the seconds of its last run.

        Raises ``CalledProcessError`` if it fails again.
        """
        began = time.monotonic()
        if subprocess.run(self._inside(*command), stdin=subprocess.DEVNULL, check=False).returncode:
            sys.stderr.write(f"{' '.join(command)} failed and runs once more\n")
            began = time.monotonic()
            subprocess.run(self._inside(*command), stdin=subprocess.DEVNULL, check=True)
        return time.monotonic() - began

    def output(self, *command: str) -> str:
        """Run a command in the clone and return what it prints. Raises ``BuildError``."""
        return debian.run(*self._inside(*command))

    def _inside(self, *command: str) -> tuple[str, ...]:
        variables = {"HOME": HOME, "PATH": "/usr/local/bin:/usr/bin:/bin"}
        variables |= {name: os.environ[name] for name in PROXIES if name in os.environ}
        bundle = os.environ.get("SSL_CERT_FILE")
        if bundle is not None:
            # uv knows only its own authorities unless it is told.
            variables["SSL_CERT_FILE"] = BUNDLE
        return (
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"),
            *("sh", "-euc", IN_ROOT, "sh", str(self._root), bundle or str(self._root / BUNDLE.lstrip("/"))),
            *("env", "-i", f"--chdir={HOME}/{ROOT.name}"),
            *(f"{name}={value}" for name, value in variables.items()),
            *command,
        )


if __name__ == "__main__":
    missing = [tool for tool in ("git", "mmdebstrap", "unshare") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        sys.exit(f"error: {', '.join(missing) or 'root'} is needed to make root file systems")
    # Exit with an exception, so that the command ends and its root file system is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        main(sys.argv[1:])
    except subprocess.CalledProcessError as failed:
        sys.exit(failed.returncode)
    except BuildError as problem:
        sys.exit(f"error: {problem}")
