"""Convert an audit to results of reports. Pure: no I/O.

Only an image that would be refused or cause a warning, or that only an exception approves, becomes a result.
Other images are only counted in the summary, so reports grow with the problems of a cluster and not with its
size. A result contains no time of an audit, because such a time would change every report in every audit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gatekeeper_py.cli.inventory.tally import Effect, Tallied, Tally, Usage
from gatekeeper_py.core.admission.fields import WORKLOAD_KINDS
from gatekeeper_py.core.admission.messages import BY_LOOKUP
from gatekeeper_py.core.exceptions.exceptions import DocumentKey
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.instant import format_instant

SOURCE: Final = "gatekeeper-py"
CATEGORY: Final = "Image policy"

MAX_IMAGE: Final = 600
"""Maximum number of characters of an image. The longest valid image has about 520."""

MAX_PATH: Final = 300
MAX_MESSAGE: Final = 1000

SEVERITIES: Final[Mapping[str, str]] = {"denied": "high", "invalid": "high", "exception": "info"}
"""Severities other than ``medium``, by reason. A denied image was forbidden on purpose; an invalid image
cannot be pulled."""

RESULTS: Final[Mapping[Effect, str]] = {"refused": "fail", "warned": "warn", "excepted": "pass"}

_API_VERSIONS: Final = {
    kind.kind: f"{kind.group}/{kind.versions[0]}" if kind.group else kind.versions[0]
    for kind in WORKLOAD_KINDS
}

Result = dict[str, Any]
"""One result in the format of the API."""


class Results:
    """The results of an audit. Each result is created only when it is read, to save memory.

    A cluster may have 100,000 results of one kilobyte each.
    """

    def __init__(self, policy_name: str) -> None:
        self._policy_name = policy_name
        self._places: list[tuple[Tallied, Usage, str]] = []

    def add(self, image: Tallied, usage: Usage, result: str) -> None:
        self._places.append((image, usage, result))

    def __iter__(self) -> Iterator[Result]:
        return (_result(*place, self._policy_name) for place in self._places)


@dataclass(slots=True)
class Findings:
    """What the audit found in one namespace, or in cluster-scoped objects."""

    results: Iterable[Result] = ()
    passed: int = 0
    skipped: int = 0


def findings_by_namespace(tally: Tally, policy_name: str) -> dict[str | None, Findings]:
    """Return the findings of each namespace that has an image; ``None`` is for cluster-scoped objects.

    ``tally`` must have been made with ``keep_approved``. The field ``result`` of a result is ``pass``
    for an image that an exception approves, ``warn`` for one that only causes a warning, else ``fail``.
    """
    found: dict[str | None, Findings] = {}
    shown: dict[str | None, Results] = {}
    for image, usages in tally.listed():
        for usage in usages:
            findings = found.get(usage.namespace)
            if findings is None:
                shown[usage.namespace] = Results(policy_name)
                findings = found[usage.namespace] = Findings(shown[usage.namespace])
            found_effect = image.effect(usage)
            if found_effect == "approved":
                findings.passed += 1
            elif found_effect == "exempt":
                findings.skipped += 1
            else:
                shown[usage.namespace].add(image, usage, RESULTS[found_effect])
    return found


def _result(image: Tallied, usage: Usage, result: str, policy: str) -> Result:
    shown = escape(image.verdict.image, MAX_IMAGE)
    path = escape(usage.path, MAX_PATH)
    detail = escape(image.note if image.reason in BY_LOOKUP else image.verdict.decision.detail, MAX_MESSAGE)
    says = " is not approved: "
    if image.verdict.decision.exception is not None:
        says = " is "
    elif image.reason in BY_LOOKUP:
        says = " "
    message = f"{path}: {shown or '(none)'}{says}{detail}"
    resource = {"kind": usage.kind, "name": usage.name}
    if usage.kind in _API_VERSIONS:
        resource["apiVersion"] = _API_VERSIONS[usage.kind]
    if usage.namespace is not None:
        resource["namespace"] = usage.namespace
    mode = str(usage.mode or "")
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
        "properties": {"image": shown, "path": path, "mode": mode, **_excepted(image, usage)},
    }


def _excepted(image: Tallied, usage: Usage) -> dict[str, str]:
    """Return the properties of an image that an exception approves."""
    found = image.verdict.decision.exception
    if found is None:
        return {}
    configmap = DocumentKey(found.source, found.namespace).configmap
    entry = f"exceptions[{found.index}] in the ConfigMap {configmap}"
    shown = f"{entry} until {format_instant(found.until)}, {found.by}: {found.reason}"
    return {
        "exception": escape(shown, MAX_MESSAGE),
        "withoutException": "warn" if usage.only_warned else "fail",
    }
