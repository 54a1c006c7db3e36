"""Count the exceptions by state for the metrics, and find those that end soon or ended lately."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from gatekeeper_py.core.exceptions.exceptions import Counted, DocumentKey, Noted
from gatekeeper_py.core.exceptions.grants import Grants, Source
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.instant import format_instant
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.process.logs import Log
from gatekeeper_py.process.slices import Steps, in_slices
from gatekeeper_py.process.waiting import PartOfTime, wait_for

SECONDS: Final = 60.0
LEAST_PAUSE_SECONDS: Final = 1.0
PAUSE_FACTOR: Final = 20.0
"""The entries are counted after each change, and at least each minute. The pause after a count is a multiple
of its duration, and at least ``LEAST_PAUSE_SECONDS``."""

MAX_SHOWN: Final = 10
"""Maximum number of documents whose ends are shown, or are logged after one count."""


class EntryCounts:
    """Counts the entries of the live exceptions. ``invalid`` returns the source of each invalid document.

    ``on_counted`` is called with the numbers by source and state, and when the first live entry ends.
    """

    def __init__(
        self,
        live: LivePolicy,
        invalid: Callable[[], Iterable[Source]],
        *,
        on_counted: Callable[[Counter[tuple[Source, str]], datetime | None], None],
        log: Log,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._live = live
        self._invalid = invalid
        self._on_counted = on_counted
        self._log = log
        self._now = now
        self._monotonic = monotonic
        self._counted_at: datetime | None = None
        self.changed = asyncio.Event()
        self.counts: Counter[tuple[Source, str]] = Counter()
        self.next_end: datetime | None = None
        self.ending: dict[DocumentKey, Noted] = {}
        """The live entries that end soon, and all live entries of an emergency."""
        self.ends: dict[str, list[dict[str, str | None]]] = {"ending": [], "ended": []}
        """The documents with the nearest ends, as people read them in ``/policy`` and ``status``."""

    async def count(self) -> None:
        """Count the entries by state, and log which ended since the last count."""
        now = self._now()
        counted = await in_slices(self._counting(now, self._counted_at or now))
        self._counted_at = now
        self.counts, self.next_end, self.ending, ended, ended_since = counted
        self._on_counted(self.counts, self.next_end)
        noted = {"ending": self.ending, "ended": ended}
        self.ends = {name: await in_slices(_shown(each)) for name, each in noted.items()}
        for each in await in_slices(_shown(ended_since)):
            suppressed = max(len(ended_since) - MAX_SHOWN, 0)
            self._log.info("exceptions_ended", **each, suppressed=suppressed)

    async def run(self) -> None:
        """Count until cancelled."""
        part = PartOfTime(PAUSE_FACTOR)
        while True:
            self.changed.clear()
            start = self._monotonic()
            await self.count()
            part.spent(start, now := self._monotonic())
            await asyncio.sleep(max(LEAST_PAUSE_SECONDS, part.free_at - now))
            await wait_for(self.changed, self._seconds_to_count())

    def _seconds_to_count(self) -> float:
        if self.next_end is None:
            return SECONDS
        return min(max((self.next_end - self._now()).total_seconds(), 0.0), SECONDS)

    def _counting(self, now: datetime, before: datetime) -> Steps[Counted]:
        """Count the entries by source and state, and the invalid documents."""
        snapshot = self._live.snapshot
        grants = Grants() if snapshot is None else snapshot.grants
        counted = yield from self._live.exceptions.counting(grants, now, before)
        for source in self._invalid():
            counted.counts[source, "invalid"] += 1
        return counted


def described(key: DocumentKey, noted: Noted) -> dict[str, str | None]:
    """Describe the entry whose end is nearest, and count the others."""
    entry = noted.entry()
    where = "" if entry.namespaces is None else f" in {', '.join(entry.namespaces)}"
    others = f", {noted.number - 1:,} more" if noted.number > 1 else ""
    return {
        "entry": f"{escape(entry.pattern.text + where)} ({key.configmap}{others})",
        "at": format_instant(entry.until),
        "owner": entry.owner,
        "reason": entry.reason,
    }


def _shown(noted: dict[DocumentKey, Noted]) -> Steps[list[dict[str, str | None]]]:
    """Describe ``MAX_SHOWN`` documents: those of the installation first, then those with the nearest end."""
    shown = []
    for key in heapq.nsmallest(MAX_SHOWN, noted, key=lambda k: (k.of_tenant, noted[k].nearest)):
        shown.append(described(key, noted[key]))
        yield
    return shown
