"""Images in use, from files: a list of images, or a saved audit. Pure: callers read the files.

A record that cannot be used raises ``InvalidRecord`` with its line, because an incomplete answer must not
look complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeVar

import msgspec

from gatekeeper_py.core.admission.fields import POD, GroupKind
from gatekeeper_py.core.names import NAMESPACE_NAME
from gatekeeper_py.inventory.tally import Usage

ANY_KIND: Final[GroupKind] = ("", "")
"""Stands for every kind but Pod. The exact kind does not matter, because all kinds but Pod are judged alike:
by the images after the mirror rewrite."""


class InvalidRecord(ValueError):
    """A file cannot be used. ``line`` counts from 1 and is 0 when the reason concerns the whole file."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.line = line


class UsedImage(NamedTuple):
    """One use of an image."""

    image: str
    kind: GroupKind
    usage: Usage


class _RecordedUsage(msgspec.Struct, gc=False):
    kind: str
    namespace: str | None
    name: str
    path: str


class _Image(msgspec.Struct):
    """``objects`` are decoded one at a time, because an image may run in 50,000 objects."""

    image: str
    objects: list[msgspec.Raw]


class _Counts(msgspec.Struct):
    images: int


class _Audit(msgspec.Struct):
    counts: _Counts
    images: list[msgspec.Raw]


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    counts: _Counts


T = TypeVar("T")


def listed_images(lines: Iterable[bytes], namespace: str | None) -> Iterator[UsedImage]:
    """Yield the images of a list: one in each line, optionally as ``namespace<TAB>image``.

    Empty lines and lines that begin with ``#`` are skipped. ``namespace`` applies to lines that name none.
    Each image counts as the image of a Pod. Raises ``InvalidRecord``.
    """
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip()
        except UnicodeDecodeError:
            raise InvalidRecord(number, "not UTF-8") from None
        if not text.strip() or text.startswith("#"):
            continue
        before, tab, image = text.partition("\t")
        usage = before.strip() if tab else namespace
        if tab and not NAMESPACE_NAME.fullmatch(before.strip()):
            # With the image in the first column, the text after the tab would silently be judged instead.
            raise InvalidRecord(number, "the text before the tab is not a valid namespace name")
        yield UsedImage((image if tab else text).strip(), POD, Usage("", usage, "", f"line {number}"))


def audited_images(text: bytes) -> Iterator[UsedImage]:
    """Yield the images of a saved ``audit --all``, in the format ``json`` or ``jsonl``.

    Raises ``InvalidRecord`` if the text is not a saved audit, or the audit was made without ``--all``.
    """
    first, _, rest = text.partition(b"\n")
    header = _header(first)
    images: list[tuple[int, bytes | memoryview]]
    if header is not None:
        counts = header.counts
        images = [(number, line) for number, line in enumerate(rest.splitlines(), 2) if line.strip()]
    else:
        audit = _decoded(text, 0, _Audit)
        counts, images = audit.counts, [(0, memoryview(raw)) for raw in audit.images]
    if len(images) != counts.images:
        raise InvalidRecord(
            0,
            f"it lists {len(images):,} of the {counts.images:,} images that were audited; "
            "make it with: audit --all --format json",
        )
    for line, entry in images:
        each = _decoded(entry, line, _Image)
        for raw in each.objects:
            usage = _decoded(raw, line, _RecordedUsage)
            kind = POD if usage.kind == POD[1] else ANY_KIND
            yield UsedImage(each.image, kind, Usage(usage.kind, usage.namespace, usage.name, usage.path))


def _header(line: bytes) -> _Header | None:
    """Parse the first line of JSON lines, which holds only the counts; ``None`` if it is any other text."""
    try:
        return msgspec.json.decode(line, type=_Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _decoded(text: bytes | memoryview | msgspec.Raw, line: int, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InvalidRecord(line, f"not a saved audit: {problem}") from None
