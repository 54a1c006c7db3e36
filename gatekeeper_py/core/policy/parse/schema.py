"""The shape of the policy document as pydantic models, which also give the JSON Schema.

Source: docs/policy.md, "Fields" and "Limits". Lengths are checked before anything reads a text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from gatekeeper_py.core.images.pattern import (
    MAX_PATTERN_LENGTH,
    InvalidPattern,
    Pattern,
    Prefix,
    parse_pattern,
    parse_prefix,
)
from gatekeeper_py.core.policy.document import (
    MirrorEntry,
    Mode,
    OverrideEntry,
    ResourceEntry,
    RuleEntry,
)
from gatekeeper_py.core.policy.instant import parse_instant
from gatekeeper_py.core.policy.limits import MAX_ENTRIES, MAX_ITEMS, MAX_RULES, MAX_TEXT_LENGTH
from gatekeeper_py.core.policy.resources import MAX_PATH_LENGTH, ResourcePath, parse_resource_path

_NAMESPACE_GLOB: Final = re.compile(r"[a-z0-9*](?:[a-z0-9*-]{0,61}[a-z0-9*])?")


class _TooLong(ValueError):
    code = "too-long"


def _parsed(parse: Callable[[str], object], code: str) -> Callable[[object], object]:
    """Return a validator that parses text and leaves other types to pydantic's own type error."""

    def validate(value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return parse(value)
        except ValueError as problem:
            context = {"reason": str(problem), "proposal": getattr(problem, "proposal", "")}
            raise PydanticCustomError(getattr(problem, "code", code), "{reason}", context) from None

    return validate


def parse_allowed(text: str) -> Pattern:
    """Parse a pattern of ``allow``, which must name its registry. Raises ``InvalidPattern``."""
    try:
        pattern = parse_pattern(text)
    except InvalidPattern as problem:
        raise problem.said_of(text, parse_allowed) from None
    if pattern.any_host:
        raise InvalidPattern("* alone as the host would approve every registry")
    return pattern


def _parse_namespace(text: str) -> str:
    if not _NAMESPACE_GLOB.fullmatch(text):
        message = "no namespace can have this name: lower-case letters, digits and -, with * for any"
        raise ValueError(message)
    return text


def _parse_line(text: str) -> str:
    """Return text on one line: people see it so, and a ``|`` or ``>`` block ends with a line break."""
    line = text
    if "\n" in text:
        line = " ".join(filter(None, (part.strip() for part in text.split("\n"))))
    if len(line) > MAX_TEXT_LENGTH:
        message = f"at most {MAX_TEXT_LENGTH} characters, here {len(line):,}"
        raise _TooLong(message)
    if not line.isprintable():
        message = "printable text is wanted, without control characters"
        raise ValueError(message)
    return line


def _schema(text: str, **more: object) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "description": text, **more})


_PATTERN_SCHEMA: Final = _schema(
    "HOST[:PORT][/PATH][:TAG][@DIGEST]", minLength=1, maxLength=MAX_PATTERN_LENGTH
)
_PatternField = Annotated[Pattern, BeforeValidator(_parsed(parse_pattern, "bad-pattern")), _PATTERN_SCHEMA]
_AllowedField = Annotated[Pattern, BeforeValidator(_parsed(parse_allowed, "bad-pattern")), _PATTERN_SCHEMA]
_PrefixField = Annotated[
    Prefix,
    BeforeValidator(_parsed(parse_prefix, "bad-mirror")),
    _schema("a registry, or registry/path, without wildcards", minLength=1, maxLength=MAX_PATTERN_LENGTH),
]
_Until = Annotated[
    datetime,
    BeforeValidator(_parsed(parse_instant, "bad-time")),
    _schema("a date (00:00 UTC of that day) or an RFC 3339 time; expired from then on"),
]
_ResourcePathField = Annotated[
    ResourcePath,
    BeforeValidator(_parsed(parse_resource_path, "bad-resource-path")),
    _schema(
        "field names joined by ., [*] for every list item, {*} for every mapping value",
        maxLength=MAX_PATH_LENGTH,
    ),
]
# The validator that is named last runs first: the line it returns is short enough for the field.
_IS_LINE: Final = BeforeValidator(_parsed(_parse_line, "bad-text"))
_Line = Annotated[str, Field(max_length=MAX_TEXT_LENGTH), _IS_LINE]
_Name = Annotated[str, BeforeValidator(_parsed(_parse_namespace, "bad-namespace"))]
# Lax, because YAML gives lists where the frozen models hold tuples; items stay strict.
_Names = Annotated[tuple[_Name, ...], Field(strict=False, min_length=1, max_length=MAX_ITEMS)]


class _NotNull:
    """For a field that may be absent but not null: ``namespaces:`` must not mean all of them."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        inner: CoreSchema = schema["schema"]
        return inner


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True, populate_by_name=False
    )


class EntryModel(_Model):
    """One entry of a list."""

    def value(self) -> Any:
        """Return the entry as a plain value."""
        raise NotImplementedError


class RuleModel(EntryModel):
    """One entry of ``deny``: a pattern alone, or with its conditions."""

    image: _PatternField
    namespaces: Annotated[_Names | None, _NotNull] = None
    until: Annotated[_Until | None, _NotNull] = None
    owner: Annotated[_Line | None, _NotNull] = None
    reason: Annotated[_Line | None, _NotNull] = None

    @model_validator(mode="before")
    @classmethod
    def _from_pattern(cls, value: object) -> object:
        return {"image": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        mapping = handler.resolve_ref_schema(handler(schema))
        text = {"type": "string", "minLength": 1, "maxLength": MAX_PATTERN_LENGTH}
        return {"anyOf": [text, mapping]}

    def value(self) -> RuleEntry:
        return RuleEntry(
            image=self.image,
            namespaces=self.namespaces,
            until=self.until,
            owner=self.owner,
            reason=self.reason,
        )


class AllowModel(RuleModel):
    """One entry of ``allow``, which must name its registry."""

    image: _AllowedField


class OverrideModel(EntryModel):
    """Another mode for some namespaces."""

    names: _Names
    mode: Mode
    until: Annotated[_Until | None, _NotNull] = None
    reason: Annotated[_Line | None, _NotNull] = None

    def value(self) -> OverrideEntry:
        return OverrideEntry(names=self.names, mode=self.mode, until=self.until, reason=self.reason)


class MirrorModel(EntryModel):
    """Where mutate mode takes images from, and where it sends them."""

    source: _PrefixField = Field(alias="from")
    to: _PrefixField
    except_: tuple[_PatternField, ...] = Field(default=(), alias="except", strict=False, max_length=MAX_ITEMS)

    def value(self) -> MirrorEntry:
        return MirrorEntry(source=self.source, to=self.to, except_=self.except_)


class ResourceModel(EntryModel):
    """Where a custom resource holds images."""

    group: _Line
    kind: Annotated[str, Field(min_length=1, max_length=MAX_TEXT_LENGTH), _IS_LINE]
    images: tuple[_ResourcePathField, ...] = Field(min_length=1, strict=False, max_length=MAX_ITEMS)

    def value(self) -> ResourceEntry:
        return ResourceEntry(group=self.group, kind=self.kind, images=self.images)


class HeaderModel(_Model):
    """The fields of the document that are not lists."""

    api_version: Literal["gatekeeper-py/v1"] = Field(alias="apiVersion")
    kind: Literal["ImagePolicy"]
    mode: Mode
    message: _Line = ""


class DocumentModel(HeaderModel):
    """The whole document. Documents are validated entry by entry; this model gives the JSON Schema."""

    model_config = ConfigDict(title="gatekeeper-py ImagePolicy")

    allow: tuple[AllowModel, ...] = Field(min_length=1, max_length=MAX_RULES)
    deny: tuple[RuleModel, ...] = Field(default=(), max_length=MAX_RULES)
    namespaces: tuple[OverrideModel, ...] = Field(default=(), max_length=MAX_ENTRIES["namespaces"])
    mirrors: tuple[MirrorModel, ...] = Field(default=(), max_length=MAX_ENTRIES["mirrors"])
    resources: tuple[ResourceModel, ...] = Field(default=(), max_length=MAX_ENTRIES["resources"])


def fields_of(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the names of a model's fields as documents write them."""
    return tuple(info.alias or name for name, info in model.model_fields.items())


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the document."""
    schema = DocumentModel.model_json_schema(by_alias=True, mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
