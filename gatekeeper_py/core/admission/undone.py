"""Find edits of the policy's ConfigMap that Helm would undo.

Helm 3 silently overwrites edits in the cluster with the output of the chart. Helm 4 stops with a conflict,
because server-side apply compares field managers. The guard does the same comparison for Helm 3.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.configmap import KEYS
from gatekeeper_py.core.policy.finding import Finding

HELM: Final = "helm"
"""Prefix of the field managers of Helm and of tools that contain Helm: helm, helm3, helm-controller."""

MAX_NAME: Final = 60
"""Maximum number of characters of a field manager's name that are shown."""


class Writer(NamedTuple):
    """The writer of a request: its field manager, and whether it takes over fields of other managers."""

    manager: str = ""
    forced: bool = False


def read_writer(document: Any) -> Writer:
    """Return the writer that an AdmissionReview names, or an empty ``Writer`` if it names none."""
    request = document.get("request") if isinstance(document, dict) else None
    options = request.get("options") if isinstance(request, dict) else None
    if not isinstance(options, dict):
        return Writer()
    manager = options.get("fieldManager")
    return Writer(manager if isinstance(manager, str) else "", options.get("force") is True)


def undone_edits(request: AdmissionRequest, writer: Writer) -> tuple[Finding, ...]:
    """Return a finding for each key of the policy that Helm would change back.

    A key counts if the request changes it, and if it has field managers and none of them is Helm.
    """
    if writer.forced or not writer.manager.startswith(HELM):
        return ()
    before, after = _data(request.old_object), _data(request.object)
    findings = []
    for key in KEYS:
        text = before.get(key)
        # An API server stores only text. Comparing other values could recurse too deeply.
        if not isinstance(text, str) or text == after.get(key):
            continue
        managers = _managers(request.old_object, key)
        if managers and not any(name.startswith(HELM) for name in managers):
            findings.append(_finding(key, managers[0]))
    return tuple(findings)


def _finding(key: str, manager: str) -> Finding:
    value = "policy.mode" if key == "mode" else "policy.document"
    return Finding(
        severity="error",
        code="undone-edit",
        path=f"data.{key}",
        line=1,
        message=f"{escape(manager, MAX_NAME)} changed this in the cluster, and Helm would undo it",
        proposal=f"take it into the value {value}, or delete the ConfigMap to discard it, and upgrade again",
    )


def _managers(obj: Any, key: str) -> list[str]:
    """Return the names of the field managers of a key of ``data``."""
    metadata = obj.get("metadata") if isinstance(obj, dict) else None
    entries = metadata.get("managedFields") if isinstance(metadata, dict) else None
    names = []
    for entry in entries if isinstance(entries, list) else ():
        fields = entry.get("fieldsV1") if isinstance(entry, dict) else None
        data = fields.get("f:data") if isinstance(fields, dict) else None
        manager = entry.get("manager") if isinstance(entry, dict) else None
        if isinstance(manager, str) and isinstance(data, dict) and f"f:{key}" in data:
            names.append(manager)
    return names


def _data(obj: Any) -> dict[Any, Any]:
    data = obj.get("data") if isinstance(obj, dict) else None
    return data if isinstance(data, dict) else {}
