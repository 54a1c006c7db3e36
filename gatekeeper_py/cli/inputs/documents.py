"""Read the documents of a text: YAML or JSON, as many as there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, Final

import yaml

from gatekeeper_py.cli.inputs.files import OtherFileError, UnreadableError
from gatekeeper_py.cli.inputs.recognition import HELM_TEMPLATE, template_hint
from gatekeeper_py.cli.inputs.yaml12 import (
    MAX_NODES,
    Merges,
    SourceText,
    TooManyValuesError,
    described,
    finite,
    holds_object,
    is_syntax_error,
    load_documents,
    split_documents,
)
from gatekeeper_py.core.policy.parse.text import cleaned

_NOT_SPACE: Final = re.compile(r"\S")

MAX_PARTS: Final = 10_000
"""Maximum number of documents that are read one by one. A document of 6 bytes takes about 50 µs then."""


def documents_in(name: str, text: str) -> tuple[list[Any], SourceText]:
    """Return the documents of a file.

    Raises ``OtherFileError`` if one is neither YAML nor JSON, and ``RecursionError``.
    """
    parts = [(0, text)]
    try:
        documents = _json_documents(text, parts)
    except ValueError as problem:
        raise _neither_yaml_nor_json(name, text, problem) from None
    if documents is None:
        documents = _loaded(name, text, Merges())
    _check_size(name, documents)
    return documents, SourceText(name, parts)


def each_document(name: str, text: str) -> tuple[list[Any], SourceText]:
    """Return the documents of a file, and the error instead of a document that is neither YAML nor JSON.

    Raises ``UnreadableError`` for a document that kubectl may accept although this module refuses it: a
    document that reaches a limit, and one with the fields of an object, for example with a key given twice or
    a form feed before it.
    """
    if template_hint(text) and _is_in_chart(Path(name)):
        return [OtherFileError(name, HELM_TEMPLATE.what)], SourceText(name, ())
    try:
        return documents_in(name, text)
    except OtherFileError:
        parts, merges = tuple(islice(split_documents(text), MAX_PARTS + 1)), Merges()
    if len(parts) > MAX_PARTS:
        raise UnreadableError(f"{name}: not valid YAML, and more than {MAX_PARTS:,} documents")
    documents: list[Any] = []
    for before, part in parts:
        try:
            documents += _loaded(name, part, merges, before)
        except OtherFileError as problem:
            if problem.why != HELM_TEMPLATE.what and holds_object(cleaned(part)):
                raise UnreadableError(problem.message) from None
            documents.append(problem)
    _check_size(name, documents)
    return documents, SourceText(name, parts)


def _is_in_chart(file: Path) -> bool:
    """Return whether a file is in the directory of the templates of a Helm chart."""
    return any(
        folder.name == "templates" and (folder.parent / "Chart.yaml").is_file()
        for folder in file.absolute().parents
    )


def _loaded(name: str, text: str, merges: Merges, before: int = 0) -> list[Any]:
    """Load documents from YAML. ``before`` is the number of lines before them."""
    try:
        return load_documents(text, merges)
    except (yaml.YAMLError, ValueError) as problem:
        raise _neither_yaml_nor_json(name, text, problem, before) from None


def _neither_yaml_nor_json(
    name: str, text: str, problem: yaml.YAMLError | ValueError, before: int = 0
) -> UnreadableError:
    message = f"{name}: not valid YAML or JSON{described(problem, before)}"
    if isinstance(problem, TooManyValuesError) or "exceeded maximum nesting depth" in message:
        return UnreadableError(message)
    if is_syntax_error(problem) and (hint := template_hint(text)):
        return OtherFileError(f"{message}; {hint}", HELM_TEMPLATE.what)
    return OtherFileError(message, "not YAML or JSON")


def _check_size(name: str, documents: Iterable[Any]) -> None:
    if sum(_size(document, {}) for document in documents) > MAX_NODES:
        raise UnreadableError(f"{name}: more than {MAX_NODES} values once aliases are followed")


def _json_documents(text: str, parts: list[tuple[int, str]]) -> list[Any] | None:
    """Return the objects of a JSON stream, and replace ``parts`` by their texts (see ``SourceText``).

    Return ``None`` if the text is not JSON, but may be YAML.

    JSON needs its own parser, because the YAML parser supports neither surrogate pairs, which Python's json
    writes for emojis, nor keys longer than 1,024 characters.
    """
    if not text.lstrip().startswith("{"):
        return None
    decoder = json.JSONDecoder(
        object_pairs_hook=_without_duplicates, parse_float=finite, parse_constant=finite
    )
    documents, found = [], []
    end = len(text.rstrip())
    at = lines = 0
    while at < end:
        start = _NOT_SPACE.search(text, at).start()  # type: ignore[union-attr]
        lines += text.count("\n", at, start)
        try:
            document, at = decoder.raw_decode(text, start)
        except json.JSONDecodeError:
            return None
        documents.append(document)
        found.append((lines, text[start:at]))
        lines += text.count("\n", start, at)
    parts[:] = found
    return documents


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in pairs:
        if key in document:
            raise ValueError("a key is given twice")
        document[key] = value
    return document


def _size(value: Any, known: dict[int, int]) -> int:
    """Count the values in a document with all aliases expanded; measure each shared part only once."""
    if not isinstance(value, dict | list):
        return 1
    size = known.get(id(value))
    if size is None:
        known[id(value)] = MAX_NODES + 1  # read again if the value contains itself
        children = value.values() if isinstance(value, dict) else value
        size = known[id(value)] = 1 + sum(_size(child, known) for child in children)
    return size
