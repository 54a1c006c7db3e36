"""AdmissionReview bodies with the fields that an API server sends, in sizes recorded from real reviews.

Half of a real Pod review is ``managedFields`` and ``userInfo``; the rest grows with the
environment variables of its containers. Bodies with the markers :data:`UID` and :data:`IMAGE` are templates
of the load generator, which inserts a new uid and images into each request.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

IMAGES = (
    "registry.corp.example/shop/web:1.4.2",
    "registry.corp.example/mesh/proxy:3.1.0",
    "registry.corp.example/shop/migrate@sha256:" + "ab" * 32,
)

UID = "@UID@"
IMAGE = "@IMAGE@"
MARKED = (IMAGE, IMAGE, IMAGE)

PODS = {"group": "", "version": "v1", "kind": "Pod"}, {"group": "", "version": "v1", "resource": "pods"}
DEPLOYMENTS = (
    {"group": "apps", "version": "v1", "kind": "Deployment"},
    {"group": "apps", "version": "v1", "resource": "deployments"},
)

Object = dict[str, Any]


def pod_review(*, size: int, images: tuple[str, ...] = IMAGES, uid: str = "uid") -> bytes:
    """Return a CREATE of a Pod with these images, the last one in an init container, of about ``size`` bytes.

    The smallest body with three images has 2.3 KB: its Pod names only images.
    """
    return _sized(size, lambda pod: _review(PODS, uid, pod), images)


def pod_update(*, size: int, images: tuple[str, ...] = IMAGES, uid: str = "uid") -> bytes:
    """Return an UPDATE of a Pod's label. Old and new object have the same images."""

    def review(pod: Object) -> Object:
        labelled = {**pod, "metadata": {**pod["metadata"], "labels": {"app": "web", "tier": "front"}}}
        return _review(PODS, uid, labelled, operation="UPDATE", old=pod)

    return _sized(size, review, images)


def image_update(*, size: int, old: str, images: tuple[str, ...] = IMAGES, uid: str = "uid") -> bytes:
    """Return an UPDATE that replaces the image ``old`` of every container, so each image is judged."""

    def review(pod: Object) -> Object:
        spec = pod["spec"]
        before = {
            kind: [{**each, "image": old} for each in spec[kind]] for kind in ("containers", "initContainers")
        }
        return _review(PODS, uid, pod, operation="UPDATE", old={**pod, "spec": {**spec, **before}})

    return _sized(size, review, images)


def ephemeral_review(
    *, size: int, debugger: str, images: tuple[str, ...] = IMAGES, uid: str = "uid"
) -> bytes:
    """Return the review of ``kubectl debug``: an UPDATE of ``pods/ephemeralcontainers``, one image is new."""

    def review(pod: Object) -> Object:
        container = {
            "name": "debugger-x7k2p",
            "image": debugger,
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent",
            "stdin": True,
            "tty": True,
        }
        debugged = {**pod, "spec": {**pod["spec"], "ephemeralContainers": [container]}}
        whole = _review(PODS, uid, debugged, operation="UPDATE", old=pod)
        whole["request"]["subResource"] = whole["request"]["requestSubResource"] = "ephemeralcontainers"
        return whole

    return _sized(size, review, images)


def deployment_review(*, size: int, images: tuple[str, ...] = IMAGES, uid: str = "uid") -> bytes:
    """Return a CREATE of a Deployment whose template is the Pod of :func:`pod_review`."""

    def review(pod: Object) -> Object:
        metadata = pod["metadata"]
        template = {"metadata": {"labels": metadata["labels"]}, "spec": pod["spec"]}
        deployment = {
            "kind": "Deployment",
            "apiVersion": "apps/v1",
            "metadata": {"name": "web", "namespace": "shop", "managedFields": metadata["managedFields"]},
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": {"app": "web"}},
                "template": template,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
                "revisionHistoryLimit": 10,
                "progressDeadlineSeconds": 600,
            },
            "status": {},
        }
        return _review(DEPLOYMENTS, uid, deployment, name="web")

    return _sized(size, review, images)


def pod_delete(*, size: int, images: tuple[str, ...] = IMAGES, uid: str = "uid") -> bytes:
    """Return a DELETE, which has the object as the old object. The webhook allows it without judging it."""
    return _sized(size, lambda pod: _review(PODS, uid, None, operation="DELETE", old=pod), images)


def _sized(size: int, review: Callable[[Object], Object], images: tuple[str, ...]) -> bytes:
    """Return the review of a Pod with enough environment variables to reach about ``size`` bytes.

    If the usual Pod is too large even without variables, return the review of a bare Pod.
    """

    def encoded(variables: int, *, bare: bool = False) -> bytes:
        return json.dumps(review(_pod(images, variables, bare=bare)), separators=(",", ":")).encode()

    body = encoded(0)
    if len(body) > size:
        return encoded(0, bare=True)
    one = (len(encoded(10)) - len(body)) / 10
    return encoded(int((size - len(body)) / one))


def _review(
    what: tuple[Object, Object],
    uid: str,
    new: Object | None,
    *,
    operation: str = "CREATE",
    old: Object | None = None,
    name: str = "web-5d9c7b6f4-x2x7k",
) -> Object:
    kind, resource = what
    options = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}[operation]
    return {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": uid,
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            "name": name,
            "namespace": "shop",
            "operation": operation,
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "uid": "0a2ee4c2-1b7e-4a36-9a53-0f6a6b8f5c4d",
                "groups": [
                    "system:serviceaccounts",
                    "system:serviceaccounts:kube-system",
                    "system:authenticated",
                ],
            },
            "object": new,
            "oldObject": old,
            "dryRun": False,
            "options": {"kind": options, "apiVersion": "meta.k8s.io/v1"},
        },
    }


def _pod(images: tuple[str, ...], variables: int, *, bare: bool) -> Object:
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": _bare_metadata() if bare else _metadata(variables),
        "spec": _bare_spec(images) if bare else _spec(images, variables),
        "status": {},
    }


def _bare_metadata() -> Object:
    """Return the metadata of a Pod that was created with ``kubectl apply``."""
    fields = {
        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
        "f:spec": {
            "f:containers": {
                f'k:{{"name":"c{index}"}}': {
                    ".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {},
                    "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {},
                }
                for index in range(2)
            },
            "f:dnsPolicy": {}, "f:enableServiceLinks": {}, "f:restartPolicy": {}, "f:schedulerName": {},
            "f:securityContext": {}, "f:terminationGracePeriodSeconds": {},
        },
    }  # fmt: skip
    return {
        "name": "web",
        "namespace": "shop",
        "uid": "7d1f3c9e-5f0a-4a7b-8a34-1c6a0d1e2f3b",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"app": "web"},
        "managedFields": [
            {
                "manager": "kubectl-client-side-apply",
                "operation": "Update",
                "apiVersion": "v1",
                "time": "2026-01-01T00:00:00Z",
                "fieldsType": "FieldsV1",
                "fieldsV1": fields,
            }
        ],
    }


def _bare_spec(images: tuple[str, ...]) -> Object:
    containers = [
        {
            "name": f"c{index}",
            "image": image,
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent",
        }
        for index, image in enumerate(images)
    ]
    return {
        "containers": containers[:-1] or containers,
        "initContainers": containers[-1:] if len(containers) > 1 else [],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
    }


def _metadata(variables: int) -> Object:
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


def _spec(images: tuple[str, ...], variables: int) -> Object:
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


def _container(name: str, image: str, variables: int) -> Object:
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
