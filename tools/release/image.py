"""The container image as an OCI archive, built with buildah, with the commit's time stamp everywhere."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.release.archives import files_below, tar_of
from tools.release.source import ReleaseError, Source


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image in a store. ``archive`` is its OCI archive, and ``root`` is where its files are mounted."""

    archive: bytes
    root: Path


@contextmanager
def built_image(source: Source, base: str, storage: tuple[str, ...]) -> Iterator[BuiltImage]:
    """Build the image and mount it while the context is open. ``storage`` are buildah's storage options.

    Raises ``ReleaseError``.
    """
    name = f"localhost/gatekeeper-py:{source.version}"

    def buildah(*arguments: str) -> str:
        return _run("buildah", *storage, *arguments)

    buildah(
        "build", "--quiet", "--format", "oci", "--no-cache", "--network", "host",
        "--timestamp", str(source.timestamp), "--tag", name,
        "--build-arg", f"BASE={base}",
        "--build-arg", f"VERSION={source.version}", "--build-arg", f"REVISION={source.commit}",
        str(source.root),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        layout = Path(folder) / "image"
        buildah("push", "--quiet", name, f"oci:{layout}:{source.version}")
        archive = tar_of(layout, files_below(layout), "", source.timestamp)
    container = buildah("from", "--pull-never", name)
    try:
        yield BuiltImage(archive, Path(buildah("mount", container)))
    finally:
        buildah("rm", container)


def _run(*command: str) -> str:
    environment = os.environ | {"BUILDAH_ISOLATION": os.environ.get("BUILDAH_ISOLATION", "chroot")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ReleaseError(f"{' '.join(command[:2])}: {done.stderr.strip()[-2000:]}")
    return done.stdout.strip()
