"""AdmissionReview bodies of recorded shape: the fields that an API server sends, in its proportions.

Half of a real Pod review is ``managedFields`` and ``userInfo``; the rest grows with the
environment variables of its containers. Every body is made anew from its arguments, so a
generator can give each request its own uid.
"""

from __future__ import annotations

import json
from typing import Any

IMAGES = (
    "registry.corp.example/shop/web:1.4.2",
    "registry.corp.example/mesh/proxy:3.1.0",
    "registry.corp.example/shop/migrate@sha256:" + "ab" * 32,
)


def pod_review(*, size: int, images: tuple[str, ...] = IMAGES, uid: str = "uid") -> bytes:
    """A CREATE of a Pod with these images (the last one's an init container), about ``size`` bytes."""
    variables = 0
    body = _encoded(images, uid, variables)
    if len(body) < size:
        one = len(_encoded(images, uid, 1)) - len(body)
        variables = (size - len(body)) // one
        body = _encoded(images, uid, variables)
    return body


def _encoded(images: tuple[str, ...], uid: str, variables: int) -> bytes:
    return json.dumps(_review(images, uid, variables), separators=(",", ":")).encode()


def _review(images: tuple[str, ...], uid: str, variables: int) -> dict[str, Any]:
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    resource = {"group": "", "version": "v1", "resource": "pods"}
    return {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": uid,
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            "name": "web-5d9c7b6f4-x2x7k",
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "uid": "0a2ee4c2-1b7e-4a36-9a53-0f6a6b8f5c4d",
                "groups": [
                    "system:serviceaccounts",
                    "system:serviceaccounts:kube-system",
                    "system:authenticated",
                ],
            },
            "object": {
                "kind": "Pod",
                "apiVersion": "v1",
                "metadata": _metadata(variables),
                "spec": _spec(images, variables),
                "status": {},
            },
            "oldObject": None,
            "dryRun": False,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    }


def _metadata(variables: int) -> dict[str, Any]:
    names: dict[str, Any] = {
        f'k:{{"name":"SETTING_{index:04}"}}': {".": {}, "f:name": {}, "f:value": {}}
        for index in range(variables)
    }
    return {
        "generateName": "web-5d9c7b6f4-",
        "namespace": "shop",
        "uid": "7d1f3c9e-5f0a-4a7b-8a34-1c6a0d1e2f3b",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"app": "web", "pod-template-hash": "5d9c7b6f4"},
        "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9090"},
        "ownerReferences": [
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": "web-5d9c7b6f4",
                "uid": "51d2a0b1-62f1-4a8e-9b3c-2f4e5a6b7c8d",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
        "managedFields": [
            {
                "manager": "kube-controller-manager",
                "operation": "Update",
                "apiVersion": "v1",
                "time": "2026-01-01T00:00:00Z",
                "fieldsType": "FieldsV1",
                "fieldsV1": {
                    "f:metadata": {"f:annotations": {".": {}}, "f:generateName": {}, "f:labels": {".": {}}},
                    "f:spec": {
                        "f:containers": {'k:{"name":"c0"}': {".": {}, "f:env": names, "f:image": {}}},
                        "f:dnsPolicy": {},
                        "f:restartPolicy": {},
                        "f:schedulerName": {},
                        "f:securityContext": {},
                    },
                },
            }
        ],
    }


def _spec(images: tuple[str, ...], variables: int) -> dict[str, Any]:
    containers = [
        _container(f"c{index}", image, variables if index == 0 else 0) for index, image in enumerate(images)
    ]
    return {
        "volumes": [
            {
                "name": "kube-api-access-8hj2k",
                "projected": {
                    "sources": [
                        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                        {
                            "configMap": {
                                "name": "kube-root-ca.crt",
                                "items": [{"key": "ca.crt", "path": "ca.crt"}],
                            }
                        },
                    ],
                    "defaultMode": 420,
                },
            }
        ],
        "containers": containers[:-1] or containers,
        "initContainers": containers[-1:] if len(containers) > 1 else [],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "default",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "tolerations": [
            {
                "key": "node.kubernetes.io/not-ready",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": 300,
            }
        ],
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
    }


def _container(name: str, image: str, variables: int) -> dict[str, Any]:
    return {
        "name": name,
        "image": image,
        "env": [{"name": f"SETTING_{index:04}", "value": f"value-{index:04}"} for index in range(variables)],
        "resources": {"limits": {"memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "256Mi"}},
        "volumeMounts": [
            {
                "name": "kube-api-access-8hj2k",
                "readOnly": True,
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
            }
        ],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }
