"""``gatekeeper-py check``: parse and lint a policy."""

from __future__ import annotations

import json
from typing import Literal

import click

from gatekeeper_py.commands.policyinput import now, read_policy
from gatekeeper_py.core.compile.fastpath import not_pre_approved
from gatekeeper_py.core.policy.finding import in_order
from gatekeeper_py.reporting.console import console, counted
from gatekeeper_py.reporting.findings import print_findings


@click.command()
@click.argument("policy")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--strict", is_flag=True, help="Treat warnings as errors: exit with 1.")
@click.option(
    "--fast-path",
    is_flag=True,
    help="Also report the rules whose images the fast path leaves to the webhook.",
)
def check(policy: str, style: Literal["text", "json"], *, strict: bool, fast_path: bool) -> int:
    """Check POLICY: a policy file, a ConfigMap manifest holding one, or - for stdin.

    A ConfigMap manifest that holds webhooks.yaml, the settings of the controller, is checked too.

    Exit code: 0 when there are no errors, 1 when there are, 2 when POLICY cannot be read.
    """
    given = read_policy(policy)
    # Only on request, because most policies have such rules and few clusters use the fast path.
    instant = now()
    left_to_webhook = (
        not_pre_approved(given.policy, instant) if fast_path and given.policy is not None else ()
    )
    findings = in_order((*given.errors, *given.lint(instant), *map(given.shift.moved, left_to_webhook)))
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = sum(finding.severity == "warning" for finding in findings)
    ok = not errors and not (strict and warnings)
    if style == "json":
        click.echo(json.dumps({"ok": ok, "findings": [f.as_json() for f in findings]}, indent=2))
    else:
        print_findings(given.name, given.lines, findings)
        summary = f"{counted(errors, 'error')}, {counted(warnings, 'warning')}"
        console().print(f"{given.name}: {summary if findings else 'ok'}")
    return 0 if ok else 1
