"""``gatekeeper-py check``: parse and lint a policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import click

from gatekeeper_py.cli.commands import options
from gatekeeper_py.cli.commands.parameters import format_option, namespace_option, usage
from gatekeeper_py.cli.inputs.exceptions import ExceptionInput, Place
from gatekeeper_py.cli.inputs.policies import now, usable_policy
from gatekeeper_py.cli.inputs.stream import OtherDocument, PolicyStream, read_stream
from gatekeeper_py.cli.reporting.console import console, counted, json_text
from gatekeeper_py.cli.reporting.findings import concise, github, print_findings
from gatekeeper_py.core.exceptions.exceptions import Exceptions
from gatekeeper_py.core.names import PART_OF, PART_OF_LABEL, SYSTEM_NAMESPACE
from gatekeeper_py.core.policy.exceptions import exception_findings
from gatekeeper_py.core.policy.finding import Finding, in_order
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.core.policy.keys import Key
from gatekeeper_py.core.policy.policy import CompiledPolicy, Policy


class Checked(NamedTuple):
    """What was checked. ``parts`` has the name, the lines and the findings of each document."""

    name: str
    parts: Sequence[tuple[str, Sequence[str], Sequence[Finding]]]
    keys: Sequence[Key]
    ok: bool

    @property
    def findings(self) -> list[Finding]:
        return [finding for *_, findings in self.parts for finding in findings]


def _print_text(checked: Checked) -> None:
    for part in checked.parts:
        print_findings(*part)
    for key in checked.keys:
        end = "" if key.until is None else f", until {format_instant(key.until)}"
        console().print(f"key {key.name}: {key.kind}, fingerprint {key.fingerprint}{end}")
    severities = Counter(finding.severity for finding in checked.findings)
    summary = f"{counted(severities['error'], 'error')}, {counted(severities['warning'], 'warning')}"
    console().print(f"{checked.name}: {summary if severities else 'ok'}")


def _print_json(checked: Checked) -> None:
    from gatekeeper_py.core.admission.explain import key_as_json  # noqa: PLC0415 - see the command

    findings, keys = [each.as_json() for each in checked.findings], [*map(key_as_json, checked.keys)]
    click.echo(json_text({"ok": checked.ok, "findings": findings, "keys": keys}))


def _print_concise(checked: Checked) -> None:
    for finding in checked.findings:
        console().print(concise(checked.name, finding))


def _print_github(checked: Checked) -> None:
    for finding in checked.findings:
        click.echo(github(checked.name, finding))


def _print_sarif(checked: Checked) -> None:
    from gatekeeper_py.cli.reporting.sarif import findings_as_sarif  # noqa: PLC0415 - see the command

    click.echo(json_text(findings_as_sarif(checked.name, checked.findings)))


FORMATS: Final[Mapping[str, Callable[[Checked], None]]] = {
    "text": _print_text,
    "json": _print_json,
    "concise": _print_concise,
    "github": _print_github,
    "sarif": _print_sarif,
}


@click.command()
@click.argument("policy")
@format_option(FORMATS)
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings too.")
@click.option(
    "--policy", "by", metavar="POLICY", help="Judge exceptions by this policy, not by those in the stream."
)
@namespace_option("Namespace of exceptions that do not name one.")
@options.INSTALLATION
@click.option(
    "--fast-path",
    is_flag=True,
    help="Also report which rules the fast path leaves to the webhook.",
)
@usage("give at most one of POLICY - and --policy -: stdin can be read only once")
def check(
    policy: str,
    style: str,
    by: str | None,
    namespace: str | None,
    installation: str,
    *,
    strict: bool,
    fast_path: bool,
) -> int:
    """Report all problems of POLICY, each with its line and often with a proposal.

    POLICY is a policy file, the manifest of a ConfigMap that holds one, or - for stdin. It may be a stream of
    documents, such as the output of kustomize build. The command then checks every ConfigMap that holds a
    policy, webhook settings (webhooks.yaml) or exceptions. Exceptions are judged by the policy of --policy,
    or without it by the policies in the same stream. Without either, only their form is checked. A document
    that is not YAML is an error. The command also warns if the stream holds match conditions or native
    policies that "compile" made from a different policy, and if the policy refuses an image of gatekeeper-py
    or of kube-system that the stream holds.

    Exit code: 0 when there are no errors, 1 when there are, 2 when POLICY cannot be read, or is a stream in
    which there is nothing to check.
    """
    stream = read_stream(policy, Place(namespace=namespace, installation=installation))
    instant = now()
    parts: list[tuple[str, Sequence[str], Sequence[Finding]]] = []
    for given in stream.policies:
        left_to_webhook: Iterable[Finding] = ()
        # Only on request, because most policies have such rules and few clusters use the fast path.
        if fast_path and given.policy is not None:
            # Imported here, because most runs check one policy and need neither the compiler nor the judge.
            from gatekeeper_py.core.compile.fastpath import not_pre_approved  # noqa: PLC0415

            left_to_webhook = not_pre_approved(given.policy, instant)
        found = in_order((*given.errors, *given.lint(instant), *map(given.shift.moved, left_to_webhook)))
        parts.append((given.name, given.lines, found))
    policies = [usable_policy(by)] if by is not None else [p.policy for p in stream.policies if p.policy]
    for written in stream.exceptions:
        found = in_order((*written.errors, *_under(policies, written, instant)))
        parts.append((written.name, written.lines, found))
    parts.append((stream.name, (), stream.unread))  # what is not a policy is not quoted
    about_others = (*outdated(stream, instant), *refused_own_images(stream, instant))
    parts.append((stream.name, stream.lines, about_others))
    bad = {"error", "warning"} if strict else {"error"}
    ok = all(finding.severity not in bad for *_, findings in parts for finding in findings)
    keys = [key for given in stream.policies if given.policy for key in given.policy.document.keys]
    FORMATS[style](Checked(stream.name, parts, keys, ok))
    return 0 if ok else 1


def _under(policies: Iterable[Policy], given: ExceptionInput, instant: datetime) -> Iterator[Finding]:
    """Yield the findings about a document with exceptions under each policy."""
    for policy in policies:
        if given.document is None:
            return
        if given.key is None:
            message, proposal = "these exceptions are not judged by the policy", "add -n NAMESPACE"
            yield Finding(
                severity="warning",
                code="namespace-unknown",
                path="",
                line=given.shift.lines + 1,
                message=message,
                proposal=proposal,
            )
            return
        found = exception_findings(policy.at(instant), Exceptions({given.key: given.document}), instant)
        yield from map(given.shift.moved, found)


def outdated(stream: PolicyStream, instant: datetime) -> Iterator[Finding]:
    """Yield a warning for each object of a stream that was compiled from an older policy."""
    policies = [given.policy for given in stream.policies if given.policy is not None]
    if not policies or not stream.others:
        return
    from gatekeeper_py.core.compile.committed import KINDS, problems  # noqa: PLC0415 - see the command

    for document in stream.others:
        if document.kind not in KINDS:
            continue
        proposal = "compile it again: gatekeeper-py compile POLICY --to ..."
        for problem in problems(document.content, policies, instant):
            yield _about(document, "compiled-from-another", problem, proposal)


def refused_own_images(stream: PolicyStream, instant: datetime) -> Iterator[Finding]:
    """Yield a warning for each image of the webhook, or of the cluster's system, that a policy refuses.

    Such images start only as long as their namespaces are exempt. If somebody removes the exemption, or runs
    the images in another namespace, the webhook refuses them. It would even refuse new Pods of its own.
    """
    policies = [given.policy.at(instant) for given in stream.policies if given.policy is not None]
    if not policies or not stream.others:
        return
    from gatekeeper_py.core.admission.fields import POD, POD_SPECS  # noqa: PLC0415 - see the command

    kinds = {kind for _, kind in (POD, *POD_SPECS)}
    for document in stream.others:
        if document.kind not in kinds:
            continue
        yield from _refused(document, document.content, policies)


def _refused(
    document: OtherDocument, obj: dict[str, Any], policies: list[CompiledPolicy]
) -> Iterator[Finding]:
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        return
    labels, namespace = metadata.get("labels"), metadata.get("namespace")
    is_ours = isinstance(labels, dict) and labels.get(PART_OF_LABEL) == PART_OF
    if not is_ours and namespace != SYSTEM_NAMESPACE:
        return
    from gatekeeper_py.core.admission.workload import slots  # noqa: PLC0415 - see the command

    version = obj.get("apiVersion")
    group = version.rpartition("/")[0] if isinstance(version, str) else ""
    pod_namespace = namespace if isinstance(namespace, str) else None
    images = {slot.value for slot in slots((group, document.kind), obj, {}) if not slot.problem}
    for image in sorted(images):
        if all(policy.decide(pod_namespace, image).approved for policy in policies):
            continue
        whose = "the webhook's own image" if is_ours else f"an image of {SYSTEM_NAMESPACE}"
        message = f"the policy refuses {whose} {image}, which starts only while its namespace is exempt"
        proposal = "add an allow rule for it; gatekeeper-py explain shows which rules nearly match"
        yield _about(document, "own-image", message, proposal)


def _about(document: OtherDocument, code: str, message: str, proposal: str) -> Finding:
    return Finding(
        severity="warning", code=code, path="", line=document.line, message=message, proposal=proposal
    )
