"""The exceptions in use: all documents, and what they say about an image that the policy rejects.

A decision reads few documents: that of the namespace, and those of the installation. So its cost does
not grow with the number of documents. All documents are kept in a compact form, and the few that decisions
read are kept as objects, too.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from gatekeeper_py.core.exceptions.document import ExceptionDocument, ExceptionEntry
from gatekeeper_py.core.exceptions.grants import SOURCES, Grant, Grants, Override, Source
from gatekeeper_py.core.images.image import Image
from gatekeeper_py.core.images.index import PatternMap
from gatekeeper_py.core.images.scope import Scope

if TYPE_CHECKING:
    from msgspec import msgpack

State = Literal["live", "early", "expired", "outside", "too-many"]
"""The state of an entry, in this order: in effect; ``until`` is still further away than its grant allows;
expired; no grant has an image in common with it; too many live entries precede it, so it has no effect."""

MISSED_FOR: Final = timedelta(days=30)
"""A denial shows an exception that expired within this time, or takes effect within it."""

ENDS_SOON: Final = timedelta(days=3)
"""How long before its end an exception is announced."""

MAX_OPEN: Final = 32
"""Maximum number of documents that are kept as objects, with an index: 1.2 MiB for 1,000 entries."""

_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SOON: Final = ENDS_SOON // _MICROSECOND
_MISSED: Final = MISSED_FOR // _MICROSECOND
_NOTHING: Final = timedelta()
_NEVER: Final = 2**63
_OUTSIDE: Final = -1
"""No grant covers the entry. This value takes the place of the number of entries that count."""


class DocumentKey(NamedTuple):
    """A document: its source, and the namespace of its ConfigMap."""

    source: Source
    namespace: str

    @property
    def configmap(self) -> str:
        """The namespace and the name of the ConfigMap."""
        return f"{self.namespace}/{SOURCES[self.source].name}"

    @property
    def of_tenant(self) -> bool:
        """Whether the document is for its own namespace, whose users may write it."""
        return SOURCES[self.source].scope == "namespace"


_EVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Excepted:
    """One entry of a document, with the index of the grant that covers it, for one image.

    ``namespace`` is that of the document. The exception is in effect from ``begins``, included, to
    ``until``, excluded. ``ended`` is true if it has expired. If other names of the image
    need an exception, too, ``also`` holds these exceptions; they end later. ``msgspec`` decodes it from a
    saved audit, which does not hold ``begins``. All times have a time zone.
    """

    source: Source
    namespace: str
    index: int
    image: str
    begins: datetime = _EVER
    until: datetime
    reason: str
    owner: str | None
    grant: int
    ended: bool = False
    also: tuple[Excepted, ...] = ()

    @property
    def by(self) -> str:
        """The owner, or the namespace of the document if it names no owner."""
        return self.namespace if self.owner is None else self.owner


class Ruling(NamedTuple):
    """What exceptions say about an image that the policy rejects.

    ``approval`` is the live exception that expires last. If there is none, ``missed`` is the exception
    nearest in time that expired in the last 30 days or takes effect in the next 30. ``longest`` is the
    maximum duration of an exception in the document of the namespace, if a grant allows one.
    """

    approval: Excepted | None = None
    missed: Excepted | None = None
    longest: timedelta | None = None


class Exceptions:
    """The documents by source and namespace. Never changes; ``updated`` returns another set.

    Raises ``ValueError`` if two documents of the installation have the same source.
    """

    __slots__ = ("_documents", "_index")

    def __init__(self, documents: Mapping[DocumentKey, ExceptionDocument] | None = None) -> None:
        self._documents: dict[Source, dict[str, _Held]] = {source: {} for source in SOURCES}
        self._index = lru_cache(MAX_OPEN)(lambda held: indexed(held.document()))
        for key, document in (documents or {}).items():
            self._set(key, _Held(key, document))

    def updated(self, changes: Mapping[DocumentKey, ExceptionDocument | None]) -> Exceptions:
        """Return these documents with some of them replaced, added or, if they are ``None``, removed."""
        new = Exceptions()
        new._index = self._index
        new._documents |= {source: dict(held) for source, held in self._documents.items()}
        for key, document in changes.items():
            new._documents[key.source].pop(key.namespace, None)
            if document is not None:
                new._set(key, _Held(key, document))
        return new

    def __len__(self) -> int:
        """Return the number of documents."""
        return sum(map(len, self._documents.values()))

    def documents(self) -> Iterator[tuple[DocumentKey, ExceptionDocument]]:
        return ((held.key, held.document()) for held in self._held())

    def judge(
        self,
        grants: Grants,
        image: Image,
        namespace: str | None,
        now: datetime,
        overriding: tuple[Override, ...] = (),
    ) -> Ruling:
        """Return what the documents say about an image. Only grants that override ``overriding`` count."""
        search = _Search(now)
        for held in self._reaching(namespace):
            source = held.key.source
            covering = grants.matching(source, image, namespace)
            if overriding:
                covering = tuple(each for each in covering if not set(overriding).difference(each.overrides))
            if covering:
                # The clock is inside for some grant if it is inside for the one with the longest duration.
                grant = max(covering, key=lambda each: each.longest)
                matching = self._index(held).matching(image, namespace)
                search.look_at(matching, held, grants, grant, grants.most(source, namespace))
        longest = None
        if not overriding and namespace is not None:
            own = (
                grant.longest
                for source, each in SOURCES.items()
                if each.scope == "namespace"
                for grant in grants.matching(source, image, namespace)
            )
            longest = max(own, default=None)
        approval, missed = _shown(search.approval, now), _shown(search.missed, now)
        return Ruling(approval, None if approval is not None else missed, longest)

    def latest_until(self, grants: Grants, key: DocumentKey, index: int, now: datetime) -> datetime:
        """Return the latest ``until`` with which an entry of a document would be in effect now."""
        (held,) = (each for each in self._held() if each.key == key)
        begins, ends = held.window(grants, index)
        return now + (ends - begins) * _MICROSECOND

    def states(self, grants: Grants, now: datetime) -> Iterator[tuple[DocumentKey, ExceptionEntry, State]]:
        """Yield the state of every entry. A caller may do other work between two of them."""
        for held in self._held():
            for entry, (state, _) in zip(held.document().entries, held.states(grants, now), strict=True):
                yield held.key, entry, state

    def counting(self, grants: Grants, now: datetime, before: datetime) -> Generator[None, None, Counted]:
        """Count the entries, and note those that end soon or ended. The last count was at ``before``.

        Yields after each document.
        """
        counted = Counted(Counter(), None, {}, {}, {})
        instant, since, first = _number(now), _number(before), _NEVER
        for held in self._held():
            soon = _NEVER if SOURCES[held.key.source].emergency else instant + _SOON
            ending, ended, ended_since = [], [], []
            for index, (state, ends) in enumerate(held.states(grants, now)):
                counted.counts[held.key.source, state] += 1
                if state == "live":
                    first = min(first, ends)
                    if ends <= soon:
                        ending.append((ends - instant, index))
                elif state == "expired" and instant - ends <= _MISSED:
                    ended.append((instant - ends, index))
                    if ends > since:
                        ended_since.append(ended[-1])
            for noted, places in zip(counted[2:], (ending, ended, ended_since), strict=True):
                if places:
                    noted[held.key] = Noted(held, len(places), min(places), max(places)[1])
            yield
        return counted._replace(next_end=_instant(first))

    def next_change(self, grants: Grants, now: datetime) -> datetime | None:
        """Return an instant before which no exception begins or ends, ``None`` if none does from now on.

        An entry may begin later in one namespace than in another, so the duration of each grant counts,
        even if the grant does not cover the entry.
        """
        durations = {source: {grant.longest for grant in grants.of(source)} for source in SOURCES}
        instants = (
            instant
            for held in self._held()
            for _, ends, most in held.windows(grants)
            if most != _OUTSIDE
            for instant in (ends, *(ends - each // _MICROSECOND for each in durations[held.key.source]))
        )
        return _instant(min((each for each in instants if each > _number(now)), default=_NEVER))

    def _set(self, key: DocumentKey, held: _Held) -> None:
        of_source = self._documents[key.source]
        if of_source and not key.of_tenant:
            raise ValueError(f"two documents with the source {key.source}")
        of_source[key.namespace] = held

    def _held(self) -> Iterator[_Held]:
        for of_source in self._documents.values():
            yield from of_source.values()

    def _reaching(self, namespace: str | None) -> Iterator[_Held]:
        """Yield the documents that may reach a namespace."""
        for source, of_source in self._documents.items():
            if SOURCES[source].scope == "installation":
                yield from of_source.values()
            elif namespace is not None and (held := of_source.get(namespace)) is not None:
                yield held


NO_EXCEPTIONS: Final = Exceptions()


@cache
def _packing() -> tuple[msgpack.Encoder, msgpack.Decoder[ExceptionDocument]]:
    # Imported here, because most commands judge without exceptions.
    from msgspec import msgpack  # noqa: PLC0415

    return msgpack.Encoder(), msgpack.Decoder(ExceptionDocument)


class _Held:
    """One document, with the windows of its entries under the grants of the last call.

    There may be 10,000 documents with 100,000 entries. As objects, they would take 90 MiB, and 0.15 s of each
    full garbage collection. Garbage collection does not visit bytes and arrays.
    """

    __slots__ = ("_grants", "_packed", "_windows", "key", "length")

    def __init__(self, key: DocumentKey, document: ExceptionDocument) -> None:
        self.key = key
        self.length = len(document.entries)
        self._packed = _packing()[0].encode(document)
        self._grants: Grants | None = None
        self._windows = array("q")

    def document(self) -> ExceptionDocument:
        """Return the document as objects. This takes 3 ms for 1,000 entries."""
        return _packing()[1].decode(self._packed)

    def windows(self, grants: Grants) -> Iterator[tuple[int, int, int]]:
        """Yield the start and the end of each entry, and the maximum number of live entries that apply to it.

        The entry is in effect from its start to before its end, both in microseconds since 1970. The third is
        the largest number of live entries that count in a namespace that the entry reaches, or ``_OUTSIDE``.
        """
        if self._grants is not grants:
            entries = self.document().entries
            reached = [reach(self.key, entry) for entry in entries]
            found = grants.overlapping(self.key.source, reached)
            counting = grants.most_overlapping(self.key.source, (each.namespaces for each in reached))
            windows = array("q")
            for window in map(_window, entries, found, counting):
                windows.extend(window)
            self._grants, self._windows = grants, windows
        return zip(self._windows[::3], self._windows[1::3], self._windows[2::3], strict=True)

    def window(self, grants: Grants, index: int) -> tuple[int, int]:
        """Return the start and the end of one entry. Its cost does not grow with the number of entries."""
        if self._grants is not grants:
            self.windows(grants)
        return self._windows[3 * index], self._windows[3 * index + 1]

    def last_counted(self, grants: Grants, most: int, now: datetime) -> int:
        """Return the index of the last entry that counts: that of the live entry number ``most``."""
        if self.length > most:
            live = 0
            for index, (state, _) in enumerate(self.states(grants, now)):
                live += state in {"live", "too-many"}
                if live == most:
                    return index
        return self.length

    def states(self, grants: Grants, now: datetime) -> Iterator[tuple[State, int]]:
        """Yield the state of each entry, and its end in microseconds since 1970."""
        live, instant = 0, _number(now)
        for begins, ends, most in self.windows(grants):
            state: State
            if most == _OUTSIDE:
                state = "outside"
            elif instant >= ends:
                state = "expired"
            elif instant < begins:
                state = "early"
            else:
                live += 1
                state = "live" if live <= most else "too-many"
            yield state, ends


class Noted(NamedTuple):
    """Some entries of a document: their number, and the one whose end is nearest.

    ``nearest`` is the distance to this end in microseconds, and the index of the entry. ``last`` is the index
    of the entry whose end is furthest away.
    """

    held: _Held
    number: int
    nearest: tuple[int, int]
    last: int

    def entry(self) -> ExceptionEntry:
        """Return the entry whose end is nearest."""
        return self.held.document().entries[self.nearest[1]]


class Counted(NamedTuple):
    """The number of entries by source and state, and the entries that end soon or have ended.

    ``next_end`` is when the first live entry ends; ``None`` if none is live.
    ``ending`` has the live entries that end within ``ENDS_SOON``, and all live entries of an emergency.
    ``ended`` has those that expired within ``MISSED_FOR``, and ``ended_since`` those that expired since the
    last count.
    """

    counts: Counter[tuple[Source, str]]
    next_end: datetime | None
    ending: dict[DocumentKey, Noted]
    ended: dict[DocumentKey, Noted]
    ended_since: dict[DocumentKey, Noted]


def _window(entry: ExceptionEntry, grants: Sequence[Grant], most: int) -> tuple[int, int, int]:
    if not grants:
        return 0, 0, _OUTSIDE
    longest = max(grant.longest for grant in grants)
    return _number(_begin(entry, longest)), _number(entry.until), most


def _number(instant: datetime) -> int:
    """Return an instant in microseconds since 1970."""
    return (instant - _EPOCH) // _MICROSECOND


def _instant(number: int) -> datetime | None:
    return None if number == _NEVER else _EPOCH + number * _MICROSECOND


def reach(key: DocumentKey, entry: ExceptionEntry) -> Scope:
    """Return the images that an entry of a document may approve, without regard to grants."""
    here = (key.namespace,) if key.of_tenant else entry.namespaces
    return Scope(images=entry.pattern, namespaces=here)


def indexed(document: ExceptionDocument) -> PatternMap[ExceptionEntry]:
    """Return the entries of a document by image and namespace."""
    index: PatternMap[ExceptionEntry] = PatternMap()
    for entry in document.entries:
        index.add(entry.pattern, entry.namespaces, entry)
    return index


def _begin(entry: ExceptionEntry, longest: timedelta) -> datetime:
    """Return the begin of an exception. ``until`` may be in the first year that a datetime can have."""
    try:
        return entry.until - longest
    except OverflowError:
        return _EARLIEST


class _Found(NamedTuple):
    """An entry that matches an image, with the grant that covers the image."""

    entry: ExceptionEntry
    grant: Grant
    key: DocumentKey


class _Search:
    """Finds the entry that approves an image, and the nearest of those that are not in effect."""

    __slots__ = ("_nearest", "_now", "approval", "missed")

    def __init__(self, now: datetime) -> None:
        self.approval: _Found | None = None
        self.missed: _Found | None = None
        self._nearest = MISSED_FOR
        self._now = now

    def look_at(
        self, entries: Iterable[ExceptionEntry], held: _Held, grants: Grants, grant: Grant, most: int
    ) -> None:
        """Look at the entries of a document that match the image. ``grant`` covers the image.

        A thousand entries may match each of a thousand images, so this makes few objects.
        """
        last: int | None = None
        for entry in entries:
            left = entry.until - self._now
            if _NOTHING < left <= grant.longest:
                if self.approval is None or entry.until > self.approval.entry.until:
                    if last is None:
                        last = held.last_counted(grants, most, self._now)
                    if entry.index <= last:
                        self.approval = _Found(entry, grant, held.key)
                continue
            distance = left - grant.longest if left > _NOTHING else -left
            if distance < self._nearest or (self.missed is None and distance == self._nearest):
                self._nearest = distance
                self.missed = _Found(entry, grant, held.key)


def _shown(found: _Found | None, now: datetime) -> Excepted | None:
    if found is None:
        return None
    entry, grant, key = found
    return Excepted(
        source=key.source,
        namespace=key.namespace,
        index=entry.index,
        image=entry.pattern.text,
        begins=_begin(entry, grant.longest),
        until=entry.until,
        reason=entry.reason,
        owner=entry.owner,
        grant=grant.index,
        ended=now >= entry.until,
    )
