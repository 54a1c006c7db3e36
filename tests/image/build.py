"""Build the Dockerfile without a container daemon: buildah, on a base made of Debian packages.

Base root file systems are cached (``tools.debian``). Everything else is made in a working directory in
``${XDG_CACHE_HOME:-~/.cache}/gatekeeper-py/image`` and removed at the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tools import debian
from tools.debian import run
from tools.gobuild import BuildError

PROJECT: Final = Path(__file__).resolve().parents[2]
DEBIAN_PACKAGES: Final = ("python3", "python3-venv", "ca-certificates")
TOOLS: Final = ("buildah", "mmdebstrap")
"""Required programs; each is in a Debian package of the same name."""

TRUST_VARIABLES: Final = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
BUNDLE: Final = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A built image with its file system unpacked at ``root``, which the builder removes at its end."""

    config: dict[str, Any]
    root: Path
    revision: str
    size: int
    pulled_size: int
    build_seconds: float

    @property
    def environment(self) -> dict[str, str]:
        return dict(variable.split("=", 1) for variable in self.config["Env"])


class Builder:
    """Builds images in a separate store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Plain directories, so that nothing is mounted and nothing can stay mounted.
        self._store = (
            *("--storage-driver", "vfs"),
            *("--root", str(folder / "store")),
            *("--runroot", str(folder / "run")),
        )

    @property
    def storage(self) -> tuple[str, ...]:
        """Return the options that make buildah use this store."""
        return self._store

    def base(self, base: str) -> str:
        """Put a base, as ``image`` takes it, into the store; return its name there. Raises ``BuildError``."""
        name = f"localhost/base-{hashlib.sha256(base.encode()).hexdigest()[:12]}"
        self._make_base(base, name)
        return name

    def image(self, base: str) -> Image:
        """Build on a base: a release of Debian, a tar of a root file system, or an image's name.

        Raises ``BuildError``.
        """
        name = self.base(base)
        revision = hashlib.sha1(base.encode(), usedforsecurity=False).hexdigest()
        began = time.monotonic()
        self._buildah(
            # The OCI format has no health checks, so buildah would drop it.
            *("bud", "--format", "docker", "--pull-never", "--network", "host", "--tag", f"{name}-built"),
            *("--build-arg", f"BASE={name}"),
            *("--build-arg", f"VERSION={project()['version']}"),
            *("--build-arg", f"REVISION={revision}"),
            str(PROJECT),
        )
        seconds = time.monotonic() - began
        container = self._buildah("from", "--pull-never", f"{name}-built")
        root = Path(self._buildah("mount", container))
        inspected = json.loads(self._buildah("inspect", "--type", "image", f"{name}-built"))
        return Image(
            config=inspected["Docker"]["config"],
            root=root,
            revision=revision,
            size=sum(path.lstat().st_size for path in root.rglob("*") if not path.is_dir()),
            pulled_size=self._pulled_size(f"{name}-built"),
            build_seconds=seconds,
        )

    def context(self) -> set[str]:
        """Return the files of the working copy that ``COPY . .`` in the Dockerfile copies."""
        dockerfile = self._folder / "Dockerfile"
        dockerfile.write_text("FROM scratch\nCOPY . .\n", encoding="utf-8")
        self._buildah("bud", "--file", str(dockerfile), "--tag", "localhost/context", str(PROJECT))
        root = Path(self._buildah("mount", self._buildah("from", "--pull-never", "localhost/context")))
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}

    def _make_base(self, base: str, name: str) -> None:
        """Put the base in the store, with the certificate authorities that this machine trusts."""
        if base.endswith(".tar"):
            container = self._unpacked(Path(base))
        elif base.isalnum() and base.islower():
            container = self._unpacked(debian.root_file_system(base, DEBIAN_PACKAGES))
        else:
            container = self._buildah("from", base)
        bundle = next(filter(None, map(os.environ.get, TRUST_VARIABLES)), None)
        if bundle is not None:
            self._buildah("copy", container, str(Path(bundle).resolve()), BUNDLE)
            self._buildah(
                "config", "--env", f"SSL_CERT_FILE={BUNDLE}", "--env", f"PIP_CERT={BUNDLE}", container
            )
        self._buildah("commit", "--rm", container, name)

    def _unpacked(self, tar: Path) -> str:
        container = self._buildah("from", "scratch")
        self._buildah("add", container, str(tar), "/")
        return container

    def _pulled_size(self, name: str) -> int:
        """Return the download size for a node: the compressed layers."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            self._buildah("push", name, f"oci:{folder}/image")
            return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())

    def _buildah(self, command: str, *arguments: str) -> str:
        quiet = () if command in {"mount", "inspect", "config"} else ("--quiet",)
        # This isolation needs no namespaces or control groups, so it works in a container too.
        return run("buildah", *self._store, command, *quiet, *arguments, BUILDAH_ISOLATION="chroot")


@contextlib.contextmanager
def builder() -> Iterator[Builder]:
    """Yield a builder, for one test run at a time. Raises ``BuildError`` where it cannot work."""
    check_machine()
    cache = debian.cache("image")
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in cache.glob("work-*"):
            # Only the holder of the lock works here, so the maker of this directory was killed.
            remove(leftover)
        folder = Path(tempfile.mkdtemp(prefix="work-", dir=cache))
        try:
            yield Builder(folder)
        finally:
            remove(folder)


def check_machine() -> None:
    """Raise ``BuildError`` when a program is missing; the tests do not install it."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        tools = " ".join(missing)
        raise BuildError(f"missing: {tools}; as root: apt-get update && apt-get install -y {tools}")
    if os.geteuid() != 0:
        raise BuildError("making root file systems and mounting them needs root")


def remove(folder: Path) -> None:
    """Remove a working directory, unless something is still mounted there."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    if f" {folder}/" in mounts:
        raise BuildError(f"something is still mounted below {folder}; umount it and remove that directory")
    shutil.rmtree(folder)


def project() -> dict[str, Any]:
    """Return the table `project` of pyproject.toml."""
    with (PROJECT / "pyproject.toml").open("rb") as stream:
        table: dict[str, Any] = tomllib.load(stream)["project"]
    return table
