"""The log event for one review."""

from __future__ import annotations

from typing import Any, Final

from gatekeeper_py.core.admission import Outcome
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.core.images.reference import escape

MAX_LOGGED_IMAGES: Final = 10


def described(endpoint: str, request: AdmissionRequest, outcome: Outcome, revision: str) -> dict[str, Any]:
    """Return the keys of the event ``review``."""
    shown = outcome.rejected or outcome.judgements
    return {
        "endpoint": endpoint,
        "uid": escape(request.uid, 128),
        "namespace": escape(request.namespace or "", 63),
        "name": escape(request.name or _generate_name(request), 253),
        "kind": escape(f"{request.kind}.{request.group}" if request.group else request.kind),
        "operation": escape(request.operation, 20),
        "user": escape(request.username),
        "verdict": outcome.verdict,
        "mode": outcome.mode,
        "images": [
            {
                "path": escape(judgement.slot.path),
                "image": escape(judgement.decision.image),
                "reason": judgement.decision.reason,
                "detail": escape(judgement.decision.detail, 400),
                **({"rewritten": judgement.rewritten} if judgement.rewritten else {}),
                **({"unverified": escape(judgement.unverified, 400)} if judgement.unverified else {}),
            }
            for judgement in shown[:MAX_LOGGED_IMAGES]
        ],
        "more_images": max(len(shown) - MAX_LOGGED_IMAGES, 0),
        "policy": revision,
    }


def _generate_name(request: AdmissionRequest) -> str:
    metadata = request.object.get("metadata") if isinstance(request.object, dict) else None
    name = metadata.get("generateName") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""
