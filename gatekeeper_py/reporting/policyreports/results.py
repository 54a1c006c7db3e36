"""The audit as results of reports. Pure: no I/O.

Only what would be refused becomes a result. What is approved or exempt is a number in the summary, so that
reports grow with the problems of a cluster and not with its size. No result has a time: one would change
every report in every audit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from gatekeeper_py.core.admission.fields import WORKLOAD_KINDS
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.document import Mode
from gatekeeper_py.inventory.tally import JudgedImage, Tally, Usage

SOURCE: Final = "gatekeeper-py"
CATEGORY: Final = "Image policy"

MAX_IMAGE: Final = 600
"""Characters. The longest valid image has about 520."""

MAX_PATH: Final = 300
MAX_MESSAGE: Final = 1000

SEVERITIES: Final[Mapping[str, str]] = {"denied": "high", "invalid": "high"}
"""Of the reasons that are not ``medium``: somebody decided against a denied image, and none can be pulled by
an invalid name."""

_API_VERSIONS: Final = {
    kind.kind: f"{kind.group}/{kind.versions[0]}" if kind.group else kind.versions[0]
    for kind in WORKLOAD_KINDS
}

Result = dict[str, Any]
"""One result as the API has it."""


@dataclass(slots=True)
class Findings:
    """What the audit found in one namespace, or in cluster-scoped objects."""

    results: list[Result] = field(default_factory=list)
    passed: int = 0
    skipped: int = 0


def findings_by_namespace(
    tally: Tally, mode_in: Callable[[str | None], Mode], policy_name: str
) -> dict[str | None, Findings]:
    """Return the findings of each namespace that has an image; ``None`` is for cluster-scoped objects.

    ``tally`` must have been made with ``keep_approved``. ``mode_in`` returns the mode in a namespace: under
    ``warn`` a result is ``warn``, else ``fail``.
    """
    found: dict[str | None, Findings] = {}
    for image, usages in tally.listed():
        for usage in usages:
            findings = found.setdefault(usage.namespace, Findings())
            if image.verdict == "approved":
                findings.passed += 1
            elif image.verdict == "exempt":
                findings.skipped += 1
            else:
                outcome: Literal["warn", "fail"] = "warn" if mode_in(usage.namespace) == "warn" else "fail"
                findings.results.append(_result(image, usage, outcome, policy_name))
    return found


def _result(image: JudgedImage, usage: Usage, result: Literal["warn", "fail"], policy: str) -> Result:
    shown = escape(image.image, MAX_IMAGE)
    path = escape(usage.path, MAX_PATH)
    message = f"{path}: {shown or '(none)'} is not approved: {escape(image.detail, MAX_MESSAGE)}"
    resource = {"kind": usage.kind, "name": usage.name}
    if usage.kind in _API_VERSIONS:
        resource["apiVersion"] = _API_VERSIONS[usage.kind]
    if usage.namespace is not None:
        resource["namespace"] = usage.namespace
    return {
        "source": SOURCE,
        "policy": policy,
        "rule": image.reason,
        "category": CATEGORY,
        "severity": SEVERITIES.get(image.reason, "medium"),
        "result": result,
        "scored": True,
        "message": message[:MAX_MESSAGE],
        "resources": [resource],
        "properties": {"image": shown, "path": path},
    }
