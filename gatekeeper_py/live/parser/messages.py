"""The messages between the server and the parser process, each a msgpack value in a frame.

The server sends a ``Job`` for a policy. The parser process answers with:

* ``Refused`` when the document has errors, ``Failed`` when it could not be judged;
* otherwise, if the job asks for the document, ``Accepted`` with the document without its lists, then
  ``Items`` with the entries of the lists, then ``Complete``;
* ``Linted`` at the end of every accepted document.

To an ``ExceptionsJob`` it answers with ``Refused``, ``Failed`` or ``Excepting``, and to a ``ManifestsJob``
with ``Manifests`` or ``Failed``.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from gatekeeper_py.core.admission.radius import Admitted, Radius
from gatekeeper_py.core.exceptions.document import ExceptionDocument
from gatekeeper_py.core.exceptions.grants import Source
from gatekeeper_py.core.policy.configmap import ConfigMap
from gatekeeper_py.core.policy.document import PolicyDocument, decoded_mode, encoded_mode
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.limits import MAX_FILE_BYTES

ITEMS_BYTES: Final = 32 * 1024
"""Entries are sent when they reach this size. Decoding this much, about 200 rules, blocks the event loop for
0.2 ms."""

MAX_JOB_BYTES: Final = 2 * MAX_FILE_BYTES
"""Maximum size of a job. Encoding the text again can make it longer than its file. The largest job with
admitted images has 1 MiB of text and 3 MiB of images."""

MAX_REPLY_BYTES: Final = 4 * 1024 * 1024
"""Maximum size of one frame from the parser process. The largest valid frame holds one mirror whose
``except`` has 1,000 entries of 512 characters. A longer frame means that the process does not work as it
should."""


class Job(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """One document to judge. ``mode`` replaces the document's mode.

    Lint judges the document as of ``instant``, or does not run if that is ``None``. ``send_document`` asks
    for the parsed document. An accepted policy then judges the images in ``admitted``, unless that is
    ``None``. The job may use ``cpu_seconds`` of processor time, and ``memory_bytes`` in
    addition to what the process uses at its start.
    """

    text: bytes
    mode: str | None
    instant: datetime | None
    send_document: bool
    memory_bytes: int
    cpu_seconds: int
    admitted: tuple[tuple[Admitted, ...], ...] | None = None


class ExceptionsJob(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """One document with exceptions to parse, from a ConfigMap with this ``source``."""

    text: bytes
    source: Source
    memory_bytes: int
    cpu_seconds: int


class ManifestsJob(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A file with manifests of ConfigMaps to find."""

    text: bytes
    memory_bytes: int
    cpu_seconds: int


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=True):
    findings: tuple[Finding, ...]


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The document was not judged, because memory ran out or because of a bug of ours."""

    cause: Literal["memory", "bug"]
    detail: str


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The document was accepted. Its lists are empty here; ``Items`` with their entries follow."""

    document: PolicyDocument


class Items(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The next entries of one of the document's lists."""

    section: str
    entries: msgspec.Raw


class Complete(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """All entries were sent."""


class Linted(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The findings about an accepted document, and when the clock changes them, ``None`` if never.

    ``radius`` holds what the document does to admitted images, if the job has some.
    """

    findings: tuple[Finding, ...]
    until: datetime | None = None
    radius: Radius | None = None


class Manifests(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The ConfigMaps in a file, or the problem of the file."""

    found: tuple[ConfigMap, ...]
    problem: str


class Excepting(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A document with exceptions, which was accepted."""

    document: ExceptionDocument


Reply = Refused | Failed | Accepted | Items | Complete | Linted | Excepting | Manifests

AnyJob = Job | ExceptionsJob | ManifestsJob

_encoder: Final = msgspec.msgpack.Encoder(enc_hook=encoded_mode)
_job_decoder: Final = msgspec.msgpack.Decoder(AnyJob)
_reply_decoder: Final = msgspec.msgpack.Decoder(Reply, dec_hook=decoded_mode)


def _sections() -> dict[str, msgspec.msgpack.Decoder[list[Any]]]:
    """Return a decoder for each field of the document that is a list of entries."""
    return {
        name: msgspec.msgpack.Decoder(list[typing.get_args(hint)[0]], dec_hook=decoded_mode)  # type: ignore[misc]
        for name, hint in typing.get_type_hints(PolicyDocument).items()
        if typing.get_origin(hint) is tuple
    }


_SECTIONS: Final = _sections()


def encode(message: AnyJob | Reply) -> bytes:
    return _encoder.encode(message)


def parse_job(payload: bytes) -> AnyJob:
    job: AnyJob = _job_decoder.decode(payload)
    return job


def parse_reply(payload: bytes) -> Reply:
    """Raises ``msgspec.DecodeError`` (or its subclass ``ValidationError``)."""
    reply: Reply = _reply_decoder.decode(payload)
    return reply


def document_messages(document: PolicyDocument) -> Iterator[Reply]:
    """Yield the messages that carry a document: ``Accepted``, ``Items`` for each list, ``Complete``."""
    empty: dict[str, Any] = dict.fromkeys(_SECTIONS, ())
    yield Accepted(dataclasses.replace(document, **empty))
    for section in _SECTIONS:
        yield from _items(section, getattr(document, section))
    yield Complete()


def _items(section: str, entries: Iterable[Any]) -> Iterator[Items]:
    batch: list[bytes] = []
    size = 0
    for entry in entries:
        encoded = _encoder.encode(entry)
        batch.append(encoded)
        size += len(encoded)
        if size >= ITEMS_BYTES:
            yield Items(section, _array(batch))
            batch.clear()
            size = 0
    if batch:
        yield Items(section, _array(batch))


def _array(encoded: list[bytes]) -> msgspec.Raw:
    """Return a msgpack array of encoded values (the format's ``array 32``)."""
    return msgspec.Raw(b"\xdd" + len(encoded).to_bytes(4, "big") + b"".join(encoded))


class Assembly:
    """Builds the document from the messages of ``document_messages``, one frame at a time."""

    def __init__(self, accepted: Accepted) -> None:
        self._document = accepted.document
        self._entries: dict[str, list[Any]] = {section: [] for section in _SECTIONS}

    def add(self, items: Items) -> None:
        """Add entries. Raises ``msgspec.DecodeError`` or ``KeyError`` for ``Items`` that are not valid."""
        self._entries[items.section] += _SECTIONS[items.section].decode(items.entries)

    def document(self) -> PolicyDocument:
        lists: dict[str, Any] = {section: tuple(entries) for section, entries in self._entries.items()}
        return dataclasses.replace(self._document, **lists)
