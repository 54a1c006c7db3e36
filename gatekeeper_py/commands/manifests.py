"""Read Kubernetes manifests offline: YAML or JSON, many documents, lists, AdmissionReviews, directories."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from gatekeeper_py.commands.files import UnreadableError, read_text, real_folder, shown
from gatekeeper_py.commands.yaml12 import MAX_NODES, SourceText, Yaml12Loader, described, finite
from gatekeeper_py.core.admission import review
from gatekeeper_py.core.admission.review import AdmissionRequest, InvalidReview, PatchOperation
from gatekeeper_py.core.admission.slot import Parts
from gatekeeper_py.reporting.console import note

UID: Final = "offline"

_NOT_SPACE: Final = re.compile(r"\S")


SUFFIXES: Final = (".yaml", ".yml", ".json")
"""Suffixes of the files in a directory that are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One object to judge: its place in its file, and the request that an API server would send for it.

    ``prefix`` is the path to the object in its document.
    """

    text: SourceText
    document: int
    prefix: Parts
    kind: str
    namespace: str | None
    name: str
    request: AdmissionRequest

    @property
    def source(self) -> str:
        return self.text.name

    def line_of(self, parts: Parts) -> int:
        """Return the line of a value in the object, counted from 1; if absent, that of its nearest parent."""
        return self.text.line_of(self.document, (*self.prefix, *parts))


def read_manifests(
    argument: str, *, namespace: str = "default", within: Sequence[str] = ()
) -> Iterator[Manifest]:
    """Yield every object in a file, in the files of a directory, or on stdin for ``-``.

    ``namespace`` applies to objects that name none. ``within`` is as for ``read_bytes``. Raises
    ``UnreadableError`` for bad input, and if there is no object, because an empty result would look like
    success.
    """
    empty = True
    for file, folders in manifest_files(argument, within):
        name, text = read_text(file, folders)
        documents, starts = _documents(name, text)
        source = SourceText(name, text, starts)
        for index, document in enumerate(documents):
            if document is not None:
                for manifest in _objects(source, index, (), document, namespace):
                    empty = False
                    yield manifest
    if empty:
        raise UnreadableError(f"{shown(argument)}: there is no object to judge")


def manifest_files(argument: str, within: Sequence[str] = ()) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the argument itself, or the manifests below it if it is a directory, in a fixed order.

    With each file, yield its ``within`` (see ``read_bytes``). Links to directories are not followed, because
    they may form a cycle. A note on stderr names each link.
    """
    if argument == "-" or not Path(argument).is_dir():
        yield argument, within
        return
    named = (real_folder(argument, within),)

    def fail(problem: OSError) -> None:
        raise UnreadableError(f"{problem.filename}: {problem.strerror}")

    for folder, folders, files in os.walk(argument, onerror=fail):
        folders.sort()
        for link in (Path(folder) / each for each in folders):
            # In a mounted ConfigMap, ..data is a link to a directory, and each file a link to one in ..data.
            if link.is_symlink() and link.name != "..data":
                note(f"note: {link} is a link to a directory and is not read")
        yield from ((str(Path(folder) / file), named) for file in sorted(files) if file.endswith(SUFFIXES))


def applied(patch: Iterable[PatchOperation], obj: Any) -> Any:
    """Return a copy of an object with our own patch applied; supports ``replace`` and ``add`` only."""
    result = copy.deepcopy(obj)
    for operation in patch:
        *parents, last = [_unescaped(part) for part in operation["path"].split("/")[1:]]
        holder = result
        for part in parents:
            holder = holder[int(part) if isinstance(holder, list) else part]
        value = operation["value"]
        if not isinstance(holder, list):
            holder[last] = value
        elif operation["op"] == "replace":
            holder[int(last)] = value
        else:
            holder.insert(len(holder) if last == "-" else int(last), value)
    return result


def _documents(name: str, text: str) -> tuple[list[Any], tuple[int, ...]]:
    """Return the documents, and the offset of each document if the text is JSON."""
    starts: list[int] = []
    try:
        documents = _json_documents(text, starts)
        if documents is None:
            starts.clear()
            documents = list(yaml.load_all(text, Loader=Yaml12Loader))
        nodes = sum(_size(document, {}) for document in documents)
    except (yaml.YAMLError, ValueError) as problem:
        raise UnreadableError(f"{name}: not valid YAML or JSON{described(problem)}") from None
    except RecursionError:
        raise UnreadableError(f"{name}: nested too deeply") from None
    if nodes > MAX_NODES:
        raise UnreadableError(f"{name}: more than {MAX_NODES} values once aliases are followed")
    return documents, tuple(starts)


def _json_documents(text: str, starts: list[int]) -> list[Any] | None:
    """Return the objects of a JSON stream, and add their offsets to ``starts``.

    Return ``None`` if the text is not JSON, but may be YAML.

    JSON needs its own parser, because the YAML parser supports neither surrogate pairs, which Python's json
    writes for emojis, nor keys longer than 1,024 characters.
    """
    if not text.lstrip().startswith("{"):
        return None
    decoder = json.JSONDecoder(
        object_pairs_hook=_without_duplicates, parse_float=finite, parse_constant=finite
    )
    documents = []
    end = len(text.rstrip())
    at = 0
    while at < end:
        try:
            starts.append(_NOT_SPACE.search(text, at).start())  # type: ignore[union-attr]
            document, at = decoder.raw_decode(text, starts[-1])
        except json.JSONDecodeError:
            return None
        documents.append(document)
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


def _objects(
    source: SourceText, index: int, prefix: Parts, document: Any, namespace: str
) -> Iterator[Manifest]:
    label = f"{source.name}[{index}]"
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise UnreadableError(f"{label}: not a Kubernetes object: it has no kind")
    kind = document["kind"]
    if kind == review.KIND:
        yield _reviewed(source, index, prefix, document, label)
    elif kind == "List" or (kind.endswith("List") and isinstance(document.get("items"), list)):
        items = document.get("items")
        if items is not None and not isinstance(items, list):
            raise UnreadableError(f"{label}: the items of a List are not a list")
        for number, item in enumerate(items or ()):
            # The API omits the kind of the items in a typed list such as a PodList.
            whole = item
            if isinstance(item, dict) and kind != "List":
                whole = {"apiVersion": document.get("apiVersion"), "kind": kind.removesuffix("List"), **item}
            yield from _objects(source, index, (*prefix, "items", number), whole, namespace)
    else:
        yield _created(source, index, prefix, document, label, namespace)


def _reviewed(
    source: SourceText, index: int, prefix: Parts, document: dict[str, Any], label: str
) -> Manifest:
    try:
        request = review.parse(document)
    except InvalidReview as problem:
        raise UnreadableError(f"{label}: not an AdmissionReview: {problem}") from None
    return Manifest(
        text=source,
        document=index,
        prefix=(*prefix, "request", "object"),
        kind=request.kind,
        namespace=request.namespace,
        name=request.name or _name(_metadata(request.object)),
        request=request,
    )


def _created(
    source: SourceText, index: int, prefix: Parts, document: dict[str, Any], label: str, default: str
) -> Manifest:
    version = document.get("apiVersion")
    if not isinstance(version, str) or not version:
        raise UnreadableError(f"{label}: not a Kubernetes object: it has no apiVersion")
    metadata = _metadata(document)
    given = metadata.get("namespace")
    namespace = given if isinstance(given, str) and given else default
    name = _name(metadata)
    request = AdmissionRequest(
        uid=UID,
        group=version.rpartition("/")[0],
        kind=document["kind"],
        operation="CREATE",
        namespace=namespace,
        name=name,
        object=document,
    )
    return Manifest(
        text=source,
        document=index,
        prefix=prefix,
        kind=request.kind,
        namespace=namespace,
        name=name,
        request=request,
    )


def _metadata(obj: Any) -> dict[str, Any]:
    metadata = obj.get("metadata") if isinstance(obj, dict) else None
    return metadata if isinstance(metadata, dict) else {}


def _name(metadata: dict[str, Any]) -> str:
    name = metadata.get("name") or metadata.get("generateName")
    return name if isinstance(name, str) else ""


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")
