"""Images in use, for ``diff``, from a recorded file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gatekeeper_py.commands.files import UnreadableError, read_bytes, read_lines, shown
from gatekeeper_py.core.admission.fields import GroupKind
from gatekeeper_py.core.admission.review import AdmissionRequest
from gatekeeper_py.inventory.changes import Changes
from gatekeeper_py.inventory.recorded import (
    InvalidRecord,
    UsedImage,
    audited_images,
    listed_images,
    logged_requests,
    reviewed_requests,
)

MAX_LINE: Final = 32 * 2**20
"""Maximum size of one record in bytes. An API server accepts objects of 3 MiB, and an event of its audit log
contains two of them."""

MAX_AUDIT: Final = 2**30
"""Maximum size of a saved audit in bytes. An audit of 50,000 Pods has 30 MiB."""


def read_recording(
    option: str, argument: str, changes: Changes, declared: frozenset[GroupKind], namespace: str | None
) -> None:
    """Pass every record in a file to ``changes``; with ``namespace``, only those of this namespace.

    ``option`` is the option that named the file. ``declared`` are the kinds that the policies declare. Raises
    ``UnreadableError``.
    """
    taken = 0
    try:
        for record in _records(option, argument, declared, namespace):
            used_in = record.usage.namespace if isinstance(record, UsedImage) else record.namespace
            if namespace is not None and used_in != namespace:
                continue
            taken += 1
            if isinstance(record, UsedImage):
                changes.take_image(*record)
            else:
                changes.take(record)
    except InvalidRecord as problem:
        raise UnreadableError(f"{shown(argument)}: {problem}") from None
    # An empty result would look like success, for example if the namespace is misspelled. A whole saved audit
    # may be empty, because it states its number of images.
    if not taken and (option != "audit" or namespace is not None):
        where = "" if namespace is None else f" in the namespace {namespace}"
        raise UnreadableError(f"{shown(argument)}: there is nothing to judge{where}")


def _records(
    option: str, argument: str, declared: frozenset[GroupKind], namespace: str | None
) -> Iterator[UsedImage | AdmissionRequest]:
    if option == "audit":
        return audited_images(read_bytes(argument, MAX_AUDIT)[1])
    lines = read_lines(argument, MAX_LINE)
    if option == "images":
        return listed_images(lines, namespace)
    if option == "audit_log":
        return logged_requests(lines, declared)
    return reviewed_requests(lines)
