"""Read a POLICY argument: a policy file, a ConfigMap manifest that holds a policy, or ``-`` for stdin.

``check`` also accepts a ConfigMap manifest that holds ``webhooks.yaml``, the controller's settings.

Messages quote a file only if it is a policy or webhook settings (``is_ours``). Otherwise a link in a pull
request could show the content of another file in the log.

Findings have the line numbers of the file that was read. In a ConfigMap manifest, the policy is usually a
``|`` block, whose lines are lines of the file. If the policy is written in another way, for example in JSON,
all findings have the position at which the text of the policy begins.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import click

from gatekeeper_py.cli.inputs.files import TooLongError, decoded, read_bytes, shown
from gatekeeper_py.cli.inputs.outline import Outline, Shift, lines_of, outline_of, shift_to
from gatekeeper_py.cli.inputs.recognition import recognised
from gatekeeper_py.cli.reporting.findings import print_findings
from gatekeeper_py.controller.webhooks.settings import (
    FIELDS,
    SETTINGS_KEY,
    InvalidWebhookSettings,
    WebhookSettings,
    is_settings_name,
    parse_settings,
    read_settings,
)
from gatekeeper_py.core.exceptions.document import KIND as EXCEPTIONS_KIND
from gatekeeper_py.core.names import POLICY_CONFIGMAP
from gatekeeper_py.core.policy.configmap import MODE_KEY, POLICY_KEY, UNKNOWN_KEY, read_configmap
from gatekeeper_py.core.policy.document import API_VERSION, KIND, PolicyError
from gatekeeper_py.core.policy.finding import Finding, Mark, in_order
from gatekeeper_py.core.policy.limits import MAX_CONFIGMAP_BYTES, MAX_FILE_BYTES
from gatekeeper_py.core.policy.policy import Policy, parse_policy

_KIND_NAME: Final = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")
_MISSPELT_KEY: Final = "policy.yml"
TEST_KIND: Final = "ImagePolicyTest"
_BEGIN: Final = f"begin a policy with apiVersion: {API_VERSION} and kind: {KIND}"
_HINTS: Final = {
    KIND: "give the file of tests, which names the policy: gatekeeper-py test FILE...",
    TEST_KIND: "run it: gatekeeper-py test FILE...",
    EXCEPTIONS_KIND: "give it as --exceptions, besides the policy",
    "Kustomization": "use the output of kustomize build",
}
"""What to do with a document of another kind than the command reads."""

_OF_ANY_TEXT: Final = frozenset({"yaml-syntax", "too-long", "empty-document"})
"""The codes of findings whose messages quote nothing. Their proposals may."""

_OF_ANY_CONFIGMAP: Final = _OF_ANY_TEXT | {"missing-field", "binary-data"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInput:
    """The content of a POLICY argument: a policy, or the findings that explain why there is none.

    ``lines`` are the lines that the findings refer to; empty if the file is neither a policy nor settings.
    """

    name: str
    policy: Policy | None = None
    errors: tuple[Finding, ...] = ()
    lines: tuple[str, ...] = ()
    shift: Shift = field(default_factory=Shift)
    settings: WebhookSettings | None = None
    """The settings of the webhook configurations, if the file holds them instead of a policy."""

    def lint(self, instant: datetime) -> tuple[Finding, ...]:
        """Return the warnings at an instant; without a policy, there are none."""
        if self.policy is None:
            return ()
        # Imported here, because most commands do not lint.
        from gatekeeper_py.core.policy.lint import lint  # noqa: PLC0415

        return tuple(self.shift.moved(finding) for finding in lint(self.policy, instant))


def read_policy(argument: str, within: Sequence[str] = ()) -> PolicyInput:
    """Read and parse POLICY. ``within`` is as for ``read_bytes``.

    Raises ``UnreadableError`` when POLICY cannot be read as text.
    """
    return parsed_input(*read_bounded(argument, within))


def read_bounded(argument: str, within: Sequence[str] = ()) -> tuple[str, str | None]:
    """Return the display name and the text; ``None`` if the text is longer than ``MAX_FILE_BYTES``."""
    try:
        name, content = read_bytes(argument, MAX_FILE_BYTES, within)
    except TooLongError:
        return shown(argument), None
    return name, decoded(name, content)


def parsed_input(name: str, text: str | None, outline: Outline | None = None) -> PolicyInput:
    """Parse one document.

    ``text`` is ``None`` if the document is too long. ``outline`` is its outline, if the caller has it.
    """
    if text is None:
        return PolicyInput(name=name, errors=(_too_long(),))
    outline = outline_of(text) if outline is None else outline
    if outline.text_of("kind") == "ConfigMap":
        return _from_configmap(name, text, outline)
    policy, errors = _parsed(text, None, MAX_FILE_BYTES)
    if not is_ours(outline):
        return PolicyInput(name=name, errors=unquoted(errors, outline))
    return PolicyInput(name=name, policy=policy, errors=errors, lines=lines_of(text))


def usable_settings(argument: str) -> WebhookSettings:
    """Return the settings in ``webhooks.yaml``, or in a ConfigMap manifest that holds it.

    If the settings have errors, print the findings on stderr and exit with 2. Raises ``UnreadableError``.
    """
    name, text = read_bounded(argument)
    if text is None:
        given = PolicyInput(name=name, errors=(_too_long(),))
    else:
        outline = outline_of(text)
        is_settings = is_ours(outline) or not outline.fields.keys().isdisjoint(FIELDS)
        lines = lines_of(text) if is_settings else ()
        given = _settings_in(name, text, outline, lines)
        if given.settings is not None:
            return given.settings
        if not is_settings:
            wanted = f"{SETTINGS_KEY} or a ConfigMap that holds it"
            errors = unquoted(given.errors, outline, wanted=wanted, proposal="")
            given = dataclasses.replace(given, errors=errors)
    print_findings(name, given.lines, given.errors, stderr=True)
    raise click.exceptions.Exit(2)


def _settings_in(name: str, text: str, outline: Outline, lines: tuple[str, ...]) -> PolicyInput:
    if outline.text_of("kind") == "ConfigMap":
        return _from_settings(name, outline, lines)
    try:
        return PolicyInput(name=name, settings=parse_settings(text))
    except InvalidWebhookSettings as problem:
        return PolicyInput(name=name, errors=problem.findings, lines=lines)


def usable_policy(argument: str, usage: str = "") -> Policy:
    """Read and return the policy. If it has errors, print the findings on stderr and exit with 2.

    ``usage`` shows the order of the arguments. The findings about another Kubernetes object propose it.
    """
    return usable(read_policy(argument), usage)


def usable(given: PolicyInput, usage: str = "") -> Policy:
    """Return the policy that was read. If there is none, print the findings on stderr and exit with 2."""
    if given.policy is None:
        # A ConfigMap with settings of the webhooks may have no errors, but it contains no policy.
        errors = given.errors or read_configmap({}).findings
        if usage and errors[0].path == "kind" and errors[0].proposal == _BEGIN:
            errors = (dataclasses.replace(errors[0], proposal=f"the policy comes first: {usage}"),)
        print_findings(given.name, given.lines, errors, stderr=True)
        raise click.exceptions.Exit(2)
    return given.policy


def live_policy(name: str, data: Any, binary_data: Any = None) -> PolicyInput:
    """Read the policy in the fields of a live ConfigMap; findings refer to it as ``name``."""
    found = read_configmap(data, binary_data)
    policy, errors = None, found.findings
    if found.text is not None:
        policy, findings = _parsed(found.text, found.mode, MAX_CONFIGMAP_BYTES)
        errors = in_order((*errors, *findings))
    return PolicyInput(
        name=name,
        policy=None if errors else policy,
        errors=errors,
        lines=() if found.text is None else lines_of(found.text),
    )


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def _parsed(text: str, mode: str | None, max_bytes: int) -> tuple[Policy | None, tuple[Finding, ...]]:
    try:
        return parse_policy(text, mode, max_bytes=max_bytes), ()
    except PolicyError as problem:
        return None, problem.findings


def _from_configmap(name: str, text: str, outline: Outline) -> PolicyInput:
    lines = lines_of(text) if is_ours(outline) else ()
    if holds_settings(outline):
        return _from_settings(name, outline, lines)
    found = read_configmap(outline.value_of("data"), outline.value_of("binaryData"))
    errors = [*outline.findings, *(_located(outline, finding) for finding in found.findings)]
    if not lines:
        errors = list(unquoted(errors, outline, codes=_OF_ANY_CONFIGMAP))
    if found.text is None:
        return PolicyInput(name=name, errors=in_order(errors), lines=lines)
    shift = shift_to(outline.mark_of(f"data.{POLICY_KEY}"), found.text, lines)
    policy, findings = _parsed(found.text, found.mode, MAX_CONFIGMAP_BYTES)
    errors += [shift.moved(finding) for finding in findings]
    return PolicyInput(
        name=name,
        policy=None if errors else policy,
        errors=in_order(errors),
        lines=lines,
        shift=shift,
    )


def holds_settings(outline: Outline) -> bool:
    """Return whether a document is a ConfigMap with settings of the webhook configurations."""
    if outline.text_of("kind") != "ConfigMap":
        return False
    if is_settings_name(outline.text_of("metadata.name") or ""):
        return True
    return f"data.{SETTINGS_KEY}" in outline.fields and f"data.{POLICY_KEY}" not in outline.fields


def _from_settings(name: str, outline: Outline, lines: tuple[str, ...]) -> PolicyInput:
    """Check the settings of the webhook configurations, which have a separate ConfigMap."""
    found = read_settings(outline.value_of("data"), outline.value_of("binaryData"))
    errors = [*outline.findings, *(_located(outline, finding) for finding in found.findings)]
    shift, settings = Shift(), None
    if found.text is not None:
        shift = shift_to(outline.mark_of(f"data.{SETTINGS_KEY}"), found.text, lines)
        try:
            settings = parse_settings(found.text)
        except InvalidWebhookSettings as problem:
            errors += map(shift.moved, problem.findings)
    return PolicyInput(
        name=name,
        settings=None if errors else settings,
        errors=in_order(errors),
        lines=lines,
        shift=shift,
    )


def is_ours(outline: Outline) -> bool:
    """Return whether a document is a policy, or a ConfigMap with a policy or settings of the webhooks."""
    kind = outline.text_of("kind")
    if kind == "ConfigMap":
        return (
            f"data.{POLICY_KEY}" in outline.fields
            or f"binaryData.{POLICY_KEY}" in outline.fields
            or {f"data.{MODE_KEY}", f"data.{_MISSPELT_KEY}"} <= outline.fields.keys()
            or outline.text_of("metadata.name") == POLICY_CONFIGMAP
            or holds_settings(outline)
        )
    return may_be(outline, KIND)


def may_be(outline: Outline, wanted: str) -> bool:
    """Return whether a document is of a kind of ours, or has our API version and no other of our kinds."""
    kind = outline.text_of("kind")
    return kind == wanted or (
        kind not in {KIND, TEST_KIND, EXCEPTIONS_KIND} and outline.text_of("apiVersion") == API_VERSION
    )


def _located(outline: Outline, finding: Finding) -> Finding:
    """Return a finding about the ConfigMap itself, with its position in the manifest."""
    path = f"data.{MODE_KEY}" if finding.path == MODE_KEY else finding.path
    mark = outline.keys.get(path) if finding.code == UNKNOWN_KEY else None
    mark = mark or outline.mark_of(path)
    return dataclasses.replace(finding, line=mark.line, column=mark.column)


def unquoted(
    errors: Iterable[Finding],
    outline: Outline,
    *,
    wanted: str = f"an {KIND} or a ConfigMap that holds one",
    proposal: str = _BEGIN,
    codes: AbstractSet[str] = _OF_ANY_TEXT,
) -> tuple[Finding, ...]:
    """Return the findings with these codes; if there are none, one finding that the text is no policy.

    This quotes nothing of the text except the kind of a Kubernetes object.
    """
    kept = [
        dataclasses.replace(finding, proposal=outline.hint) for finding in errors if finding.code in codes
    ]
    if kept:
        return tuple(kept)
    kind, version = outline.text_of("kind"), outline.text_of("apiVersion")
    known = kind is not None and version is not None and _KIND_NAME.fullmatch(kind)
    mark = outline.mark_of("kind") if known else Mark(1, 1)
    found = ""
    if known:
        found = f"{'an' if (kind or '')[:1] in set('AEIOU') else 'a'} {kind}, "
        proposal = _HINTS.get(kind or "", proposal)
    elif kind is None and (other := recognised(outline.fields)) is not None:
        found, proposal = f"{other.what}, ", other.hint
    return (
        Finding(
            severity="error",
            code="not-a-policy",
            path="kind" if known else "",
            line=mark.line,
            column=mark.column,
            message=f"this is {found}not {wanted}",
            proposal=proposal,
        ),
    )


def _too_long() -> Finding:
    limit = f"{MAX_FILE_BYTES // 2**20} MiB"
    message = f"the text is longer than {limit}, the limit"
    return Finding(severity="error", code="too-long", path="", line=1, message=message)
