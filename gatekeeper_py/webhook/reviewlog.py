"""The log event for one review, and the limits of the lines about reviews."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from gatekeeper_py.core.admission import Outcome
from gatekeeper_py.core.admission.judge import Verdict
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.exceptions.exceptions import Excepted
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.process.logs import LineLimit, Log

MAX_LOGGED_IMAGES: Final = 10

LIMITED: Final = ("denied", "warned", "mutated")
"""Kinds of lines whose limit the namespaces of a peer share."""

EVIDENCE: Final = ("excepted", "policy")
"""Kinds of lines that a flood of other lines must not hide: images that exceptions admit, and changes of the
policy or of exceptions that are refused or get warnings."""

EXCEPTIONS: Final = "exceptions"
"""The audit annotation of a review with an image that an exception approves."""


def line_limits(log: Log, has_room: Callable[[], bool]) -> dict[str, LineLimit]:
    """Return the limits by kind. ``has_room`` returns whether the queue has room for more than evidence."""
    limit = partial(LineLimit, log, key="peer")
    return {
        **{kind: limit("denials_suppressed", has_room=has_room, kind=kind) for kind in LIMITED},
        **{kind: limit("evidence_suppressed", kind=kind) for kind in EVIDENCE},
    }


def described(endpoint: str, request: AdmissionRequest, outcome: Outcome, revision: str) -> dict[str, Any]:
    """Return the keys of the event ``review``.

    Images that an exception admitted come first. Otherwise others could hide them, because only the first
    images are listed.
    """
    excepted: list[Verdict] = []
    if EXCEPTIONS in outcome.response.audit_annotations and outcome.verdict != "denied":
        excepted = [verdict for verdict in outcome.images if verdict.decision.exception]
    shown = (*excepted, *outcome.rejected) or outcome.images
    return {
        "endpoint": endpoint,
        "uid": escape(request.uid, 128),
        "namespace": escape(request.namespace or "", 63),
        "name": escape(request.name or _generate_name(request), 253),
        "kind": escape(f"{request.kind}.{request.group}" if request.group else request.kind),
        "operation": escape(request.operation, 20),
        "user": escape(request.username),
        "verdict": outcome.verdict,
        "mode": outcome.mode.name,
        "images": [_image(verdict) for verdict in shown[:MAX_LOGGED_IMAGES]],
        "more_images": max(len(shown) - MAX_LOGGED_IMAGES, 0),
        "policy": revision,
    }


def _image(verdict: Verdict) -> dict[str, Any]:
    decision = verdict.decision
    keys: dict[str, Any] = {
        "path": escape(verdict.slot.path),
        "image": escape(decision.image),
        "reason": decision.reason,
        "detail": escape(decision.detail, 400),
    }
    if verdict.rewritten:
        keys["rewritten"] = verdict.rewritten
    if decision.exception:
        keys["exception"] = _shown(decision.exception)
    if verdict.unverified:
        keys["unverified"] = escape(verdict.unverified, 400)
    return keys


def _shown(exception: Excepted) -> dict[str, Any]:
    return {
        "source": exception.source,
        "namespace": escape(exception.namespace, 63),
        "index": exception.index,
        "until": format_instant(exception.until),
        "by": escape(exception.by),
        "reason": escape(exception.reason),
    }


def _generate_name(request: AdmissionRequest) -> str:
    metadata = request.object.get("metadata") if isinstance(request.object, dict) else None
    name = metadata.get("generateName") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""
