"""Owners whose Pods use images that the policy only warns about. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from gatekeeper_py.core.admission.fields import POD
from gatekeeper_py.core.admission.judgement import Outcome
from gatekeeper_py.core.admission.review import AdmissionRequest

MAX_OWNERS: Final = 1000
"""Maximum number of owners in one audit. ``left_out`` counts the Pods of further owners."""

MAX_IMAGES: Final = 10


class Owner(NamedTuple):
    """The object whose controller created a Pod, for example a ReplicaSet."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


class Warned:
    """Collects owners with the rejected images of their Pods."""

    def __init__(self) -> None:
        self._images: dict[Owner, dict[str, None]] = {}
        self.left_out = 0

    def __iter__(self) -> Iterator[tuple[Owner, tuple[str, ...]]]:
        return ((owner, tuple(images)) for owner, images in self._images.items())

    def take(self, request: AdmissionRequest, outcome: Outcome) -> None:
        """Note a Pod with rejected images in a namespace in mode ``warn``, if the Pod has an owner."""
        if outcome.mode != "warn" or (request.group, request.kind) != POD or not outcome.rejected:
            return
        owner = _owner(request)
        if owner is None:
            return
        if owner not in self._images and len(self._images) >= MAX_OWNERS:
            self.left_out += 1
            return
        images = self._images.setdefault(owner, {})
        for judgement in outcome.rejected:
            if len(images) < MAX_IMAGES:
                images[judgement.decision.image] = None


def _owner(request: AdmissionRequest) -> Owner | None:
    metadata = request.object.get("metadata") if isinstance(request.object, dict) else None
    references = metadata.get("ownerReferences") if isinstance(metadata, dict) else None
    for reference in references if isinstance(references, list) else ():
        if isinstance(reference, dict) and reference.get("controller") is True and request.namespace:
            fields = [_text(reference, key) for key in ("apiVersion", "kind", "name", "uid")]
            if all(fields):
                return Owner(fields[0], fields[1], request.namespace, fields[2], fields[3])
    return None


def _text(reference: dict[str, Any], key: str) -> str:
    value = reference.get(key)
    return value if isinstance(value, str) else ""
