"""``gatekeeper-py except``: write an exception for an image, and show which grant covers it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Final, NamedTuple

import click

from gatekeeper_py.commands import options
from gatekeeper_py.commands.parameters import Parsed, interval, namespace_option
from gatekeeper_py.core.exceptions.document import KIND, ExceptionDocument, ExceptionEntry
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions
from gatekeeper_py.core.exceptions.grants import SOURCES, Grant
from gatekeeper_py.core.images.globmap import Scan
from gatekeeper_py.core.images.index import qualifiers_of_all
from gatekeeper_py.core.images.pattern import ANY
from gatekeeper_py.core.images.reference import effective_tag, locate, parse_reference
from gatekeeper_py.core.names import EXCEPTIONS_CONFIGMAP
from gatekeeper_py.core.policy.configmap import EXCEPTIONS_KEY
from gatekeeper_py.core.policy.document import API_VERSION
from gatekeeper_py.core.policy.finding import Remarks
from gatekeeper_py.core.policy.instant import format_duration, format_instant
from gatekeeper_py.core.policy.parse.document import FILLED_LINE, parse_allowed
from gatekeeper_py.core.policy.parse.positions import as_findings
from gatekeeper_py.core.policy.parse.text import check_text
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.core.policy.rules import Rule
from gatekeeper_py.inputs.additions import addition
from gatekeeper_py.inputs.exceptions import (
    ExceptionInput,
    Place,
    exceptions_of,
)
from gatekeeper_py.inputs.files import UnreadableError, decoded, read_bytes, shown
from gatekeeper_py.inputs.policies import now, usable_policy
from gatekeeper_py.inventory.suggestion import pattern_for
from gatekeeper_py.reporting.console import note
from gatekeeper_py.reporting.findings import print_findings

MAX_FILE: Final = 2**20
"""Maximum size of FILE: the manifests of a few documents, each of at most 64 KiB."""

_SHORTEST: Final = 60
_LONGEST: Final = 400 * 24 * 3600
"""Limits of ``--for`` in seconds. No grant allows more than 400 days."""

_NOT_APPROVED: Final = "the policy does not approve it"

_PLAIN: Final = re.compile(r"[a-z0-9][a-z0-9._:-]*/[a-z0-9._/:*@-]*[a-z0-9*]")
"""Patterns that need no quotes in a block of YAML. None is a number, because of the slash."""


_LINE: Final = Parsed("text", FILLED_LINE.parse)
"""A text that a document accepts as a reason or an owner."""


@click.command("except")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@namespace_option("Namespace that needs the images. Required.")
@click.option(
    "--for",
    "duration",
    metavar="DURATION",
    type=interval(_SHORTEST, _LONGEST),
    help="How long the exception lasts, such as 12h or 7d.",
)
@click.option("--until", type=options.INSTANT, help="When the exception expires: a date or RFC 3339 time.")
@click.option("--reason", type=_LINE, required=True, help="Why the images are needed. Users see it.")
@click.option("--owner", type=_LINE, help="Who needs the images.")
@click.option("--policy", metavar="POLICY", help="Show which grant of this policy covers each image.")
@click.option(
    "--into",
    metavar="FILE",
    help="Print this file with the exception added: the manifest of a ConfigMap, or a document. The file"
    " itself is not changed.",
)
@options.INSTALLATION
def except_(
    images: tuple[str, ...],
    namespace: str | None,
    duration: float | None,
    until: datetime | None,
    reason: str,
    owner: str | None,
    policy: str | None,
    into: str | None,
    installation: str,
) -> int:
    """Print the manifest of a ConfigMap with an exception for each IMAGE, ready to apply.

    An IMAGE with a * is a pattern, as in the allow list of a policy. Without --policy, only the form of the
    exception is checked. This command needs no cluster. A ConfigMap that you apply replaces the exceptions
    that the namespace has. To keep them, give their manifest with --into.

    With --into, the printed text is FILE with new entries. If FILE is a ConfigMap in the namespace of
    gatekeeper-py, the entries name NAMESPACE.

    Exit code: 0 when a grant covers every image, or without --policy; 1 when a grant is missing or allows
    less, and then nothing is printed; 2 when the exception, the policy or FILE cannot be used.
    """
    if namespace is None:
        raise click.UsageError("Missing option '-n' / '--namespace'.")
    if (duration is None) == (until is None):
        raise click.UsageError("give --for or --until")
    if policy == into == "-":
        raise click.UsageError("stdin can be read only once")
    instant = now()
    end = until or instant + timedelta(seconds=duration or 0)
    if end <= instant:
        raise click.UsageError("--until is in the past")
    given = None if policy is None else usable_policy(policy)
    requested = {pattern: image for image in images for pattern in [_pattern(image)]}
    place = Place(namespace=namespace, installation=installation)
    target = _new(place, namespace) if into is None else _read(into, place, namespace)
    entries = [
        {"image": pattern}
        | ({} if target.key.source == "namespace" else {"namespaces": [namespace]})
        | {"until": format_instant(end), "reason": reason}
        | ({} if owner is None else {"owner": owner})
        for pattern in requested
    ]
    text, document = _extended(target, entries, place)
    if given is None:
        note("only the form of the exception was checked: add --policy POLICY to see which grant covers it")
        covered = [True]
    else:
        compiled = given.at(instant, Exceptions({target.key: document}))
        added = document.entries[-len(entries) :]
        covered = [
            _Request(compiled, target.key, entry, image, namespace).report()
            for image, entry in zip(requested.values(), added, strict=True)
        ]
    if not all(covered):
        return 1
    click.echo(target.mark + text.encode(), nl=False)
    return 0


def _pattern(image: str) -> str:
    """Return the pattern for an argument: the narrowest one for an image, or the pattern that it is."""
    try:
        if "*" in image:
            return parse_allowed(image).text
        reference = parse_reference(image)
        locate(reference)
    except ValueError as problem:
        raise click.UsageError(f"{image!r}: {problem}") from None
    name = pattern_for(reference, "repository")
    if name is None:
        raise click.UsageError(f"{image!r}: no pattern can name this image")
    qualifier = f"@{reference.digest}" if reference.digest else f":{effective_tag(reference)}"
    try:
        return parse_allowed(f"{name}{qualifier}").text
    except ValueError as problem:
        raise click.UsageError(f"{image!r}: {problem}") from None


class _Target(NamedTuple):
    """The text to which the entries are added, and the document in this text that will hold them.

    ``given`` is this document as read. ``mark`` is the byte order mark of the text, if it has one.
    """

    name: str
    text: str
    key: DocumentKey
    given: ExceptionInput | None = None
    mark: bytes = b""


def _new(place: Place, namespace: str) -> _Target:
    """Return the beginning of a manifest. Its list has no items yet."""
    key = place.key(EXCEPTIONS_CONFIGMAP, namespace)
    if key is None:
        raise AssertionError  # every namespace may have exceptions
    lines = (
        "apiVersion: v1",
        "kind: ConfigMap",
        "metadata:",
        f"  name: {EXCEPTIONS_CONFIGMAP}",
        f"  namespace: {json.dumps(namespace)}",
        "data:",
        f"  {EXCEPTIONS_KEY}: |",
        f"    apiVersion: {API_VERSION}",
        f"    kind: {KIND}",
        "    exceptions:",
        "",
    )
    return _Target("the exception", "\n".join(lines), key)


def _read(file: str, place: Place, namespace: str) -> _Target:
    """Return FILE and the document in it that reaches the namespace. Raises ``UnreadableError``."""
    name, content = read_bytes(file, MAX_FILE)
    text = decoded(name, content)
    remarks = Remarks()
    if not check_text(text, MAX_FILE, remarks):  # the whole file is printed, so every character counts
        print_findings(name, (), as_findings(text, remarks), stderr=True)
        raise click.exceptions.Exit(2)
    found = list(exceptions_of(name, text, place))
    for each in found:
        print_findings(name, each.lines, each.errors, stderr=True)
    if any(each.errors for each in found):
        raise click.exceptions.Exit(2)
    own = [each for each in found if each.key == DocumentKey("namespace", namespace)]
    own = own or [each for each in found if each.key is not None and each.key.source != "namespace"]
    if len(own) != 1:
        number = "no document" if not own else "more than one document"
        raise UnreadableError(f"{name}: it holds {number} with exceptions for {namespace}")
    (given,) = own
    if given.key is None:
        raise AssertionError  # every document has a namespace here: its own or that of -n
    mark = content[: len(content) - len(text.encode())]
    return _Target(shown(file), text, given.key, given, mark)


def _extended(target: _Target, entries: list[dict[str, Any]], place: Place) -> tuple[str, ExceptionDocument]:
    """Return the text with new entries, and the document. Raises ``UnreadableError`` if they do not fit."""
    block = [line for entry in entries for line in _lines_of(entry)]
    if target.given is None:
        text = target.text + "".join(f"      {line}\n" for line in block)
        before: list[ExceptionInput] = []
    else:
        before = list(exceptions_of(target.name, target.text, place))
        flow = [json.dumps(entry, ensure_ascii=False) for entry in entries]
        text = _added(target.given, target, block, flow)
    after = list(exceptions_of(target.name, text, place))
    found = [given for given in after if given.key == target.key]
    if len(found) == 1 and found[0].errors:
        raise UnreadableError(f"{target.name}: with the new entries: {found[0].errors[0].message}")
    document = found[0].document if len(found) == 1 else None
    expected = [
        _values(given.document) + (entries if given.key == target.key else []) for given in before
    ] or [entries]
    if document is None or [_values(given.document) for given in after] != expected:
        raise _cannot_add(target)
    return text, document


def _added(given: ExceptionInput, target: _Target, block: Sequence[str], flow: Sequence[str]) -> str:
    found = addition(given.text, "exceptions", block, flow) if given.shift.block else None
    if found is None:
        raise _cannot_add(target)
    try:
        return found.added_to(target.text, given.shift.lines, given.shift.columns)
    except IndexError:
        raise _cannot_add(target) from None


def _cannot_add(target: _Target) -> UnreadableError:
    layout = f"write the document as a block ({EXCEPTIONS_KEY}: |) with one entry of exceptions a line"
    return UnreadableError(f"{target.name}: cannot add to this layout: {layout}")


def _lines_of(entry: dict[str, Any]) -> Iterator[str]:
    for number, (name, value) in enumerate(entry.items()):
        plain = name == "until" or (name == "image" and _PLAIN.fullmatch(value))
        shown_value = value if plain else json.dumps(value, ensure_ascii=False)
        yield f"{'  ' if number else '- '}{name}: {shown_value}"


def _values(document: ExceptionDocument | None) -> list[dict[str, Any]]:
    """Return the entries of a document as they are written, without their lines."""
    return [_value(entry) for entry in (() if document is None else document.entries)]


def _value(entry: ExceptionEntry) -> dict[str, Any]:
    names = {} if entry.namespaces is None else {"namespaces": list(entry.namespaces)}
    owner = {} if entry.owner is None else {"owner": entry.owner}
    until = format_instant(entry.until)
    return {"image": entry.pattern.text, **names, "until": until, "reason": entry.reason, **owner}


class _Request(NamedTuple):
    """One new entry in its document, which is the only one that ``policy`` has."""

    policy: CompiledPolicy
    key: DocumentKey
    entry: ExceptionEntry
    image: str
    namespace: str

    def report(self) -> bool:
        """Print which grant covers the entry, or why each grant misses. Return whether one covers it."""
        approved, text, *misses = self._answer()
        note(f"{self.image}: {text}")
        for line in misses:
            note(f"  {line}")
        return approved

    def _answer(self) -> tuple[bool, str, *tuple[str, ...]]:
        """Return whether the entry is in effect, the reason, and a line for each grant if none covers it."""
        policy, instant = self.policy, self.policy.instant
        grants = {grant.index: grant for source in SOURCES for grant in policy.grants.of(source)}
        rejected, needed, text = False, "", _NOT_APPROVED
        signing: Rule | None = None
        if "*" in self.image:
            needed, text, signing = self._of_pattern()
        else:
            decision = policy.decide(self.namespace, self.image)
            if decision.exception is not None:
                # A grant may override deny rules without overriding signatures.
                if_signed = "" if decision.manifest is None else ", if it is signed"
                return True, _covered(grants[decision.exception.grant], decision.exception.until) + if_signed
            rejected = not decision.approved
            if decision.reason == "denied":
                needed, text = "deny", decision.detail
            elif decision.rule is not None and decision.rule.signed_by:
                needed, text = "signature", decision.detail
            elif decision.approved:
                text = f"the policy approves it anyway: {decision.detail}"
        misses = {grant: self._misses(grant, needed) for grant in grants.values()}
        covering = [grant for grant, reasons in misses.items() if not reasons]
        if not covering:
            lines = (f"{grant}: {', '.join(reasons)}" for grant, reasons in misses.items())
            return False, text, *lines
        grant = max(covering, key=lambda each: each.longest)
        if self.entry.until - grant.longest > instant:
            latest = format_instant(instant + grant.longest)
            allowed = f"until is too late: {grant} allows {format_duration(grant.longest)}"
            return False, f"{allowed}, so the latest until that is allowed now is {latest}"
        states = {entry.index: state for _, entry, state in policy.exceptions.states(policy.grants, instant)}
        if rejected or states[self.entry.index] != "live":
            return False, f"{grant} allows {grant.most} live entries, and as many precede it in the document"
        whole = any(pattern.covers(self.entry.pattern) for pattern in grant.images)
        covered = ("" if whole else "in part, ") + _covered(grant, self.entry.until)
        if signing is not None and "signature" not in grant.overrides:
            covered += ", if it is signed"
        return True, covered if rejected or "*" in self.image else f"{text}; {covered}"

    def _of_pattern(self) -> tuple[str, str, Rule | None]:
        """Return what a grant must override so that the entry approves images of the pattern, and why.

        The rule is the one that requires a signature of all these images. A rule for digests (@*) also
        protects tags.
        """
        pattern, namespace, allow = self.entry.pattern, self.namespace, self.policy.allow
        cover = allow.cover(pattern, Scan())
        of_all, of_digests = (
            min(allow.covering(cover, qualifiers, namespace), key=attrgetter("index"), default=None)
            for qualifiers in (qualifiers_of_all(pattern), (f"@{ANY}", None))
        )
        first = of_all or of_digests
        signing = first if first is not None and first.signed_by else None
        if rule := next(self.policy.deny.covering_all(pattern, namespace, Scan()), None):
            return "deny", f"{self.image} is denied by {rule}", signing
        if signing is not None and signing is of_all:
            return "signature", f"{signing} requires a signature of {self.image}", signing
        return "", _NOT_APPROVED, signing

    def _misses(self, grant: Grant, needed: str) -> list[str]:
        """Return why a grant does not cover the entry; an empty list if it does."""
        reasons = {
            f"it is for documents with source: {grant.source}": grant.source != self.key.source,
            f"it does not apply to {self.namespace}": not grant.applies_to(self.namespace),
            "its images do not include this one": not self._includes(grant),
            "it does not override deny rules": needed == "deny" and "deny" not in grant.overrides,
            "it does not override signatures": needed == "signature" and "signature" not in grant.overrides,
        }
        return [reason for reason, holds in reasons.items() if holds]

    def _includes(self, grant: Grant) -> bool:
        if "*" in self.image:
            return any(pattern.overlaps(self.entry.pattern) for pattern in grant.images)
        reference = parse_reference(self.image)
        location, tag = locate(reference), effective_tag(reference)
        return any(pattern.matches(location, tag, reference.digest) for pattern in grant.images)


def _covered(grant: Grant, until: datetime) -> str:
    limits = f"source: {grant.source}, longest: {format_duration(grant.longest)}"
    return f"approved until {format_instant(until)} by the grant {grant} ({limits})"
