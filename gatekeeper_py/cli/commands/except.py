"""``gatekeeper-py except``: write an exception for an image, and show which grant covers it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from textwrap import indent
from typing import Final, NamedTuple

import click

from gatekeeper_py.cli.commands import options
from gatekeeper_py.cli.commands.parameters import Parsed, interval, namespace_option, usage
from gatekeeper_py.cli.inputs.policies import now, usable_policy
from gatekeeper_py.cli.inventory.suggestion import pattern_for
from gatekeeper_py.cli.reporting.console import note
from gatekeeper_py.core.exceptions.document import KIND, ExceptionEntry
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions
from gatekeeper_py.core.exceptions.grants import SOURCES, Grant
from gatekeeper_py.core.images.globmap import Scan
from gatekeeper_py.core.images.image import parse_image
from gatekeeper_py.core.policy.configmap import EXCEPTIONS_KEY
from gatekeeper_py.core.policy.document import API_VERSION
from gatekeeper_py.core.policy.instant import format_duration, format_instant
from gatekeeper_py.core.policy.parse.document import FILLED_LINE, parse_allowed
from gatekeeper_py.core.policy.parse.exceptions import ExceptionsError, parse_exceptions
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.core.policy.requirements import Requirement

_SHORTEST: Final = 60
_LONGEST: Final = 400 * 24 * 3600
"""Limits of ``--for`` in seconds. No grant allows more than 400 days."""

_NOT_APPROVED: Final = "the policy does not approve it"

_PLAIN: Final = re.compile(r"[a-z0-9][a-z0-9._:-]*/[a-z0-9._/:*@-]*[a-z0-9*]")
"""Patterns that need no quotes in a block of YAML. None is a number, because of the slash."""

_HEAD: Final = f"""\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{name}}
  namespace: {{namespace}}
data:
  {EXCEPTIONS_KEY}: |
"""

_LINE: Final = Parsed("text", FILLED_LINE.parse)
"""A text that a document accepts as a reason or an owner."""


@click.command("except")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@namespace_option("Namespace that needs the images.", required=True)
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
    "--entry",
    "entry_alone",
    is_flag=True,
    help="Print the entries alone, to paste below those of an existing ConfigMap.",
)
@options.INSTALLATION
@usage("give exactly one of --for and --until")
def except_(
    images: tuple[str, ...],
    namespace: str,
    duration: float | None,
    until: datetime | None,
    reason: str,
    owner: str | None,
    policy: str | None,
    installation: str,
    *,
    entry_alone: bool,
) -> int:
    """Print the manifest of a ConfigMap with an exception for each IMAGE, ready to apply.

    An IMAGE with a * is a pattern, as in the allow list of a policy. Without --policy, only the form of the
    exception is checked. This command needs no cluster. A ConfigMap that you apply replaces the exceptions
    that the namespace has. To keep them, paste the output of --entry below them.

    Exit code: 0 when a grant covers every image, or without --policy; 1 when a grant is missing or allows
    less, and then nothing is printed; 2 when the exception or the policy cannot be used.
    """
    instant = now()
    end = until or instant + timedelta(seconds=duration or 0)
    if end <= instant:
        raise click.UsageError("--until is in the past")
    given = None if policy is None else usable_policy(policy)
    requested = {pattern: image for image in images for pattern in [_pattern(image)]}
    key = DocumentKey("installation" if namespace == installation else "namespace", namespace)
    fields = "" if key.of_tenant else f"    namespaces: [{json.dumps(namespace)}]\n"
    fields += f"    until: {format_instant(end)}\n    reason: {_quoted(reason)}\n"
    fields += "" if owner is None else f"    owner: {_quoted(owner)}\n"
    entries = "".join(f"  - image: {_unquoted_if_plain(pattern)}\n{fields}" for pattern in requested)
    text = f"apiVersion: {API_VERSION}\nkind: {KIND}\nexceptions:\n{entries}"
    try:
        document = parse_exceptions(text, key.source)
    except ExceptionsError as problem:
        raise click.UsageError(f"the exception cannot be written: {problem.findings[0].message}") from None
    if given is None:
        note("only the form of the exception was checked: add --policy POLICY to see which grant covers it")
        covered = [True]
    else:
        compiled = given.at(instant, Exceptions({key: document}))
        covered = [
            _Request(compiled, key, entry, image, namespace).report()
            for image, entry in zip(requested.values(), document.entries, strict=True)
        ]
    if not all(covered):
        return 1
    head = "" if entry_alone else _HEAD.format(name=SOURCES[key.source].name, namespace=json.dumps(namespace))
    click.echo(head + indent(entries if entry_alone else text, "    "), nl=False)
    return 0


def _pattern(image: str) -> str:
    """Return the pattern for an argument: the narrowest one for an image, or the pattern that it is."""
    try:
        if "*" in image:
            return parse_allowed(image).text
        parsed = parse_image(image)
    except ValueError as problem:
        raise click.UsageError(f"{image!r}: {problem}") from None
    name = pattern_for(parsed, "repository")
    if name is None:
        raise click.UsageError(f"{image!r}: no pattern can name this image")
    qualifier = f"@{parsed.digest}" if parsed.digest else f":{parsed.tag}"
    try:
        return parse_allowed(f"{name}{qualifier}").text
    except ValueError as problem:
        raise click.UsageError(f"{image!r}: {problem}") from None


def _unquoted_if_plain(pattern: str) -> str:
    return pattern if _PLAIN.fullmatch(pattern) else _quoted(pattern)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


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
        grants = {grant.index: grant for grant in policy.grants}
        rejected, needed, text = False, "", _NOT_APPROVED
        if "*" in self.image:
            required = tuple(self._required())
            rule = next(policy.deny.covering_all(self.entry.pattern, self.namespace, Scan()), None)
            if rule is not None:
                needed, text = "deny", f"{self.image} is denied by {rule}"
        else:
            decision = policy.decide(self.namespace, self.image)
            required = tuple(filter(self._may_refuse, decision.requirements))
            if decision.exception is not None:
                grant = grants[decision.exception.grant]
                return True, _covered(grant, decision.exception.until, required)
            rejected = not decision.approved
            if decision.reason == "denied":
                needed, text = "deny", decision.detail
            elif decision.approved and required:
                needed, text = "require", f"{decision.detail}, and it must meet {required[0]}"
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
        covered = ("" if whole else "in part, ") + _covered(grant, self.entry.until, required)
        return True, covered if "*" in self.image else f"{text}; {covered}"

    def _required(self) -> Iterator[Requirement]:
        """Yield the requirements that some images of the entry's pattern may not meet."""
        for each in filter(self._may_refuse, self.policy.require.all):
            rules = (rule for rule in each.rules if rule.applies_to(self.namespace))
            if any(rule.pattern.overlaps(self.entry.pattern) for rule in rules):
                yield each

    def _may_refuse(self, requirement: Requirement) -> bool:
        """Return whether a requirement can reject an image that it matches and that the entry names."""
        return not requirement.warns and (requirement.looks_up or self.entry.pattern.digest is None)

    def _misses(self, grant: Grant, needed: str) -> list[str]:
        """Return why a grant does not cover the entry; an empty list if it does."""
        reasons = {
            f"it is for documents with source: {grant.source}": grant.source != self.key.source,
            f"it does not apply to {self.namespace}": not grant.applies_to(self.namespace),
            "its images do not include this one": not self._includes(grant),
            "it does not override deny rules": needed == "deny" and "deny" not in grant.overrides,
            "it does not override requirements": needed == "require" and "require" not in grant.overrides,
        }
        return [reason for reason, holds in reasons.items() if holds]

    def _includes(self, grant: Grant) -> bool:
        if "*" in self.image:
            return any(pattern.overlaps(self.entry.pattern) for pattern in grant.images)
        image = parse_image(self.image)
        return any(pattern.matches(image) for pattern in grant.images)


def _covered(grant: Grant, until: datetime, required: Sequence[Requirement]) -> str:
    limits = f"source: {grant.source}, longest: {format_duration(grant.longest)}"
    met = f", if it meets {required[0]}" if required and "require" not in grant.overrides else ""
    return f"approved until {format_instant(until)} by the grant {grant} ({limits}){met}"
