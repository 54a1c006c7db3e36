"""Pods as a ReplicaSet sends them: three containers, probes, resources, volumes, settings; about 4 KB.

The API server adds defaults, ``managedFields`` and ``userInfo``, so a review of one has 8 KB.
"""

from __future__ import annotations

import random
from typing import Any, Literal

from benchmarks.churn.approval import HOST, HOST_WITH_PORT

Sidecar = Literal["pre-approved", "with-port", "mirrored"]
"""The kind of one of the three images. The other two are pre-approved, so this one decides for the Pod.

``with-port`` is approved, but not pre-approved. ``mirrored`` is an image of Docker Hub: no rule approves it,
and mutate mode rewrites it to an image of the mirror.
"""

_HOSTS = {"pre-approved": HOST, "with-port": HOST_WITH_PORT, "mirrored": "docker.io"}

BODIES = 100
"""The number of Pods in a load: with 100, a share in per cent is exact. Each Pod has images of its own."""


def bodies(share: int, other: Sidecar = "with-port") -> list[dict[str, Any]]:
    """Return ``BODIES`` Pods in mixed order, of which ``share`` per cent are pre-approved.

    The remaining Pods have a sidecar of the kind ``other``. Every call returns the same list. Raises
    ValueError for a share outside 0 to 100.
    """
    if not 0 <= share <= 100:
        raise ValueError(f"a share is 0 to 100 per cent, not {share}")
    approved = [index * 100 < share * BODIES for index in range(BODIES)]
    random.Random(1).shuffle(approved)
    return [pod(index, "pre-approved" if each else other) for index, each in enumerate(approved)]


def pod(index: int, sidecar: Sidecar) -> dict[str, Any]:
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
        "generateName": f"web-{index}-5d9c7b6f4-",
        "labels": template["metadata"]["labels"] | {"pod-template-hash": "5d9c7b6f4"},
        "annotations": template["metadata"]["annotations"],
        "ownerReferences": [owner],
    }
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": template["spec"]}


def deployment(name: str, index: int, sidecar: Sidecar) -> dict[str, Any]:
    """Return a Deployment with zero replicas and the template :func:`pod_template`."""
    template = pod_template(index, sidecar)
    labels = {"churn": name}
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
    digest = f"{index:064x}"
    proxy = f"{_HOSTS[sidecar]}/team-{index % 7}/proxy:3.{index}.0"
    return {
        "metadata": {
            "labels": {"app": "web", "team": f"team-{index % 7}"},
            "annotations": {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": "9090",
                "checksum/config": digest,
            },
        },
        "spec": {
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler",
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "fsGroup": 65532},
            "containers": [
                _container("web", f"{HOST}/shop/web:1.{index}.2", port=8080, settings=10),
                _container("proxy", proxy, port=15001, settings=6),
                _container("metrics", f"{HOST}/shop/metrics@sha256:{digest}", port=9090, settings=2),
            ],
            "volumes": [
                {"name": "settings", "configMap": {"name": "web-settings", "defaultMode": 420}},
                {"name": "scratch", "emptyDir": {}},
            ],
        },
    }


def _container(name: str, image: str, *, port: int, settings: int) -> dict[str, Any]:
    probe = {
        "httpGet": {"path": "/healthz", "port": name, "scheme": "HTTP"},
        "periodSeconds": 10,
        "timeoutSeconds": 1,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["--listen=:8080", f"--name={name}"],
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"}],
        "env": [
            {"name": f"SETTING_{number:02}", "value": f"value-{number:02}"} for number in range(settings)
        ],
        "resources": {
            "requests": {"cpu": "10m", "memory": "16Mi"},
            "limits": {"memory": "128Mi"},
        },
        "volumeMounts": [
            {"name": "settings", "mountPath": "/etc/settings", "readOnly": True},
            {"name": "scratch", "mountPath": "/tmp"},
        ],
        "livenessProbe": probe,
        "readinessProbe": probe,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }
