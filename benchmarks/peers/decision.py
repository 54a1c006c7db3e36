"""The decision of the Python peers, which import ``decision`` because they are started in this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

HOSTS = frozenset(Path(__file__).with_name("approved.txt").read_text(encoding="utf-8").split())


def answer(review: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to an AdmissionReview."""
    response = {"uid": review["request"]["uid"], "allowed": True}
    rejected = [image for image in images(review["request"]["object"]["spec"]) if host(image) not in HOSTS]
    if rejected:
        message = f"not from an approved registry: {', '.join(rejected)}"
        response["allowed"] = False
        response["status"] = {"code": 403, "reason": "Forbidden", "message": message}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


def images(spec: dict[str, Any]) -> Iterator[str]:
    """Return all images of a pod spec."""
    for key in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(key) or ():
            yield container["image"]
    for volume in spec.get("volumes") or ():
        if "image" in volume:
            yield volume["image"]["reference"]


def host(image: str) -> str:
    """Return the registry of an image. Short names belong to Docker Hub."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first.lower()
    return "docker.io"
