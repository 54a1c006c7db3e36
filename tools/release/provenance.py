"""The provenance statement, in the format of SLSA 1.0: which files were built from which inputs.

Source of the format: https://slsa.dev/spec/v1.0/provenance. The statement is not signed here. The publisher
of the release signs it (docs/release.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.release.source import Source

INPUTS = ("uv.lock", "tools/build-constraints.txt", "tools/uv-requirements.txt", "Dockerfile")


def statement(
    source: Source, files: Iterable[Path], base: str | None, repository: str, command: Sequence[str]
) -> str:
    """Return the statement about released files, which ``command`` builds.

    ``base`` is the image's base, if an image was built.
    """
    materials: list[dict[str, Any]] = [
        {"uri": f"git+{repository}", "digest": {"gitCommit": source.commit}},
        *({"uri": name, "digest": {"sha256": digest_of(source.root / name)}} for name in INPUTS),
    ]
    if base is not None:
        name, _, digest = base.partition("@sha256:")
        materials.append({"uri": f"oci://{name}", **({"digest": {"sha256": digest}} if digest else {})})
    when = datetime.fromtimestamp(source.timestamp, UTC).isoformat().replace("+00:00", "Z")
    document = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": path.name, "digest": {"sha256": digest_of(path)}} for path in sorted(files)],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                # docs/release.md describes the parameters of this type.
                "buildType": f"{repository}/make-release/v1",
                "externalParameters": {
                    "source": f"git+{repository}@{source.commit}",
                    "command": list(command),
                },
                "resolvedDependencies": materials,
            },
            # This is the time of the commit, because the time of the build would make every build different.
            "runDetails": {
                "builder": {"id": f"{repository}/make-release"},
                "metadata": {"invocationId": f"{source.version}-{source.commit[:12]}", "startedOn": when},
            },
        },
    }
    return json.dumps(document, indent=2) + "\n"


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
