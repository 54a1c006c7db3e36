"""``gatekeeper-py check``: parse and lint a policy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import click
import yaml

from gatekeeper_py.commands.ownimages import refused_own_images
from gatekeeper_py.commands.policyinput import now
from gatekeeper_py.commands.policystream import OtherDocument, PolicyStream, read_stream
from gatekeeper_py.core.compile.committed import KINDS, problems
from gatekeeper_py.core.compile.fastpath import not_pre_approved
from gatekeeper_py.core.policy.finding import Finding, in_order
from gatekeeper_py.reporting.console import console, counted, json_text
from gatekeeper_py.reporting.findings import concise, github, print_findings
from gatekeeper_py.reporting.sarif import findings_as_sarif

Style = Literal["text", "json", "concise", "github", "sarif"]


@click.command(short_help="Report every problem of a policy.")
@click.argument("policy")
@click.option(
    "--format",
    "--output",
    "-o",
    "style",
    type=click.Choice(["text", "json", "concise", "github", "sarif"]),
    default="text",
    show_default=True,
)
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings too.")
@click.option(
    "--fast-path",
    is_flag=True,
    help="Also report which rules the fast path leaves to the webhook.",
)
def check(policy: str, style: Style, *, strict: bool, fast_path: bool) -> int:
    """Report all problems of POLICY, each with its line and often with a proposal.

    POLICY is a policy file, the manifest of a ConfigMap that holds one, or - for stdin. It may be a stream of
    documents, such as the output of kustomize build. The command then checks every ConfigMap that holds a
    policy or webhook settings (webhooks.yaml). It also warns if the stream holds match conditions or native
    policies that "compile" made from a different policy, and if the policy refuses an image of gatekeeper-py
    or of kube-system that the stream holds.

    Exit code: 0 when there are no errors, 1 when there are, 2 when POLICY cannot be read, or is a
    stream without a policy.
    """
    stream = read_stream(policy)
    instant = now()
    findings: list[Finding] = []
    for given in stream.policies:
        # Only on request, because most policies have such rules and few clusters use the fast path.
        left_to_webhook = (
            not_pre_approved(given.policy, instant) if fast_path and given.policy is not None else ()
        )
        found = in_order((*given.errors, *given.lint(instant), *map(given.shift.moved, left_to_webhook)))
        findings += found
        if style == "text":
            print_findings(given.name, given.lines, found)
    about_others = (*outdated(stream, instant), *refused_own_images(stream, instant))
    findings += about_others
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = sum(finding.severity == "warning" for finding in findings)
    ok = not errors and not (strict and warnings)
    if style == "json":
        click.echo(json_text({"ok": ok, "findings": [f.as_json() for f in findings]}))
    elif style == "sarif":
        click.echo(json_text(findings_as_sarif(stream.name, findings)))
    elif style in {"concise", "github"}:
        for finding in findings:
            if style == "github":
                click.echo(github(stream.name, finding))
            else:
                console().print(concise(stream.name, finding))
    else:
        print_findings(stream.name, stream.lines, about_others)
        summary = f"{counted(errors, 'error')}, {counted(warnings, 'warning')}"
        console().print(f"{stream.name}: {summary if findings else 'ok'}")
    return 0 if ok else 1


def outdated(stream: PolicyStream, instant: datetime) -> Iterator[Finding]:
    """Yield a warning for each object of a stream that was compiled from an older policy."""
    policies = [given.policy for given in stream.policies if given.policy is not None]
    for document in stream.others if policies else ():
        if document.kind not in KINDS:
            continue
        try:
            obj = yaml.load(document.text, yaml.CSafeLoader)
        except (yaml.YAMLError, ValueError, RecursionError):
            yield _about(document, "unreadable-object", f"the {document.kind} cannot be read", "")
            continue
        proposal = "compile it again: gatekeeper-py compile POLICY --to ..."
        for problem in problems(obj, policies, instant):
            yield _about(document, "compiled-from-another", problem, proposal)


def _about(document: OtherDocument, code: str, message: str, proposal: str) -> Finding:
    return Finding(
        severity="warning", code=code, path="", line=document.line, message=message, proposal=proposal
    )
