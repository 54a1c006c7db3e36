"""Call an endpoint's pure function as the server does, and check each answer against the contract."""

from __future__ import annotations

from typing import Any

from gatekeeper_py.core import admission
from gatekeeper_py.core.admission import Outcome
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.policy.policy import CompiledPolicy
from support.contract import Answer, check_response


def validate(document: dict[str, Any], policy: CompiledPolicy) -> Answer:
    """Return the answer of the validating endpoint."""
    return check_response(validated(document, policy).response.document(), document, "validate")


def mutate(document: dict[str, Any], policy: CompiledPolicy) -> Answer:
    """Return the answer of the mutating endpoint."""
    return check_response(mutated(document, policy).response.document(), document, "mutate")


def validated(document: dict[str, Any], policy: CompiledPolicy) -> Outcome:
    """Return the outcome of the validating endpoint: the answer, and the values for metrics and logs."""
    outcome = admission.validate(wire.parse(document), policy)
    check_response(outcome.response.document(), document, "validate")
    return outcome


def mutated(document: dict[str, Any], policy: CompiledPolicy) -> Outcome:
    """Return the outcome of the mutating endpoint."""
    outcome = admission.mutate(wire.parse(document), policy)
    check_response(outcome.response.document(), document, "mutate")
    return outcome
