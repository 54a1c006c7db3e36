"""``gatekeeper-py compile``: print match conditions, for installations without the controller."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final, Literal

import click
import yaml

from gatekeeper_py.commands.policyinput import now, usable_policy
from gatekeeper_py.core.compile.fastpath import ENDPOINTS, Endpoint, FastPath, compile_fastpath
from gatekeeper_py.core.names import FAST_PATH_REVISION

CONFIGURATIONS: Final[dict[Endpoint, tuple[str, str, str]]] = {
    "validating": (
        "ValidatingWebhookConfiguration",
        "image-validation-webhook",
        "pods.image-validation-webhook.gatekeeper-py",
    ),
    "mutating": (
        "MutatingWebhookConfiguration",
        "image-mutation-webhook",
        "pods.image-mutation-webhook.gatekeeper-py",
    ),
}
CONDITION: Final = "not-pre-approved"


@click.command()
@click.argument("policy")
@click.option("--to", "target", type=click.Choice(["match-conditions"]), required=True)
@click.option("--format", "style", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
def compile(policy: str, target: str, style: Literal["yaml", "json"]) -> int:  # noqa: A001, ARG001
    """Compile POLICY to the match conditions of the two webhooks for Pods.

    The YAML form is a patch for each webhook configuration, with what became of each rule in comments. Commit
    it anew whenever the policy changes, and before the time that it names.

    Exit code: 0, or 2 when the policy cannot be used.
    """
    given = usable_policy(policy)
    fast_path = compile_fastpath(given, now())
    if style == "json":
        click.echo(json.dumps(as_json(fast_path), indent=2))
    else:
        # The expressions are the same in every mode, so the revision is that under the document's own.
        revision = replace(given, mode=given.document.mode).revision
        click.echo(as_yaml(fast_path, revision), nl=False)
    return 0


def as_json(fast_path: FastPath) -> dict[str, Any]:
    """Return the stable JSON form; an expression that is ``None`` means that the webhook is always called."""
    until = fast_path.valid_until
    return {
        "validating": fast_path.validating,
        "mutating": fast_path.mutating,
        "validUntil": None if until is None else until.isoformat().replace("+00:00", "Z"),
        "rules": [
            {
                "list": verdict.rule.list,
                "index": verdict.rule.index,
                "image": verdict.rule.pattern.text,
                "validating": verdict.validating,
                "mutating": verdict.mutating,
            }
            for verdict in fast_path.rules
        ],
    }


def as_yaml(fast_path: FastPath, revision: str) -> str:
    """Return patches for the webhook configurations, and what became of each rule as comments."""
    lines = [f"# Match conditions of the policy with the revision {revision}."]
    if fast_path.valid_until is not None:
        lines.append(f"# Replace them before {fast_path.valid_until.isoformat()}, when a rule expires.")
    for verdict in fast_path.rules:
        for endpoint in ENDPOINTS:
            why = verdict.why_not(endpoint)
            lines.append(f"# {verdict.rule}: {endpoint}: {f'calls the webhook, {why}' if why else 'skipped'}")
    documents = [
        _patch(endpoint, expression, revision)
        for endpoint in ENDPOINTS
        if (expression := fast_path.expression(endpoint)) is not None
    ]
    if not documents:
        lines.append("# Nothing is pre-approved: no condition belongs on either webhook.")
    text = "".join(f"---\n{yaml.safe_dump(document, sort_keys=False)}" for document in documents)
    return "\n".join(lines) + "\n" + text


def _patch(endpoint: Endpoint, expression: str, revision: str) -> dict[str, Any]:
    kind, name, webhook = CONFIGURATIONS[endpoint]
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, "annotations": {FAST_PATH_REVISION: revision}},
        "webhooks": [
            {"name": webhook, "matchConditions": [{"name": CONDITION, "expression": expression}]},
        ],
    }
