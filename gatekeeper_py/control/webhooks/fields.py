"""Typed fields of a YAML document: each reads a value strictly and returns its JSON Schema.

A field reports every problem with its path, and never raises. The value that it returns after a problem is
not used, since a document with problems is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from gatekeeper_py.core.policy.finding import Remark, Remarks
from gatekeeper_py.core.policy.parse.events import UNKNOWN, Node, Reader
from gatekeeper_py.core.policy.problems import did_you_mean, listed, shown, type_name

MAX_KEY: Final = 100
"""Number of leading characters of an unknown key that are compared with the known keys."""


class Field(Protocol):
    """One value of a document."""

    def read(self, reader: Reader, node: Node, remarks: Remarks) -> Any:
        """Return the value at ``node``, which the reader read last, or report why it is not acceptable."""

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Text that a regular expression matches in full; the match must take linear time.

    ``problem`` returns a message and a proposal for text that is not acceptable, else an empty message.
    ``unless`` is used only in the JSON Schema. It is a regular expression for text that matches ``pattern``
    but that ``problem`` refuses.
    """

    pattern: str
    max_length: int
    problem: Callable[[str], tuple[str, str]]
    unless: str = ""

    def read(self, reader: Reader, node: Node, remarks: Remarks) -> str:
        value = node.value
        if not isinstance(value, str):
            proposal = "quote it" if isinstance(value, bool | int | float) else ""
            _wrong_type(reader, node, remarks, "text", proposal)
            return ""
        code, message, proposal = self.check(value)
        if message:
            report(reader, remarks, code, message, proposal)
        return value

    def check(self, value: str) -> tuple[str, str, str]:
        """Return code, message and proposal for text that is not acceptable, else an empty message."""
        if len(value) > self.max_length:
            return "too-long", f"at most {self.max_length} characters, here {len(value)}", ""
        return "bad-value", *self.problem(value)

    def schema(self) -> dict[str, Any]:
        excluded = {"not": {"pattern": f"^(?:{self.unless})$"}} if self.unless else {}
        return {
            "type": "string",
            "pattern": f"^(?:{self.pattern})$",
            "maxLength": self.max_length,
            **excluded,
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few texts."""

    values: tuple[str, ...]

    def read(self, reader: Reader, node: Node, remarks: Remarks) -> str:
        value = node.value
        if isinstance(value, str) and value in self.values:
            return value
        if node.kind == "scalar" and value is not UNKNOWN:
            proposal = did_you_mean(value[:MAX_KEY], self.values) if isinstance(value, str) else ""
            message = f"must be {listed(self.values)}, not {shown(value)}"
            report(reader, remarks, "bad-value", message, proposal)
        else:
            _wrong_type(reader, node, remarks, listed(self.values))
        return self.values[0]

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.values)}


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number within a range, both ends included."""

    lowest: int
    highest: int

    def read(self, reader: Reader, node: Node, remarks: Remarks) -> int:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int):
            _wrong_type(reader, node, remarks, "a whole number")
            return self.lowest
        if not self.lowest <= value <= self.highest:
            message = f"must be from {self.lowest} to {self.highest}, not {value}"
            report(reader, remarks, "bad-value", message)
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.lowest, "maximum": self.highest}


@dataclass(frozen=True, slots=True)
class Boolean:
    """``true`` or ``false``."""

    def read(self, reader: Reader, node: Node, remarks: Remarks) -> bool:
        if not isinstance(node.value, bool):
            _wrong_type(reader, node, remarks, "true or false")
            return False
        return node.value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A list of values of one field."""

    item: Field
    at_most: int
    at_least: int = 0
    description: str = ""

    def read(self, reader: Reader, node: Node, remarks: Remarks) -> tuple[Any, ...]:
        if node.kind != "list":
            _wrong_type(reader, node, remarks, "a list")
            return ()
        values: list[Any] = []
        count = 0
        for count, item in enumerate(reader.items(), 1):
            if count <= self.at_most:
                values.append(self.item.read(reader, item, remarks))
        if count > self.at_most:
            report(reader, remarks, "too-many", f"at most {self.at_most:,} entries, here {count:,}")
        if count < self.at_least:
            report(reader, remarks, "empty-list", "needs at least one entry")
        return tuple(values)

    def schema(self) -> dict[str, Any]:
        minimum = {"minItems": self.at_least} if self.at_least else {}
        rest = {"items": self.item.schema(), "maxItems": self.at_most, **minimum}
        return {"type": "array", **rest, **_described(self.description)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """A mapping from names to values of one field, as a sorted tuple of pairs."""

    name: Text
    value: Field
    at_most: int
    description: str = ""

    def read(self, reader: Reader, node: Node, remarks: Remarks) -> tuple[tuple[str, Any], ...]:
        if node.kind != "mapping":
            _wrong_type(reader, node, remarks, "a mapping")
            return ()
        pairs: list[tuple[str, Any]] = []
        count = 0
        for count, (name, value) in enumerate(reader.entries(), 1):
            if count <= self.at_most:
                code, message, proposal = self.name.check(name)
                if message:
                    report(reader, remarks, code, message, proposal, at_key=True)
                pairs.append((name, self.value.read(reader, value, remarks)))
        if count > self.at_most:
            report(reader, remarks, "too-many", f"at most {self.at_most:,} entries, here {count:,}")
        return tuple(sorted(pairs))

    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "propertyNames": self.name.schema(),
            "additionalProperties": self.value.schema(),
            "maxProperties": self.at_most,
            **_described(self.description),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A mapping with known fields. ``build`` takes the fields that are present.

    ``fields`` maps each key of the document to the parameter of ``build`` and the field.
    """

    build: Callable[..., Any]
    fields: Mapping[str, tuple[str, Field]] = field(hash=False)
    required: tuple[str, ...] = ()

    def read(self, reader: Reader, node: Node, remarks: Remarks) -> Any:
        if node.kind != "mapping":
            _wrong_type(reader, node, remarks, "a mapping")
            return None
        known = tuple(self.fields)
        arguments: dict[str, Any] = {}
        seen: set[str] = set()
        for key, value in reader.entries():
            if key in self.fields:
                parameter, each = self.fields[key]
                seen.add(key)
                arguments[parameter] = each.read(reader, value, remarks)
            else:
                proposal = did_you_mean(key[:MAX_KEY], known) or f"known here: {', '.join(known)}"
                message = f"unknown field {shown(key)}"
                report(reader, remarks, "unknown-field", message, proposal, at_key=True)
        for key in self.required:
            if key not in seen:
                path = (*reader.path, key)
                remarks.add(Remark(code="missing-field", path=path, message=f"{key} is required"))
        return None if remarks else self.build(**arguments)

    def schema(self) -> dict[str, Any]:
        required = {"required": list(self.required)} if self.required else {}
        return {
            "type": "object",
            "properties": {key: each.schema() for key, (_, each) in self.fields.items()},
            "additionalProperties": False,
            **required,
        }


def report(
    reader: Reader, remarks: Remarks, code: str, message: str, proposal: str = "", *, at_key: bool = False
) -> None:
    """Report a problem of the value that was read last; with ``at_key``, report a problem of its key."""
    path = tuple(reader.path)
    remarks.add(Remark(code=code, path=path, message=message, proposal=proposal, at_key=at_key))


def _wrong_type(reader: Reader, node: Node, remarks: Remarks, expected: str, proposal: str = "") -> None:
    if node.value is UNKNOWN:
        return  # an alias or a tag, which is reported already
    value = {"mapping": {}, "list": []}.get(node.kind, node.value)
    if value is None and reader.path:
        proposal = "leave the field out"
    report(reader, remarks, "wrong-type", f"must be {expected}, not {type_name(value)}", proposal)


def _described(description: str) -> dict[str, str]:
    return {"description": description} if description else {}
