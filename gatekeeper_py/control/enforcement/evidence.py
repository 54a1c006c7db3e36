"""Interpret an API server's answer to a probe Pod. Pure: no I/O.

The Pod's image has a random part, so an answer that contains it belongs to this probe.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final, Literal

from gatekeeper_py.control.probe_pod import IMAGE_PATH, Answer
from gatekeeper_py.control.webhooks.templates import POD_VALIDATION
from gatekeeper_py.core.admission.messages import NOT_APPROVED, PROBLEM, REJECTIONS
from gatekeeper_py.core.policy.policy import Policy

Outcome = Literal["enforced", "not_enforced", "unreachable"]
"""The result for one API server. ``not_enforced`` is any answer that does not prove enforcement;
``unreachable`` means that no answer arrived."""

HOST: Final = "gatekeeper-py-probe.invalid"
"""No registry can have this name: the domain ``invalid`` is reserved (RFC 2606)."""

REFUSED: Final = f'admission webhook "{POD_VALIDATION}" denied the request: '
FAILED: Final = f'failed calling webhook "{POD_VALIDATION}"'

REJECTED: Final = (NOT_APPROVED, *REJECTIONS.values(), PROBLEM)
"""Every warning about a rejected probe image contains one of these; no warning about a rewrite does."""

MAX_PROBLEM: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The result for one API server; ``problem`` is why enforcement is not proven."""

    outcome: Outcome
    problem: str = ""


def probe_image(token: str, *, valid: bool) -> str:
    """Return an image with a random ``token`` of lower-case letters and digits.

    With ``valid``, the image is a valid reference, and a policy rejects it unless the policy approves this
    registry, for example with ``*.invalid``. Without ``valid``, the image is an invalid reference, which
    every policy rejects.
    """
    return f"{HOST}/{token}:1" if valid else f"{HOST}/NOT-VALID-{token}:1"


def rejects_valid_probes(policy: Policy, namespace: str, now: datetime) -> bool:
    """Return whether a policy rejects, and does not rewrite, valid probe images for Pods in ``namespace``."""
    compiled = policy.at(now)
    image = probe_image("0" * 16, valid=True)
    return compiled.plan(namespace, image) is None and not compiled.decide(namespace, image).approved


def read_answer(answer: Answer, token: str) -> Proof:
    """Return the result that an answer proves.

    An answer proves enforcement only if our webhook denied the Pod, or warned about its image (mode
    ``warn``). A refusal by another webhook, by a quota or by RBAC proves nothing.
    """
    if answer.problem:
        return Proof(outcome="unreachable", problem=answer.problem[:MAX_PROBLEM])
    message = answer.message
    denied = answer.status == HTTPStatus.FORBIDDEN and REFUSED in message and token in message
    if denied or any(_is_ours(warning, token) for warning in answer.warnings):
        return Proof(outcome="enforced")
    return Proof(outcome="not_enforced", problem=_problem(answer.status, message)[:MAX_PROBLEM])


def _is_ours(warning: str, token: str) -> bool:
    return f"{IMAGE_PATH}: " in warning and token in warning and any(each in warning for each in REJECTED)


def _problem(status: int, message: str) -> str:
    if FAILED in message:
        return f"the API server got no answer from the webhook: {message}"
    if status < HTTPStatus.BAD_REQUEST:
        return (
            "the API server admitted an image that the policy rejects,"
            " and returned no warning from the webhook"
        )
    return f"the webhook did not refuse the Pod; the API server answered {status}: {message}"
