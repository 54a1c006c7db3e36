"""Read documents with exceptions: manifests of their ConfigMaps, or the documents themselves."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click
import yaml

from gatekeeper_py.commands.files import UnreadableError, decoded, read_bytes
from gatekeeper_py.commands.manifests import manifest_files
from gatekeeper_py.commands.policyinput import Outline, Shift, lines_of, outline_of, shift_to
from gatekeeper_py.commands.yaml12 import Merges, load_documents, split_documents
from gatekeeper_py.core.exceptions.document import (
    KIND,
    MAX_DOCUMENTS,
    MAX_ENTRIES_IN_ALL,
    ExceptionDocument,
)
from gatekeeper_py.core.exceptions.exceptions import NO_EXCEPTIONS, DocumentKey, Exceptions
from gatekeeper_py.core.names import DEFAULT_NAMESPACE, EXCEPTIONS_CONFIGMAP
from gatekeeper_py.core.policy.configmap import EXCEPTIONS_KEY, document_key, read_exceptions
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.parse.exceptions import ExceptionsError, parse_exceptions
from gatekeeper_py.reporting.findings import print_findings

Command = Callable[..., Any]


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

    ``key`` is ``None`` if the namespace of the document is not known. ``lines`` are the lines of the file.
    """

    name: str
    key: DocumentKey | None
    document: ExceptionDocument | None
    errors: tuple[Finding, ...]
    lines: tuple[str, ...]
    shift: Shift


class ExceptionFiles:
    """Files and directories with exceptions, and the namespace of the installation.

    ``within`` is as for ``read_bytes``.
    """

    def __init__(self, arguments: Sequence[str], installation: str, within: Sequence[str] = ()) -> None:
        self._arguments = arguments
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
            for given in _read(argument, place, self._within):
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


def exceptions_options(command: Command) -> Command:
    """Add the options that name documents with exceptions. The command gets them as ``exceptions``."""

    @functools.wraps(command)
    def with_options(exceptions: tuple[str, ...], installation: str, **others: Any) -> Any:
        return command(exceptions=ExceptionFiles(exceptions, installation), **others)

    return _EXCEPTIONS(INSTALLATION(with_options))


_EXCEPTIONS: Final = click.option(
    "--exceptions",
    metavar="FILE|DIR",
    multiple=True,
    help="Judge with the exceptions in this file or directory: manifests of ConfigMaps, or documents that"
    " apply to the namespace of -n. Repeatable.",
)
INSTALLATION: Final = click.option(
    "--installation",
    metavar="NAMESPACE",
    default=DEFAULT_NAMESPACE,
    show_default=True,
    help="Namespace of gatekeeper-py. Exceptions in it may name other namespaces.",
)


def _new_key(given: ExceptionInput, found: dict[DocumentKey, ExceptionDocument]) -> DocumentKey:
    if given.key is None:
        raise UnreadableError(
            f"{given.name}: the document names no namespace: give its ConfigMap, or, if the command has this"
            " option, add -n NAMESPACE"
        )
    if given.key in found:
        raise UnreadableError(f"{given.name}: the exceptions of {given.key.namespace} are given twice")
    return given.key


def _read(argument: str, place: Place, within: Sequence[str]) -> Iterator[ExceptionInput]:
    for file, folders in manifest_files(argument, within):
        name, content = read_bytes(file, within=folders)
        text = decoded(name, content)
        lines = lines_of(text)
        for first, document in split_documents(text):
            yield from exceptions_in(name, document, outline_of(document), first, lines, place)


def holds_exceptions(outline: Outline, place: Place) -> bool:
    """Return whether a document is a document with exceptions, or the ConfigMap of one."""
    kind = outline.text_of("kind")
    named = place.key(outline.text_of("metadata.name"), outline.text_of("metadata.namespace"))
    return kind == KIND or (kind == "ConfigMap" and named is not None)


def exceptions_in(
    name: str, text: str, outline: Outline, first: int, lines: tuple[str, ...], place: Place
) -> Iterator[ExceptionInput]:
    """Yield the exceptions in one document of a file: a ConfigMap, a list of them, or the document itself.

    ``first`` is the number of lines before the document, and ``lines`` are those of the file.
    """
    kind = outline.text_of("kind") or ""
    if kind == KIND:
        key = None if place.namespace is None else place.key(EXCEPTIONS_CONFIGMAP, place.namespace)
        yield _parsed(name, key, text, lines, Shift(first))
    elif kind == "ConfigMap":
        key = place.key(outline.text_of("metadata.name"), outline.text_of("metadata.namespace"))
        if key is not None:
            mark = outline.mark_of(f"data.{EXCEPTIONS_KEY}")
            data, binary = outline.value_of("data"), outline.value_of("binaryData")
            shift = shift_to(mark, str((data or {}).get(EXCEPTIONS_KEY, "")), lines[first:], first)
            yield _from_configmap(name, key, data, binary, lines, shift)
    elif kind in {"List", "ConfigMapList"}:
        for obj in _items(name, text):
            metadata = obj.get("metadata")
            own = metadata if isinstance(metadata, dict) else {}
            key = place.key(own.get("name"), own.get("namespace"))
            if obj.get("kind", "ConfigMap") == "ConfigMap" and key is not None:
                shift = Shift(first, block=False)
                yield _from_configmap(name, key, obj.get("data"), obj.get("binaryData"), lines, shift)


def _items(name: str, text: str) -> list[dict[str, Any]]:
    try:
        items = [each.get("items") for each in load_documents(text, Merges())]
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UnreadableError(f"{name}: not valid YAML or JSON") from None
    return [item for each in items if isinstance(each, list) for item in each if isinstance(item, dict)]


def _from_configmap(
    name: str, key: DocumentKey, data: object, binary: object, lines: tuple[str, ...], shift: Shift
) -> ExceptionInput:
    text, errors = read_exceptions(data, binary)
    if text is None or errors:
        return ExceptionInput(name=name, key=key, document=None, errors=errors, lines=(), shift=shift)
    return _parsed(name, key, text, lines, shift)


def _parsed(
    name: str, key: DocumentKey | None, text: str, lines: tuple[str, ...], shift: Shift
) -> ExceptionInput:
    document: ExceptionDocument | None = None
    errors: tuple[Finding, ...] = ()
    try:
        document = parse_exceptions(text, None if key is None else key.source)
    except ExceptionsError as problem:
        errors = tuple(map(shift.moved, problem.findings))
    return ExceptionInput(name=name, key=key, document=document, errors=errors, lines=lines, shift=shift)
