"""The law of the fast path: what it skips would have been allowed without a word."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from builders import INSTANT, NAMESPACE
from gatekeeper_py.core import CompiledPolicy, admission, parse_policy
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.compile.preapproved import Endpoint
from gatekeeper_py.core.policy.document import Mode

MODES: Final[tuple[Mode, ...]] = ("enforce", "warn", "mutate")
INSTANTS: Final = (
    datetime(2026, 1, 1, tzinfo=UTC),
    INSTANT,
    datetime(2026, 3, 20, tzinfo=UTC),
    datetime(2027, 1, 1, tzinfo=UTC),
)
NAMESPACES: Final = (None, NAMESPACE, "team-a", "team-b")


@lru_cache(maxsize=64)
def _policies(text: str) -> tuple[CompiledPolicy, ...]:
    return tuple(parse_policy(text, mode).at(instant) for mode in MODES for instant in INSTANTS)


def heard(text: str, document: dict[str, Any], endpoint: Endpoint) -> str:
    """What a webhook with the policy of ``text`` would have said to a request that was skipped.

    In every mode, at every instant, in every namespace; empty when it is allowed without a word.
    """
    for compiled in _policies(text):
        for namespace in NAMESPACES:
            request = wire.parse(document)._replace(namespace=namespace)
            judge = admission.validate if endpoint == "validating" else admission.mutate
            outcome = judge(request, compiled)
            response = outcome.response
            if outcome.verdict != "allowed" or not response.allowed or response.warnings or response.patch:
                return f"{outcome.verdict} in {namespace} at {compiled.instant}: {response}"
    return ""
