"""Read a stream of Kubernetes objects that contains policies, such as the output of ``kustomize build``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import yaml

from gatekeeper_py.cli.inputs.exceptions import ExceptionInput, Place, exceptions_in, holds_exceptions
from gatekeeper_py.cli.inputs.files import UnreadableError
from gatekeeper_py.cli.inputs.outline import Part, Shift, parts_of
from gatekeeper_py.cli.inputs.policies import PolicyInput, is_ours, parsed_input, read_bounded
from gatekeeper_py.cli.inputs.recognition import may_be_ours, template_hint
from gatekeeper_py.cli.inputs.yaml12 import Merges, is_syntax_error, load_documents
from gatekeeper_py.controller.webhooks.settings import SETTINGS_KEY, is_settings_name
from gatekeeper_py.core.names import POLICY_CONFIGMAP
from gatekeeper_py.core.policy.configmap import POLICY_KEY
from gatekeeper_py.core.policy.finding import Finding, in_order

MAX_UNREAD: Final = 100
"""Maximum number of documents of a stream that cannot be read, because each causes a finding."""


class OtherDocument(NamedTuple):
    """A document in a stream that holds no policy. ``line`` is the number of its first line, from 1."""

    line: int
    content: Any

    @property
    def kind(self) -> str:
        kind = self.content.get("kind") if isinstance(self.content, dict) else None
        return kind if isinstance(kind, str) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyStream:
    """The content of a POLICY argument: policies, and other documents.

    ``lines`` are those of the whole text. ``unread`` are the findings about documents that cannot be read.
    A stream of exceptions alone holds no policy.
    """

    name: str
    lines: tuple[str, ...]
    policies: tuple[PolicyInput, ...]
    exceptions: tuple[ExceptionInput, ...] = ()
    others: tuple[OtherDocument, ...] = ()
    unread: tuple[Finding, ...] = ()


def read_stream(argument: str, place: Place) -> PolicyStream:
    """Read POLICY as one document, like ``read_policy``, or as a stream of documents that contains policies.

    The documents may also be exceptions, at ``place``. Raises ``UnreadableError`` when POLICY cannot be read
    as text, and when a stream holds neither.
    """
    name, text = read_bounded(argument)
    parts = [] if text is None else list(parts_of(name, text))
    exceptions = tuple(found for part in parts for found in exceptions_in(part, place))
    if text is None or (len(parts) <= 1 and not exceptions and not any(map(_lists_policy, parts))):
        return PolicyStream(name=name, lines=(), policies=(parsed_input(name, text),))
    policies: list[PolicyInput] = []
    others: list[OtherDocument] = []
    unread: list[Finding] = []
    merges = Merges()
    bare = 0
    for part in parts:
        outline = part.outline
        if _lists_policy(part):
            policies.append(_unread_list(part))
            continue
        if holds_exceptions(outline, place):
            continue
        if not is_ours(outline):
            try:
                others += (OtherDocument(part.first + 1, each) for each in load_documents(part.text, merges))
            except (yaml.YAMLError, ValueError, RecursionError) as problem:
                unread.append(_unreadable(problem, part))
                if len(unread) > MAX_UNREAD:
                    raise UnreadableError(
                        f"{name}: more than {MAX_UNREAD} of its documents cannot be read"
                    ) from None
            continue
        given = _moved(parsed_input(name, part.text, outline), part)
        bare += outline.text_of("kind") != "ConfigMap"
        policies.append(_refused(given, part.first) if bare > 1 else given)
    if not policies and not exceptions:
        reason = f"; line {unread[0].line}: {unread[0].message}" if unread else ""
        raise UnreadableError(f"{name}: none of its {len(parts):,} documents is a policy{reason}")
    return PolicyStream(
        name=name,
        lines=parts[0].lines,
        policies=tuple(policies),
        exceptions=exceptions,
        others=tuple(others),
        unread=tuple(unread),
    )


def _unreadable(problem: yaml.YAMLError | ValueError | RecursionError, part: Part) -> Finding:
    """Return the finding about a document that is not a policy and cannot be read. It quotes nothing.

    Kubernetes may accept such YAML, for example if a key is given twice. The finding is then only a warning,
    unless the document may be a policy or exceptions.
    """
    is_yaml = not is_syntax_error(problem) and not isinstance(problem, RecursionError)
    is_yaml = is_yaml and not may_be_ours(part.text)
    mark = getattr(problem, "problem_mark", None)
    reason = getattr(problem, "problem", None) or "it is not valid YAML"
    return Finding(
        severity="warning" if is_yaml else "error",
        code="unreadable-object" if is_yaml else "yaml-syntax",
        path="",
        line=part.first + 1 + (0 if mark is None else mark.line),
        message=f"this document cannot be read: {reason}",
        proposal="" if is_yaml else template_hint(part.text),
    )


def _lists_policy(part: Part) -> bool:
    """Return whether an item is, or may be, a ConfigMap with a policy or settings of the webhooks.

    For kubectl, a document of any kind is a list if it has items.
    """
    if "items" not in part.outline.fields:
        return False
    try:
        found = load_documents(part.text, Merges())
    except (yaml.YAMLError, ValueError, RecursionError):
        return may_be_ours(part.text)
    items = [each.get("items") for each in found if isinstance(each, dict)]
    return any(_is_policy(item) for each in items if isinstance(each, list) for item in each)


def _is_policy(item: object) -> bool:
    if not isinstance(item, dict) or item.get("kind", "ConfigMap") != "ConfigMap":
        return False
    metadata = item.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    fields = [item.get(field) or () for field in ("data", "binaryData")]
    return (
        name == POLICY_CONFIGMAP
        or (isinstance(name, str) and is_settings_name(name))
        or any(key in field for key in (POLICY_KEY, SETTINGS_KEY) for field in fields)
    )


def _unread_list(part: Part) -> PolicyInput:
    mark = part.outline.mark_of("kind")
    error = Finding(
        severity="error",
        code="policy-in-list",
        path="items",
        line=part.first + mark.line,
        column=mark.column,
        message="this List holds a ConfigMap with a policy or webhook settings, and is not read",
        proposal="write each item of the List as a document of its own",
    )
    return PolicyInput(name=part.name, errors=(error,))


def _moved(given: PolicyInput, part: Part) -> PolicyInput:
    """Return a document's input, with all positions converted to positions in the stream."""
    shift = Shift(part.first)
    return dataclasses.replace(
        given,
        errors=tuple(map(shift.moved, given.errors)),
        lines=part.lines if given.lines else (),
        shift=dataclasses.replace(given.shift, lines=given.shift.lines + part.first),
    )


def _refused(given: PolicyInput, first: int) -> PolicyInput:
    """Return the second policy of a stream as an error, because it is ambiguous which one applies."""
    error = Finding(
        severity="error",
        code="second-policy",
        path="",
        line=first + 1,
        message="the stream holds another policy before this one",
        proposal="check one policy at a time",
    )
    return dataclasses.replace(given, policy=None, errors=in_order((*given.errors, error)))
