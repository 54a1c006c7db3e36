"""What is known of the policy, and the match conditions that follow from it.

One rule decides every doubt: without a condition the webhook is asked about everything, which is always
right. So a policy that is not known for sure has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from gatekeeper_py.control.webhooks import ASK_ALWAYS, Conditions, Desired
from gatekeeper_py.core.compile.preapproved import ENDPOINTS, Endpoint, FastPath, compile_fastpath
from gatekeeper_py.core.policy.document import PolicyError
from gatekeeper_py.core.policy.policy import Policy, parse_policy

WEBHOOKS: Final = MappingProxyType(
    {
        "validating": "pods.image-validation-webhook.gatekeeper-py",
        "mutating": "pods.image-mutation-webhook.gatekeeper-py",
    }
)
"""Which webhook takes which expression. All others are asked about everything."""

NOTHING: Final = FastPath(
    rules=(),
    places=MappingProxyType({endpoint: frozenset() for endpoint in ENDPOINTS}),
    validating=None,
    mutating=None,
)
"""The fast path of a policy under which nothing is plain."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Known:
    """A policy and what follows from it. Without a ``policy`` nothing is plain, and ``problem`` says why.

    ``rules`` counts those whose images are not asked about.
    """

    fast_path: FastPath
    policy: Policy | None = None
    text: str | None = None
    mode: str | None = None
    conditions: Conditions = ASK_ALWAYS
    rules: Mapping[Endpoint, int] = field(default_factory=lambda: dict.fromkeys(ENDPOINTS, 0))
    problem: str = ""


def unknown(problem: str) -> Known:
    return Known(fast_path=NOTHING, problem=problem)


def know(text: str, mode: str | None) -> Known:
    """Read and compile a document; one that is refused is not known."""
    try:
        policy = parse_policy(text, mode)
    except PolicyError as problem:
        return unknown(f"the document is refused: {problem.findings[0]}")
    fast_path = compile_fastpath(policy)
    expressions = {
        WEBHOOKS[endpoint]: expression
        for endpoint in ENDPOINTS
        if (expression := fast_path.expression(endpoint)) is not None
    }
    # Under the document's own mode: the fast path is the same in every mode, and toggling it by the
    # ConfigMap's key must change no other object.
    revision = replace(policy, mode=policy.document.mode).revision
    conditions = Conditions(expressions=expressions, revision=revision) if expressions else ASK_ALWAYS
    return Known(
        fast_path=fast_path,
        policy=policy,
        text=text,
        mode=mode,
        conditions=conditions,
        rules={
            endpoint: sum(not verdict.why_not(endpoint) for verdict in fast_path.rules)
            for endpoint in ENDPOINTS
        },
    )


def misses(desired: Iterable[Desired]) -> list[str]:
    """The webhooks that the fast path is for and that no manifest has."""
    found = {webhook["name"] for each in desired for webhook in each.webhooks}
    return [name for name in WEBHOOKS.values() if name not in found]
