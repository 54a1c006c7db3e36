"""The shape of the policy document as pydantic models, which also give the JSON Schema.

Source: docs/policy.md, "Fields" and "Limits". Lengths are checked before anything reads a text.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import WithDefaultSchema

from gatekeeper_py.core.images.glob import is_glob
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
    OnError,
    OnMissing,
    OverrideEntry,
    ResourceEntry,
    RuleEntry,
)
from gatekeeper_py.core.policy.instant import parse_instant
from gatekeeper_py.core.policy.limits import (
    MAX_ENTRIES,
    MAX_ITEMS,
    MAX_RULES,
    MAX_TARGETS,
    MAX_TEXT_LENGTH,
)
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.core.policy.resources import MAX_PATH_LENGTH, ResourcePath, parse_resource_path

_NAMESPACE_GLOB: Final = re.compile(r"[a-z0-9*](?:[a-z0-9*-]{0,61}[a-z0-9*])?")


_DURATION: Final = re.compile(r"(?P<number>[0-9]{1,7})(?P<unit>ms|s|m)")
_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0}
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_SECRET_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
MAX_RATE: Final = 1000

V = TypeVar("V")


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
        raise problem.about(text, parse_allowed) from None
    if pattern.any_host:
        raise InvalidPattern("* alone as the host would approve every registry")
    return pattern


def _parse_namespace(text: str) -> str:
    if not _NAMESPACE_GLOB.fullmatch(text):
        message = "no namespace can have this name: lower-case letters, digits and -, with * for any"
        raise ValueError(message)
    return text


def _parse_line(text: str) -> str:
    """Join the lines of a text, because it is shown on one line. A YAML block ends with a line break."""
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


def _parse_host(text: str) -> str:
    """Parse the host of a registry, with its port and without wildcard. Raises ``ValueError``."""
    message = "a registry is a host, with a port if it has one, and without a path, a wildcard or a digest"
    if not text.strip() or not {"*", "@"}.isdisjoint(text):
        raise ValueError(message)
    prefix = parse_prefix(text if "/" in text else f"{text}/")
    if prefix.segments:
        raise ValueError(message)
    return prefix.host


def _parse_file_name(text: str) -> str:
    if not _FILE_NAME.fullmatch(text):
        message = "the name of a file in --registry-config, without a path"
        raise ValueError(message)
    return text


def _parse_secret_name(text: str) -> str:
    if not _SECRET_NAME.fullmatch(text):
        message = "no Secret can have this name: lower-case letters, digits, - and ."
        raise ValueError(message)
    return text


def _duration(shortest: str, longest: str) -> Callable[[object], object]:
    """Return a validator for a duration such as ``500ms``, ``1s`` or ``2m``; its value is in seconds."""
    low, high = _seconds(shortest), _seconds(longest)

    def validate(value: object) -> object:
        seconds = _seconds(value) if isinstance(value, str) else None
        if low is None or high is None or seconds is None or not low <= seconds <= high:
            reason = f"must be a duration from {shortest} to {longest}, such as 500ms, 1s or 2m"
            raise PydanticCustomError("bad-duration", "{reason}", {"reason": reason})
        return seconds

    return validate


def _seconds(text: str) -> float | None:
    match = _DURATION.fullmatch(text)
    return None if match is None else int(match["number"]) * _UNIT_SECONDS[match["unit"]]


def _rate(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_RATE:
        reason = f"must be a whole number from 1 to {MAX_RATE:,}"
        raise PydanticCustomError("bad-rate", "{reason}", {"reason": reason})
    return value


def _one_or_more(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    """Accept a single target instead of a list of them."""
    return (_parsed(parse_prefix, "bad-mirror")(value),) if isinstance(value, str) else handler(value)


def _needs_verify(value: V, info: ValidationInfo) -> V:
    """Refuse a field that applies only to look-ups in an entry without ``verify`` and ``pin``."""
    if not (info.data.get("verify") or info.data.get("pin")):
        reason = "has no effect without verify or pin"
        proposal = "add verify: true, or leave it out"
        raise PydanticCustomError("without-verify", "{reason}", {"reason": reason, "proposal": proposal})
    return value


def _schema(text: str, **more: object) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "description": text, **more})


_PATTERN_SCHEMA: Final = _schema(
    "HOST[:PORT][/PATH][:TAG][@DIGEST]", minLength=1, maxLength=MAX_PATTERN_LENGTH
)
_PatternField = Annotated[Pattern, BeforeValidator(_parsed(parse_pattern, "bad-pattern")), _PATTERN_SCHEMA]
_AllowedField = Annotated[Pattern, BeforeValidator(_parsed(parse_allowed, "bad-pattern")), _PATTERN_SCHEMA]
_PREFIX_JSON: Final = {
    "type": "string",
    "description": "a registry, or registry/path, without wildcards",
    "minLength": 1,
    "maxLength": MAX_PATTERN_LENGTH,
}
_PrefixField = Annotated[
    Prefix, BeforeValidator(_parsed(parse_prefix, "bad-mirror")), WithJsonSchema(_PREFIX_JSON)
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
_HostField = Annotated[
    str,
    BeforeValidator(_parsed(_parse_host, "bad-host")),
    _schema("a registry's host, with its port, without wildcard", maxLength=MAX_PATTERN_LENGTH),
]
_Hosts = Annotated[tuple[_HostField, ...], Field(strict=False, max_length=MAX_ITEMS)]
_TargetsField = Annotated[
    tuple[_PrefixField, ...],
    Field(strict=False, min_length=1, max_length=MAX_TARGETS),
    WrapValidator(_one_or_more),
    WithJsonSchema(
        {
            "anyOf": [
                _PREFIX_JSON,
                {"type": "array", "items": _PREFIX_JSON, "minItems": 1, "maxItems": MAX_TARGETS},
            ]
        }
    ),
]
# The validator that is named last runs first: the line it returns is short enough for the field.
_IS_LINE: Final = BeforeValidator(_parsed(_parse_line, "bad-text"))
_Line = Annotated[str, Field(max_length=MAX_TEXT_LENGTH), _IS_LINE]
_Name = Annotated[str, BeforeValidator(_parsed(_parse_namespace, "bad-namespace"))]
# Lax, because YAML gives lists where the frozen models hold tuples; items stay strict.
_Names = Annotated[tuple[_Name, ...], Field(strict=False, min_length=1, max_length=MAX_ITEMS)]


class _NotNull:
    """For a field that may be absent but not null: an empty ``namespaces:`` must not mean all namespaces."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        inner: CoreSchema = schema["schema"]
        return inner


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True, populate_by_name=False
    )


class EntryModel(_Model, ABC):
    """One entry of a list."""

    @abstractmethod
    def value(self) -> Any:
        """Return the entry as a plain value."""


class RuleModel(EntryModel):
    """One entry of deny: a pattern alone, or with its conditions."""

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
    """One entry of allow, which must name its registry."""

    image: _AllowedField
    verify: bool = False
    pin: bool = False
    on_error: OnError = Field(default="keep", alias="onError")

    @field_validator("verify", "pin")
    @classmethod
    def _literal_host(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's call
        pattern = info.data.get("image")
        if value and isinstance(pattern, Pattern) and is_glob(pattern.host):
            reason = "a rule with verify or pin must name its registry without a wildcard"
            raise PydanticCustomError("wildcard-host", "{reason}", {"reason": reason})
        return value

    _on_error = field_validator("on_error")(_needs_verify)

    def value(self) -> RuleEntry:
        return replace(super().value(), verify=self.verify or self.pin, on_error=self.on_error, pin=self.pin)


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
    to: _TargetsField
    except_: tuple[_PatternField, ...] = Field(default=(), alias="except", strict=False, max_length=MAX_ITEMS)
    verify: bool = False
    pin: bool = False
    on_missing: OnMissing = Field(default="keep", alias="onMissing")
    on_error: OnMissing = Field(default="keep", alias="onError")
    image_pull_secret: Annotated[
        Annotated[str, BeforeValidator(_parsed(_parse_secret_name, "bad-secret"))] | None, _NotNull
    ] = Field(default=None, alias="imagePullSecret")

    _consequences = field_validator("on_missing", "on_error")(_needs_verify)

    def value(self) -> MirrorEntry:
        return MirrorEntry(
            source=self.source,
            targets=self.to,
            except_=self.except_,
            verify=self.verify or self.pin,
            on_missing=self.on_missing,
            on_error=self.on_error,
            pin=self.pin,
            image_pull_secret=self.image_pull_secret,
        )


class ResourceModel(EntryModel):
    """Where a custom resource holds images."""

    group: _Line
    kind: Annotated[str, Field(min_length=1, max_length=MAX_TEXT_LENGTH), _IS_LINE]
    images: tuple[_ResourcePathField, ...] = Field(min_length=1, strict=False, max_length=MAX_ITEMS)

    def value(self) -> ResourceEntry:
        return ResourceEntry(group=self.group, kind=self.kind, images=self.images)


class RegistryModel(EntryModel):
    """How one registry is reached for look-ups."""

    host: _HostField
    plain_http: bool = Field(default=False, alias="plainHTTP")
    ca: Annotated[
        Annotated[str, BeforeValidator(_parsed(_parse_file_name, "bad-file-name"))] | None, _NotNull
    ] = None
    token_hosts: _Hosts = Field(default=(), alias="tokenHosts")
    redirect_hosts: _Hosts = Field(default=(), alias="redirectHosts")
    timeout: Annotated[
        float, BeforeValidator(_duration("100ms", "5s")), _schema("a duration from 100ms to 5s")
    ] = Field(default=1.0, json_schema_extra={"default": "1s"})
    ttl_found: Annotated[
        float, BeforeValidator(_duration("1s", "60m")), _schema("a duration from 1s to 60m")
    ] = Field(default=60.0, alias="ttlFound", json_schema_extra={"default": "60s"})
    ttl_missing: Annotated[
        float, BeforeValidator(_duration("1s", "10m")), _schema("a duration from 1s to 10m")
    ] = Field(default=10.0, alias="ttlMissing", json_schema_extra={"default": "10s"})
    rate: Annotated[
        int,
        BeforeValidator(_rate),
        WithJsonSchema(
            {"type": "integer", "minimum": 1, "maximum": MAX_RATE, "description": "requests a second"}
        ),
    ] = 20

    def value(self) -> Registry:
        return Registry(
            host=self.host,
            plain_http=self.plain_http,
            ca=self.ca,
            token_hosts=self.token_hosts,
            redirect_hosts=self.redirect_hosts,
            timeout=self.timeout,
            ttl_found=self.ttl_found,
            ttl_missing=self.ttl_missing,
            rate=self.rate,
        )


class HeaderModel(_Model):
    """The fields of the document that are not lists."""

    api_version: Literal["gatekeeper-py/v1"] = Field(alias="apiVersion")
    kind: Literal["ImagePolicy"]
    mode: Mode
    message: _Line = ""


class DocumentModel(HeaderModel):
    """The whole document, for the JSON Schema. The parser validates documents entry by entry."""

    model_config = ConfigDict(
        title="gatekeeper-py ImagePolicy",
        json_schema_extra={"description": "Which images a cluster may run."},
    )

    allow: tuple[AllowModel, ...] = Field(min_length=1, max_length=MAX_RULES)
    deny: tuple[RuleModel, ...] = Field(default=(), max_length=MAX_RULES)
    namespaces: tuple[OverrideModel, ...] = Field(default=(), max_length=MAX_ENTRIES["namespaces"])
    mirrors: tuple[MirrorModel, ...] = Field(default=(), max_length=MAX_ENTRIES["mirrors"])
    resources: tuple[ResourceModel, ...] = Field(default=(), max_length=MAX_ENTRIES["resources"])
    registries: tuple[RegistryModel, ...] = Field(default=(), max_length=MAX_ENTRIES["registries"])


def fields_of(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the names of a model's fields as documents write them."""
    return tuple(info.alias or name for name, info in model.model_fields.items())


class _ForEditors(GenerateJsonSchema):
    """Leave out what would mislead an editor's hints: titles made from names, and null as a default."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's call
        return False

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        if found.get("default", ...) is None:
            del found["default"]
        return found


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the document."""
    schema = DocumentModel.model_json_schema(by_alias=True, mode="validation", schema_generator=_ForEditors)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
