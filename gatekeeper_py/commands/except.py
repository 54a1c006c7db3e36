"""``gatekeeper-py except``: write an exception."""  # noqa: N999 - named like the command

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import click

from gatekeeper_py.commands.exceptioninput import INSTALLATION, ExceptionInput, Place, exceptions_in
from gatekeeper_py.commands.files import UnreadableError, decoded, read_bytes
from gatekeeper_py.commands.parameters import Instant, namespace_option
from gatekeeper_py.commands.policyinput import lines_of, now, outline_of, usable_policy
from gatekeeper_py.commands.yaml12 import split_documents
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions, reach
from gatekeeper_py.core.images.pattern import InvalidPattern
from gatekeeper_py.core.names import EXCEPTIONS_CONFIGMAP
from gatekeeper_py.core.policy.exceptions import exception_findings
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.core.policy.parse.document import parse_allowed
from gatekeeper_py.core.policy.parse.exceptions import ExceptionsError, parse_exceptions
from gatekeeper_py.core.policy.policy import Policy
from gatekeeper_py.reporting.console import note

_DURATION: Final = re.compile(r"([0-9]{1,4})([hd])")
_ITEM: Final = re.compile(r"( *)- ")
_HEAD: Final = "apiVersion: gatekeeper-py/v1\nkind: ImageExceptions\nexceptions:\n"


class _Duration(click.ParamType[timedelta]):
    """A time such as ``12h`` or ``7d``."""

    name = "duration"

    def convert(
        self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if isinstance(value, timedelta):
            return value
        if match is None:
            self.fail(f"{value!r} is not a duration such as 12h or 7d", param, ctx)
        return timedelta(**{"h": {"hours": int(match[1])}, "d": {"days": int(match[1])}}[match[2]])


@click.command(name="except")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@namespace_option("Namespace that the exception is for.")
@click.option("--for", "duration", type=_Duration(), help="How long from now, such as 12h or 7d.")
@click.option("--until", type=Instant(), help="When it ends: a date or an RFC 3339 time.")
@click.option("--reason", required=True, help="Why the images are needed, up to 200 characters.")
@click.option("--owner", help="Who answers for the exception. Default: the namespace.")
@click.option("--policy", metavar="POLICY", help="Check that a grant of this policy covers the exception.")
@click.option("--into", metavar="FILE", help="Print this manifest with the exception added.")
@INSTALLATION
def command(
    images: tuple[str, ...],
    namespace: str | None,
    duration: timedelta | None,
    until: datetime | None,
    reason: str,
    owner: str | None,
    policy: str | None,
    into: str | None,
    installation: str,
) -> int:
    """Print the manifest of a ConfigMap with an exception for each IMAGE, which may be a pattern.

    With --into, print FILE with the exceptions added at the end of its list. FILE itself is not written.
    With --policy, stderr says which grant covers each exception.

    Exit code: 0 when the exceptions are printed, 1 when no grant of the policy lets one act, 2 when a file or
    the policy cannot be used.
    """
    if (duration is None) == (until is None):
        raise click.UsageError("give --for or --until")
    if namespace is None:
        raise click.UsageError("Missing option '-n' / '--namespace'.")
    for image in images:
        try:
            parse_allowed(image)
        except InvalidPattern as problem:
            raise click.UsageError(f"{image[:60]!r}: {problem}") from None
    instant = now()
    end = until if duration is None else (instant + duration).replace(microsecond=0)
    entries = [_entry(image, end, reason, owner) for image in images]
    place = Place(namespace=namespace, installation=installation)
    key = place.key(EXCEPTIONS_CONFIGMAP, namespace)
    text = _manifest(namespace, entries) if into is None else _added(into, entries, place)
    covered = policy is None or key is None or _judge(usable_policy(policy), key, entries, instant)
    if covered:
        click.echo(text, nl=False)
    return 0 if covered else 1


def _entry(image: str, end: datetime | None, reason: str, owner: str | None) -> list[str]:
    """Return the lines of an entry, without indentation."""
    at = "" if end is None else format_instant(end)
    lines = [f"- image: {json.dumps(image)}", f"  until: {at}", f"  reason: {json.dumps(reason)}"]
    return [*lines, *([] if owner is None else [f"  owner: {json.dumps(owner)}"])]


def _document(entries: Sequence[Sequence[str]]) -> str:
    return _HEAD + "".join(f"  {line}\n" for entry in entries for line in entry)


def _manifest(namespace: str, entries: Sequence[Sequence[str]]) -> str:
    text = _document(entries)
    _checked(text)
    metadata = f"metadata:\n  name: {EXCEPTIONS_CONFIGMAP}\n  namespace: {namespace}\n"
    data = "".join(f"    {line}\n" for line in text.splitlines())
    return f"apiVersion: v1\nkind: ConfigMap\n{metadata}data:\n  exceptions.yaml: |\n{data}"


def _checked(text: str) -> None:
    try:
        parse_exceptions(text)
    except ExceptionsError as problem:
        raise click.UsageError(problem.findings[0].message) from None


def _judge(policy: Policy, key: DocumentKey, entries: Sequence[Sequence[str]], instant: datetime) -> bool:
    """Print which grants cover the entries, or why none does. Return whether all entries act."""
    document = parse_exceptions(_document(entries))
    compiled = policy.at(instant)
    findings = exception_findings(compiled, key, document, instant)
    for finding in findings:
        proposal = f" ({finding.proposal})" if finding.proposal else ""
        note(f"{finding.severity}: {finding.path}: {finding.message}{proposal}")
    exceptions = Exceptions({key: document})
    judged = policy.at(instant, exceptions)
    acts = True
    for _, entry, state in exceptions.states(compiled.grants, instant):
        found = judged.decide(key.namespace, entry.pattern.text)
        acts = acts and state == "live" and found.reason != "denied"
        if found.reason == "denied":
            note(f"error: exceptions[{entry.index}]: {found.detail}, and no grant overrides that")
        elif state == "live":
            over = next(compiled.grants.overlapping(key.source, (reach(key, entry),)))
            note(f"{entry.pattern.text}: covered by {' and '.join(map(str, over))} of the policy")
    return acts


def _added(into: str, entries: Sequence[Sequence[str]], place: Place) -> str:
    """Return the text of a manifest with entries after the last one of its list."""
    name, content = read_bytes(into)
    text = decoded(name, content)
    before = _only(name, text, place)
    lines = text.splitlines(keepends=True)
    entry = before.document.entries[-1].line if before.document and before.document.entries else 0
    at = entry + before.shift.lines if before.shift.block else 0
    match = _ITEM.match(lines[at - 1]) if 0 < at <= len(lines) else None
    if match is None:
        raise UnreadableError(f"{name}: write the exceptions as a list with one item below the other")
    indent = match[1]
    while at < len(lines) and (not lines[at].strip() or lines[at].startswith(f"{indent} ")):
        at += 1
    while not lines[at - 1].strip():
        at -= 1
    if not lines[at - 1].endswith("\n"):
        lines[at - 1] += "\n"
    lines[at:at] = [f"{indent}{line}\n" for each in entries for line in each]
    result = "".join(lines)
    after = _only(name, result, place)
    if (
        before.document is None
        or after.document is None
        or len(after.document.entries) != len(before.document.entries) + len(entries)
    ):
        raise UnreadableError(f"{name}: the exceptions cannot be added here; add them by hand")
    return result


def _only(name: str, text: str, place: Place) -> ExceptionInput:
    found = [
        given
        for first, document in split_documents(text)
        for given in exceptions_in(name, document, outline_of(document), first, lines_of(text), place)
    ]
    if len(found) != 1 or found[0].document is None:
        raise UnreadableError(f"{name}: must hold one valid document with exceptions")
    return found[0]
