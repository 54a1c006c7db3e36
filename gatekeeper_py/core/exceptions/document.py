"""A document with exceptions as plain values, without YAML. msgspec can encode and decode every type here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gatekeeper_py.core.exceptions.grants import SOURCES
from gatekeeper_py.core.images.pattern import Pattern

KIND: Final = "ImageExceptions"

MAX_BYTES: Final = 64 * 1024
"""Maximum size of a document."""

MAX_ENTRIES: Final = 1_000
"""Maximum number of entries of a document."""

MAX_DOCUMENTS: Final = 10_000
MAX_ENTRIES_IN_ALL: Final = 100_000
"""Maximum number of documents in a cluster, and of their entries together."""

_OF_INSTALLATION: Final = sum(each.scope == "installation" for each in SOURCES.values())

MAX_OF_NAMESPACES: Final = MAX_DOCUMENTS - _OF_INSTALLATION
MAX_ENTRIES_OF_NAMESPACES: Final = MAX_ENTRIES_IN_ALL - _OF_INSTALLATION * MAX_ENTRIES
"""Limits of the documents in namespaces. The documents of the installation always have room, so that tenants
cannot prevent an exception in an emergency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExceptionEntry:
    """One exception. If ``namespaces`` is ``None``, it is for all namespaces that its grant covers.

    ``line`` is its first line in the document. ``until`` is in UTC.
    """

    index: int
    line: int
    pattern: Pattern
    until: datetime
    reason: str
    owner: str | None = None
    namespaces: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExceptionDocument:
    """The whole document, without ``apiVersion`` and ``kind``, which are always the same."""

    entries: tuple[ExceptionEntry, ...]
