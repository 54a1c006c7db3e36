"""Validates a document's values with the models of the schema, and words pydantic's errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gatekeeper_py.core.policy.document import API_VERSION, KIND, MODES, PolicyDocument
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.problems import did_you_mean, listed, shown, type_name
from gatekeeper_py.core.policy.schema import (
    AllowModel,
    DocumentModel,
    MirrorModel,
    OverrideModel,
    ResourceModel,
    RuleModel,
)
from gatekeeper_py.core.policy.yamltree import Path, Tree


def validate(tree: Tree) -> tuple[PolicyDocument | None, tuple[Finding, ...]]:
    """Return the document, or ``None`` and the problems."""
    try:
        return DocumentModel.model_validate(tree.root).value(), ()
    except ValidationError as problem:
        return None, tuple(_translated(tree, problem))


def _translated(tree: Tree, problem: ValidationError) -> Iterator[Finding]:
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
            f"unknown field {shown(details['loc'][-1])}",
            did_you_mean(str(details["loc"][-1]), known) or f"known here: {', '.join(known)}",
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
            f"must be {listed(wanted)}, not {shown(value)}",
            did_you_mean(str(value), wanted),
        )
    if kind in _TYPE_NAMES:
        wanted_type = _TYPE_NAMES[kind]
        if kind == "model_type" and details["loc"][:1] in {("allow",), ("deny",)}:
            wanted_type = "a pattern or a mapping"
        proposal = "leave the field out" if value is None and wanted_type == "a list" else ""
        if isinstance(value, int | float) and not isinstance(value, bool) and "list" not in wanted_type:
            proposal = "quote it"
        return "wrong-type", f"must be {wanted_type}, not {type_name(value)}", proposal
    return kind, details["msg"], str(context.get("proposal", ""))


_ENTRY_MODELS: Final[dict[str, type[BaseModel]]] = {
    "allow": AllowModel,
    "deny": RuleModel,
    "namespaces": OverrideModel,
    "mirrors": MirrorModel,
    "resources": ResourceModel,
}


def _fields_beside(location: tuple[int | str, ...]) -> tuple[str, ...]:
    """The fields that could stand where an unknown one does."""
    model = DocumentModel if len(location) == 1 else _ENTRY_MODELS[str(location[0])]
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
