"""Guard the policy: refuse a bad policy when its ConfigMap is applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from gatekeeper_py.core.admission import Outcome, review
from gatekeeper_py.core.admission.messages import MAX_MESSAGE_BYTES, finding_warnings
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.admission.undone import Writer, undone_edits
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.configmap import ConfigMapPolicy, read_configmap
from gatekeeper_py.core.policy.finding import Finding

CONFIGMAP: Final = ("", "ConfigMap")
GUARDED_OPERATIONS: Final = frozenset({"CREATE", "UPDATE"})

UNKNOWN_WRITER: Final = Writer()
"""For a request whose writer is not known."""


def guarded(
    request: AdmissionRequest, namespace: str, name: str, writer: Writer = UNKNOWN_WRITER
) -> ConfigMapPolicy | None:
    """Return the new content of the policy's ConfigMap; ``None`` when the request is about another object.

    ``namespace`` and ``name`` are those of the policy's ConfigMap. If ``writer`` is Helm, each edit that the
    request would undo becomes a finding.
    """
    if (request.group, request.kind) != CONFIGMAP or request.operation not in GUARDED_OPERATIONS:
        return None
    obj = request.object if isinstance(request.object, dict) else {}
    metadata = obj.get("metadata")
    # On CREATE, an API server puts the object's name into the request too; other callers may not.
    own_name = metadata.get("name") if isinstance(metadata, dict) else None
    if request.namespace != namespace or name not in (request.name, own_name):
        return None
    policy = read_configmap(obj.get("data"), obj.get("binaryData"))
    return replace(policy, findings=(*policy.findings, *undone_edits(request, writer)))


def untouched(request: AdmissionRequest) -> Outcome:
    """Return the answer to a review of an object that is not the policy."""
    return Outcome(response=review.allowed(request.uid), verdict="allowed", mode="enforce")


def refused(request: AdmissionRequest, errors: Sequence[Finding]) -> Outcome:
    """Return the answer for a policy that is not acceptable."""
    response = review.denied(request.uid, _message(errors))
    return Outcome(response=response, verdict="denied", mode="enforce")


def accepted(request: AdmissionRequest, findings: Sequence[Finding]) -> Outcome:
    """Return the answer for an acceptable policy, with lint findings as warnings."""
    response = review.allowed(request.uid, warnings=finding_warnings(findings))
    return Outcome(response=response, verdict="warned" if findings else "allowed", mode="enforce")


def _message(findings: Sequence[Finding]) -> str:
    """Return one line for each finding. If not all fit into 1 KiB, the last line counts the rest."""
    lines = [f"the policy is not acceptable: {len(findings)} problem{'s' if len(findings) > 1 else ''}"]
    size = len(lines[0])
    for number, finding in enumerate(findings):
        line = escape(str(finding), 400)
        left = f"and {len(findings) - number} more"
        if size + len(line) + len(left) + 2 > MAX_MESSAGE_BYTES:
            lines.append(left)
            break
        lines.append(line)
        size += len(line) + 1
    return "\n".join(lines)
