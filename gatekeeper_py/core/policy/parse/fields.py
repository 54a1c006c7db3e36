"""Typed fields of a YAML document: each reads a value strictly, and returns its JSON Schema.

A ``Record`` describes a document, and ``read_document`` reads a text with it. Fields report every problem
with its path, and do not raise exceptions. Each value is checked as soon as it has been read, and parts that
no valid document has are not kept. So a refused document needs no more memory than an accepted one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from gatekeeper_py.core.policy.finding import Path, Remark, Remarks
from gatekeeper_py.core.policy.parse.events import UNKNOWN, Node, Reader, Unreadable, value_of
from gatekeeper_py.core.policy.parse.text import check_text
from gatekeeper_py.core.policy.problems import did_you_mean, listed, shown, type_name

JsonSchema = Mapping[str, Any]

_QUOTABLE: Final = frozenset({"text", "a date or a time", "a pattern or a mapping"})
"""Expected values for which a number or a boolean needs only quotes."""


class Invalid(ValueError):
    """A field refuses a value. ``code``, if it is not empty, replaces the code of the field."""

    def __init__(self, message: str, proposal: str = "", code: str = "") -> None:
        super().__init__(message)
        self.proposal = proposal
        self.code = code


class Field(Protocol):
    """The type of one value in a document."""

    def read(self, reading: Reading, node: Node) -> Any:
        """Return the value at ``node``, which was read last; ``UNKNOWN`` after a problem was reported."""

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the value."""


def read_document(
    text: str,
    document: Record,
    max_bytes: int,
    remarks: Remarks,
    *,
    alone: str = "keep one document in the file",
) -> Any:
    """Read a text of at most ``max_bytes`` bytes of UTF-8. All problems go to ``remarks``.

    ``alone`` is the proposal if the text contains a second document. Returns ``None`` if there are problems
    or if the text has no content.
    """
    if not check_text(text, max_bytes, remarks):
        return None
    value = None
    try:
        reader = Reader(text, remarks)
        reading = Reading(reader, remarks, document.examples)
        root = reader.root()
        if root is not None and (root.kind != "scalar" or root.value is not None):
            value = document.read(reading, root)
        reader.finish(alone)
    except Unreadable as end:
        # Do not report problems of values if only a part of the document could be read.
        remarks.add(end.remark)
        return None
    remarks.extend(reading.problems)
    remarks.more += reading.problems.more
    return None if remarks else value


class Reading:
    """The state of reading one document.

    ``problems`` holds problems of values. Problems of YAML go to the remarks of the ``reader``. In ``seen``,
    the check of one entry stores data for the checks of later entries.
    """

    __slots__ = ("_examples", "_remarks", "problems", "reader", "seen")

    def __init__(self, reader: Reader, remarks: Remarks, examples: Mapping[str, str]) -> None:
        self.reader = reader
        self.problems = Remarks()
        self.seen: dict[str, Any] = {}
        self._remarks = remarks
        self._examples = examples

    def unreported(self, known: Field, node: Node) -> Any:
        """Return the value of a field that is refused anyway, so that its problems are not reported."""
        problems, self.problems = self.problems, Remarks()
        try:
            return known.read(self, node)
        finally:
            self.problems = problems

    @property
    def failed(self) -> bool:
        """Whether the document is refused, so that its values are not used."""
        return bool(self.problems) or bool(self._remarks)

    def report(
        self, code: str, message: str, proposal: str = "", *, below: Path = (), at_key: bool = False
    ) -> Any:
        """Report a problem of the value that was read last, or of the one at the path ``below`` it."""
        if self.problems.full:
            self.problems.more += 1
        else:
            path = (*self.reader.path, *below)
            self.problems.add(Remark(code=code, path=path, message=message, proposal=proposal, at_key=at_key))
        return UNKNOWN

    def refuse(self, problem: ValueError, code: str, *, at_key: bool = False) -> Any:
        """Report the error of a parser. Compute its proposal, which can be slow, only if it is reported."""
        if self.problems.full:
            self.problems.more += 1
            return UNKNOWN
        code = getattr(problem, "code", "") or code
        return self.report(code, str(problem), getattr(problem, "proposal", ""), at_key=at_key)

    def wrong_type(self, expected: str, value: Any) -> Any:
        """Report a value that is not ``expected``, such as "a list"."""
        if value is UNKNOWN:
            return UNKNOWN
        path = self.reader.path
        message = f"must be {expected}, not {type_name(value)}"
        proposal = "quote it" if expected in _QUOTABLE and isinstance(value, bool | int | float) else ""
        if value is None and expected == "a list":
            # Nothing is below the name of the list, for example if all of it is commented out.
            name = str(path[-1])
            message = f"must be a list, but there is nothing below {name} (null)"
            proposal = "leave the field out"
            if len(path) == 1:
                proposal = self._examples.get(name) or f"{proposal}, or write {name}: []"
        elif value is None and path and isinstance(path[-1], str) and expected == "a mapping":
            proposal = "leave the field out"
        return self.report("wrong-type", message, proposal)

    def missing(self, key: str) -> None:
        """Report that the mapping that was read last lacks a field."""
        proposal = "" if self.reader.path else self._examples.get(key, "")
        self.report("missing-field", f"{key} is required", proposal, below=(key,))

    def unknown_field(self, key: str, known: tuple[str, ...], *, below: Path = ()) -> None:
        """Report a field that is not ``known``, at its key."""
        if self.problems.full:
            self.problems.more += 1
            return
        proposal = did_you_mean(key, known) or f"known here: {', '.join(known)}"
        self.report("unknown-field", f"unknown field {shown(key)}", proposal, below=below, at_key=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """A value that ``parse`` accepts or refuses with a ``ValueError``, in linear time.

    Unless ``expected`` is empty, ``parse`` gets only text. If the error has a ``code`` or a ``proposal``,
    this is reported. ``json`` is the JSON Schema.
    """

    parse: Callable[[Any], Any]
    code: str = "bad-value"
    expected: str = "text"
    json: JsonSchema = field(default_factory=lambda: {"type": "string"})

    def read(self, reading: Reading, node: Node) -> Any:
        value = node.value
        if not isinstance(value, str):
            value = value_of(node)
            if self.expected or value is UNKNOWN:
                return reading.wrong_type(self.expected, value)
        try:
            return self.parse(value)
        except ValueError as problem:
            return reading.refuse(problem, self.code)

    def schema(self) -> dict[str, Any]:
        return dict(self.json)


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of a few texts. ``renamed`` maps other texts to the one that is proposed instead."""

    values: tuple[str, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)
    more: JsonSchema = field(default_factory=dict, kw_only=True)

    def read(self, reading: Reading, node: Node) -> Any:
        value = value_of(node)
        return value if value is UNKNOWN or value in self.values else self.refuse(reading, value)

    def refuse(self, reading: Reading, value: object, below: Path = ()) -> Any:
        """Report a value that is not one of the texts."""
        message = f"must be {listed(self.values)}, not {shown(value)}"
        renamed = self.renamed.get(value) if isinstance(value, str) else None
        proposal = f"write {renamed}" if renamed else did_you_mean(value, self.values)
        return reading.report("bad-value", message, proposal, below=below)

    def schema(self) -> dict[str, Any]:
        only = {"const": self.values[0]} if len(self.values) == 1 else {"enum": list(self.values)}
        return {**only, **self.more}


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number within a range, both ends included."""

    lowest: int
    highest: int

    def read(self, reading: Reading, node: Node) -> Any:
        value = value_of(node)
        if isinstance(value, bool) or not isinstance(value, int):
            return reading.wrong_type("a whole number", value)
        if not self.lowest <= value <= self.highest:
            return reading.report("bad-value", f"must be from {self.lowest} to {self.highest}, not {value}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.lowest, "maximum": self.highest}


@dataclass(frozen=True, slots=True)
class Boolean:
    """``true`` or ``false``."""

    more: JsonSchema = field(default_factory=dict, kw_only=True)

    def read(self, reading: Reading, node: Node) -> Any:
        value = value_of(node)
        return value if isinstance(value, bool) else reading.wrong_type("true or false", value)

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean", **self.more}


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A list of values of one field.

    ``noun`` is the name of the items in the message about too many items. With ``shared``, the limit applies
    to all lists with this noun together. With ``single``, one item may be written without a list.
    ``definition`` is the name of the item's schema.
    """

    item: Field
    at_most: int | None = None
    at_least: int = 0
    noun: str = ""
    shared: bool = False
    single: bool = False
    definition: str = ""
    more: JsonSchema = field(default_factory=dict)

    def read(self, reading: Reading, node: Node) -> Any:
        if self.single and isinstance(node.value, str):
            return (self.item.read(reading, node),)
        if node.kind != "list":
            return reading.wrong_type("a list", value_of(node))
        values: list[Any] = []
        before = count = reading.seen.get(self.noun, 0) if self.shared else 0
        for count, item in enumerate(reading.reader.items(), before + 1):
            if self.at_most is None or count <= self.at_most:
                values.append(self.item.read(reading, item))
        if self.shared:
            reading.seen[self.noun] = count
        if self.at_most is not None and before <= self.at_most < count:
            most = f"{self.at_most:,}"
            message = f"more than {most} {self.noun}, the limit"
            reading.report("too-many", message if self.noun else f"at most {most} entries, here {count:,}")
        if count - before < self.at_least:
            reading.report("empty-list", "needs at least one entry")
        return tuple(values)

    def schema(self) -> dict[str, Any]:
        item = {"$ref": f"#/$defs/{self.definition}"} if self.definition else self.item.schema()
        most = {} if self.at_most is None else {"maxItems": self.at_most}
        least = {"minItems": self.at_least} if self.at_least else {}
        array = {"type": "array", "items": item, **most, **least, **self.more}
        return {"anyOf": [item, array]} if self.single else array


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """A mapping from names to values of one field, as a sorted tuple of pairs."""

    name: Scalar
    value: Field
    at_most: int
    more: JsonSchema = field(default_factory=dict)

    def read(self, reading: Reading, node: Node) -> Any:
        if node.kind != "mapping":
            return reading.wrong_type("a mapping", value_of(node))
        pairs: list[tuple[str, Any]] = []
        count = 0
        for count, (name, value) in enumerate(reading.reader.entries(), 1):
            if count <= self.at_most:
                try:
                    self.name.parse(name)
                except ValueError as problem:
                    reading.refuse(problem, self.name.code, at_key=True)
                pairs.append((name, self.value.read(reading, value)))
        if count > self.at_most:
            reading.report("too-many", f"at most {self.at_most:,} entries, here {count:,}")
        return UNKNOWN if reading.failed else tuple(sorted(pairs))

    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "propertyNames": self.name.schema(),
            "additionalProperties": self.value.schema(),
            "maxProperties": self.at_most,
            **self.more,
        }


_CAPITALS: Final = re.compile("[A-Z]+")


class Record:
    """A mapping with known ``fields``. ``build`` gets the fields that are present as arguments.

    ``names`` maps fields to parameters of ``build``. Without an entry there, the parameter is the name of the
    field in snake case. ``numbered`` is the parameter for the index of an entry in its list. ``check`` gets
    the arguments before ``build``. It can report problems that concern several fields, and change the
    arguments. The argument for a value with a problem is ``UNKNOWN``. If a field of a document is missing,
    its text in ``examples`` is proposed. Fields in ``former`` are read for ``check`` alone, which gets them
    by their names, removes them and refuses them.
    """

    def __init__(
        self,
        build: Callable[..., Any],
        fields: Mapping[str, Field],
        *,
        required: tuple[str, ...] = (),
        former: Mapping[str, Field] | None = None,
        names: Mapping[str, str] | None = None,
        numbered: str = "",
        check: Callable[[Reading, dict[str, Any]], None] = lambda _reading, _arguments: None,
        examples: Mapping[str, str] | None = None,
        title: str = "",
        description: str = "",
    ) -> None:
        self.fields = fields
        self.title = title
        self.examples = examples or {}
        self._build = build
        self._required = required
        self._former = former or {}
        self._parameters = {
            key: _CAPITALS.sub(lambda capitals: f"_{capitals[0].lower()}", key) for key in fields
        } | dict(names or {})
        self._numbered = numbered
        self._check = check
        self._description = description

    def read(self, reading: Reading, node: Node) -> Any:
        if node.kind != "mapping":
            return reading.wrong_type("a mapping", value_of(node))
        arguments: dict[str, Any] = {}
        for key, value in reading.reader.entries():
            known = self.fields.get(key)
            if known is not None:
                arguments[self._parameters[key]] = known.read(reading, value)
            elif key in self._former:
                arguments[key] = reading.unreported(self._former[key], value)
            else:
                reading.unknown_field(key, tuple(self.fields))
        return self.built(reading, arguments)

    def built(self, reading: Reading, arguments: dict[str, Any]) -> Any:
        """Check the arguments of the entry that was read last, and build its value."""
        for key in self._required:
            if self._parameters[key] not in arguments:
                reading.missing(key)
        if self._numbered:
            arguments[self._numbered] = reading.reader.path[-1]
        self._check(reading, arguments)
        return UNKNOWN if reading.failed else self._build(**arguments)

    def schema(self) -> dict[str, Any]:
        required = {"required": list(self._required)} if self._required else {}
        return {
            "type": "object",
            "properties": {key: each.schema() for key, each in self.fields.items()},
            "additionalProperties": False,
            **required,
            **({"title": self.title, "description": self._description} if self.title else {}),
        }


@dataclass(frozen=True, slots=True)
class Shorthand:
    """A record that can be written as the text of its field ``key`` alone.

    ``expected`` describes both forms, and ``json`` is the JSON Schema of the text.
    """

    record: Record
    key: str
    parameter: str
    expected: str
    json: JsonSchema

    def read(self, reading: Reading, node: Node) -> Any:
        if node.kind == "mapping":
            return self.record.read(reading, node)
        if not isinstance(node.value, str):
            return reading.wrong_type(self.expected, value_of(node))
        value = self.record.fields[self.key].read(reading, node)
        return self.record.built(reading, {self.parameter: value})

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [dict(self.json), self.record.schema()]}
