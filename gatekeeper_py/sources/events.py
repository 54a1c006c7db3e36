"""Read list bodies and watch lines about one ConfigMap.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import orjson

from gatekeeper_py.core.policy.configmap import read_configmap
from gatekeeper_py.delivery import Delivery
from gatekeeper_py.settings import ConfigMapName

MAX_BYTES: Final = 16 * 1024 * 1024
"""Limit for one list or one line. An object has at most 1.5 MiB, and JSON escapes multiply it by up to 6."""


class SourceError(Exception):
    """The source cannot follow the ConfigMap and has to start over.

    The text gives the reason and never quotes a body. ``status`` is the API server's HTTP status, if it
    sent one. ``retry_after`` is the pause it asked for, in seconds. ``reconnect`` asks for a new session
    with a configuration that is read again. ``unexpected`` marks a bug of ours.
    """

    def __init__(
        self,
        problem: str,
        *,
        status: int | None = None,
        retry_after: float = 0.0,
        reconnect: bool = False,
        unexpected: bool = False,
    ) -> None:
        super().__init__(problem)
        self.status = status
        self.retry_after = retry_after
        self.reconnect = reconnect or status == HTTPStatus.UNAUTHORIZED
        self.unexpected = unexpected


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A state of the ConfigMap, or only a newer resource version if ``delivery`` is ``None``."""

    version: str
    delivery: Delivery | None = None


def read_list(body: bytes, name: ConfigMapName) -> Observation:
    """Return the ConfigMap of that name in a ConfigMapList. Raises ``SourceError``."""
    document = _parsed(body, "a list")
    version = _version(document, "a list")
    items = document.get("items") or []
    if not isinstance(items, list):
        raise SourceError("a list whose items are not a list")
    for item in items:
        if _is(item, name):
            return Observation(version=version, delivery=_delivery(item, _version(item, "a ConfigMap"), name))
    # The API server answers a list with a field selector with an empty list, not with a 404, if the object
    # does not exist.
    problem = f"ConfigMap {name} does not exist"
    return Observation(
        version=version, delivery=Delivery(text=None, resource_version=version, problem=problem)
    )


def read_event(line: bytes, name: ConfigMapName) -> Observation:
    """Read one line of a watch. Raises ``SourceError`` for an ERROR event and for anything else unusable."""
    event = _parsed(line, "a watch event")
    kind, item = event.get("type"), event.get("object")
    if not isinstance(item, dict):
        raise SourceError("a watch event without an object")
    if kind == "ERROR":
        code = item.get("code")
        status = code if isinstance(code, int) else None
        raise SourceError(f"the watch reported the error {status}", status=status)
    version = _version(item, "a watch event")
    if kind == "BOOKMARK" or (kind in {"ADDED", "MODIFIED", "DELETED"} and not _is(item, name)):
        return Observation(version=version)
    if kind == "DELETED":
        problem = f"ConfigMap {name} was deleted"
        return Observation(
            version=version, delivery=Delivery(text=None, resource_version=version, problem=problem)
        )
    if kind in {"ADDED", "MODIFIED"}:
        return Observation(version=version, delivery=_delivery(item, version, name))
    raise SourceError("a watch event of an unknown type")


def _parsed(text: bytes, what: str) -> dict[str, Any]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise SourceError(f"{what} that is not JSON") from None
    if not isinstance(document, dict):
        raise SourceError(f"{what} that is not an object")
    return document


def _version(document: dict[str, Any], what: str) -> str:
    metadata = document.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    if not isinstance(version, str) or not version:
        raise SourceError(f"{what} without a resourceVersion")
    return version


def _is(item: Any, name: ConfigMapName) -> bool:
    """Return whether an object is the ConfigMap of that name.

    The field selector already asks for the name. It is checked here as well, so that neither a proxy nor a
    server can deliver another policy.
    """
    metadata = item.get("metadata") if isinstance(item, dict) else None
    return (
        isinstance(metadata, dict)
        and metadata.get("name") == name.name
        and metadata.get("namespace") == name.namespace
    )


def _delivery(item: dict[str, Any], version: str, name: ConfigMapName) -> Delivery:
    found = read_configmap(item.get("data"), item.get("binaryData"))
    return Delivery(
        text=found.text,
        mode=found.mode,
        resource_version=version,
        problem="" if not found.findings else f"ConfigMap {name}: {found.findings[0]}",
        findings=found.findings,
    )
