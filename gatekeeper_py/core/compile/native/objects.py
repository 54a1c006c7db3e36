"""Kubernetes objects of a native policy: names, constraints, match conditions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gatekeeper_py.core.admission.fields import WORKLOAD_KINDS
from gatekeeper_py.core.admission.outcome import MIRROR_POD, NODES_GROUP
from gatekeeper_py.core.compile.cost import Part, quoted
from gatekeeper_py.core.names import NAMESPACE_LABEL, PART_OF, PART_OF_LABEL, POLICY_REVISION
from gatekeeper_py.core.policy.policy import Policy

STATIC_SUFFIX: Final = ".static.k8s.io"
"""Ends the names of policies that an API server reads from files (manifest-based admission)."""

API_VERSION: Final = "admissionregistration.k8s.io/v1"
KIND: Final = "ValidatingAdmissionPolicy"

ApiObject = dict[str, Any]


class Variable(NamedTuple):
    """A named expression of a policy; later expressions refer to it."""

    name: str
    expression: str

    @property
    def reference(self) -> str:
        return f"variables.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of ``compile``.

    Objects in the ``exempt`` namespaces are not judged. ``static`` writes names for manifest-based admission.
    A ``backstop`` never rejects what the policy approves, but may approve more.
    """

    exempt: tuple[str, ...]
    static: bool = False
    backstop: bool = False


def policy_and_binding(
    name: str, policy: Policy, options: Options, spec: ApiObject, actions: list[str]
) -> tuple[ApiObject, ApiObject]:
    """Return a native policy with its binding, which takes ``actions`` when a validation fails."""
    full_name = f"{name}{STATIC_SUFFIX}" if options.static else name
    metadata = {
        "name": full_name,
        "labels": {PART_OF_LABEL: PART_OF},
        # Shows from which policy this was compiled; ``check`` compares it.
        "annotations": {POLICY_REVISION: policy.revision},
    }
    head = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata}
    bound = {"apiVersion": API_VERSION, "kind": f"{KIND}Binding", "metadata": metadata}
    binding = {"policyName": full_name, "validationActions": actions}
    return {**head, "spec": spec}, {**bound, "spec": binding}


def constraints(options: Options) -> ApiObject:
    """Return what a policy applies to: created and updated objects outside the exempt namespaces."""
    rules: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for kind in WORKLOAD_KINDS:
        resources = rules.setdefault((kind.group, kind.versions), [])
        resources += [kind.plural, *(f"{kind.plural}/{each}" for each in kind.subresources)]
    matching: ApiObject = {"matchPolicy": "Equivalent"}
    exempt = sorted(set(filter(None, options.exempt)))
    if exempt:
        # Users cannot forge this label: the API server sets it.
        selector = {"key": NAMESPACE_LABEL, "operator": "NotIn", "values": exempt}
        matching["namespaceSelector"] = {"matchExpressions": [selector]}
    matching["resourceRules"] = [
        {
            "apiGroups": [group],
            "apiVersions": list(versions),
            "operations": ["CREATE", "UPDATE"],
            "resources": resources,
            "scope": "Namespaced",
        }
        for (group, versions), resources in rules.items()
    ]
    return matching


def conditions(selected: Part | None) -> Iterator[ApiObject]:
    """Yield the match conditions that skip objects that are never judged, and namespaces in another mode."""
    yield {
        "name": "not-being-deleted",
        "expression": "request.operation != 'UPDATE' || !has(object.metadata.deletionTimestamp)",
    }
    mirror = (
        f"has(object.metadata.annotations) && {quoted(MIRROR_POD)} in object.metadata.annotations"
        f" && has(request.userInfo.groups) && {quoted(NODES_GROUP)} in request.userInfo.groups"
    )
    yield {"name": "not-a-mirror-pod", "expression": f"object.kind != 'Pod' || !({mirror})"}
    if selected is not None:
        yield {"name": "mode-of-the-namespace", "expression": selected.text}
