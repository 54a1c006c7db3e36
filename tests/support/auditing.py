"""Audits of lists of objects, without a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from gatekeeper_py.cli.inventory.provenance import PolicySource, Provenance
from gatekeeper_py.cli.inventory.survey import Survey
from gatekeeper_py.cli.inventory.tally import Tallied, Tally
from gatekeeper_py.cli.reporting.auditpage import AuditPage
from gatekeeper_py.core import Policy
from gatekeeper_py.core.admission.judge import Verdict
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.admission.slot import Slot
from gatekeeper_py.core.exceptions.exceptions import Excepted, Ruling
from gatekeeper_py.core.policy.decision import Decision, Reason
from support.builders import INSTANT

Run = tuple[str, str, str, str]
"""Namespace, kind (``Pod`` or one of ``apps``), name and image."""

EXEMPT: Final = "kube-system"

META: Final = Provenance(
    time="2026-03-01T12:00:00Z",
    version="1.2.3",
    cluster="prod",
    policy=PolicySource("policy.yaml", "0123456789ab"),
)

HOSTILE: Final = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "'\"><svg onload=alert(1)>",
    "\u202egpj.exe\u202c",
    "javascript:alert(1)",
    "&lt;b&gt;",
    "</style><style>*{display:none}</style>",
    "a\u0000b\u001b[2J\r\nc",
    "A" * 100_000,
    "\u00e9\N{GRINNING FACE}",
    "{{7*7}}${7*7}",
)


def tally_of(policy: Policy, runs: Iterable[Run]) -> Tally:
    """Judge running images as the audit does; the namespace ``kube-system`` is exempt."""
    survey = Survey(policy.at(INSTANT), frozenset({EXEMPT}), keep_approved=True)
    for namespace, kind, name, image in runs:
        spec: dict[str, Any] = {"containers": [{"name": "main", "image": image}]}
        survey.take(
            AdmissionRequest(
                uid="audit",
                group="" if kind == "Pod" else "apps",
                kind=kind,
                operation="CREATE",
                namespace=namespace,
                name=name,
                object={"metadata": {}, "spec": spec if kind == "Pod" else {"template": {"spec": spec}}},
            )
        )
    return survey.tally


def tallied(image: str, reason: Reason, detail: str, exception: Excepted | None = None) -> Tallied:
    """Return an image as an audit counts it. The reason determines whether it is approved."""
    approved, ruling = reason in {"allowed", "exception"}, Ruling(exception)
    decision = Decision(image=image, approved=approved, reason=reason, detail=detail, ruling=ruling)
    return Tallied(Verdict(Slot((), "image", image), decision))


def counts(**others: int) -> dict[str, int]:
    """Return the counts of an audit; those that are not given are 0."""
    names = ("objects", "images", "approved", "excepted", "rejected", "warned", "exempt", "unmet")
    return dict.fromkeys(names, 0) | others


def page_of(policy: Policy) -> AuditPage:
    return AuditPage(meta=META, policy=policy, namespace=None, instant=INSTANT)
