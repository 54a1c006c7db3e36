"""The one table of the fields of Kubernetes objects that hold images.

All code that depends on these fields reads this table or is checked against it by
``tests/core/admission/test_fields.py``:
the walker over objects (``workload``), the typed decoder (``webhook/decode``), the match conditions of the
fast path (``core/compile``), the rules and match conditions of the webhook configurations (``k8s/base``) and
the audit's list of kinds. A field or a kind that Kubernetes adds is one row here.

Source: the Kubernetes API reference, v1 ``PodSpec`` and the kinds that embed a ``PodTemplateSpec``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

GroupKind = tuple[str, str]
"""API group (empty for core) and kind."""


class ImageList(NamedTuple):
    """A list of a pod spec whose items can each hold one image.

    ``noun`` names an item in messages. ``pull_policy`` is the field next to the image that states when it is
    pulled. ``statuses`` is the field of a Pod's status that lists the items with the digests of the running
    images; empty if there is no such field. ``path`` leads from an item to its image, in one or two steps.
    With two steps, an item without the first field holds no image.
    """

    key: str
    noun: str
    pull_policy: str
    statuses: str
    path: tuple[str] | tuple[str, str] = ("image",)


CONTAINERS: Final = ImageList("containers", "container", "imagePullPolicy", "containerStatuses")
"""The only list that every Pod must have."""

IMAGE_LISTS: Final = (
    CONTAINERS,
    ImageList("initContainers", "init container", "imagePullPolicy", "initContainerStatuses"),
    ImageList("ephemeralContainers", "ephemeral container", "imagePullPolicy", "ephemeralContainerStatuses"),
    # The digest of an image volume is not in the status, and a container may have the name of a volume.
    ImageList("volumes", "image volume", "pullPolicy", "", ("image", "reference")),
)


def is_in_pod_list(parts: tuple[str | int, ...]) -> bool:
    """Return whether a path leads from a Pod to the image of an item in one of ``IMAGE_LISTS``."""
    return any(parts[:2] == ("spec", field.key) and parts[3:] == field.path for field in IMAGE_LISTS)


class WorkloadKind(NamedTuple):
    """A kind that holds a pod spec.

    ``pod_spec`` is the path from the object to its pod spec. The rules of a webhook configuration name
    ``plural``, ``versions`` and ``subresources``. ``subresources`` are those that can change an image.
    """

    group: str
    kind: str
    plural: str
    pod_spec: tuple[str, ...]
    versions: tuple[str, ...] = ("v1",)
    subresources: tuple[str, ...] = ()


_TEMPLATE: Final = ("spec", "template", "spec")

WORKLOAD_KINDS: Final = (
    WorkloadKind("", "Pod", "pods", ("spec",), subresources=("ephemeralcontainers",)),
    WorkloadKind("", "PodTemplate", "podtemplates", ("template", "spec")),
    WorkloadKind("", "ReplicationController", "replicationcontrollers", _TEMPLATE),
    WorkloadKind("apps", "ReplicaSet", "replicasets", _TEMPLATE),
    WorkloadKind("apps", "Deployment", "deployments", _TEMPLATE),
    WorkloadKind("apps", "StatefulSet", "statefulsets", _TEMPLATE),
    WorkloadKind("apps", "DaemonSet", "daemonsets", _TEMPLATE),
    WorkloadKind("batch", "Job", "jobs", _TEMPLATE),
    WorkloadKind("batch", "CronJob", "cronjobs", ("spec", "jobTemplate", "spec", "template", "spec")),
)

POD: Final[GroupKind] = ("", "Pod")

POD_SPECS: Final[dict[GroupKind, tuple[str, ...]]] = {
    (kind.group, kind.kind): kind.pod_spec for kind in WORKLOAD_KINDS
}
"""The path from the object to its pod spec, by group and kind."""


KUBERNETES_GROUPS: Final = frozenset({"", "apps", "autoscaling", "batch", "extensions", "policy"})
"""API groups of Kubernetes itself whose names do not end in ``.k8s.io``."""


def is_kubernetes_group(group: str) -> bool:
    """Return whether an API group is Kubernetes' own. Its kinds that hold images are all in the table."""
    return group in KUBERNETES_GROUPS or group.endswith(".k8s.io")
