"""Software bills of materials in CycloneDX 1.5, the same for every build of one commit.

Source of the format: https://cyclonedx.org/docs/1.5/json/
"""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from email.parser import Parser
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tools.release.source import ReleaseError, Source

STATUS = "var/lib/dpkg/status.d"


def of_wheel(source: Source, locked: dict[str, Any]) -> str:
    """Return the document of the wheel: ``locked`` is what uv exported."""
    return _document(source, locked, locked["components"], "wheel")


def of_image(source: Source, locked: dict[str, Any], root: Path, os_release: dict[str, str]) -> str:
    """Return the document of the image whose file system is at ``root``.

    Python packages are those that are installed in it; the lock adds their origins and hashes. Debian
    packages are those that ``tools/rootfs.py`` recorded. Raises ``ReleaseError`` if a package is installed in
    another version than the lock has.
    """
    project = locked["metadata"]["component"]["name"]
    known = {component["name"]: component for component in locked["components"]}
    components = [
        _python(name, version, known.get(name))
        for name, version in sorted(_installed(root))
        if name != project
    ]
    components += [_debian(path, os_release) for path in sorted((root / STATUS).iterdir())]
    return _document(source, locked, components, "image")


def _document(source: Source, locked: dict[str, Any], components: list[dict[str, Any]], what: str) -> str:
    listed = {component["bom-ref"] for component in components}
    project = locked["metadata"]["component"]["bom-ref"]
    document = {
        **{key: locked[key] for key in ("bomFormat", "specVersion", "version")},
        # Derived from the commit, so that it is reproducible. Wheel and image have different numbers.
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, f"gatekeeper-py:{source.commit}:{what}").urn,
        "metadata": {
            **locked["metadata"],
            "timestamp": datetime.fromtimestamp(source.timestamp, UTC).isoformat().replace("+00:00", "Z"),
        },
        "components": components,
        "dependencies": [
            {
                "ref": each["ref"],
                "dependsOn": [ref for ref in each.get("dependsOn", ()) if ref in listed],
            }
            for each in locked.get("dependencies", ())
            if each["ref"] in listed or each["ref"] == project
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def _installed(root: Path) -> list[tuple[str, str]]:
    """Return the names and versions of the Python packages below a file system's root."""
    found = []
    for metadata in root.glob("opt/**/*.dist-info/METADATA"):
        fields = Parser().parsestr(metadata.read_text(encoding="utf-8"), headersonly=True)
        found.append((fields["Name"].lower().replace("_", "-").replace(".", "-"), fields["Version"]))
    return found


def _python(name: str, version: str, locked: dict[str, Any] | None) -> dict[str, Any]:
    """Return the component of an installed package, with what the lock knows about it."""
    if locked is not None:
        if locked["version"] != version:
            raise ReleaseError(f"the image has {name} {version}, but uv.lock has {locked['version']}")
        return locked
    purl = f"pkg:pypi/{name}@{version}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _debian(path: Path, os_release: dict[str, str]) -> dict[str, Any]:
    fields = Parser().parsestr(path.read_text(encoding="utf-8"), headersonly=True)
    name, version, architecture = fields["Package"], fields["Version"], fields["Architecture"]
    distribution = f"{os_release.get('ID', 'debian')}-{os_release.get('VERSION_ID', 'unknown')}"
    # A purl percent-encodes everything but unreserved characters and colons.
    coded = f"{quote(name, safe=':')}@{quote(version, safe=':')}"
    purl = f"pkg:deb/debian/{coded}?arch={architecture}&distro={distribution}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
