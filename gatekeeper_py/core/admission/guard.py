"""Judge a ConfigMap that holds a policy, so that a bad one is refused when it is applied."""

from __future__ import annotations

from typing import Final

from gatekeeper_py.core.admission import Outcome, review
from gatekeeper_py.core.admission.messages import MAX_MESSAGE_BYTES
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.document import PolicyError
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.limits import MAX_CONFIGMAP_BYTES
from gatekeeper_py.core.policy.policy import parse_policy
from gatekeeper_py.core.policy.problems import mode_problem

POLICY_KEY: Final = "policy.yaml"
MODE_KEY: Final = "mode"
CONFIGMAP: Final = ("", "ConfigMap")


def judge_configmap(request: AdmissionRequest) -> Outcome:
    """Deny the CREATE or UPDATE of a ConfigMap whose policy or mode is bad; allow all else."""
    findings = _findings(request)
    if not findings:
        return Outcome(response=review.allowed(request.uid), verdict="allowed", mode="enforce")
    response = review.denied(request.uid, _message(findings))
    return Outcome(response=response, verdict="denied", mode="enforce")


def _findings(request: AdmissionRequest) -> tuple[Finding, ...]:
    if (request.group, request.kind) != CONFIGMAP or request.operation not in {"CREATE", "UPDATE"}:
        return ()
    data = request.object.get("data") if isinstance(request.object, dict) else None
    if not isinstance(data, dict):
        return ()
    text, mode = data.get(POLICY_KEY), data.get(MODE_KEY)
    if text is None:
        problem = None if mode is None else mode_problem(mode)
        return () if problem is None else (problem,)
    if not isinstance(text, str):
        return (_not_text(POLICY_KEY),)
    if mode is not None and not isinstance(mode, str):
        return (_not_text(MODE_KEY),)
    try:
        parse_policy(text, mode, max_bytes=MAX_CONFIGMAP_BYTES)
    except PolicyError as problem:
        return problem.findings
    return ()


def _not_text(key: str) -> Finding:
    return Finding(severity="error", code="wrong-type", path=key, line=1, message=f"{key} must be text")


def _message(findings: tuple[Finding, ...]) -> str:
    """Findings a line each, as many as fit in 1 KiB, then how many more."""
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
