"""Validate one entry of a document at a time, and describe pydantic's errors in our own words.

While an entry is read, only parts that a valid entry could have are kept. So an entry never needs more memory
than the largest valid entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gatekeeper_py.core.images.pattern import InvalidPattern, Pattern, parse_pattern
from gatekeeper_py.core.policy.document import API_VERSION, KIND, MODES, OnError, OnMissing, RuleEntry
from gatekeeper_py.core.policy.finding import Path, Remark, Remarks
from gatekeeper_py.core.policy.limits import MAX_ITEMS
from gatekeeper_py.core.policy.parse.events import UNKNOWN, Node, Reader
from gatekeeper_py.core.policy.parse.schema import (
    AllowModel,
    EntryModel,
    RuleModel,
    fields_of,
    parse_allowed,
)
from gatekeeper_py.core.policy.problems import did_you_mean, listed, shown, type_name

M = TypeVar("M", bound=BaseModel)

Fields = dict[str, Any]
"""The fields of an entry: scalars, lists of scalars, and an empty collection for each misplaced one."""


_PARSERS: Final[Mapping[type[EntryModel], Callable[[str], Pattern]]] = {
    AllowModel: parse_allowed,
    RuleModel: parse_pattern,
}
"""The parsers for entries that are only a pattern."""


class Section:
    """Reads the entries of one list of the document."""

    def __init__(self, model: type[EntryModel], remarks: Remarks) -> None:
        self._model = model
        self._known = fields_of(model)
        self._parse = _PARSERS.get(model)
        self._remarks = remarks

    def read(self, reader: Reader, node: Node) -> tuple[Any, Fields]:
        """Read and validate the entry at ``node``.

        Returns its value and its fields. The value is ``None`` if the entry has problems, which are added to
        the remarks. An entry that is only a pattern has no fields.
        """
        if node.kind == "mapping":
            fields = read_fields(reader, self._known, self._remarks)
            found = validated(self._model, fields, tuple(reader.path), self._remarks)
            return None if found is None else found.value(), fields
        if self._parse is not None and isinstance(node.value, str):
            return self._rule(self._parse, node.value, tuple(reader.path)), {}
        if node.value is not UNKNOWN:
            expected = "a mapping" if self._parse is None else "a pattern or a mapping"
            self._remarks.add(wrong_type(tuple(reader.path), expected, value_of(node)))
        return None, {}

    def _rule(self, parse: Callable[[str], Pattern], text: str, path: Path) -> RuleEntry | None:
        """Return a rule that is only a pattern, as nearly all of 200,000 rules are. It needs no model."""
        try:
            return RuleEntry(image=parse(text))
        except InvalidPattern as problem:
            if self._remarks.full:
                self._remarks.more += 1
            else:
                message, proposal = str(problem), problem.proposal
                self._remarks.add(Remark(code="bad-pattern", path=path, message=message, proposal=proposal))
            return None


def read_fields(reader: Reader, known: tuple[str, ...], remarks: Remarks) -> Fields:
    """Read the known fields of the mapping that was read last, and report the others."""
    fields: Fields = {}
    for key, node in reader.entries():
        if key in known:
            fields[key] = read_value(reader, node, remarks)
        elif remarks.full:
            remarks.more += 1
        else:
            remarks.add(unknown_field(tuple(reader.path), key, known))
    return fields


def read_value(reader: Reader, node: Node, remarks: Remarks) -> Any:
    """Read the value of a field: a scalar or a list of at most 1,000 scalars."""
    if node.kind != "list":
        return value_of(node)
    items: list[Any] = []
    for index, item in enumerate(reader.items()):
        if index < MAX_ITEMS:
            items.append(value_of(item))
        elif index == MAX_ITEMS:
            path = tuple(reader.path[:-1])
            message = f"more than {MAX_ITEMS:,} entries in one list, the limit"
            remarks.add(Remark(code="too-many", path=path, message=message))
    return items


def value_of(node: Node) -> Any:
    """Return a scalar's value, and an empty collection for a collection."""
    return node.value if node.kind == "scalar" else {} if node.kind == "mapping" else []


def validated(model: type[M], fields: Fields, path: Path, remarks: Remarks) -> M | None:
    """Return the model of ``fields``, ``None`` when they have problems, which are added to ``remarks``."""
    try:
        return model.model_validate(fields)
    except ValidationError as problem:
        for details in problem.errors(include_url=False):
            # Pydantic also reports a list as too short when all of its items are wrong.
            if details["input"] is UNKNOWN or (details["type"] == "too_short" and details["input"]):
                continue
            if remarks.full:
                remarks.more += 1
            else:
                remarks.add(_worded(details, (*path, *details["loc"])))
        return None


def unknown_field(path: Path, key: str, known: tuple[str, ...]) -> Remark:
    return Remark(
        code="unknown-field",
        path=path,
        at_key=True,
        message=f"unknown field {shown(key)}",
        proposal=did_you_mean(key, known) or f"known here: {', '.join(known)}",
    )


def wrong_type(path: Path, expected: str, value: Any) -> Remark:
    """Return the problem of a value that is not ``expected``, such as "a list"."""
    proposal = ""
    if isinstance(value, int | float) and not isinstance(value, bool) and "list" not in expected:
        proposal = "quote it"
    if value is None and expected == "a list":
        return _empty_field(path)
    return Remark(
        code="wrong-type",
        path=path,
        message=f"must be {expected}, not {type_name(value)}",
        proposal=proposal,
    )


def _empty_field(path: Path) -> Remark:
    """Return the problem of a list with nothing below its name, for example if all of it is commented out."""
    name = path[-1]
    example = EXAMPLES.get(str(name)) if len(path) == 1 else None
    return Remark(
        code="wrong-type",
        path=path,
        message=f"must be a list, but there is nothing below {name} (null)",
        proposal=example or f"leave the field out{f', or write {name}: []' if len(path) == 1 else ''}",
    )


EXAMPLES: Final[Mapping[str, str]] = {
    "apiVersion": f"apiVersion: {API_VERSION}",
    "kind": f"kind: {KIND}",
    "mode": f"mode: {MODES[0]}",
    "allow": "allow: [registry.example.com]",
}
"""Examples of the required fields of the document."""


def missing_field(path: Path) -> Remark:
    name = str(path[-1])
    proposal = EXAMPLES.get(name, "") if len(path) == 1 else ""
    return Remark(code="missing-field", path=path, message=f"{name} is required", proposal=proposal)


_TYPE_NAMES: Final = {
    "string_type": "text",
    "tuple_type": "a list",
    "dataclass_exact_type": "text",
    "datetime_type": "a date or a time",
    "bool_type": "true or false",
}


def _choices(path: Path) -> tuple[str, ...]:
    """Return the values that a field with a fixed set of them can have."""
    field = str(path[-1])
    if field == "onMissing" or (field == "onError" and path[0] == "mirrors"):
        return get_args(OnMissing)
    return {"apiVersion": (API_VERSION,), "kind": (KIND,), "onError": get_args(OnError)}.get(field, MODES)


def _worded(details: ErrorDetails, path: Path) -> Remark:
    """Return one of pydantic's errors in our words."""
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "missing":
        return missing_field(path)
    if kind == "too_short":
        return Remark(code="empty-list", path=path, message="needs at least one entry")
    if kind == "string_too_short":
        return Remark(code="bad-text", path=path, message="must not be empty")
    if kind == "too_long":
        most, count = context["max_length"], context["actual_length"]
        return Remark(code="too-many", path=path, message=f"at most {most:,} entries, here {count:,}")
    if kind == "literal_error":
        expected = _choices(path)
        message = f"must be {listed(expected)}, not {shown(value)}"
        return Remark(code="bad-value", path=path, message=message, proposal=did_you_mean(value, expected))
    if kind in _TYPE_NAMES:
        return wrong_type(path, _TYPE_NAMES[kind], value)
    return Remark(code=kind, path=path, message=details["msg"], proposal=str(context.get("proposal", "")))
