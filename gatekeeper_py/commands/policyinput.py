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
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import click

from gatekeeper_py.commands.files import TooLongError, decoded, read_bytes, shown
from gatekeeper_py.commands.recognition import recognised, template_hint
from gatekeeper_py.control.webhooks import configmap
from gatekeeper_py.control.webhooks.settings import (
    FIELDS,
    SETTINGS_KEY,
    InvalidWebhookSettings,
    WebhookSettings,
    parse_settings,
)
from gatekeeper_py.core.exceptions.document import KIND as EXCEPTIONS_KIND
from gatekeeper_py.core.names import POLICY_CONFIGMAP
from gatekeeper_py.core.policy.configmap import MODE_KEY, POLICY_KEY, UNKNOWN_KEY, read_configmap
from gatekeeper_py.core.policy.document import API_VERSION, KIND, PolicyError
from gatekeeper_py.core.policy.finding import Finding, Mark, Remarks, in_order
from gatekeeper_py.core.policy.limits import MAX_CONFIGMAP_BYTES, MAX_FILE_BYTES
from gatekeeper_py.core.policy.lint import lint
from gatekeeper_py.core.policy.parse.events import Node, Reader, Unreadable, value_of
from gatekeeper_py.core.policy.parse.positions import as_findings
from gatekeeper_py.core.policy.parse.text import check_text
from gatekeeper_py.core.policy.policy import Policy, parse_policy
from gatekeeper_py.reporting.findings import print_findings

_KIND_NAME: Final = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")
_METADATA: Final = ("name", "namespace")
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
    policy: Policy | None
    errors: tuple[Finding, ...]
    lines: tuple[str, ...]
    shift: Shift

    def lint(self, instant: datetime) -> tuple[Finding, ...]:
        """Return the warnings at an instant; without a policy, there are none."""
        if self.policy is None:
            return ()
        return tuple(self.shift.moved(finding) for finding in lint(self.policy, instant))


@dataclass(frozen=True, slots=True)
class Shift:
    """Converts positions in the document to positions in the file.

    ``lines`` and ``columns`` are the numbers of lines and columns before the document. If the document is not
    a ``block``, its lines are not lines of the file, and all findings get the position of its start.
    """

    lines: int = 0
    columns: int = 0
    block: bool = True

    def moved(self, finding: Finding) -> Finding:
        if not self.block:
            message = f"{finding.message} (line {finding.line} of the text)"
            return dataclasses.replace(finding, line=self.lines + 1, column=self.columns + 1, message=message)
        return dataclasses.replace(
            finding, line=finding.line + self.lines, column=finding.column + self.columns
        )


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
        return PolicyInput(name=name, policy=None, errors=(_too_long(),), lines=(), shift=Shift())
    outline = outline_of(text) if outline is None else outline
    if outline.text_of("kind") == "ConfigMap":
        return _from_configmap(name, text, outline)
    policy, errors = _parsed(text, None, MAX_FILE_BYTES)
    if not is_ours(outline):
        return PolicyInput(name=name, policy=None, errors=unquoted(errors, outline), lines=(), shift=Shift())
    return PolicyInput(name=name, policy=policy, errors=errors, lines=lines_of(text), shift=Shift())


def usable_settings(argument: str) -> WebhookSettings:
    """Return the settings in ``webhooks.yaml``, or in a ConfigMap manifest that holds it.

    If the settings have errors, print the findings on stderr and exit with 2. Raises ``UnreadableError``.
    """
    name, text = read_bounded(argument)
    outline = None if text is None else outline_of(text)
    is_settings = outline is not None and (is_ours(outline) or not outline.fields.keys().isdisjoint(FIELDS))
    lines = lines_of(text) if text is not None and is_settings else ()
    errors: tuple[Finding, ...] = (_too_long(),)
    if text is not None and outline is not None and outline.text_of("kind") == "ConfigMap":
        found = configmap.read_configmap(outline.value_of("data"), outline.value_of("binaryData"))
        errors = _from_settings(name, outline, lines).errors
        text = found.text or ""
    elif text is not None:
        errors = ()
    if text is not None and not errors:
        try:
            return parse_settings(text)
        except InvalidWebhookSettings as problem:
            errors = problem.findings
    if outline is not None and not is_settings:
        wanted = f"{SETTINGS_KEY} or a ConfigMap that holds it"
        errors = unquoted(errors, outline, wanted=wanted, proposal="")
    print_findings(name, lines, errors, stderr=True)
    raise click.exceptions.Exit(2)


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
        shift=Shift(),
    )


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def _parsed(text: str, mode: str | None, max_bytes: int) -> tuple[Policy | None, tuple[Finding, ...]]:
    try:
        return parse_policy(text, mode, max_bytes=max_bytes), ()
    except PolicyError as problem:
        return None, problem.findings


def lines_of(text: str) -> tuple[str, ...]:
    """Split a text into lines as findings count them: at LF and CRLF only."""
    return tuple(text.replace("\r\n", "\n").split("\n"))


@dataclass(slots=True)
class Outline:
    """The top-level fields that distinguish a policy from a ConfigMap manifest.

    ``fields`` holds all top-level fields, ``metadata.name``, and each entry of ``data`` and ``binaryData`` by
    its path, such as ``data.NAME``. ``keys`` holds the position of each entry's key. ``hint`` is what to do
    if a text that is not YAML may be a template.
    """

    fields: dict[str, Node]
    keys: dict[str, Mark]
    findings: tuple[Finding, ...]
    hint: str = ""

    def text_of(self, path: str) -> str | None:
        node = self.fields.get(path)
        return node.value if node is not None and isinstance(node.value, str) else None

    def mark_of(self, path: str) -> Mark:
        """Return the position of a field; if it is absent, that of its top-level field."""
        node = self.fields.get(path) or self.fields.get(path.partition(".")[0])
        return Mark(line=1, column=1) if node is None else node.mark

    def value_of(self, field: str) -> Any:
        """Return the value of ``data`` or ``binaryData``; ``None`` when it is absent."""
        node = self.fields.get(field)
        if node is None or node.kind != "mapping":
            return None if node is None else value_of(node)
        prefix = f"{field}."
        inner = ((path, node) for path, node in self.fields.items() if path.startswith(prefix))
        return {path.removeprefix(prefix): value_of(node) for path, node in inner}


def outline_of(text: str) -> Outline:
    """Return the fields that show whether a document is a policy or a ConfigMap manifest."""
    remarks = Remarks()
    fields: dict[str, Node] = {}
    keys: dict[str, Mark] = {}
    if check_text(text, MAX_FILE_BYTES, remarks):
        try:
            reader = Reader(text, remarks)
            root = reader.root()
            for key, node in reader.entries() if root is not None and root.kind == "mapping" else ():
                fields[key] = node
                if key == "metadata" and node.kind == "mapping":
                    own = ((name, inner) for name, inner in reader.entries() if name in _METADATA)
                    fields |= {f"{key}.{name}": inner for name, inner in own}
                if key in {"data", "binaryData"} and node.kind == "mapping":
                    for name, inner in reader.entries():
                        fields[f"{key}.{name}"] = inner
                        keys[f"{key}.{name}"] = reader.key_mark
            reader.finish()
        except Unreadable as problem:
            remarks.add(problem.remark)
    return Outline(fields, keys, as_findings(text, remarks), template_hint(text))


def _from_configmap(name: str, text: str, outline: Outline) -> PolicyInput:
    lines = lines_of(text) if is_ours(outline) else ()
    if holds_settings(outline):
        return _from_settings(name, outline, lines)
    found = read_configmap(outline.value_of("data"), outline.value_of("binaryData"))
    errors = [*outline.findings, *(_located(outline, finding) for finding in found.findings)]
    if not lines:
        errors = list(unquoted(errors, outline, codes=_OF_ANY_CONFIGMAP))
    if found.text is None:
        return PolicyInput(name=name, policy=None, errors=in_order(errors), lines=lines, shift=Shift())
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
    if configmap.is_settings_name(outline.text_of("metadata.name") or ""):
        return True
    return f"data.{SETTINGS_KEY}" in outline.fields and f"data.{POLICY_KEY}" not in outline.fields


def _from_settings(name: str, outline: Outline, lines: tuple[str, ...]) -> PolicyInput:
    """Check the settings of the webhook configurations, which have a separate ConfigMap."""
    found = configmap.read_configmap(outline.value_of("data"), outline.value_of("binaryData"))
    errors = [*outline.findings, *(_located(outline, finding) for finding in found.findings)]
    shift = Shift()
    if found.text is not None:
        shift = shift_to(outline.mark_of(f"data.{SETTINGS_KEY}"), found.text, lines)
        try:
            parse_settings(found.text)
        except InvalidWebhookSettings as problem:
            errors += map(shift.moved, problem.findings)
    return PolicyInput(name=name, policy=None, errors=in_order(errors), lines=lines, shift=shift)


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


def shift_to(mark: Mark, document: str, lines: tuple[str, ...], before: int = 0) -> Shift:
    """Return the offset of a text in a ConfigMap from the file's start.

    ``mark`` is its position in ``lines``, and ``before`` the number of lines of the file before these.
    """
    if not mark.literal:
        return Shift(before + mark.line - 1, mark.column - 1, block=False)
    for number, inner in enumerate(lines_of(document)):
        if inner.strip() and mark.line + number < len(lines):
            outer = lines[mark.line + number]
            return Shift(before + mark.line, len(outer) - len(inner))
    return Shift(before + mark.line)
