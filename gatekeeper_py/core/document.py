"""The policy document: text -> PolicyDocument, every problem at once with its path and line.

Source: policy.md sections 1 to 3. The shape is a pydantic model, which also gives the JSON
Schema; what crosses entries (mirrors that could loop) is checked beside it, so that it is
reported even when something else is wrong too.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError

from gatekeeper_py.core.finding import Finding, in_order
from gatekeeper_py.core.pattern import (
    InvalidPattern,
    Pattern,
    Prefix,
    parse_pattern,
    parse_prefix,
)
from gatekeeper_py.core.resourcepath import InvalidResourcePath, ResourcePath, parse_resource_path
from gatekeeper_py.core.yamltree import Mark, Path, Tree, YamlMapping, parse_yaml, path_text

Mode = Literal["enforce", "warn", "mutate"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)

API_VERSION: Final = "gatekeeper-py/v1"
KIND: Final = "ImagePolicy"
MAX_MESSAGE_LENGTH: Final = 200

_NAMESPACE_GLOB: Final = re.compile(r"[a-z0-9*](?:[a-z0-9*-]{0,61}[a-z0-9*])?")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?"
    r"(?P<offset>[Zz]|[+-][0-9]{2}:[0-9]{2})?"
)


class PolicyError(ValueError):
    """The text is no acceptable policy; ``findings`` lists every problem, none of them partial."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__("; ".join(map(str, findings)))
        self.findings = findings


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


def parse_instant(text: str) -> datetime:
    """A date (00:00 UTC of that day) or an RFC 3339 time with its offset, in UTC.

    Raises ``ValueError``.
    """
    match = _TIME.fullmatch(text)
    if match is not None and match["offset"] is None:
        message = "a time needs its offset, e.g. Z or +02:00"
        raise ValueError(message)
    if match is None and not _DATE.fullmatch(text):
        message = "neither a date (2026-12-31) nor an RFC 3339 time (2026-12-31T18:00:00Z)"
        raise ValueError(message)
    try:
        parsed = datetime.fromisoformat(text.upper())
        return parsed.replace(tzinfo=UTC) if match is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        message = f"there is no such time as {text}"
        raise ValueError(message) from None


def _parse_namespace(text: str) -> str:
    if not _NAMESPACE_GLOB.fullmatch(text):
        message = "no namespace can have this name: lower-case letters, digits and -, with * for any"
        raise ValueError(message)
    return text


def _check_line(text: str) -> str:
    if not text.isprintable():
        message = "a line of printable text is wanted, without line breaks or control characters"
        raise ValueError(message)
    return text


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


class RuleEntry(_Model):
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


class AllowEntry(RuleEntry):
    """A rule of ``allow``, which must name its registry."""

    @field_validator("image", mode="after")
    @classmethod
    def _names_a_host(cls, pattern: Pattern) -> Pattern:
        if pattern.any_host:
            raise PydanticCustomError(
                "bad-pattern", "* alone as the host would approve every registry", {"proposal": ""}
            )
        return pattern


class OverrideEntry(_Model):
    """Another mode for some namespaces."""

    names: _Names
    mode: Mode
    until: Annotated[_Until | None, _NotNull] = None
    reason: Annotated[_Line | None, _NotNull] = None


class MirrorEntry(_Model):
    """Where mutate mode takes images from, and where it sends them."""

    source: _PrefixField = Field(alias="from")
    to: _PrefixField
    except_: tuple[_PatternField, ...] = Field(default=(), alias="except", strict=False)


class ResourceEntry(_Model):
    """Where a custom resource holds images."""

    group: _Line
    kind: Annotated[str, Field(min_length=1), _IS_LINE]
    images: tuple[_ResourcePathField, ...] = Field(min_length=1, strict=False)


class PolicyDocument(_Model):
    """The whole document."""

    model_config = ConfigDict(title="gatekeeper-py ImagePolicy")

    api_version: Literal["gatekeeper-py/v1"] = Field(alias="apiVersion")
    kind: Literal["ImagePolicy"]
    mode: Mode
    allow: tuple[AllowEntry, ...] = Field(min_length=1, strict=False)
    deny: tuple[RuleEntry, ...] = Field(default=(), strict=False)
    namespaces: tuple[OverrideEntry, ...] = Field(default=(), strict=False)
    mirrors: tuple[MirrorEntry, ...] = Field(default=(), strict=False)
    resources: tuple[ResourceEntry, ...] = Field(default=(), strict=False)
    message: Annotated[str, Field(max_length=MAX_MESSAGE_LENGTH), _IS_LINE] = ""


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the document."""
    schema = PolicyDocument.model_json_schema(by_alias=True, mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def parse_document(text: str) -> tuple[PolicyDocument, Tree]:
    """Parse a policy document; the tree tells where each path stands in ``text``.

    Raises ``PolicyError`` with every problem.
    """
    tree = parse_yaml(text)
    document = None
    if not tree.hides(()):
        try:
            document = PolicyDocument.model_validate(tree.root)
        except ValidationError as problem:
            tree.findings.extend(_translated(tree, problem))
        tree.findings.extend(_mirror_problems(tree))
    if tree.findings or document is None:
        raise PolicyError(in_order(tree.findings))
    return document, tree


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


def _translated(tree: Tree, problem: ValidationError) -> Iterator[Finding]:
    for details in problem.errors(include_url=False):
        path = _document_path(tree, details["loc"])
        if tree.hides(path) or (details["type"] == "too_short" and details["input"]):
            continue  # a list of entries that are all wrong counts as empty for pydantic
        code, message, proposal = _worded(details)
        yield _finding(path, tree.mark_of(path, key=code == "unknown-field"), code, message, proposal)


def _finding(path: Path, mark: Mark, code: str, message: str, proposal: str) -> Finding:
    return Finding(
        severity="error",
        code=code,
        path=path_text(path),
        line=mark.line,
        column=mark.column,
        message=message,
        proposal=proposal,
    )


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


def _mirror_problems(tree: Tree) -> Iterator[Finding]:
    """Mirrors that could rewrite twice, or that contradict each other (policy.md section 6)."""
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
            yield _mirror_problem(
                tree,
                (index, "from"),
                "mirror-duplicate",
                f"mirrors[{first}] is already from {source.text}",
                "merge the two",
            )
    for index, _, to in ends:
        if to is None:
            continue
        holder = next((sources[place] for place in _places_holding(to) if place in sources), None)
        other = above.get((to.host, to.segments)) if holder is None else holder
        if other is not None:
            inside = "holds" if holder is None else "lies under"
            yield _mirror_problem(
                tree,
                (index, "to"),
                "mirror-loop",
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


def _mirror_problem(tree: Tree, place: tuple[int, str], code: str, message: str, proposal: str) -> Finding:
    path: Path = ("mirrors", *place)
    return _finding(path, tree.mark_of(path), code, message, proposal)


_ENTRY_MODELS: Final[dict[str, type[_Model]]] = {
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


__all__ = [
    "API_VERSION",
    "KIND",
    "MODES",
    "AllowEntry",
    "InvalidResourcePath",
    "MirrorEntry",
    "Mode",
    "OverrideEntry",
    "PolicyDocument",
    "PolicyError",
    "ResourceEntry",
    "RuleEntry",
    "json_schema",
    "mode_problem",
    "parse_document",
    "parse_instant",
]
