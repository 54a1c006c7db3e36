"""Pods with three images, of which one decides whether the fast path and the policy approve the Pod.

The policy approves one registry, and images that start with the registry's name are pre-approved. With the
port of HTTPS after the name, an image is still approved, but the fast path leaves it to the webhook.

The API server adds defaults, ``managedFields`` and ``userInfo``, so a review of a Pod has 8 KB.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Final, Literal

import yaml

POLICY_FILE: Final = Path(__file__).with_name("policy.yaml")

HOST: Final = "registry.corp.example"
DENIED_IMAGE: Final = "quay.io/somebody/app:1"

Sidecar = Literal["pre-approved", "with-port"]
"""The kind of one of the three images. The other two are pre-approved, so this one decides for the Pod.

``with-port`` is approved, but not pre-approved.
"""

_HOSTS: Final = {"pre-approved": HOST, "with-port": f"{HOST}:443"}

_TEMPLATE: Final = yaml.safe_load(Path(__file__).with_name("pod.yaml").read_text(encoding="utf-8"))


def pod(index: int = 0, sidecar: Sidecar = "pre-approved") -> dict[str, Any]:
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
