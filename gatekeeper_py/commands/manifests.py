"""Read Kubernetes manifests offline: YAML or JSON, many documents, lists, AdmissionReviews."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from gatekeeper_py.commands.files import UnreadableError, read_text
from gatekeeper_py.core.admission import review
from gatekeeper_py.core.admission.review import AdmissionRequest, InvalidReview, PatchOperation

MAX_NODES: Final = 5_000_000
"""Limit on values once aliases are followed, because a few lines of YAML can expand to billions."""

UID: Final = "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One object to judge: where it was read, and the request that an API server would send for it."""

    source: str
    document: int
    kind: str
    namespace: str | None
    name: str
    request: AdmissionRequest


class _Loader(yaml.CSafeLoader):
    """Reads YAML 1.2's core schema, like JSON: anything but null, booleans and numbers is text."""

    def construct_mapping(self, node: yaml.MappingNode, *, deep: bool = False) -> dict[Any, Any]:  # type: ignore[override]
        """Build a mapping whose keys are text, as kubectl does; a duplicate key is an error."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key.value!r} is given twice", key.start_mark
                    )
                seen.add(key.value)
                key.tag = _TEXT
        return super().construct_mapping(node, deep=deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Read a decimal number; in YAML 1.1, 010 would be eight and 09 an error."""
        return int(node.value)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        return _finite(node.value)


_NOT_SPACE: Final = re.compile(r"\S")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"no number is as large as {text[:40]}")
    return number


_TEXT: Final = "tag:yaml.org,2002:str"
_MERGE: Final = "tag:yaml.org,2002:merge"

_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


def read_manifests(argument: str) -> Iterator[Manifest]:
    """Yield every object in a file, or on stdin for ``-``. Raises ``UnreadableError``."""
    name, text = read_text(argument)
    for index, document in enumerate(_documents(name, text)):
        if document is not None:
            yield from _objects(name, index, document)


def applied(patch: Iterable[PatchOperation], obj: Any) -> Any:
    """Return a copy of an object with our own patch applied; supports ``replace`` and ``add`` only."""
    result = copy.deepcopy(obj)
    for operation in patch:
        *parents, last = [_unescaped(part) for part in operation["path"].split("/")[1:]]
        holder = result
        for part in parents:
            holder = holder[int(part) if isinstance(holder, list) else part]
        holder[int(last) if isinstance(holder, list) else last] = operation["value"]
    return result


def _documents(name: str, text: str) -> list[Any]:
    try:
        documents = _json_documents(text)
        if documents is None:
            documents = list(yaml.load_all(text, Loader=_Loader))
        nodes = sum(_size(document, {}) for document in documents)
    except (yaml.YAMLError, ValueError) as problem:
        raise UnreadableError(f"{name}: not YAML{_where_and_why(problem)}") from None
    except RecursionError:
        raise UnreadableError(f"{name}: nested too deeply") from None
    if nodes > MAX_NODES:
        raise UnreadableError(f"{name}: more than {MAX_NODES} values once aliases are followed")
    return documents


def _where_and_why(problem: yaml.YAMLError | ValueError) -> str:
    """Describe a problem on one line, without quoting the file."""
    if isinstance(problem, yaml.MarkedYAMLError) and problem.problem_mark is not None:
        return f" at line {problem.problem_mark.line + 1}: {problem.problem}"
    if isinstance(problem, yaml.reader.ReaderError):
        return f": {problem.reason} at character {problem.position}"
    return f": {problem}"


def _json_documents(text: str) -> list[Any] | None:
    """Return the objects of a JSON stream; ``None`` if the text is not JSON but may be YAML.

    JSON needs its own parser, because the YAML parser supports neither surrogate pairs, as Python's json
    writes emojis, nor keys longer than 1,024 characters.
    """
    if not text.lstrip().startswith("{"):
        return None
    decoder = json.JSONDecoder(
        object_pairs_hook=_without_duplicates, parse_float=_finite, parse_constant=_finite
    )
    documents = []
    end = len(text.rstrip())
    at = 0
    while at < end:
        try:
            document, at = decoder.raw_decode(text, _NOT_SPACE.search(text, at).start())  # type: ignore[union-attr]
        except json.JSONDecodeError:
            return None
        documents.append(document)
    return documents


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{twice[:100]!r} is given twice")
    return document


def _size(value: Any, known: dict[int, int]) -> int:
    """Count the values in a document with aliases followed, measuring each shared part only once."""
    if not isinstance(value, dict | list):
        return 1
    size = known.get(id(value))
    if size is None:
        known[id(value)] = MAX_NODES + 1  # found again before it is measured: it contains itself
        children = value.values() if isinstance(value, dict) else value
        size = known[id(value)] = 1 + sum(_size(child, known) for child in children)
    return size


def _objects(source: str, index: int, document: Any) -> Iterator[Manifest]:
    place = f"{source}[{index}]"
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise UnreadableError(f"{place}: not a Kubernetes object: it has no kind")
    kind = document["kind"]
    if kind == review.KIND:
        yield _reviewed(source, index, document, place)
    elif kind == "List" or (kind.endswith("List") and isinstance(document.get("items"), list)):
        items = document.get("items")
        if items is not None and not isinstance(items, list):
            raise UnreadableError(f"{place}: the items of a List are not a list")
        for item in items or ():
            # The API omits the kind of the items in a typed list such as a PodList.
            whole = item
            if isinstance(item, dict) and kind != "List":
                whole = {"apiVersion": document.get("apiVersion"), "kind": kind.removesuffix("List"), **item}
            yield from _objects(source, index, whole)
    else:
        yield _created(source, index, document, place)


def _reviewed(source: str, index: int, document: dict[str, Any], place: str) -> Manifest:
    try:
        request = review.parse(document)
    except InvalidReview as problem:
        raise UnreadableError(f"{place}: not an AdmissionReview: {problem}") from None
    return Manifest(
        source=source,
        document=index,
        kind=request.kind,
        namespace=request.namespace,
        name=request.name or _name(_metadata(request.object)),
        request=request,
    )


def _created(source: str, index: int, document: dict[str, Any], place: str) -> Manifest:
    version = document.get("apiVersion")
    if not isinstance(version, str) or not version:
        raise UnreadableError(f"{place}: not a Kubernetes object: it has no apiVersion")
    metadata = _metadata(document)
    given = metadata.get("namespace")
    namespace = given if isinstance(given, str) and given else "default"
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
        source=source, document=index, kind=request.kind, namespace=namespace, name=name, request=request
    )


def _metadata(obj: Any) -> dict[str, Any]:
    metadata = obj.get("metadata") if isinstance(obj, dict) else None
    return metadata if isinstance(metadata, dict) else {}


def _name(metadata: dict[str, Any]) -> str:
    name = metadata.get("name") or metadata.get("generateName")
    return name if isinstance(name, str) else ""


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")
