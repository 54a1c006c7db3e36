"""The policy as the controller sees it, and the match conditions that follow from it.

One rule settles every doubt: without a condition the API server calls the webhook for every Pod, which is
always correct. So a policy that is not known for certain has no conditions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from gatekeeper_py.control.webhooks import NO_CONDITIONS, Conditions
from gatekeeper_py.core.compile.preapproved import ENDPOINTS, Endpoint, FastPath, compile_fastpath
from gatekeeper_py.core.policy.document import PolicyError
from gatekeeper_py.core.policy.policy import Policy, parse_policy

WEBHOOKS: Final = MappingProxyType(
    {
        "validating": "pods.image-validation-webhook.gatekeeper-py",
        "mutating": "pods.image-mutation-webhook.gatekeeper-py",
    }
)
"""The webhook that takes each endpoint's expression. Every other webhook is always called."""

NOTHING_SKIPPED: Final = FastPath(
    rules=(),
    places=MappingProxyType({endpoint: frozenset() for endpoint in ENDPOINTS}),
    validating=None,
    mutating=None,
)
"""The fast path of a policy that pre-approves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolicyView:
    """A policy and the conditions compiled from it.

    Without a ``policy`` nothing is skipped, and ``problem`` gives the reason. ``text`` and ``mode`` are what
    the ConfigMap held. ``rules`` counts the allow rules that are handled without calling the webhook.
    """

    fast_path: FastPath
    policy: Policy | None = None
    text: str | None = None
    mode: str | None = None
    conditions: Conditions = NO_CONDITIONS
    rules: Mapping[Endpoint, int] = field(default_factory=lambda: dict.fromkeys(ENDPOINTS, 0))
    problem: str = ""


def unknown(problem: str) -> PolicyView:
    """Return the view of a policy that is not known for certain."""
    return PolicyView(fast_path=NOTHING_SKIPPED, problem=problem)


def view(text: str, mode: str | None) -> PolicyView:
    """Parse and compile a document. One that is refused counts as not known."""
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
    # The revision under the document's own mode: the fast path is the same in every mode, so toggling the
    # mode through the ConfigMap's key must not change the webhook configurations.
    revision = replace(policy, mode=policy.document.mode).revision
    conditions = Conditions(expressions=expressions, revision=revision) if expressions else NO_CONDITIONS
    return PolicyView(
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
