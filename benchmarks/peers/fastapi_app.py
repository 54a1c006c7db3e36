"""A webhook written with FastAPI, with orjson for the JSON.

Run by uvicorn in an environment of its own (``requirements.txt``). FastAPI's ``ORJSONResponse`` is
deprecated in this version and warns at every use; a plain ``Response`` does the same work.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response  # type: ignore[import-not-found]

HOSTS = frozenset(Path(__file__).with_name("approved.txt").read_text(encoding="utf-8").split())

app = FastAPI(openapi_url=None)


@app.post("/validate-image")  # type: ignore[untyped-decorator]
async def validate(request: Request) -> Response:
    """Answer an AdmissionReview."""
    review = orjson.loads(await request.body())
    response = {"uid": review["request"]["uid"], "allowed": True}
    rejected = [image for image in images(review["request"]["object"]["spec"]) if host(image) not in HOSTS]
    if rejected:
        message = f"not from an approved registry: {', '.join(rejected)}"
        response["allowed"] = False
        response["status"] = {"code": 403, "reason": "Forbidden", "message": message}
    answer = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
    return Response(orjson.dumps(answer), media_type="application/json")


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
