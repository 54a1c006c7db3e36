"""Check whether compiled expressions that were committed to a repository still match the policy.

An installation without the controller commits the output of ``compile``. Nothing replaces that output when
the policy changes, so ``check`` compares it with the policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from gatekeeper_py.core.compile.fastpath import WebhookKind, compile_fastpath
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.names import FAST_PATH_CONDITION, FAST_PATH_REVISION, POLICY_REVISION
from gatekeeper_py.core.policy.policy import Policy

CONFIGURATIONS: Final[dict[str, WebhookKind]] = {
    "ValidatingWebhookConfiguration": "validating",
    "MutatingWebhookConfiguration": "mutating",
}
NATIVE: Final = "ValidatingAdmissionPolicy"
KINDS: Final = frozenset(CONFIGURATIONS) | {NATIVE}
"""Kinds of objects that may contain compiled expressions."""


def problems(obj: Any, policies: Sequence[Policy], now: datetime) -> Iterator[str]:
    """Yield why the compiled parts of a Kubernetes object match none of the policies now.

    ``obj`` is one of ``KINDS`` as parsed from YAML. Nothing is yielded for a malformed object.
    """
    if not isinstance(obj, dict) or not isinstance(metadata := obj.get("metadata"), dict):
        return
    kind, annotations = obj.get("kind"), metadata.get("annotations")
    annotations = annotations if isinstance(annotations, dict) else {}
    shown = f"{kind} {escape(str(metadata.get('name')), 63)}"
    if kind == NATIVE:
        revision = annotations.get(POLICY_REVISION)
        if revision is not None and revision not in {policy.revision for policy in policies}:
            yield _older(shown, revision, [policy.revision for policy in policies])
        return
    expressions = list(_expressions(obj))
    if not expressions:
        return
    # Match conditions are the same in every mode, so their revision is computed with the document's own mode.
    revisions = [replace(policy, mode=policy.document.mode).revision for policy in policies]
    revision = annotations.get(FAST_PATH_REVISION)
    if revision is not None and revision not in revisions:
        yield _older(shown, revision, revisions)
        return
    endpoint = CONFIGURATIONS[str(kind)]
    current = {compile_fastpath(policy, now).expression(endpoint) for policy in policies}
    if not current.issuperset(expressions):
        yield (
            f"{shown} has another match condition than the policy compiles to now:"
            " a rule has expired, or another version compiled it"
        )


def _older(shown: str, revision: Any, revisions: list[str]) -> str:
    return f"{shown} was compiled from the revision {escape(str(revision), 40)}, not {' or '.join(revisions)}"


def _expressions(configuration: dict[str, Any]) -> Iterator[Any]:
    """Yield the expressions of our match condition."""
    for webhook in _mappings(configuration.get("webhooks")):
        for condition in _mappings(webhook.get("matchConditions")):
            if condition.get("name") == FAST_PATH_CONDITION:
                yield condition.get("expression")


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    return (each for each in value if isinstance(each, dict)) if isinstance(value, list) else iter(())
