"""Builders for Pods, workloads, policies, and reviews as an API server sends them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from gatekeeper_py.core import CompiledPolicy, parse_policy
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions
from gatekeeper_py.core.exceptions.grants import SOURCES
from gatekeeper_py.core.policy.parse.exceptions import parse_exceptions

INSTANT: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
UID: Final = "705ab4f5-6393-11e8-b7cc-42010a800002"
NAMESPACE: Final = "shop"
HUB_TO_CORP: Final = """
mirrors:
  - from: docker.io
    to: registry.corp.io/dockerhub
"""


def policy_text(more: str = "", *, mode: str = "enforce", allow: str = "[registry.corp.io]") -> str:
    """Return a policy document; ``more`` holds its other fields."""
    return f"apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: {mode}\nallow: {allow}\n{more}"


PUBLIC_KEYS: Final = {
    "ci-2025": """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEY1lmY4i6lWY7I32vOTVLdqWbf3Vu
YpeZ2EiaOOenwilZQEZeH+dcWUD45U2L9iTEwehXzAd4vdbps9enNoq6eA==
-----END PUBLIC KEY-----
""",
    "ci-2026": """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAESUzNXEY3RYvv18zW00erMJ6xJlG2
0U06xF1cOw4MFv4anvpJeVeLHQdXB9xUIVjcNqLSaI25KXoJw27gWmhORQ==
-----END PUBLIC KEY-----
""",
}
"""Keys for ECDSA P-256, by the names that policies of tests give them."""


def keys_text(**until: str) -> str:
    """Return the field ``keys`` of a policy with both keys. ``until`` is the expiry of the last one."""
    entries = [{"name": name, "key": key} for name, key in PUBLIC_KEYS.items()]
    return f"keys: {json.dumps([*entries[:-1], {**entries[-1], **until}])}\n"


def policy_document(
    allow: Sequence[Any], deny: Sequence[Any] = (), mirrors: Sequence[Any] = (), **fields: Any
) -> dict[str, Any]:
    """Return a policy as data, in mode ``mutate`` unless ``fields`` has another one."""
    head = {"apiVersion": "gatekeeper-py/v1", "kind": "ImagePolicy", "mode": "mutate"}
    return {**head, "allow": allow, "deny": deny, "mirrors": mirrors, **fields}


def exceptions_text(*entries: str) -> str:
    """Return a document with exceptions; each entry is a flow mapping without its braces."""
    listed = "".join(f"\n  - {{{entry}}}" for entry in entries) or " []"
    return f"apiVersion: gatekeeper-py/v1\nkind: ImageExceptions\nexceptions:{listed}\n"


def exceptions_of(written: dict[tuple[str, str], list[dict[str, Any]]]) -> Exceptions:
    """Return the documents with these entries, by the source and the namespace of each document."""
    head = {"apiVersion": "gatekeeper-py/v1", "kind": "ImageExceptions"}
    return Exceptions(
        {
            DocumentKey(source, where): parse_exceptions(json.dumps({**head, "exceptions": entries}), source)
            for source in SOURCES
            for (named, where), entries in written.items()
            if named == source
        }
    )


def in_configmap(
    document: str, namespace: str | None = "team-a", name: str = "gatekeeper-py-exceptions"
) -> str:
    """Return the manifest of a ConfigMap in which a document with exceptions is a block."""
    where = "" if namespace is None else f", namespace: {namespace}"
    block = document.replace("\n", "\n    ").rstrip(" ")
    head = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}{where}}}\n"
    return f"{head}data:\n  exceptions.yaml: |\n    {block}"


@cache
def policy(more: str = "", *, mode: str = "enforce", allow: str = "[registry.corp.io]") -> CompiledPolicy:
    """Return the same policy, compiled at ``INSTANT``."""
    return parse_policy(policy_text(more, mode=mode, allow=allow)).at(INSTANT)


def container(image: Any = "registry.corp.io/web:1", name: Any = "web", **more: Any) -> dict[str, Any]:
    return {"name": name, "image": image, **more}


def pod_spec(*images: Any, **more: Any) -> dict[str, Any]:
    """Return a pod spec with a container for each image, named ``c0``, ``c1`` and so on."""
    return {"containers": [container(image, f"c{i}") for i, image in enumerate(images)], **more}


def pod(*images: Any, metadata: Any = None, **spec: Any) -> dict[str, Any]:
    """Return a Pod with a container for each image and other fields of the spec."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": NAMESPACE} if metadata is None else metadata,
        "spec": pod_spec(*images, **spec),
    }


def named(obj: dict[str, Any], name: str, namespace: str | None = NAMESPACE) -> dict[str, Any]:
    """Return an object as in a list of the API server: with a name, and without kind and apiVersion."""
    metadata = {"name": name} if namespace is None else {"name": name, "namespace": namespace}
    return {"metadata": metadata, **{key: obj[key] for key in ("spec", "template") if key in obj}}


def workload(kind: str, *images: Any, **spec: Any) -> dict[str, Any]:
    """Return an object of one of the template kinds, with a template like that of ``pod``."""
    group, path = WORKLOADS[kind]
    holder: dict[str, Any] = pod_spec(*images, **spec)
    for field in reversed(path):
        holder = {field: holder}
    api_version = f"{group}/v1" if group else "v1"
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "web"}, **holder}


ODD: Final[list[Any]] = [
    None, "", "auto", " ", "Auto", "  ", "nginx", 0, 7, 0.5, False, True,
    [], ["a"], [None], [{}], {}, {"a": 1},
]  # fmt: skip
"""Values that a field of an object may hold instead of what it should hold."""


def variants(value: Any) -> Iterator[Any]:
    """Yield a JSON value with each of its parts in turn replaced by each odd value, or removed."""
    yield from ODD
    if isinstance(value, dict):
        for key, item in value.items():
            yield {other: value[other] for other in value if other != key}
            for changed in variants(item):
                yield {**value, key: changed}
    elif isinstance(value, list):
        for index, item in enumerate(value):
            for changed in variants(item):
                yield [*value[:index], changed, *value[index + 1 :]]


WORKLOADS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "PodTemplate": ("", ("template", "spec")),
    "ReplicationController": ("", ("spec", "template", "spec")),
    "ReplicaSet": ("apps", ("spec", "template", "spec")),
    "Deployment": ("apps", ("spec", "template", "spec")),
    "StatefulSet": ("apps", ("spec", "template", "spec")),
    "DaemonSet": ("apps", ("spec", "template", "spec")),
    "Job": ("batch", ("spec", "template", "spec")),
    "CronJob": ("batch", ("spec", "jobTemplate", "spec", "template", "spec")),
}
"""Group and path of the pod spec by kind: a second, independent copy of the API reference."""


def review(
    obj: Any,
    *,
    operation: str = "CREATE",
    kind: tuple[str, str] | None = None,
    old: Any = None,
    sub_resource: str | None = None,
    namespace: str | None = NAMESPACE,
    username: str = "system:serviceaccount:kube-system:replicaset-controller",
    groups: tuple[str, ...] = ("system:authenticated",),
) -> dict[str, Any]:
    """Return an AdmissionReview; group and kind default to those of the object."""
    if kind is None:
        group, _, version = obj["apiVersion"].rpartition("/")
        kind = (group, obj["kind"])
    else:
        version = "v1"
    request = {
        "uid": UID,
        "kind": {"group": kind[0], "version": version, "kind": kind[1]},
        "resource": {"group": kind[0], "version": version, "resource": f"{kind[1].lower()}s"},
        "name": "web",
        "operation": operation,
        "userInfo": {"username": username, "groups": list(groups)},
        "object": obj,
        "oldObject": old,
        "dryRun": False,
    }
    if namespace is not None:
        request["namespace"] = namespace
    if sub_resource is not None:
        request["subResource"] = sub_resource
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
