"""Pods with three images, of which one decides whether the fast path and the policy approve the Pod.

The policy is the one that the end-to-end tests install. It approves one registry, and images that start with
the registry's name are pre-approved. With the port of HTTPS after the name, an image is still approved, but
the fast path leaves it to the webhook.

The API server adds defaults, ``managedFields`` and ``userInfo``, so a review of a Pod has 8 KB.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from tools.installation.product import OVERLAYS

POLICY_FILE: Final = OVERLAYS / "policy" / "policy.yaml"

HOST: Final = "registry.corp.example"
HOST_WITH_PORT: Final = f"{HOST}:443"
MIRROR: Final = f"{HOST}/dockerhub"
DENIED_IMAGE: Final = "quay.io/somebody/app:1"

PREFIXES: Final = (f"{HOST}/", f"{HOST_WITH_PORT}/")
"""For Gatekeeper. Without the slash, an image of ``registry.corp.example.evil`` would pass."""

Sidecar = Literal["pre-approved", "with-port", "mirrored"]
"""The kind of one of the three images. The other two are pre-approved, so this one decides for the Pod.

``with-port`` is approved, but not pre-approved. ``mirrored`` is an image of Docker Hub: no rule approves it,
and mutate mode rewrites it to an image of the mirror.
"""

_HOSTS: Final = {"pre-approved": HOST, "with-port": HOST_WITH_PORT, "mirrored": "docker.io"}

_TEMPLATE: Final = yaml.safe_load(Path(__file__).with_name("pod.yaml").read_text(encoding="utf-8"))


def pod(index: int, sidecar: Sidecar = "pre-approved") -> dict[str, Any]:
    """Return one Pod with ``generateName`` instead of a name."""
    template = pod_template(index, sidecar)
    owner = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": f"web-{index}-5d9c7b6f4",
        "uid": f"51d2a0b1-62f1-4a8e-9b3c-2f4e5a6b{index:04x}",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    metadata = {
        **template["metadata"],
        "generateName": f"web-{index}-5d9c7b6f4-",
        "ownerReferences": [owner],
    }
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": template["spec"]}


def unlisted() -> dict[str, Any]:
    """Return a Pod of which one image is unlisted."""
    denied = pod(0)
    denied["spec"]["containers"][2]["image"] = DENIED_IMAGE
    return denied


def deployment(name: str, index: int) -> dict[str, Any]:
    """Return a Deployment with zero replicas and the template :func:`pod_template`, pre-approved."""
    template = pod_template(index, "pre-approved")
    labels = {"benchmark": name}
    template["metadata"]["labels"] |= labels
    # On fake nodes, no container runs that would need time to end.
    template["spec"]["terminationGracePeriodSeconds"] = 0
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
    }


def pod_template(index: int, sidecar: Sidecar) -> dict[str, Any]:
    """Return metadata and spec of the Pods numbered ``index``; the number is part of the images."""
    template: dict[str, Any] = copy.deepcopy(_TEMPLATE)
    digest = f"{index:064x}"
    template["metadata"]["annotations"]["checksum/config"] = digest
    images = (
        f"{HOST}/shop/web:1.{index}.2",
        f"{_HOSTS[sidecar]}/team-{index % 7}/proxy:3.{index}.0",
        f"{HOST}/shop/metrics@sha256:{digest}",
    )
    for container, image in zip(template["spec"]["containers"], images, strict=True):
        container["image"] = image
    return template
