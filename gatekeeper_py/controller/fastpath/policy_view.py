"""The controller's view of the policy, and the match conditions that follow from it.

A policy that is not known for certain has no conditions. Without a condition the API server calls the webhook
for every Pod, which is always correct.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from gatekeeper_py.controller.webhooks.desired import NO_CONDITIONS, Conditions
from gatekeeper_py.controller.webhooks.templates import POD_MUTATION, POD_VALIDATION
from gatekeeper_py.core.compile.fastpath import ENDPOINTS, FastPath, WebhookKind, compile_fastpath
from gatekeeper_py.core.compile.preapproved import NOTHING
from gatekeeper_py.core.policy.policy import Policy

WEBHOOKS: Final = MappingProxyType(
    {
        "validating": POD_VALIDATION,
        "mutating": POD_MUTATION,
    }
)
"""The webhook that takes each endpoint's expression. Every other webhook is always called."""

EXPIRY_MARGIN: Final = timedelta(minutes=5)
"""How long before its expiry an allow rule leaves the fast path. A match condition cannot check the time, API
servers need a moment to use a new condition, and clocks may differ."""

NOTHING_SKIPPED: Final = FastPath(
    rules=(),
    approved=MappingProxyType(dict.fromkeys(ENDPOINTS, NOTHING)),
    validating=None,
    mutating=None,
    valid_until=None,
)
"""The fast path of a policy that pre-approves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolicyView:
    """A policy and the conditions compiled from it.

    Without a ``policy`` no call is skipped, and ``problem`` gives the reason. ``text`` and ``mode`` are the
    content of the ConfigMap. ``rules`` counts the allow rules that are handled without calling the webhook.
    ``compile_again`` is the instant at which the expiry of a rule requires another compilation; ``None`` if
    no rule expires.
    """

    fast_path: FastPath
    policy: Policy | None = None
    text: str | None = None
    mode: str | None = None
    conditions: Conditions = NO_CONDITIONS
    rules: Mapping[WebhookKind, int] = field(default_factory=lambda: dict.fromkeys(ENDPOINTS, 0))
    problem: str = ""
    compile_again: datetime | None = None


def unknown(problem: str) -> PolicyView:
    """Return the view of a policy that is not known for certain."""
    return PolicyView(fast_path=NOTHING_SKIPPED, problem=problem)


def renewed(old: PolicyView, now: datetime) -> PolicyView:
    """Compile the policy of a view again, as of a later instant."""
    return old if old.policy is None else view(old.policy, old.text, old.mode, now)


def view(policy: Policy, text: str | None, mode: str | None, now: datetime) -> PolicyView:
    """Compile a policy as of an instant. ``text`` and ``mode`` are the content of its ConfigMap."""
    fast_path = compile_fastpath(policy, now, lasting=EXPIRY_MARGIN)
    expressions = {
        WEBHOOKS[endpoint]: expression
        for endpoint in ENDPOINTS
        if (expression := fast_path.expression(endpoint)) is not None
    }
    # Use the revision under the document's own mode. The fast path is the same in every mode, so toggling
    # the mode through the ConfigMap's key must not change the webhook configurations.
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
        compile_again=_compile_again(fast_path, policy, now),
    )


def _compile_again(fast_path: FastPath, policy: Policy, now: datetime) -> datetime | None:
    """Return when the policy must be compiled again; ``None`` if never.

    That is ``EXPIRY_MARGIN`` before an allow rule expires, or when a deny rule expires.
    """
    ends = [rule.until for rule in policy.deny if rule.until is not None and rule.until > now]
    if fast_path.valid_until is not None:
        ends.append(fast_path.valid_until - EXPIRY_MARGIN)
    return min(ends, default=None)
