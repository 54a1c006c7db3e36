"""AdmissionReview bodies with the fields that an API server sends, in sizes recorded from real reviews.

Half of a real Pod review is ``managedFields`` and ``userInfo``; the rest grows with the
environment variables of its containers. Bodies with the markers :data:`UID` and :data:`IMAGE` are templates
of the load generator, which inserts a new uid and images into each request.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml

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

TEMPLATES: Final[Object] = yaml.safe_load(Path(__file__).with_name("bodies.yaml").read_text(encoding="utf-8"))


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
        (container,) = TEMPLATES["bare"]["spec"]["containers"]
        container = {**container, "name": "debugger-x7k2p", "image": debugger, "stdin": True, "tty": True}
        debugged = {**pod, "spec": {**pod["spec"], "ephemeralContainers": [container]}}
        whole = _review(PODS, uid, debugged, operation="UPDATE", old=pod)
        whole["request"]["subResource"] = whole["request"]["requestSubResource"] = "ephemeralcontainers"
        return whole

    return _sized(size, review, images)


def deployment_review(*, size: int, images: tuple[str, ...] = IMAGES, uid: str = "uid") -> bytes:
    """Return a CREATE of a Deployment whose template is the Pod of :func:`pod_review`."""

    def review(pod: Object) -> Object:
        metadata = pod["metadata"]
        deployment = copy.deepcopy(TEMPLATES["deployment"])
        deployment["metadata"]["managedFields"] = metadata["managedFields"]
        deployment["spec"]["template"] = {"metadata": {"labels": metadata["labels"]}, "spec": pod["spec"]}
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
            "userInfo": TEMPLATES["user"],
            "object": new,
            "oldObject": old,
            "dryRun": False,
            "options": {"kind": options, "apiVersion": "meta.k8s.io/v1"},
        },
    }


def _pod(images: tuple[str, ...], variables: int, *, bare: bool) -> Object:
    """Return a Pod. Unless it is ``bare``, its first container has environment variables."""
    pod: Object = copy.deepcopy(TEMPLATES["bare" if bare else "pod"])
    spec = pod["spec"]
    (template,) = spec["containers"]
    containers = [{**template, "name": f"c{index}", "image": image} for index, image in enumerate(images)]
    spec["containers"] = containers[:-1] or containers
    spec["initContainers"] = containers[-1:] if len(containers) > 1 else []
    if not bare:
        names = [f"SETTING_{index:04}" for index in range(variables)]
        containers[0]["env"] = [{"name": name, "value": f"value-{name[-4:]}"} for name in names]
        fields = pod["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:containers"]['k:{"name":"c0"}']
        fields["f:env"] = {f'k:{{"name":"{name}"}}': {".": {}, "f:name": {}, "f:value": {}} for name in names}
    return pod
