"""``gatekeeper-py compile``: print what an API server evaluates itself instead of calling the webhook."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import click

from gatekeeper_py.cli.commands import options
from gatekeeper_py.cli.commands.parameters import format_option, usage
from gatekeeper_py.cli.inputs.policies import now, usable_policy
from gatekeeper_py.cli.reporting.console import TEXT_OR_JSON, note
from gatekeeper_py.cli.reporting.manifest import as_yaml
from gatekeeper_py.controller.webhooks.desired import MUTATING, VALIDATING
from gatekeeper_py.controller.webhooks.templates import (
    MUTATING_NAME,
    POD_MUTATION,
    POD_VALIDATION,
    VALIDATING_NAME,
)
from gatekeeper_py.core.compile.fastpath import ENDPOINTS, FastPath, WebhookKind, compile_fastpath
from gatekeeper_py.core.compile.native.objects import Options
from gatekeeper_py.core.compile.native.selection import CannotExpress
from gatekeeper_py.core.compile.native.validating import validating_policy
from gatekeeper_py.core.names import FAST_PATH_CONDITION, FAST_PATH_REVISION
from gatekeeper_py.core.policy.instant import format_instant

CONFIGURATIONS: Final[dict[WebhookKind, tuple[str, str, str]]] = {
    "validating": (VALIDATING, VALIDATING_NAME, POD_VALIDATION),
    "mutating": (MUTATING, MUTATING_NAME, POD_MUTATION),
}

MATCH_CONDITIONS: Final = "match-conditions"
NATIVE: Final = "validating-admission-policy"

FORMATS: Final = {"yaml": TEXT_OR_JSON["text"], "json": TEXT_OR_JSON["json"]}


@click.command()
@click.argument("policy")
@click.option("--to", "target", type=click.Choice([MATCH_CONDITIONS, NATIVE]), required=True)
@format_option(FORMATS)
@click.option(
    "--backstop",
    is_flag=True,
    help="If POLICY cannot be expressed exactly, write a wider one: it never rejects what POLICY approves,"
    " but may admit more.",
)
@click.option(
    "--static",
    is_flag=True,
    help="Use the names that an API server requires for policies that it reads from files (manifest-based"
    " admission control).",
)
@options.EXEMPT_NAMESPACES
@usage(f"--backstop, --static and --exempt-namespace need --to {NATIVE}")
def compile(  # noqa: A001
    policy: str,
    target: str,
    style: str,
    exempt_namespaces: tuple[str, ...],
    *,
    backstop: bool,
    static: bool,
) -> int:
    """Compile POLICY to expressions or a policy that an API server evaluates itself.

    match-conditions are expressions for the webhook configurations. With them, an API server admits Pods that
    use only pre-approved images without calling the webhook. The YAML output is a patch for each
    configuration. Its comments list the rules for which API servers still call the webhook. Compile again
    whenever the policy changes, and before the expiry that the output states.

    validating-admission-policy is a native admission policy of Kubernetes, which needs no webhook. It decides
    as POLICY does, with one exception: it rejects an object with more than 100 new images, or whose new
    images have more than 10,000 characters in total. With --backstop it admits such an object.

    If a native policy cannot express a rule, the command names this rule on stderr and prints no policy,
    unless you give --backstop.

    Exit code: 0 when done, 1 when a native policy cannot express a rule, 2 when POLICY cannot be used.
    """
    if target == MATCH_CONDITIONS:
        read = usable_policy(policy)
        # The expressions are the same in every mode, so the revision is that for the document's own mode.
        revision = replace(read, mode=read.document.mode).revision
        path = compile_fastpath(read, now())
        FORMATS[style](lambda: click.echo(as_patches(path, revision), nl=False), lambda: as_json(path))
        return 0
    read = usable_policy(policy)
    choices = Options(exempt=exempt_namespaces, static=static, backstop=backstop)
    try:
        documents = validating_policy(read, now(), choices)
    except CannotExpress as problem:
        for obstacle in problem.obstacles:
            note(f"{policy}: {obstacle}")
        if not backstop:
            note("A wider policy can be compiled with --backstop.")
        return 1
    if read.document.exceptions:
        note(f"note: {policy}: exceptions: the native policy rejects what only an exception approves")
    FORMATS[style](
        lambda: click.echo(as_yaml(documents), nl=False),
        lambda: {"apiVersion": "v1", "kind": "List", "items": documents},
    )
    return 0


def as_json(fast_path: FastPath) -> dict[str, Any]:
    """Return the stable JSON form. If an expression is ``None``, the webhook is always called."""
    until = fast_path.valid_until
    return {
        "validating": fast_path.validating,
        "mutating": fast_path.mutating,
        "validUntil": None if until is None else format_instant(until),
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


def as_patches(fast_path: FastPath, revision: str) -> str:
    """Return patches for the webhook configurations, with comments on each rule: skipped, or why not."""
    lines = [f"# Match conditions of the policy with the revision {revision}."]
    if fast_path.valid_until is not None:
        lines.append(f"# Replace them before {format_instant(fast_path.valid_until)}, when a rule expires.")
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
        lines.append("# Nothing is pre-approved: neither webhook gets a match condition.")
    return "\n".join(lines) + "\n" + (as_yaml(documents) if documents else "")


def _patch(endpoint: WebhookKind, expression: str, revision: str) -> dict[str, Any]:
    kind, name, webhook = CONFIGURATIONS[endpoint]
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, "annotations": {FAST_PATH_REVISION: revision}},
        "webhooks": [
            {"name": webhook, "matchConditions": [{"name": FAST_PATH_CONDITION, "expression": expression}]},
        ],
    }
