"""Build a release: ``python -m tools.release --out DIRECTORY --base IMAGE@sha256:DIGEST``."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from gatekeeper_py.core.images.reference import InvalidReference, parse_reference
from tools.release import provenance, sbom
from tools.release.building import build_distributions, built_image, gzipped, locked_components, tar_of
from tools.release.source import CHART, ROOT, ReleaseError, Source, origin, public_address

DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


def main(argv: Sequence[str] | None = None) -> int:
    """Build the release, and print one line for each file."""
    try:
        options = release_options(argv)
        source = Source.of(ROOT)
        for path in release(source, options):
            sys.stdout.write(f"{provenance.digest_of(path)}  {path}\n")
    except ReleaseError as problem:
        sys.stderr.write(f"error: {problem}\n")
        return 1
    return 0


def release(source: Source, options: argparse.Namespace) -> list[Path]:
    """Write all files of a release into ``options.out``, which must be empty. Raises ``ReleaseError``."""
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise ReleaseError(f"{out} is not empty")
    files = build_distributions(source, out)
    locked = locked_components(source)
    version = source.version

    def add(name: str, content: bytes) -> None:
        (out / name).write_bytes(content)
        files.append(out / name)

    chart = tar_of(ROOT / CHART, source.tracked(CHART), "gatekeeper-py/", source.timestamp)
    add(f"gatekeeper-py-{version}.tgz", gzipped(chart, source.timestamp))
    add(f"gatekeeper-py-{version}.wheel.cdx.json", sbom.of_wheel(source, locked).encode())
    if options.base is not None:
        storage = tuple(shlex.split(options.buildah_storage))
        with built_image(source, options.base, storage) as image:
            add(f"gatekeeper-py-{version}.image.tar", image.archive)
            document = sbom.of_image(source, locked, image.root, os_release(image.root))
            add(f"gatekeeper-py-{version}.image.cdx.json", document.encode())
    statement = provenance.statement(source, files, options.base, options.repository, command(options))
    add(f"gatekeeper-py-{version}.intoto.json", statement.encode())
    sums = "".join(f"{provenance.digest_of(path)}  {path.name}\n" for path in sorted(files))
    add("SHA256SUMS", sums.encode())
    return files


def command(options: argparse.Namespace) -> list[str]:
    """Return the command that builds the same release elsewhere, without options of this machine."""
    arguments = [name for name in ("no_image", "local_base") if getattr(options, name)]
    return [
        *("make", "release", f"REPOSITORY={options.repository}"),
        *([f"BASE={options.base}"] if options.base is not None else []),
        *([f"ARGS={' '.join(f'--{each}' for each in arguments)}".replace("_", "-")] if arguments else []),
    ]


def release_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line. Raises ``ReleaseError`` for options that cannot be built."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="empty or new directory for the files")
    parser.add_argument("--base", help="base of the image, with its digest")
    parser.add_argument("--no-image", action="store_true", help="build everything but the image")
    parser.add_argument(
        "--repository", help="URL of the repository, for the provenance; default: the remote origin"
    )
    parser.add_argument("--buildah-storage", default="", help="options of buildah for its store")
    parser.add_argument(
        "--local-base", action="store_true", help="accept a base without a digest, to try a release"
    )
    options = parser.parse_args(argv)
    options.repository = public_address(options.repository or origin(ROOT))
    if options.no_image == (options.base is not None):
        raise ReleaseError("name the base of the image with its digest (BASE=…@sha256:…), or pass --no-image")
    if options.base is not None:
        _check_base(options.base)
    if options.base is not None and not options.local_base and not DIGEST.search(options.base):
        raise ReleaseError(f"the base {options.base} has no digest, so the build would not be reproducible")
    return options


def _check_base(base: str) -> None:
    """Raise ``ReleaseError`` unless ``base`` is an image, which has no user information.

    The message does not quote the text, because it may contain a password.
    """
    try:
        parse_reference(base)
    except InvalidReference:
        raise ReleaseError("the base is not an image such as docker.io/library/python@sha256:…") from None


def os_release(root: Path) -> dict[str, str]:
    """Return the fields of ``/etc/os-release`` below a root."""
    lines = (root / "etc/os-release").read_text(encoding="utf-8").splitlines()
    return {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines) if value}


if __name__ == "__main__":
    sys.exit(main())
