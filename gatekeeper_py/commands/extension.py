"""Add rules to the text of a policy, and leave the rest of the text unchanged."""

from __future__ import annotations

import dataclasses

import yaml

from gatekeeper_py.commands.files import UnreadableError
from gatekeeper_py.commands.yaml12 import Yaml12Loader
from gatekeeper_py.core.policy.document import PolicyError
from gatekeeper_py.core.policy.policy import Policy, parse_policy
from gatekeeper_py.inventory.suggestion import Suggestion
from gatekeeper_py.reporting.suggestion import left_out_lines, quoted, rule_lines


def extended(base: Policy, suggestion: Suggestion) -> str:
    """Return the base with the suggested rules at the end of ``allow``, and comments about uncovered images.

    Raises ``UnreadableError`` if the rules cannot be added without changing the rest of the policy.
    """
    text = base.text if base.text.endswith("\n") else f"{base.text}\n"
    patterns = [pattern for pattern, _ in suggestion.listed()]
    if patterns:
        allow = _allow_of(text)
        text = _in_line(text, allow, patterns) if allow.flow_style else _in_block(text, allow, suggestion)
        _check(base, text, patterns)
    return text + "".join(f"{line}\n" for line in left_out_lines(suggestion))


def _allow_of(text: str) -> yaml.SequenceNode:
    root = yaml.compose(text, Loader=Yaml12Loader)
    fields = root.value if isinstance(root, yaml.MappingNode) else ()
    allow = next((value for key, value in fields if key.value == "allow"), None)
    if not isinstance(allow, yaml.SequenceNode):
        raise UnreadableError("cannot add rules to the base: it has no list named allow")
    return allow


def _in_block(text: str, allow: yaml.SequenceNode, suggestion: Suggestion) -> str:
    """Add items on lines of their own, with the indentation of the existing items."""
    lines = text.split("\n")
    after = _last_line(allow) + 1
    new = list(rule_lines(suggestion, " " * allow.start_mark.column))
    return "\n".join((*lines[:after], *new, *lines[after:]))


def _last_line(node: yaml.Node) -> int:
    """Return the number of a node's last line, counted from 0."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return _last_line(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return _last_line(node.value[-1])
    end = node.end_mark
    return int(end.line if end.column or end.line == node.start_mark.line else end.line - 1)


def _in_line(text: str, allow: yaml.SequenceNode, patterns: list[str]) -> str:
    """Add items before the bracket that closes the list."""
    last, end = allow.value[-1].end_mark, allow.end_mark
    lines = text.split("\n")
    closing = sum(len(line) + 1 for line in lines[: end.line]) + end.column - 1
    start = sum(len(line) + 1 for line in lines[: last.line]) + last.column
    between = "\n".join(line.partition("#")[0] for line in text[start:closing].split("\n"))
    comma = "" if "," in between else ", "
    new = ", ".join(quoted(pattern, always=True) for pattern in patterns)
    return f"{text[:closing]}{comma}{new}{text[closing:]}"


def _check(base: Policy, text: str, patterns: list[str]) -> None:
    try:
        document = parse_policy(text).document
    except PolicyError:
        document = None
    old = base.document
    added = () if document is None else document.allow[len(old.allow) :]
    if document is None or (
        dataclasses.replace(document, allow=document.allow[: len(old.allow)])
        != dataclasses.replace(old, mode=document.mode)
        or [rule.pattern.text for rule in added] != patterns
    ):
        raise UnreadableError(
            "cannot add rules to the base: write its allow list with one rule a line and no other layout"
        )
