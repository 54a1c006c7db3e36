"""What the API server says of one ConfigMap: list bodies and watch lines, read without models.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import orjson

from gatekeeper_py.core.admission.guard import MODE_KEY, POLICY_KEY
from gatekeeper_py.settings import ConfigMapName
from gatekeeper_py.sources import Delivery

MAX_BYTES: Final = 16 * 1024 * 1024
"""Of one list or one line. An object is at most 1.5 MiB in etcd, and JSON escapes may make 6 of 1."""


class Trouble(Exception):
    """The source is out of step and has to start over; the text says why, never with a body.

    ``status`` is the API server's, where it gave one. ``retry_after`` are the seconds it asked
    for. ``reconnect`` asks for a new connection with a configuration read again. ``unexpected``
    marks a bug of ours.
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
class Seen:
    """One state of the ConfigMap, or with ``delivery`` ``None`` only how far the server got."""

    version: str
    delivery: Delivery | None = None


def read_list(body: bytes, name: ConfigMapName) -> Seen:
    """The ConfigMap of that name in a ConfigMapList. Raises ``Trouble``."""
    document = _parsed(body, "a list")
    version = _version(document, "a list")
    items = document.get("items") or []
    if not isinstance(items, list):
        raise Trouble("a list whose items are no list")
    for item in items:
        if _is(item, name):
            return Seen(version=version, delivery=_delivery(item, _version(item, "a ConfigMap"), name))
    # The field selector has no 404: what does not exist is an empty list.
    problem = f"ConfigMap {name} does not exist"
    return Seen(version=version, delivery=Delivery(text=None, resource_version=version, problem=problem))


def read_event(line: bytes, name: ConfigMapName) -> Seen:
    """One line of a watch. Raises ``Trouble`` for an ERROR event and for what is none."""
    event = _parsed(line, "a watch event")
    kind, item = event.get("type"), event.get("object")
    if not isinstance(item, dict):
        raise Trouble("a watch event without an object")
    if kind == "ERROR":
        code = item.get("code")
        status = code if isinstance(code, int) else None
        raise Trouble(f"the watch reported the error {status}", status=status)
    version = _version(item, "a watch event")
    if kind == "BOOKMARK" or (kind in {"ADDED", "MODIFIED", "DELETED"} and not _is(item, name)):
        return Seen(version=version)
    if kind == "DELETED":
        problem = f"ConfigMap {name} was deleted"
        return Seen(version=version, delivery=Delivery(text=None, resource_version=version, problem=problem))
    if kind in {"ADDED", "MODIFIED"}:
        return Seen(version=version, delivery=_delivery(item, version, name))
    raise Trouble("a watch event of an unknown type")


def _parsed(text: bytes, what: str) -> dict[str, Any]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Trouble(f"{what} that is not JSON") from None
    if not isinstance(document, dict):
        raise Trouble(f"{what} that is no object")
    return document


def _version(document: dict[str, Any], what: str) -> str:
    metadata = document.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    if not isinstance(version, str) or not version:
        raise Trouble(f"{what} without a resourceVersion")
    return version


def _is(item: Any, name: ConfigMapName) -> bool:
    """Asked again here, so that no proxy or server can widen what is trusted."""
    metadata = item.get("metadata") if isinstance(item, dict) else None
    return (
        isinstance(metadata, dict)
        and metadata.get("name") == name.name
        and metadata.get("namespace") == name.namespace
    )


def _delivery(item: dict[str, Any], version: str, name: ConfigMapName) -> Delivery:
    data, binary = item.get("data"), item.get("binaryData")
    text = data.get(POLICY_KEY) if isinstance(data, dict) else None
    mode = data.get(MODE_KEY) if isinstance(data, dict) else None
    if not isinstance(text, str):
        problem = f"ConfigMap {name} has no key {POLICY_KEY}"
        if isinstance(binary, dict) and POLICY_KEY in binary:
            # What kubectl makes of a file that is not UTF-8.
            problem = f"ConfigMap {name} has {POLICY_KEY} under binaryData: it is not UTF-8 text"
        return Delivery(text=None, resource_version=version, problem=problem)
    return Delivery(text=text, mode=mode if isinstance(mode, str) else None, resource_version=version)
