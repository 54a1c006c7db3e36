"""Write a suggested policy as a document that people can read and edit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.document import API_VERSION, KIND
from gatekeeper_py.inventory.suggestion import By, Group, Suggestion
from gatekeeper_py.reporting.console import counted

MAX_LEFT_OUT: Final = 1000
"""Maximum number of listed images that no rule covers. The last line counts the remaining images."""

_PLAIN: Final = re.compile(r"[a-z0-9][a-z0-9._/:*-]*[a-z0-9*/]")
"""Patterns that need no quotes in YAML, provided that they contain a letter."""


def new_policy(suggestion: Suggestion, by: By) -> str:
    """Return the text of a policy with the suggested rules."""
    images = sum(len(group.images) for group in suggestion.rules.values())
    uses = sum(group.uses for group in suggestion.rules.values())
    lines = [
        f"# Approves {counted(images, 'image')}, used {counted(uses, 'time')}, by {by}.",
        "# Review each rule, and try the policy in the mode warn before you enforce it.",
        f"apiVersion: {API_VERSION}",
        f"kind: {KIND}",
        "mode: enforce",
        "allow:",
        *rule_lines(suggestion, "  "),
        *left_out_lines(suggestion),
    ]
    return "\n".join(lines) + "\n"


def rule_lines(suggestion: Suggestion, indent: str) -> Iterator[str]:
    """Yield the entries of ``allow``, each below a comment with its count and an example."""
    for pattern, group in suggestion.listed():
        yield f"{indent}# {_summary(group)}"
        yield f"{indent}- {quoted(pattern)}"


def left_out_lines(suggestion: Suggestion) -> Iterator[str]:
    """Yield comments that list the images that no rule covers, each with the reason."""
    if not suggestion.left_out:
        return
    yield ""
    yield f"# Not covered: {counted(len(suggestion.left_out), 'image')}."
    for number, (left_out, group) in enumerate(suggestion.listed_left_out()):
        if number == MAX_LEFT_OUT:
            yield f"# ... and {len(suggestion.left_out) - MAX_LEFT_OUT:,} more"
            break
        where = _where(group)
        yield f"#   {left_out.image or '(no image)'}: {left_out.why} ({where})"


def quoted(pattern: str, *, always: bool = False) -> str:
    """Return a pattern as YAML text. A pattern is ASCII without quotes or backslashes."""
    plain = not always and _PLAIN.fullmatch(pattern) and re.search("[a-z]", pattern)
    return pattern if plain else f'"{pattern}"'


def _summary(group: Group) -> str:
    images = counted(len(group.images), "image")
    example = group.example.image if group.example is not None else ""
    return f"{images}, used {counted(group.uses, 'time')}, e.g. {example} ({_where(group)})"


def _where(group: Group) -> str:
    if group.example is None:
        return ""
    usage = group.example.usage
    name = f"{usage.namespace}/{usage.name}" if usage.namespace else usage.name
    return escape(f"{usage.kind} {name}")
