"""What is wrong with a document, in words: pydantic's errors, and mirrors that contradict each other.

What crosses entries is checked on the text's own values and not on the model, so that it is reported
even when something else is wrong too.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gatekeeper_py.core.images.pattern import InvalidPattern, Prefix, parse_prefix
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.schema import (
    API_VERSION,
    KIND,
    MODES,
    AllowEntry,
    MirrorEntry,
    OverrideEntry,
    PolicyDocument,
    ResourceEntry,
    RuleEntry,
)
from gatekeeper_py.core.policy.yamltree import Path, Tree, YamlMapping


def mode_problem(mode: object) -> Finding | None:
    """The finding for a mode that is none, as when a ConfigMap's ``mode`` key holds one."""
    if mode in MODES:
        return None
    return Finding(
        severity="error",
        code="bad-value",
        path="mode",
        line=1,
        message=f"must be {_listed(MODES)}, not {_shown(mode)}",
        proposal=_did_you_mean(str(mode), MODES),
    )


def translated(tree: Tree, problem: ValidationError) -> Iterator[Finding]:
    for details in problem.errors(include_url=False):
        path = _document_path(tree, details["loc"])
        if tree.hides(path) or (details["type"] == "too_short" and details["input"]):
            continue  # a list of entries that are all wrong counts as empty for pydantic
        code, message, proposal = _worded(details)
        yield tree.finding("error", code, path, message, proposal, key=code == "unknown-field")


def _document_path(tree: Tree, location: tuple[int | str, ...]) -> Path:
    """Pydantic's location, ended at a string rule: its ``image`` is not in the text."""
    for length in range(len(location)):
        place = tree.value_at(location[:length])
        if isinstance(place, str):
            return location[:length]
    return location


_TYPE_NAMES: Final = {
    "string_type": "text",
    "tuple_type": "a list",
    "model_type": "a mapping",
    "dataclass_exact_type": "text",
    "datetime_type": "a date or a time",
}


def _worded(details: ErrorDetails) -> tuple[str, str, str]:
    """Code, message and proposal for one of pydantic's errors."""
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "extra_forbidden":
        known = _fields_beside(details["loc"])
        return (
            "unknown-field",
            f"unknown field {_shown(details['loc'][-1])}",
            _did_you_mean(str(details["loc"][-1]), known) or f"known here: {', '.join(known)}",
        )
    if kind == "missing":
        return "missing-field", f"{details['loc'][-1]} is required", _example_of(details["loc"][-1])
    if kind == "too_short":
        return "empty-list", "needs at least one entry", ""
    if kind == "string_too_short":
        return "bad-text", "must not be empty", ""
    if kind == "string_too_long":
        return "too-long", f"at most {context['max_length']} characters, here {len(value)}", ""
    if kind == "literal_error":
        wanted = _choices(details["loc"][-1])
        return (
            "bad-value",
            f"must be {_listed(wanted)}, not {_shown(value)}",
            _did_you_mean(str(value), wanted),
        )
    if kind in _TYPE_NAMES:
        wanted_type = _TYPE_NAMES[kind]
        if kind == "model_type" and details["loc"][:1] in {("allow",), ("deny",)}:
            wanted_type = "a pattern or a mapping"
        proposal = "leave the field out" if value is None and wanted_type == "a list" else ""
        if isinstance(value, int | float) and not isinstance(value, bool) and "list" not in wanted_type:
            proposal = "quote it"
        return "wrong-type", f"must be {wanted_type}, not {_type_name(value)}", proposal
    return kind, details["msg"], str(context.get("proposal", ""))


def mirror_problems(tree: Tree) -> Iterator[Finding]:
    """Mirrors that could rewrite twice, or that contradict each other (docs/policy.md, "Modes")."""
    ends = list(_mirror_ends(tree))
    sources: dict[_Place, int] = {}
    above: dict[_Place, int] = {}  # every place that holds some source, to the first such mirror
    for index, source, _ in ends:
        if source is None:
            continue
        for place in _places_holding(source):
            above.setdefault(place, index)
        first = sources.setdefault((source.host, source.segments), index)
        if first != index:
            yield tree.finding(
                "error",
                "mirror-duplicate",
                ("mirrors", index, "from"),
                f"mirrors[{first}] is from there already",
                "merge the two",
            )
    for index, _, to in ends:
        if to is None:
            continue
        holder = next((sources[place] for place in _places_holding(to) if place in sources), None)
        other = above.get((to.host, to.segments)) if holder is None else holder
        if other is not None:
            inside = "holds" if holder is None else "lies under"
            yield tree.finding(
                "error",
                "mirror-loop",
                ("mirrors", index, "to"),
                f"{to.text} {inside} mirrors[{other}].from, so an image could be rewritten twice",
                "send it to a place that no mirror is from",
            )


_Place = tuple[str, tuple[str, ...]]
"""Host and segments of one end of a mirror."""


def _places_holding(end: Prefix) -> Iterator[_Place]:
    """The end itself and every place above it, on segment boundaries."""
    return ((end.host, end.segments[:length]) for length in range(len(end.segments) + 1))


def _mirror_ends(tree: Tree) -> Iterator[tuple[int, Prefix | None, Prefix | None]]:
    mirrors = tree.root.get("mirrors") if isinstance(tree.root, YamlMapping) else None
    for index, mirror in enumerate(mirrors if isinstance(mirrors, list) else []):
        if isinstance(mirror, dict):
            yield index, _end(mirror.get("from")), _end(mirror.get("to"))


def _end(text: object) -> Prefix | None:
    """One end of a mirror; ``None`` when it is none, which the model reports."""
    try:
        return parse_prefix(text) if isinstance(text, str) else None
    except InvalidPattern:
        return None


_ENTRY_MODELS: Final[dict[str, type[BaseModel]]] = {
    "allow": AllowEntry,
    "deny": RuleEntry,
    "namespaces": OverrideEntry,
    "mirrors": MirrorEntry,
    "resources": ResourceEntry,
}


def _fields_beside(location: tuple[int | str, ...]) -> tuple[str, ...]:
    """The fields that could stand where an unknown one does."""
    model = PolicyDocument if len(location) == 1 else _ENTRY_MODELS[str(location[0])]
    return tuple(info.alias or name for name, info in model.model_fields.items())


def _choices(field: int | str) -> tuple[str, ...]:
    return {"apiVersion": (API_VERSION,), "kind": (KIND,)}.get(str(field), MODES)


def _example_of(field: int | str) -> str:
    return {
        "apiVersion": f"apiVersion: {API_VERSION}",
        "kind": f"kind: {KIND}",
        "mode": f"mode: {MODES[0]}",
        "allow": "allow: [registry.example.com]",
    }.get(str(field), "")


def _did_you_mean(text: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(text.lower(), known, n=1)
    return f"did you mean {close[0]}?" if close else ""


def _listed(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _shown(value: object) -> str:
    return ascii(value)[:60] if isinstance(value, str | int | float | bool) else _type_name(value)


def _type_name(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list | tuple) else "a mapping"
