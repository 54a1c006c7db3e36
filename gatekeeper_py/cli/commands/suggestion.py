"""``audit --suggest``: print a policy that approves the images in use, or add its rules to another policy."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Final

from gatekeeper_py.cli.inputs.additions import with_items
from gatekeeper_py.cli.inputs.cluster import CACHE_SIZE, read_cluster, with_cluster
from gatekeeper_py.cli.inputs.files import UnreadableError
from gatekeeper_py.cli.inputs.policies import now, usable_policy
from gatekeeper_py.cli.inputs.selection import Cluster
from gatekeeper_py.cli.inventory.suggestion import NOTHING, By, Group, Suggestion
from gatekeeper_py.cli.reporting.console import counted, note
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.document import API_VERSION, KIND, PolicyError
from gatekeeper_py.core.policy.policy import Policy, parse_policy

MAX_LEFT_OUT: Final = 1000
"""Maximum number of listed images that no rule covers. The last line counts the remaining images."""

_PLAIN: Final = re.compile(r"[a-z0-9][a-z0-9._/:*-]*[a-z0-9*/]")
"""Patterns that need no quotes in YAML, provided that they contain a letter."""


def suggested(
    base: str | None, by: By, namespace: str | None, exempt: AbstractSet[str], cluster: Cluster
) -> str:
    """Return the text of a policy that approves what runs. Raises ``UnreadableError``."""
    kept = NOTHING if base is None else usable_policy(base)
    policy = kept.at(now()).serving(CACHE_SIZE, CacheCounts())
    suggestion = Suggestion(policy, by, exempt)

    with_cluster(cluster, lambda api: read_cluster(api, suggestion, policy.resources, namespace))
    if base is not None:
        return extended(kept, suggestion)
    if not suggestion.rules:
        for line in filter(None, left_out_lines(suggestion)):
            note(line)
        raise UnreadableError("there is no image that a rule could approve")
    return new_policy(suggestion, by)


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


def extended(base: Policy, suggestion: Suggestion) -> str:
    """Return the base with the suggested rules at the end of ``allow``, and comments about uncovered images.

    Raises ``UnreadableError`` if the rules cannot be added without changing the rest of the policy.
    """
    text = base.text if base.text.endswith("\n") else f"{base.text}\n"
    patterns = [pattern for pattern, _ in suggestion.listed()]
    if patterns:
        items = [quoted(pattern, always=True) for pattern in patterns]
        longer = with_items(text, "allow", list(rule_lines(suggestion, "")), items)
        if longer is None:
            raise UnreadableError("cannot add rules to the base: it has no list named allow")
        text = longer
        _check(base, text, patterns)
    return text + "".join(f"{line}\n" for line in left_out_lines(suggestion))


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
