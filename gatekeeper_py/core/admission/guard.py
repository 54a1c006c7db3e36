"""Guard the policy: refuse a bad policy when its ConfigMap is applied.

Also show what a change would reject of the images that were admitted recently, and refuse a change that would
reject most of them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from gatekeeper_py.core.admission import review
from gatekeeper_py.core.admission.messages import (
    MAX_MESSAGE_BYTES,
    MAX_WARNING_LENGTH,
    MAX_WARNINGS,
    finding_warnings,
)
from gatekeeper_py.core.admission.outcome import Outcome
from gatekeeper_py.core.admission.radius import Radius
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.exceptions.exceptions import Exceptions
from gatekeeper_py.core.exceptions.grants import Grants
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.names import ACCEPT_REJECTIONS
from gatekeeper_py.core.policy.configmap import (
    ConfigMapPolicy,
    ExceptionsText,
    document_key,
    read_configmap,
    read_exceptions,
)
from gatekeeper_py.core.policy.document import ENFORCE
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.instant import format_instant

CONFIGMAP: Final = ("", "ConfigMap")
GUARDED_OPERATIONS: Final = frozenset({"CREATE", "UPDATE"})

MAX_APPROVALS: Final = 5
"""Maximum number of entries that are shown when exceptions are accepted."""

MAX_RADIUS_LINES: Final = 5
"""Maximum number of warnings that list rejected images."""


def guarded(request: AdmissionRequest, namespace: str, name: str) -> ConfigMapPolicy | None:
    """Return the new content of the policy's ConfigMap; ``None`` when the request writes none.

    An update that does not change the texts writes none. Otherwise, nobody could remove the finalizer of a
    ConfigMap whose policy is refused. ``namespace`` and ``name`` are those of the policy's ConfigMap.
    """
    if (request.group, request.kind) != CONFIGMAP or request.operation not in GUARDED_OPERATIONS:
        return None
    obj = request.object if isinstance(request.object, dict) else {}
    metadata = obj.get("metadata")
    # On CREATE, an API server puts the object's name into the request too; other callers may not.
    own_name = metadata.get("name") if isinstance(metadata, dict) else None
    if request.namespace != namespace or name not in (request.name, own_name) or _leaves_texts(request):
        return None
    policy = read_configmap(obj.get("data"), obj.get("binaryData"))
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    return replace(
        policy,
        accepts_rejections=isinstance(annotations, dict) and annotations.get(ACCEPT_REJECTIONS) == "true",
    )


def written_exceptions(request: AdmissionRequest, installation: str) -> ExceptionsText | None:
    """Return the exceptions that a request would write; ``None`` when it writes none, as in ``guarded``.

    ``installation`` is the namespace of the installation.
    """
    if (request.group, request.kind) != CONFIGMAP or request.operation not in GUARDED_OPERATIONS:
        return None
    obj = request.object if isinstance(request.object, dict) else {}
    metadata = obj.get("metadata")
    own_name = metadata.get("name") if isinstance(metadata, dict) else None
    keys = (document_key(name, request.namespace, installation) for name in (request.name, own_name))
    key = next(filter(None, keys), None)
    if key is None or _leaves_texts(request):
        return None
    return read_exceptions(key, obj.get("data"), obj.get("binaryData"))


def approvals(grants: Grants, exceptions: Exceptions, now: datetime) -> tuple[str, ...]:
    """Return warnings that show what a document approves and until when. The last one counts the rest."""
    live = [entry for _, entry, state in exceptions.states(grants, now) if state == "live"]
    shown = [
        escape(f"approved until {format_instant(entry.until)}: {entry.pattern.text}", MAX_WARNING_LENGTH)
        for entry in live[:MAX_APPROVALS]
    ]
    left = len(live) - len(shown)
    return (*shown, f"and {left} more entries") if left else tuple(shown)


def untouched(request: AdmissionRequest) -> Outcome:
    """Return the answer to a review of an object that is not the policy."""
    return Outcome(response=review.allowed(request.uid), verdict="allowed", mode=ENFORCE)


def refused(request: AdmissionRequest, errors: Sequence[Finding], what: str = "the policy is") -> Outcome:
    """Return the answer for a document that is not acceptable. ``what`` names it in the message."""
    response = review.denied(request.uid, _message(errors, what))
    return Outcome(response=response, verdict="denied", mode=ENFORCE)


def accepted(request: AdmissionRequest, findings: Sequence[Finding], notes: Sequence[str] = ()) -> Outcome:
    """Return the answer for an acceptable policy, with notes and then lint findings as warnings."""
    warnings = (*notes, *finding_warnings(findings, MAX_WARNINGS - len(notes)))
    response = review.allowed(request.uid, warnings=warnings)
    return Outcome(response=response, verdict="warned" if warnings else "allowed", mode=ENFORCE)


def excess(radius: Radius, most: int) -> Finding | None:
    """Return the error for a policy that refuses more than ``most`` percent of the images admitted recently.

    ``most`` is 0 if there is no limit.
    """
    if not most:
        return None
    if not radius.complete:
        message = "judging the images that were admitted here in the last 24 hours takes too long"
    elif radius.worst.exceeds(most):
        message = f"{_rejections(*radius.worst)}: {', '.join(map(escape, radius.images))}"
    else:
        return None
    return Finding(
        severity="error",
        code="rejects-too-many",
        path="data",
        line=1,
        message=message,
        proposal=f'to apply it anyway, set the annotation {ACCEPT_REJECTIONS}: "true" on the ConfigMap',
    )


def radius_notes(radius: Radius, *, insisted: bool) -> tuple[str, ...]:
    """Return warnings about the images that an acceptable policy rejects, at most six lines.

    ``insisted`` is whether the ConfigMap has the annotation that accepts any number of rejections.
    """
    notes = []
    if radius.rejected:
        text = f"{_rejections(radius.rejected, radius.known)}: {', '.join(map(escape, radius.images))}"
        notes = textwrap.wrap(
            text,
            MAX_WARNING_LENGTH,
            max_lines=MAX_RADIUS_LINES,
            placeholder=" ...",
            break_on_hyphens=False,
        )
    if insisted:
        notes.append(f"remove the annotation {ACCEPT_REJECTIONS} now, so that the next change is checked")
    return tuple(notes)


def _rejections(rejected: int, known: int) -> str:
    return f"this policy rejects {rejected} of {known} images that were approved here in the last 24 hours"


def _message(findings: Sequence[Finding], what: str) -> str:
    """Return one line for each finding. If not all fit into 1 KiB, the last line counts the rest."""
    lines = [f"{what} not acceptable: {len(findings)} problem{'s' if len(findings) > 1 else ''}"]
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


def _leaves_texts(request: AdmissionRequest) -> bool:
    """Return whether a request is an update that changes no text of a ConfigMap."""
    before, after = _texts(request.old_object), _texts(request.object)
    return request.operation == "UPDATE" and before is not None and before == after


def _texts(obj: Any) -> list[dict[str, str]] | None:
    """Return ``data`` and ``binaryData`` of a ConfigMap, ``None`` if no API server would store such values.

    Only text is compared, because comparing other values could recurse too deeply.
    """
    if not isinstance(obj, dict):
        return None
    parts = [obj.get(name) or {} for name in ("data", "binaryData")]
    stored = all(
        isinstance(part, dict) and all(isinstance(value, str) for value in part.values()) for part in parts
    )
    return parts if stored else None
