"""Send objects to an API server in dry run, and compare the stored objects with the sent ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tools.controlplane.plane import ControlPlane

FOREIGN = ("cert-manager.io/", "monitoring.coreos.com/")
"""API groups of other products; the API server has no such resources."""


def check_every_field(plane: ControlPlane, namespace: str, documents: list[dict[str, Any]]) -> None:
    """Fail if the API server does not know a field of an object, or drops it, or warns about it.

    An API server knows the fields of disabled features, but drops them silently. Each object is created in
    this namespace, if it is in any, and under a name that is free.
    """
    for document in documents:
        if document["apiVersion"].startswith(FOREIGN):
            continue
        metadata = document["metadata"]
        metadata["name"] = f"{namespace}-{metadata['name']}"
        if "namespace" in metadata:
            metadata["namespace"] = namespace
        done = plane.kubectl(
            "create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-",
            input=json.dumps(document), check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert list(dropped(document, json.loads(done.stdout))) == []


def dropped(sent: Any, kept: Any, path: str = "") -> Iterator[str]:
    """Yield the path of each field and item that was sent and not kept."""
    if isinstance(sent, dict):
        # An empty mapping may be left out.
        for key, value in sent.items():
            if value not in ({}, [], None):
                yield from dropped(value, kept.get(key) if isinstance(kept, dict) else None, f"{path}.{key}")
    elif isinstance(sent, list):
        for index, value in enumerate(sent):
            item = kept[index] if isinstance(kept, list) and index < len(kept) else None
            yield from dropped(value, item, f"{path}[{index}]")
    elif sent != kept:
        yield f"{path}: {sent!r} became {kept!r}"
