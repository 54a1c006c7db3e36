"""The shape of the policy document as pydantic models, which also give the JSON Schema.

Source: docs/policy.md, "Fields".
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
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from gatekeeper_py.core.images.pattern import (
    Pattern,
    Prefix,
    parse_pattern,
    parse_prefix,
)
from gatekeeper_py.core.policy.document import (
    MirrorEntry,
    Mode,
    OverrideEntry,
    PolicyDocument,
    ResourceEntry,
    RuleEntry,
)
from gatekeeper_py.core.policy.instant import parse_instant
from gatekeeper_py.core.policy.resources import ResourcePath, parse_resource_path

MAX_MESSAGE_LENGTH: Final = 200

_NAMESPACE_GLOB: Final = re.compile(r"[a-z0-9*](?:[a-z0-9*-]{0,61}[a-z0-9*])?")
_LINE_BREAK: Final = re.compile(r"[ \t]*\n[ \t\n]*")


def _parsed(parse: Callable[[str], object], code: str) -> Callable[[object], object]:
    """A validator that parses text and leaves other types to pydantic's own type error."""

    def validate(value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return parse(value)
        except ValueError as problem:
            proposal = getattr(problem, "proposal", "")
            context = {"reason": str(problem), "proposal": proposal}
            raise PydanticCustomError(code, "{reason}", context) from None

    return validate


def _parse_namespace(text: str) -> str:
    if not _NAMESPACE_GLOB.fullmatch(text):
        message = "no namespace can have this name: lower-case letters, digits and -, with * for any"
        raise ValueError(message)
    return text


def _check_line(text: str) -> str:
    """Text on one line: what a ``|`` or ``>`` block broke into lines is joined, as it is shown so."""
    line = _LINE_BREAK.sub(" ", text).strip() if "\n" in text else text
    if not line.isprintable():
        message = "printable text is wanted, without control characters"
        raise ValueError(message)
    return line


def _schema(text: str, **more: object) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "description": text, **more})


_PatternField = Annotated[
    Pattern,
    BeforeValidator(_parsed(parse_pattern, "bad-pattern")),
    _schema("HOST[:PORT][/PATH][:TAG][@DIGEST]", minLength=1),
]
_PrefixField = Annotated[
    Prefix,
    BeforeValidator(_parsed(parse_prefix, "bad-mirror")),
    _schema("a registry, or registry/path, without wildcards", minLength=1),
]
_Until = Annotated[
    datetime,
    BeforeValidator(_parsed(parse_instant, "bad-time")),
    _schema("a date (00:00 UTC of that day) or an RFC 3339 time; dead from then on"),
]
_ResourcePathField = Annotated[
    ResourcePath,
    BeforeValidator(_parsed(parse_resource_path, "bad-resource-path")),
    _schema("field names joined by ., [*] for every list item, {*} for every mapping value"),
]
_IS_LINE: Final = BeforeValidator(_parsed(_check_line, "bad-text"))
_Line = Annotated[str, _IS_LINE]
_Name = Annotated[str, BeforeValidator(_parsed(_parse_namespace, "bad-namespace"))]
# Lax, because YAML gives lists where the frozen models hold tuples; items stay strict.
_Names = Annotated[tuple[_Name, ...], Field(strict=False, min_length=1)]


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


class RuleModel(_Model):
    """One entry of ``allow`` or ``deny``: a pattern alone, or with its conditions."""

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
        return {"anyOf": [{"type": "string", "minLength": 1}, mapping]}

    def value(self) -> RuleEntry:
        return RuleEntry(
            image=self.image,
            namespaces=self.namespaces,
            until=self.until,
            owner=self.owner,
            reason=self.reason,
        )


class AllowModel(RuleModel):
    """A rule of ``allow``, which must name its registry."""

    @field_validator("image", mode="after")
    @classmethod
    def _names_a_host(cls, pattern: Pattern) -> Pattern:
        if pattern.any_host:
            raise PydanticCustomError(
                "bad-pattern", "* alone as the host would approve every registry", {"proposal": ""}
            )
        return pattern


class OverrideModel(_Model):
    """Another mode for some namespaces."""

    names: _Names
    mode: Mode
    until: Annotated[_Until | None, _NotNull] = None
    reason: Annotated[_Line | None, _NotNull] = None

    def value(self) -> OverrideEntry:
        return OverrideEntry(names=self.names, mode=self.mode, until=self.until, reason=self.reason)


class MirrorModel(_Model):
    """Where mutate mode takes images from, and where it sends them."""

    source: _PrefixField = Field(alias="from")
    to: _PrefixField
    except_: tuple[_PatternField, ...] = Field(default=(), alias="except", strict=False)

    def value(self) -> MirrorEntry:
        return MirrorEntry(source=self.source, to=self.to, except_=self.except_)


class ResourceModel(_Model):
    """Where a custom resource holds images."""

    group: _Line
    kind: Annotated[str, Field(min_length=1), _IS_LINE]
    images: tuple[_ResourcePathField, ...] = Field(min_length=1, strict=False)

    def value(self) -> ResourceEntry:
        return ResourceEntry(group=self.group, kind=self.kind, images=self.images)


class DocumentModel(_Model):
    """The whole document."""

    model_config = ConfigDict(title="gatekeeper-py ImagePolicy")

    api_version: Literal["gatekeeper-py/v1"] = Field(alias="apiVersion")
    kind: Literal["ImagePolicy"]
    mode: Mode
    allow: tuple[AllowModel, ...] = Field(min_length=1, strict=False)
    deny: tuple[RuleModel, ...] = Field(default=(), strict=False)
    namespaces: tuple[OverrideModel, ...] = Field(default=(), strict=False)
    mirrors: tuple[MirrorModel, ...] = Field(default=(), strict=False)
    resources: tuple[ResourceModel, ...] = Field(default=(), strict=False)
    message: Annotated[str, Field(max_length=MAX_MESSAGE_LENGTH), _IS_LINE] = ""

    def value(self) -> PolicyDocument:
        return PolicyDocument(
            mode=self.mode,
            allow=tuple(entry.value() for entry in self.allow),
            deny=tuple(entry.value() for entry in self.deny),
            namespaces=tuple(entry.value() for entry in self.namespaces),
            mirrors=tuple(entry.value() for entry in self.mirrors),
            resources=tuple(entry.value() for entry in self.resources),
            message=self.message,
        )


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the document."""
    schema = DocumentModel.model_json_schema(by_alias=True, mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
