"""Files of policy tests (docs/policy-tests.md): parsing, and their JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeGuard

import yaml

from gatekeeper_py.commands.files import UnreadableError, decoded, read_bytes
from gatekeeper_py.commands.yaml12 import Yaml12Loader, described
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.names import NAMESPACE_NAME
from gatekeeper_py.core.policy.document import API_VERSION, MODES, Mode
from gatekeeper_py.core.policy.finding import MAX_FINDINGS, Finding
from gatekeeper_py.core.policy.instant import parse_instant
from gatekeeper_py.core.policy.limits import MAX_FILE_BYTES
from gatekeeper_py.core.policy.problems import did_you_mean, listed, type_name
from gatekeeper_py.core.policy.problems import shown as shown_value

TEST_KIND: Final = "ImagePolicyTest"
UNSET: Final = object()
"""Stands for an absent field ``rewritten``, because ``None`` stands for ``rewritten: null``: no rewrite."""

IMAGE_VERDICTS: Final = ("approved", "rejected")
MANIFEST_VERDICTS: Final = ("admitted", "warned", "rejected", "rewritten")
REASONS: Final = ("allowed", "denied", "unlisted", "invalid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case. Either ``image`` or ``manifest`` is its subject; the other field is empty.

    ``number`` counts from 0.
    """

    number: int
    line: int
    name: str
    image: str = ""
    manifest: str = ""
    namespace: str | None = None
    mode: Mode | None = None
    at: datetime | None = None
    expect: str
    reason: str | None = None
    rewritten: Any = UNSET
    images: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFile:
    """A file of tests, or the findings about an invalid file.

    ``lines`` are the lines of the file; empty if it is not a file of tests, because messages must not quote
    it.
    """

    name: str
    lines: tuple[str, ...]
    policy: str
    cases: tuple[Case, ...]
    errors: tuple[Finding, ...]


def read_tests(argument: str) -> CaseFile:
    """Read and parse a file. Raises ``UnreadableError`` when the file is too large or is not YAML text."""
    name, content = read_bytes(argument, MAX_FILE_BYTES)
    text = decoded(name, content)
    reader = _Reader()
    try:
        root = yaml.compose(text, Loader=Yaml12Loader)
        if not _is_tests(root):
            return CaseFile(name=name, lines=(), policy="", cases=(), errors=(_NO_TESTS,))
        policy, cases = reader.document(root)
    except (yaml.YAMLError, ValueError) as problem:
        raise UnreadableError(f"{name}: not YAML{described(problem)}") from None
    except RecursionError:
        raise UnreadableError(f"{name}: nested too deeply") from None
    return CaseFile(
        name=name,
        lines=tuple(text.replace("\r\n", "\n").split("\n")),
        policy=policy,
        cases=tuple(cases),
        errors=tuple(reader.findings),
    )


class _Reader:
    """Reads nodes strictly, and collects every problem."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def document(self, root: yaml.MappingNode) -> tuple[str, list[Case]]:
        fields = self._mapping(root, "", ("apiVersion", "kind", "policy", "cases"))
        for key, expected in (("apiVersion", API_VERSION), ("kind", TEST_KIND)):
            value = self._text(fields, key, "", required=root)
            if value and value != expected:
                self._add("bad-value", key, fields[key], f"must be {expected}, not {shown_value(value)}")
        policy = self._text(fields, "policy", "", required=root)
        cases = fields.get("cases")
        if cases is None:
            self._add("missing-field", "cases", root, "the field is required")
            return policy, []
        if not isinstance(cases, yaml.SequenceNode) or not cases.value:
            what = "an empty list" if isinstance(cases, yaml.SequenceNode) else _type(cases)
            self._add("wrong-type", "cases", cases, f"must be a list with at least one case, not {what}")
            return policy, []
        return policy, [case for number, node in enumerate(cases.value) for case in self._case(number, node)]

    def _case(self, number: int, node: yaml.Node) -> Iterator[Case]:
        path = f"cases[{number}]"
        if not isinstance(node, yaml.MappingNode):
            self._add("wrong-type", path, node, f"must be a mapping, not {_type(node)}")
            return
        before = len(self.findings)
        keys = {key.value for key, _ in node.value}
        of_manifest = "manifest" in keys and "image" not in keys
        fields = self._mapping(node, path, MANIFEST_FIELDS if of_manifest else IMAGE_FIELDS)
        subject = self._text(
            fields, "manifest" if of_manifest else "image", path, required=node, empty=not of_manifest
        )
        verdicts = MANIFEST_VERDICTS if of_manifest else IMAGE_VERDICTS
        expect = self._text(fields, "expect", path, required=node, among=verdicts)
        mode = self._text(fields, "mode", path, among=MODES)
        rewritten: Any = UNSET
        if "rewritten" in fields:
            rewritten = None if _is_null(fields["rewritten"]) else self._text(fields, "rewritten", path)
        case = Case(
            number=number,
            line=node.start_mark.line + 1,
            name=self._text(fields, "name", path) or subject,
            image="" if of_manifest else subject,
            manifest=subject if of_manifest else "",
            namespace=self._namespace(fields, path),
            mode=mode if mode in MODES else None,
            at=self._instant(fields, path),
            expect=expect,
            reason=self._text(fields, "reason", path, among=REASONS) or None,
            rewritten=rewritten,
            images=self._images(fields, path),
        )
        if len(self.findings) == before:
            yield case

    def _namespace(self, fields: dict[str, yaml.Node], path: str) -> str | None:
        name = self._text(fields, "namespace", path)
        if name and not NAMESPACE_NAME.fullmatch(name):
            problem = f"{escape(name, 60)} is not a valid namespace name"
            self._add("invalid-namespace", _join(path, "namespace"), fields["namespace"], problem)
        return name or None

    def _mapping(self, node: yaml.MappingNode, path: str, known: tuple[str, ...]) -> dict[str, yaml.Node]:
        fields: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name not in known:
                proposal = did_you_mean(name, known) or f"the fields are {listed(known)}"
                self._add("unknown-field", _join(path, name[:60]), key, "unknown field", proposal)
            elif name in fields:
                self._add("duplicate-key", _join(path, name), key, "the field is given twice")
            else:
                fields[name] = value
        return fields

    def _text(
        self,
        fields: Mapping[str, yaml.Node],
        key: str,
        path: str,
        *,
        required: yaml.Node | None = None,
        empty: bool = False,
        among: tuple[str, ...] = (),
    ) -> str:
        """Return the value of a text field; empty if the field is absent or invalid.

        If the field is required, ``required`` is the mapping that must contain the field. ``empty`` allows
        empty text.
        """
        node = fields.get(key)
        if node is None:
            if required is not None:
                self._add("missing-field", _join(path, key), required, "the field is required")
            return ""
        if not isinstance(node, yaml.ScalarNode) or node.tag != _TEXT or not (node.value or empty):
            what = "empty" if isinstance(node, yaml.ScalarNode) and node.tag == _TEXT else _type(node)
            self._add("wrong-type", _join(path, key), node, f"must be text, not {what}")
            return ""
        value = str(node.value)
        if among and value not in among:
            message = f"must be {listed(among)}, not {shown_value(value)}"
            self._add("bad-value", _join(path, key), node, message, did_you_mean(value, among))
        return value

    def _instant(self, fields: Mapping[str, yaml.Node], path: str) -> datetime | None:
        text = self._text(fields, "at", path)
        try:
            return parse_instant(text) if text else None
        except ValueError as problem:
            self._add("bad-value", _join(path, "at"), fields["at"], str(problem))
            return None

    def _images(self, fields: Mapping[str, yaml.Node], path: str) -> tuple[str, ...] | None:
        node = fields.get("images")
        if node is None:
            return None
        if not isinstance(node, yaml.SequenceNode):
            self._add("wrong-type", _join(path, "images"), node, f"must be a list, not {_type(node)}")
            return None
        items = {str(index): item for index, item in enumerate(node.value)}
        return tuple(self._text(items, index, _join(path, "images")) for index in items)

    def _add(self, code: str, path: str, node: yaml.Node | None, message: str, proposal: str = "") -> None:
        if len(self.findings) >= MAX_FINDINGS:
            return
        line, column = (1, 1) if node is None else (node.start_mark.line + 1, node.start_mark.column + 1)
        self.findings.append(
            Finding(
                severity="error",
                code=code,
                path=path,
                line=line,
                column=column,
                message=message,
                proposal=proposal,
            )
        )


_TEXT: Final = "tag:yaml.org,2002:str"
_COMMON: Final = ("name", "namespace", "mode", "at", "expect")
IMAGE_FIELDS: Final = ("image", *_COMMON, "reason", "rewritten")
MANIFEST_FIELDS: Final = ("manifest", *_COMMON, "images")


_NO_TESTS: Final = Finding(
    severity="error",
    code="wrong-type",
    path="",
    line=1,
    message=f"this is not an {TEST_KIND}",
    proposal=f"begin with apiVersion: {API_VERSION} and kind: {TEST_KIND}",
)


def _is_tests(root: yaml.Node | None) -> TypeGuard[yaml.MappingNode]:
    """Return whether a document has at least the kind or the API version of a file of tests."""
    return isinstance(root, yaml.MappingNode) and any(
        (key.value, value.value) in {("apiVersion", API_VERSION), ("kind", TEST_KIND)}
        for key, value in root.value
        if isinstance(key, yaml.ScalarNode) and isinstance(value, yaml.ScalarNode)
    )


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _type(node: yaml.Node | None) -> str:
    if node is None or _is_null(node):
        return type_name(None)
    if isinstance(node, yaml.ScalarNode):
        kinds: dict[str, object] = {_TEXT: "", "tag:yaml.org,2002:bool": True}
        return type_name(kinds.get(node.tag, 0))
    return type_name([] if isinstance(node, yaml.SequenceNode) else {})


def _join(path: str, key: str) -> str:
    if key.isdecimal():
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def test_schema() -> dict[str, Any]:
    """Return the JSON Schema of a file of tests, for editors."""
    text: dict[str, Any] = {"type": "string", "minLength": 1}

    def case(subject: str, verdicts: tuple[str, ...], fields: tuple[str, ...], more: dict[str, Any]) -> Any:
        known = {
            "name": text | {"description": "What the case is about. Default: the image or the manifest."},
            "namespace": text
            | {"description": "The namespace of the Pod. Default: none; in a manifest, its own."},
            "mode": {"enum": list(MODES), "description": "Replaces the policy's mode."},
            "at": text | {"description": "Judge at this date or RFC 3339 time. Default: now."},
            "expect": {"enum": list(verdicts)},
            **more,
        }
        return {
            "type": "object",
            "properties": {name: known[name] for name in fields},
            "required": [subject, "expect"],
            "additionalProperties": False,
        }

    of_image: dict[str, Any] = {
        "image": {"type": "string", "description": "The image, as a Pod names it."},
        "reason": {"enum": list(REASONS)},
        "rewritten": {
            "type": ["string", "null"],
            "description": "The name on a mirror; null: not rewritten.",
        },
    }
    of_manifest: dict[str, Any] = {
        "manifest": text | {"description": "A file of objects, relative to this file."},
        "images": {"type": "array", "items": text, "description": "All images of the objects as stored."},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": TEST_KIND,
        "type": "object",
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": TEST_KIND},
            "policy": text | {"description": "The policy file, relative to this file."},
            "cases": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "oneOf": [
                        case("image", IMAGE_VERDICTS, IMAGE_FIELDS, of_image),
                        case("manifest", MANIFEST_VERDICTS, MANIFEST_FIELDS, of_manifest),
                    ]
                },
            },
        },
        "required": ["apiVersion", "kind", "policy", "cases"],
        "additionalProperties": False,
    }
