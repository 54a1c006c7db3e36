"""Read Kubernetes manifests offline: YAML or JSON, many documents, lists, AdmissionReviews, directories."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gatekeeper_py.cli.inputs.documents import documents_in, each_document
from gatekeeper_py.cli.inputs.files import (
    OtherFileError,
    UnreadableError,
    decoded,
    manifest_files,
    read_bytes,
    shown,
)
from gatekeeper_py.cli.inputs.recognition import KUSTOMIZATION, REPLACES_IMAGES, recognised
from gatekeeper_py.cli.inputs.yaml12 import SourceText
from gatekeeper_py.cli.reporting.console import counted
from gatekeeper_py.core.admission import review
from gatekeeper_py.core.admission.review import AdmissionRequest, InvalidReview, PatchOperation
from gatekeeper_py.core.admission.slot import Parts
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.document import API_VERSION

UID: Final = "offline"

MAX_NAMED: Final = 5
"""Maximum number of skipped files that a message names."""


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


@dataclass(slots=True)
class Skipped:
    """The files in directories that are not, or not only, Kubernetes manifests: the reason for each name."""

    files: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        # Images that a kustomization replaces were judged as they were before, so it is always named.
        files = sorted(self.files.items(), key=lambda file: file[1] != REPLACES_IMAGES)
        named = [f"{escape(name)} ({why})" for name, why in files[:MAX_NAMED]]
        more = len(self.files) - len(named)
        named += [f"{more:,} more"] if more else []
        count = counted(len(self.files), "file")
        return f"skipped {count} with documents that are not Kubernetes manifests: {', '.join(named)}"


def read_manifests(
    argument: str,
    *,
    namespace: str = "default",
    within: Sequence[str] = (),
    skipped: Skipped | None = None,
    ignore: Sequence[str] = (),
) -> Iterator[Manifest]:
    """Yield every object in a file, in the files of a directory, or on stdin for ``-``.

    ``namespace`` applies to objects that name none. ``within`` is as for ``read_bytes``, and ``ignore`` as
    for ``manifest_files``. With ``skipped``, a file in a directory is added to it instead of being an error,
    if one of its documents is not a Kubernetes manifest. Its other documents are read. A document of
    gatekeeper-py itself, such as the policy, is left out, because no cluster can store it.

    Raises ``UnreadableError`` for bad input, and if there is no object, because an empty result would look
    like success.
    """
    empty = True
    for file, folders in manifest_files(argument, within, ignore):
        lenient = skipped is not None and file != argument
        for found in _found_in(file, folders, namespace, lenient=lenient):
            if isinstance(found, Manifest):
                empty = False
                yield found
            elif skipped is None or not lenient:
                raise found
            else:
                skipped.files.setdefault(file, found.why)
    if empty:
        reason = f"; {skipped}" if skipped is not None and skipped.files else ""
        raise UnreadableError(f"{shown(argument)}: there is no object to judge{reason}")


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


def _found_in(
    file: str, within: Sequence[str], namespace: str, *, lenient: bool
) -> Iterator[Manifest | OtherFileError]:
    """Yield the objects of a file, and the error of each document that is not an object.

    If not ``lenient``, a file with a document that is neither YAML nor JSON has no objects.
    """
    try:
        name, content = read_bytes(file, within=within)
        documents, source = (each_document if lenient else documents_in)(name, decoded(name, content))
        for index, document in enumerate(documents):
            if isinstance(document, OtherFileError):
                yield document
            elif document is not None and not (lenient and _is_ours(document)):
                yield from _objects(source, index, (), document, namespace)
    except OtherFileError as problem:
        yield problem
    except RecursionError:
        raise UnreadableError(f"{shown(file)}: nested too deeply") from None
    except UnreadableError as problem:
        raise UnreadableError(f"{problem.message}{'; --ignore leaves it out' * lenient}") from None


def _is_ours(document: Any) -> bool:
    """Return whether gatekeeper-py reads a document. No cluster can: the name of an API group has a dot."""
    return (
        isinstance(document, dict) and document.get("apiVersion") == API_VERSION and "items" not in document
    )


def _objects(
    source: SourceText, index: int, prefix: Parts, document: Any, namespace: str
) -> Iterator[Manifest | OtherFileError]:
    """Yield the objects of a document or of an item of a list, or the error of a document that is not one.

    Raises ``UnreadableError`` for an item that is not an object.
    """
    label = f"{source.name}[{index}]"
    kind = document.get("kind") if isinstance(document, dict) else None
    if not isinstance(kind, str):
        yield _not_an_object(label, prefix, document, "kind")
    elif kind == review.KIND:
        yield _reviewed(source, index, prefix, document, label)
    elif kind == "List" or _is_list(document.get("items"), kind):
        items = document.get("items")
        if items is not None and not isinstance(items, list):
            raise UnreadableError(f"{label}: the items of a List are not a list")
        for number, item in enumerate(items or ()):
            # The API omits the kind of the items in a typed list such as a PodList.
            whole = item
            if isinstance(item, dict) and kind != "List":
                whole = {"apiVersion": document.get("apiVersion"), "kind": kind.removesuffix("List"), **item}
            yield from _objects(source, index, (*prefix, "items", number), whole, namespace)
        if not kind.endswith("List"):
            yield from _objects(source, index, prefix, {**document, "items": None}, namespace)
    elif not isinstance(version := document.get("apiVersion"), str) or not version:
        yield _not_an_object(label, prefix, document, "apiVersion")
    else:
        yield _created(source, index, prefix, document, namespace)


def _is_list(items: Any, kind: str) -> bool:
    """Return whether kubectl reads a list. It does so for any kind, such as Deployment, if there are items.

    Other tools read an object of that kind, so it is judged, too.
    """
    is_list = isinstance(items, list) and (bool(items) or kind.endswith("List"))
    return is_list and (kind.endswith("List") or all(isinstance(item, dict) for item in items))


def _not_an_object(label: str, prefix: Parts, document: Any, missing: str) -> OtherFileError:
    """Return the error of a document. Raises the error of an item of a list."""
    message = f"{label}: not a Kubernetes object: it has no {missing}"
    if prefix:
        raise UnreadableError(message)
    known = recognised(document) if isinstance(document, dict) and "kind" not in document else None
    if known is None:
        return OtherFileError(message, "no apiVersion and kind")
    why = REPLACES_IMAGES if known is KUSTOMIZATION and document.get("images") else known.what
    return OtherFileError(f"{message}; this may be {known.what}: {known.hint}", why)


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
    source: SourceText, index: int, prefix: Parts, document: dict[str, Any], default: str
) -> Manifest:
    metadata = _metadata(document)
    given = metadata.get("namespace")
    namespace = given if isinstance(given, str) and given else default
    name = _name(metadata)
    request = AdmissionRequest(
        uid=UID,
        group=document["apiVersion"].rpartition("/")[0],
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
