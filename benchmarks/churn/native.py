"""The same approval without a webhook: a ValidatingAdmissionPolicy in CEL and its binding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

NAME = "approved-images"
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"

_LISTS = ("containers", "initContainers", "ephemeralContainers")


def policy(prefixes: Sequence[str]) -> dict[str, Any]:
    """Every image of a Pod, volumes included, begins with one of these prefixes."""
    containers = " + ".join(
        f"(has(object.spec.{name}) ? object.spec.{name}.map(c, has(c.image) ? c.image : '') : [])"
        for name in _LISTS
    )
    volumes = (
        "(has(object.spec.volumes) ? object.spec.volumes.filter(v, has(v.image))"
        ".map(v, has(v.image.reference) ? v.image.reference : '') : [])"
    )
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": NAME},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": ["pods", "pods/ephemeralcontainers"],
                    }
                ],
            },
            "variables": [{"name": "images", "expression": f"{containers} + {volumes}"}],
            "validations": [
                {
                    "expression": "variables.images.all(image, "
                    f"{json.dumps(list(prefixes))}.exists(prefix, image.startsWith(prefix)))",
                    "message": "an image is from no approved registry",
                }
            ],
        },
    }


def binding(namespaces: Sequence[str]) -> dict[str, Any]:
    """The policy refuses Pods in all namespaces but these."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": NAME},
        "spec": {
            "policyName": NAME,
            "validationActions": ["Deny"],
            "matchResources": {
                "namespaceSelector": {
                    "matchExpressions": [
                        {
                            "key": "kubernetes.io/metadata.name",
                            "operator": "NotIn",
                            "values": list(namespaces),
                        }
                    ]
                }
            },
        },
    }
