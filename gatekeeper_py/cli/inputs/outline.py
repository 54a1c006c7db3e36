"""The documents of a text, each with the fields that show what it is, and the positions of findings in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import yaml

from gatekeeper_py.cli.inputs.recognition import template_hint
from gatekeeper_py.cli.inputs.yaml12 import Yaml12Loader, split_documents
from gatekeeper_py.core.policy.finding import Finding, Mark, Remarks
from gatekeeper_py.core.policy.limits import MAX_FILE_BYTES
from gatekeeper_py.core.policy.parse.events import UNKNOWN, Node, Reader, Unreadable, value_of
from gatekeeper_py.core.policy.parse.positions import as_findings
from gatekeeper_py.core.policy.parse.text import check_text, cleaned

_METADATA: Final = ("name", "namespace")


@dataclass(slots=True)
class Outline:
    """The top-level fields that distinguish a policy from a ConfigMap manifest.

    ``fields`` holds all top-level fields, ``metadata.name``, and each entry of ``data`` and ``binaryData`` by
    its path, such as ``data.NAME``. ``keys`` holds the position of each entry's key. ``hint`` is what to do
    if the text is not YAML and may be a template.
    """

    fields: dict[str, Node]
    keys: dict[str, Mark]
    findings: tuple[Finding, ...]
    hint: str = ""

    def text_of(self, path: str) -> str | None:
        node = self.fields.get(path)
        return node.value if node is not None and isinstance(node.value, str) else None

    def mark_of(self, path: str) -> Mark:
        """Return the position of a field; if it is absent, that of its top-level field."""
        node = self.fields.get(path) or self.fields.get(path.partition(".")[0])
        return Mark(line=1, column=1) if node is None else node.mark

    def value_of(self, field: str) -> Any:
        """Return the value of ``data`` or ``binaryData``; ``None`` when it is absent."""
        node = self.fields.get(field)
        if node is None or node.kind != "mapping":
            return None if node is None else value_of(node)
        prefix = f"{field}."
        inner = ((path, node) for path, node in self.fields.items() if path.startswith(prefix))
        return {path.removeprefix(prefix): value_of(node) for path, node in inner}


def outline_of(text: str) -> Outline:
    """Return the fields that show whether a document is a policy or a ConfigMap manifest."""
    remarks = Remarks()
    fields: dict[str, Node] = {}
    keys: dict[str, Mark] = {}
    is_valid = check_text(text, MAX_FILE_BYTES, remarks)
    # A file with NUL is not a text. It may be the environment of a process, so it must not be quoted.
    is_text = is_valid or (len(text) <= MAX_FILE_BYTES and "\0" not in text)
    written = text
    if not is_valid:
        text = cleaned(text)
    if is_text:
        try:
            reader = Reader(text, remarks)
            root = reader.root()
            for key, node in reader.entries() if root is not None and root.kind == "mapping" else ():
                fields[key] = node
                if key == "metadata" and node.kind == "mapping":
                    own = ((name, inner) for name, inner in reader.entries() if name in _METADATA)
                    fields |= {f"{key}.{name}": inner for name, inner in own}
                if key in {"data", "binaryData"} and node.kind == "mapping":
                    for name, inner in reader.entries():
                        fields[f"{key}.{name}"] = inner
                        keys[f"{key}.{name}"] = reader.key_mark
            reader.finish()
        except Unreadable as problem:
            remarks.add(problem.remark)
    if remarks and is_text:
        _complete(fields, text)
        if not is_valid:  # the characters left out may end a line, and so a comment
            _complete(fields, written)
    return Outline(fields, keys, as_findings(text, remarks), template_hint(text))


def _complete(fields: dict[str, Node], text: str) -> None:
    """Add the fields that use aliases, merge keys or tags, or that come after what ``Reader`` refuses.

    Otherwise, the commands would skip a document that Kubernetes reads as a policy or as exceptions.
    """
    loader = Yaml12Loader(text)

    def add(prefix: str, node: yaml.Node | None) -> None:
        if not isinstance(node, yaml.MappingNode):
            return
        loader.flatten_mapping(node)
        for key, value in node.value:
            path = f"{prefix}{key.value}"
            if path not in fields or fields[path].value is UNKNOWN:
                is_text = isinstance(value, yaml.ScalarNode)
                fields[path] = Node("scalar", value, value.value) if is_text else Node("mapping", value)
            if path in {"metadata", "data", "binaryData"}:
                add(f"{path}.", value)

    with suppress(yaml.YAMLError, ValueError, RecursionError):
        add("", loader.get_single_node())


class Part(NamedTuple):
    """One document of a text.

    ``first`` is the number of lines before the document, and ``lines`` are the lines of the whole text.
    """

    name: str
    text: str
    first: int
    lines: tuple[str, ...]
    outline: Outline


def parts_of(name: str, text: str) -> Iterator[Part]:
    """Yield the documents of a text that are not empty."""
    lines = lines_of(text)
    for first, document in split_documents(text):
        yield Part(name, document, first, lines, outline_of(document))


def lines_of(text: str) -> tuple[str, ...]:
    """Split a text into lines as findings count them: at LF and CRLF only."""
    return tuple(text.replace("\r\n", "\n").split("\n"))


@dataclass(frozen=True, slots=True)
class Shift:
    """Converts positions in the document to positions in the file.

    ``lines`` and ``columns`` are the numbers of lines and columns before the document. If the document is not
    a ``block``, its lines are not lines of the file, and all findings get the position of its start.
    """

    lines: int = 0
    columns: int = 0
    block: bool = True

    def moved(self, finding: Finding) -> Finding:
        if not self.block:
            message = f"{finding.message} (line {finding.line} of the text)"
            return dataclasses.replace(finding, line=self.lines + 1, column=self.columns + 1, message=message)
        return dataclasses.replace(
            finding, line=finding.line + self.lines, column=finding.column + self.columns
        )


def shift_to(mark: Mark, document: str, lines: tuple[str, ...], before: int = 0) -> Shift:
    """Return the offset of a text in a ConfigMap from the file's start.

    ``mark`` is the position of the text in ``lines``. ``before`` is the number of lines of the file before
    ``lines``.
    """
    if not mark.literal:
        return Shift(before + mark.line - 1, mark.column - 1, block=False)
    for number, inner in enumerate(lines_of(document)):
        if inner.strip() and mark.line + number < len(lines):
            outer = lines[mark.line + number]
            return Shift(before + mark.line, len(outer) - len(inner))
    return Shift(before + mark.line)
