"""Read documents with exceptions: manifests of their ConfigMaps, or the documents themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click
import yaml

from gatekeeper_py.cli.inputs.files import UnreadableError, decoded, manifest_files, read_bytes
from gatekeeper_py.cli.inputs.outline import Outline, Part, Shift, parts_of, shift_to
from gatekeeper_py.cli.inputs.recognition import may_be_ours
from gatekeeper_py.cli.inputs.yaml12 import Merges, described, is_syntax_error, load_documents
from gatekeeper_py.cli.reporting.findings import print_findings
from gatekeeper_py.core.exceptions.document import (
    KIND,
    MAX_DOCUMENTS,
    MAX_ENTRIES_IN_ALL,
    ExceptionDocument,
)
from gatekeeper_py.core.exceptions.exceptions import NO_EXCEPTIONS, DocumentKey, Exceptions
from gatekeeper_py.core.names import DEFAULT_NAMESPACE, EXCEPTIONS_CONFIGMAP
from gatekeeper_py.core.policy.configmap import EXCEPTIONS_KEY, document_key, read_exceptions
from gatekeeper_py.core.policy.finding import Finding, in_order
from gatekeeper_py.core.policy.parse.exceptions import ExceptionsError, parse_exceptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Defaults for documents that do not name a namespace, and the namespace of the installation."""

    namespace: str | None
    installation: str = DEFAULT_NAMESPACE

    def key(self, name: object, namespace: object) -> DocumentKey | None:
        """Return the key of a ConfigMap; ``None`` if it holds no exceptions that reach anything."""
        return document_key(name, namespace or self.namespace or "default", self.installation)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExceptionInput:
    """A document with exceptions, or the findings that explain why there is none.

    ``key`` is ``None`` if the namespace of the document is not known. ``lines`` are the lines of the file,
    empty if the ConfigMap holds no text.
    """

    name: str
    key: DocumentKey | None
    shift: Shift
    lines: tuple[str, ...] = ()
    document: ExceptionDocument | None = None
    errors: tuple[Finding, ...] = ()


class ExceptionFiles:
    """Files and directories with exceptions, and the namespace of the installation.

    ``within`` is as for ``read_bytes``.
    """

    def __init__(self, exceptions: Sequence[str], installation: str, within: Sequence[str] = ()) -> None:
        self._arguments = exceptions
        self.installation = installation
        self._within = within

    def __bool__(self) -> bool:
        """Return whether there are files."""
        return bool(self._arguments)

    def read(self, namespace: str | None = None, beside: Exceptions = NO_EXCEPTIONS) -> Exceptions:
        """Return all documents, and those of ``beside``. ``namespace`` is that of documents that name none.

        Prints the findings about invalid documents on stderr and exits with 2. Raises ``UnreadableError`` for
        files that cannot be read or hold no exceptions, and for two documents with the same name.
        """
        place = Place(namespace=namespace, installation=self.installation)
        found = dict(beside.documents())
        bad = False
        for argument in self._arguments:
            empty = True
            for file, folders in manifest_files(argument, self._within):
                name, content = read_bytes(file, within=folders)
                for given in exceptions_of(name, decoded(name, content), place):
                    empty = False
                    print_findings(given.name, given.lines, given.errors, stderr=True)
                    bad = bad or bool(given.errors)
                    if given.document is not None:
                        found[_new_key(given, found)] = given.document
            if empty:
                raise UnreadableError(f"{argument}: there are no exceptions")
        if bad:
            raise click.exceptions.Exit(2)
        entries = sum(len(document.entries) for document in found.values())
        if len(found) > MAX_DOCUMENTS or entries > MAX_ENTRIES_IN_ALL:
            limit = f"{MAX_DOCUMENTS:,} documents and {MAX_ENTRIES_IN_ALL:,} entries"
            raise UnreadableError(f"the exceptions are more than {limit}, the limit")
        return Exceptions(found)


def _new_key(given: ExceptionInput, found: dict[DocumentKey, ExceptionDocument]) -> DocumentKey:
    if given.key is None:
        raise UnreadableError(
            f"{given.name}: the document names no namespace: give its ConfigMap, or, if the command has this"
            " option, add -n NAMESPACE"
        )
    if given.key in found:
        raise UnreadableError(f"{given.name}: the exceptions of {given.key.namespace} are given twice")
    return given.key


def exceptions_of(name: str, text: str, place: Place) -> Iterator[ExceptionInput]:
    """Yield all exceptions in a text. Raises ``UnreadableError`` for a document that is not YAML."""
    for part in parts_of(name, text):
        _require_yaml(part, place)
        yield from exceptions_in(part, place)


def exceptions_in(part: Part, place: Place) -> Iterator[ExceptionInput]:
    """Yield the exceptions in one document: a ConfigMap, a list of them, or the document itself."""
    outline = part.outline
    kind = outline.text_of("kind") or ""
    if kind == KIND:
        key = None if place.namespace is None else place.key(EXCEPTIONS_CONFIGMAP, place.namespace)
        yield _parsed(part, key, part.text, Shift(part.first))
    elif kind == "ConfigMap":
        key = _key_of(outline, place)
        if key is not None:
            field = f"data.{EXCEPTIONS_KEY}"
            text, lines = outline.text_of(field) or "", part.lines[part.first :]
            shift = shift_to(outline.mark_of(field), text, lines, part.first)
            data, binary = outline.value_of("data"), outline.value_of("binaryData")
            found = _from_configmap(part, key, data, binary, shift)
            if outline.findings:
                errors = map(Shift(part.first).moved, outline.findings)
                found = replace(found, document=None, errors=in_order((*errors, *found.errors)))
            yield found
    if kind != KIND and "items" in outline.fields:  # then kubectl reads a list, whatever its kind
        for obj in _items(part):
            metadata = obj.get("metadata")
            own = metadata if isinstance(metadata, dict) else {}
            key = place.key(own.get("name"), own.get("namespace"))
            if obj.get("kind", "ConfigMap") == "ConfigMap" and key is not None:
                shift = Shift(part.first, block=False)
                yield _from_configmap(part, key, obj.get("data"), obj.get("binaryData"), shift)


def holds_exceptions(outline: Outline, place: Place) -> bool:
    """Return whether a document is a document with exceptions, or the ConfigMap of one."""
    kind = outline.text_of("kind")
    return kind == KIND or (kind == "ConfigMap" and _key_of(outline, place) is not None)


def _key_of(outline: Outline, place: Place) -> DocumentKey | None:
    return place.key(outline.text_of("metadata.name"), outline.text_of("metadata.namespace"))


def _require_yaml(part: Part, place: Place) -> None:
    """Raise ``UnreadableError`` for a document that is not YAML, because it could hold exceptions.

    The findings about a document that is known to hold exceptions say more.
    """
    if holds_exceptions(part.outline, place):
        return
    try:
        load_documents(part.text, Merges())
    except RecursionError:
        raise UnreadableError(f"{part.name}: not valid YAML or JSON: it is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as problem:
        if is_syntax_error(problem) or may_be_ours(part.text):
            where = described(problem, part.first)
            raise UnreadableError(f"{part.name}: not valid YAML or JSON{where}") from None


def _items(part: Part) -> list[dict[str, Any]]:
    try:
        items = [each.get("items") for each in load_documents(part.text, Merges())]
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UnreadableError(f"{part.name}: not valid YAML or JSON") from None
    return [item for each in items if isinstance(each, list) for item in each if isinstance(item, dict)]


def _from_configmap(
    part: Part, key: DocumentKey, data: object, binary: object, shift: Shift
) -> ExceptionInput:
    found = read_exceptions(key, data, binary)
    if found.text is None or found.findings:
        return ExceptionInput(name=part.name, key=key, errors=found.findings, shift=shift)
    return _parsed(part, key, found.text, shift)


def _parsed(part: Part, key: DocumentKey | None, text: str, shift: Shift) -> ExceptionInput:
    found = ExceptionInput(name=part.name, key=key, lines=part.lines, shift=shift)
    try:
        return replace(found, document=parse_exceptions(text, None if key is None else key.source))
    except ExceptionsError as problem:
        return replace(found, errors=tuple(map(shift.moved, problem.findings)))
