"""Find the ConfigMaps in the text of a file with manifests, without another YAML reader."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from gatekeeper_py.core.policy.configmap import ConfigMap
from gatekeeper_py.core.policy.finding import Remarks
from gatekeeper_py.core.policy.limits import MAX_FILE_BYTES
from gatekeeper_py.core.policy.parse.events import Reader, Unreadable, value_of
from gatekeeper_py.core.policy.parse.text import check_text

DEFAULT_NAMESPACE: Final = "default"
"""The namespace of an object that names none, as kubectl chooses it."""

_MARKER: Final = re.compile(r"^(?:---|\.\.\.)(?=[ \t\r\n]|\Z)", re.MULTILINE)
"""Where one document of a YAML stream ends and the next one begins."""


def configmaps_in(text: str) -> tuple[ConfigMap, ...]:
    """Return the ConfigMaps in a file. Raises ``ValueError`` if some document cannot be read."""
    remarks = Remarks()
    if not check_text(text, MAX_FILE_BYTES, remarks):
        raise ValueError(next(iter(remarks)).message)
    found: list[ConfigMap] = []
    for part in _MARKER.split(text):
        try:
            found += _configmap(part, remarks)
        except Unreadable as problem:
            raise ValueError(problem.remark.message) from None
        if remarks:
            raise ValueError(next(iter(remarks)).message)
    return tuple(found)


def _configmap(text: str, remarks: Remarks) -> Iterator[ConfigMap]:
    reader = Reader(text, remarks)
    root = reader.root()
    kind, metadata, data, binary = None, {}, {}, False
    for key, node in reader.entries() if root is not None and root.kind == "mapping" else ():
        if key == "kind":
            kind = value_of(node)
        elif key == "metadata" and node.kind == "mapping":
            metadata = _scalars(reader)
        elif key == "data" and node.kind == "mapping":
            data = _scalars(reader)
        elif key == "binaryData":
            binary = True
    reader.finish()
    if kind == "ConfigMap":
        name, namespace = metadata.get("name"), metadata.get("namespace")
        yield ConfigMap(str(name), str(namespace or DEFAULT_NAMESPACE), data, binary)


def _scalars(reader: Reader) -> dict[str, Any]:
    return {key: value_of(node) if node.kind == "scalar" else None for key, node in reader.entries()}
