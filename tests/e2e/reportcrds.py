"""Definitions of the two report APIs, with the relevant fields and their limits."""

from __future__ import annotations

from typing import Any

GROUPS = {
    "openreports": ("openreports.io", "v1alpha1", "Report", "reports"),
    "policyreport": ("wgpolicyk8s.io", "v1alpha2", "PolicyReport", "policyreports"),
}

_STRING: dict[str, Any] = {"type": "string"}
_REFERENCE: dict[str, Any] = {
    "type": "object",
    "properties": dict.fromkeys(("apiVersion", "kind", "name", "namespace", "uid", "fieldPath"), _STRING),
}


def _schema(*, source: bool) -> dict[str, Any]:
    result = {
        "type": "object",
        "required": ["policy"],
        "properties": {
            **dict.fromkeys(("source", "policy", "rule", "category", "message"), _STRING),
            "severity": {"type": "string", "enum": ["critical", "high", "low", "medium", "info"]},
            "result": {"type": "string", "enum": ["pass", "fail", "warn", "error", "skip"]},
            "scored": {"type": "boolean"},
            "timestamp": {
                "type": "object",
                "required": ["nanos", "seconds"],
                "properties": {
                    "nanos": {"type": "integer", "format": "int32"},
                    "seconds": {"type": "integer", "format": "int64"},
                },
            },
            "resources": {"type": "array", "items": _REFERENCE},
            "properties": {"type": "object", "additionalProperties": _STRING},
        },
    }
    counts = {key: {"type": "integer"} for key in ("pass", "fail", "warn", "error", "skip")}
    return {
        "type": "object",
        "properties": {
            "apiVersion": _STRING,
            "kind": _STRING,
            "metadata": {"type": "object"},
            "scope": _REFERENCE,
            "summary": {"type": "object", "properties": counts},
            "results": {"type": "array", "items": result},
            **({"source": _STRING} if source else {}),
        },
    }


def definitions(name: str) -> list[dict[str, Any]]:
    """Return the definitions of the namespaced and of the cluster-scoped kind."""
    group, version, kind, plural = GROUPS[name]
    return [
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{prefix.lower()}{plural}.{group}"},
            "spec": {
                "group": group,
                "scope": "Cluster" if prefix else "Namespaced",
                "names": {
                    "kind": f"{prefix}{kind}",
                    "plural": f"{prefix.lower()}{plural}",
                    "singular": f"{prefix}{kind}".lower(),
                },
                "versions": [
                    {
                        "name": version,
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": _schema(source=name == "openreports")},
                    }
                ],
            },
        }
        for prefix in ("", "Cluster")
    ]
