"""Answer look-ups from facts or from registries.

There is at most one request for each manifest at a time, no matter how many reviews wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import count, islice
from math import inf
from typing import Any, Final, Literal, Protocol

from gatekeeper_py.core.admission.world import MAX_ROUNDS
from gatekeeper_py.core.images.manifest import (
    OTHER_KEY,
    Answer,
    Lookup,
    Manifest,
    Resolution,
    failed,
    resolve,
)
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.process.children.process import Observer as ChildObserver
from gatekeeper_py.process.logs import Log, RateLimit
from gatekeeper_py.process.shares import NOBODY, Share, Shares
from gatekeeper_py.registry.asking import REQUEST_SECONDS, Reply, Turn, after_first_turn
from gatekeeper_py.registry.facts import Fact, FactCache, ValidSignatures
from gatekeeper_py.registry.fairness import OVER_SHARE, Claim, Places, TooManyWaiting
from gatekeeper_py.registry.pacing import MAX_CONCURRENT, Blocked, Pacing
from gatekeeper_py.registry.refresh import Refresh

HEDGE_SECONDS: Final = 0.2
"""Time without an answer after which the next candidate is queried as well."""

MAX_WAITING: Final = 100
"""Maximum number of reviews that wait for registries at the same time. Additional reviews get an error at
once, because a registry that hangs must not hold up the reviews of a whole cluster. See ``Places``."""

MAX_REQUESTS: Final = 1000
"""Maximum number of requests under way at the same time. Beyond it, each namespace may still have a hundredth
of it; a Pod rarely needs more. All namespaces of a peer together have at most twice as many."""

TOO_MANY: Final = f"more than {MAX_CONCURRENT} requests to it under way"

USED_SECONDS: Final = 600.0
"""A fact that was used within this time is renewed before it expires."""

RETRY_SECONDS: Final = 1.0
"""A stale fact whose renewal failed is not renewed for this long. Otherwise every review that uses it would
send a request, which is most expensive when the registry already refuses us."""

RENEW_AT: Final = 0.8
"""Share of a fact's life after which it is renewed."""

MAX_PINNED: Final = 1000
"""Maximum number of manifests named in rules that are fetched when the policy loads."""

MAX_AHEAD: Final = 100
"""Maximum number of workloads whose look-ups run before their Pods exist. They share the places as
reviews do. The images of further workloads are looked up when their Pods are created."""

AHEAD_SECONDS: Final = 30.0
"""How long the look-ups of a workload may wait for their turns, because look-ups that reviews wait for go
first. After this time, other workloads get the place."""

LOG_PAUSE_SECONDS: Final = 10.0
"""Minimum time between two log lines about failed look-ups in one registry. While a registry is down, every
review that needs it has a failed look-up."""


Query = Callable[[Manifest, Turn, Share], Awaitable[Reply]]
"""Queries a registry for the review of a share. Awaits the turn before each request, and raises only its
exceptions."""


SignatureResult = Literal["valid", "unsigned", "other_key", "error"]

SharedLimit = Literal["rate", "waiting", "requests"]
"""A limit that peers and namespaces share: the rate of a registry, ``MAX_WAITING``, or ``MAX_REQUESTS``."""


class Observer(ChildObserver, Protocol):
    """Receives what the metrics show, also about the registry process.

    ``result`` is ``found``, ``missing``, ``error`` or ``stale``. ``seconds`` is the time that the registry
    took, ``None`` if no request ended with this result.
    """

    def lookup(self, host: str, result: str, seconds: float | None) -> None: ...

    def signature(self, result: SignatureResult, seconds: float | None) -> None:
        """Record the result of a look-up of signatures, which also counts as a look-up."""

    def breaker(self, host: str, *, is_open: bool) -> None: ...

    def over_share(self, limit: SharedLimit, /) -> None:
        """Record that a look-up or review was refused, because its share of a limit was used."""


class Lookups:
    """Resolves look-ups with the settings from the last call of ``configure``.

    ``registry`` returns the settings of a host.
    """

    def __init__(
        self,
        query: Query,
        *,
        registry: Callable[[str], Registry],
        observer: Observer,
        log: Log,
        clock: Callable[[], float],
    ) -> None:
        self.pinned: tuple[Manifest, ...] = ()
        self._pinned: frozenset[Manifest] = frozenset()
        self._ask = query
        self._hosts: frozenset[str] = frozenset()
        self._keys: frozenset[str] = frozenset()
        self._registry = registry
        self._observer = observer
        self._log = log
        self._log_limit = RateLimit(LOG_PAUSE_SECONDS, monotonic=clock)
        self._clock = clock
        self._facts = FactCache()
        self._signatures = ValidSignatures()
        self._find = self._facts.find
        self._pacing: dict[str, Pacing] = {}
        self._requests: dict[Manifest, asyncio.Task[Answer]] = {}
        self._tasks: dict[asyncio.Task[Answer], Claim] = {}
        self._requested = Shares()
        """The requests under way by the share of the review that started them."""
        self._ahead: set[asyncio.Task[None]] = set()
        """The tasks of ``look_ahead``."""
        self._numbers = count()
        self._waiting, self._waiting_ahead = Places(), Places()
        self._started = False
        self._stopped = False
        self._generation = 0
        self._refresh = Refresh(self, clock=clock)
        self._refreshing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Fetch the manifests named in rules, and renew facts that are in use before they expire."""
        self._started = True
        self._fetch_pinned()
        self._refreshing = asyncio.get_running_loop().create_task(self._refresh.run())

    def configure(
        self,
        *,
        hosts: Iterable[str],
        keys: Iterable[str],
        changed: Collection[str] | None,
        pinned: Iterable[Manifest],
    ) -> None:
        """Set the hosts that may be queried, and the manifests to fetch in advance (``pinned``).

        ``keys`` are the fingerprints of the keys that may have signed an image. If they change, answers to
        older requests are dropped, because these did not look for signatures by a new key.
        ``changed`` names the hosts whose settings changed; ``None`` means all hosts. Their facts are dropped,
        and so are answers to older requests. Hosts outside ``hosts`` are never queried: no text in a review
        can make the server contact a host that the policy does not name.
        """
        self._hosts = frozenset(hosts)
        self.pinned = tuple(islice(pinned, MAX_PINNED))
        self._pinned = frozenset(self.pinned)
        before, self._keys = self._keys, frozenset(keys)
        if changed is None or changed or before != self._keys:
            self._generation += 1
            self._requests.clear()
            self._facts.drop(changed)
            # Not a loop over the changed hosts, because they may be 100,000.
            for host in [host for host in self._pacing if changed is None or host in changed]:
                self._pacing.pop(host).forget()
        if self._started:
            self._fetch_pinned()

    @property
    def valid_signatures(self) -> int:
        """The number of valid signatures that are remembered."""
        return len(self._signatures)

    def open_breakers(self) -> tuple[str, ...]:
        return tuple(sorted(host for host, pacing in self._pacing.items() if pacing.is_open))

    def _fetch_pinned(self) -> None:
        now = self._clock()
        for manifest in self.pinned:
            fact = self._facts.peek(manifest, now)
            if fact is None:
                self._refresh.schedule(manifest, now)
            elif not self._refresh.is_scheduled(manifest):
                self._schedule(manifest, fact, now)

    def is_in_use(self, manifest: Manifest) -> bool:
        """Return whether a manifest is named in a rule, or a review used it lately (for ``Refresh``)."""
        if manifest.host not in self._hosts:
            return False
        return manifest in self._pinned or self._facts.used_since(manifest, self._clock() - USED_SECONDS)

    def is_blocked(self, host: str) -> bool:
        return bool(self._pacing_of(host).blocked())

    def fetch(self, manifest: Manifest) -> asyncio.Task[Answer]:
        """Start a look-up that no review waits for, or return the running one (for ``Refresh``)."""
        return self._request(manifest, urgent=False, patience=inf)

    def look_ahead(self, needed: Callable[[], Iterable[Lookup]], share: Share = NOBODY) -> None:
        """Look up in the background what the Pods of a workload will need.

        ``needed`` returns the look-ups that have no answer yet. It is called again when these have answers.
        """
        if not self._stopped:
            task = asyncio.get_running_loop().create_task(self._ahead_in_place(needed, share))
            self._ahead.add(task)
            task.add_done_callback(self._ahead.remove)

    async def _ahead_in_place(self, needed: Callable[[], Iterable[Lookup]], share: Share) -> None:
        with suppress(TooManyWaiting, TimeoutError):  # another workload has or took the place
            async with asyncio.timeout(None) as scope:
                with self._waiting_ahead.place(share, scope, MAX_AHEAD):
                    await self._look_ahead(needed, self._requested.of(*share))

    async def _look_ahead(self, needed: Callable[[], Iterable[Lookup]], share: Share) -> None:
        queried: set[Manifest] = set()
        end = self._clock() + AHEAD_SECONDS
        for _ in range(MAX_ROUNDS):
            manifests = {manifest for lookup in needed() for manifest in lookup.candidates} - queried
            queried |= manifests
            for manifest in sorted(manifests):
                # One after the other, so that a workload with many images does not wait in many places.
                seconds = end - self._clock()
                if not self._stopped and seconds > 0 and self._cached_answer(manifest) is None:
                    request = self._request(manifest, urgent=False, share=share, patience=seconds)
                    await asyncio.wait([request])

    def stop_refreshing(self) -> None:
        """Cancel the requests that no review waits for, and start no more, because the replica stops."""
        self._started, self._stopped = False, True
        if self._refreshing is not None:
            self._refreshing.cancel()
        for manifest, request in list(self._requests.items()):
            if not self._tasks[request].urgent:
                del self._requests[manifest]  # a review that comes now must not wait for it
        for task, claim in self._tasks.items():
            if not claim.urgent:
                task.cancel()

    async def close(self) -> None:
        """Cancel every request under way."""
        tasks: list[asyncio.Task[Any]] = [*self._ahead, *self._tasks]
        tasks += [self._refreshing] if self._refreshing else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def resolve_cached(self, lookup: Lookup) -> Resolution | None:
        """Resolve from facts alone; return ``None`` if a registry must be queried first."""
        answers: list[Answer] = []
        for manifest in lookup.candidates:
            answer = self._cached_answer(manifest)
            if answer is None:
                return None
            answers.append(answer)
            if answer.status == "found":
                break
        return _resolution(lookup, answers, range(len(answers)))

    def answered(self, used: Mapping[Lookup, Resolution]) -> None:
        """Count the errors in the answers to a review that did not come from a finished request.

        Errors of requests are counted when the requests end.
        """
        for lookup, resolution in used.items():
            if resolution.unanswered in self._hosts:
                asked = next(each for each in lookup.candidates if each.host == resolution.unanswered)
                self._count(asked, resolution.answer, None)

    async def resolve(
        self, lookups: Iterable[Lookup], seconds: float, share: Share = NOBODY, spent: float = 0.0
    ) -> Mapping[Lookup, Resolution]:
        """Resolve the look-ups of a review in parallel.

        Each look-up takes at most ``seconds``. It also takes at most the longest timeout of its registries,
        minus the seconds that the review's earlier look-ups ``spent``. ``share`` is that of the review.
        """
        share = self._requested.of(*share)
        resolved: dict[Lookup, Resolution] = {}
        unknown: list[Lookup] = []
        for lookup in dict.fromkeys(lookups):
            resolution = self.resolve_cached(lookup)
            if resolution is None:
                unknown.append(lookup)
            else:
                resolved[lookup] = resolution
        if not unknown:
            return resolved
        try:
            async with asyncio.timeout(None) as scope:
                with self._waiting.place(share, scope, MAX_WAITING):
                    found = await asyncio.gather(
                        *(self._resolve(lookup, seconds, share, spent) for lookup in unknown)
                    )
        except TooManyWaiting as problem:
            return resolved | self._not_waited(unknown, str(problem), over_share=problem.over_share)
        except TimeoutError:  # another review took the place
            return resolved | self._not_waited(unknown, OVER_SHARE, over_share=True)
        return {**resolved, **dict(zip(unknown, found, strict=True))}

    def _not_waited(
        self, unknown: Iterable[Lookup], reason: str, *, over_share: bool
    ) -> dict[Lookup, Resolution]:
        if over_share:
            self._observer.over_share("waiting")
        busy = failed(reason)
        return {lookup: _resolution(lookup, [busy], [0]) for lookup in unknown}

    async def _resolve(self, lookup: Lookup, seconds: float, share: Share, spent: float) -> Resolution:
        """Query the candidates in order.

        The next candidate is queried after an answer other than ``found``, or after ``HEDGE_SECONDS``.
        """
        timeout = max(self._registry(manifest.host).timeout for manifest in lookup.candidates)
        deadline = self._clock() + min(seconds, timeout - spent)
        late = failed(f"no answer in {min(seconds + spent, timeout):.1f} s")
        answers: list[Answer] = [late] * len(lookup.candidates)
        pending: dict[asyncio.Future[Answer], int] = {}
        unanswered: set[int] = set()
        for index, manifest in enumerate(lookup.candidates):
            cached = self._cached_answer(manifest)
            if cached is not None:
                answers[index] = cached
                unanswered.add(index)
                if cached.status == "found":
                    break
                continue
            # Shielded: if this review stops waiting, other reviews and the cache still need the answer.
            pending[asyncio.shield(self._request(manifest, urgent=True, share=share))] = index
            last = index == len(lookup.candidates) - 1
            wait = deadline - self._clock() if last else min(HEDGE_SECONDS, deadline - self._clock())
            if await self._collect(pending, answers, wait, until_all=last):
                break
        if pending and not any(answer.status == "found" for answer in answers):
            await self._collect(pending, answers, deadline - self._clock(), until_all=True)
        for future in pending:
            future.cancel()  # cancels only the shield: the request continues
        return _resolution(lookup, answers, unanswered.union(pending.values()))

    async def _collect(
        self,
        pending: dict[asyncio.Future[Answer], int],
        answers: list[Answer],
        seconds: float,
        *,
        until_all: bool,
    ) -> bool:
        """Collect answers until one is ``found`` or the time is over; return whether one is ``found``.

        Without ``until_all``, return after the first answer of any status.
        """
        end = self._clock() + max(seconds, 0.0)
        while pending:
            done, _ = await asyncio.wait(
                pending, timeout=max(end - self._clock(), 0.0), return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                return False
            for future in done:
                index = pending.pop(future)
                answers[index] = future.result()
            if any(answer.status == "found" for answer in answers):
                return True
            if not until_all:
                return False  # this candidate does not have the image: query the next one now
        return False

    def _cached_answer(self, manifest: Manifest) -> Answer | None:
        """Return the answer from facts, or an error if the host must not be queried now."""
        proves = not manifest.kind.found_approves
        if proves and (valid := self._signatures.find(manifest)) is not None:
            return valid
        now = self._clock()
        fact = self._facts.get(manifest, now)
        if fact is not None and now < fact.fresh_until:
            return fact.answer
        if manifest.host not in self._hosts:
            # The policy has just changed. For a signature, the answer is not an error, because
            # ``onError: keep`` would then approve an image that nobody looked up.
            unnamed = failed("the policy does not name this registry")
            return unnamed._replace(status="missing") if proves else unnamed
        reason = self._pacing_of(manifest.host).blocked()
        if fact is not None:
            self._observer.lookup(manifest.host, "stale", None)
            if not reason and now >= fact.retry_at and not self._stopped:
                self._request(manifest, urgent=False)
            return fact.answer
        return failed(reason) if reason else None

    def _request(
        self, manifest: Manifest, *, urgent: bool, share: Share = NOBODY, patience: float | None = None
    ) -> asyncio.Task[Answer]:
        """Return the running request for a manifest, or start one; ``urgent`` if a review waits for it.

        ``share`` is that of the review.
        A new request waits at most ``patience`` seconds for its turn (default: the registry's timeout).
        """
        request = self._requests.get(manifest)
        if request is None:
            claim = Claim(next(self._numbers), urgent=urgent, share=share, repository=manifest.repository)
            self._requested.add(share)
            of_peer, own = self._requested.used(share)
            claim.is_reserved = urgent and of_peer <= 2 * MAX_REQUESTS and own <= MAX_REQUESTS // 100
            if patience is None:
                patience = min(self._registry(manifest.host).timeout, REQUEST_SECONDS)
            request = asyncio.get_running_loop().create_task(self._query(manifest, claim, patience))
            self._requests[manifest] = request
            self._tasks[request] = claim
            request.add_done_callback(lambda task: self._remove_request(manifest, task))
        elif urgent:
            self._tasks[request].hurry(share)
        return request

    def _remove_request(self, manifest: Manifest, request: asyncio.Task[Answer]) -> None:
        self._requested.add(self._tasks.pop(request).share, -1)
        if self._requests.get(manifest) is request:
            del self._requests[manifest]

    async def _query(self, manifest: Manifest, claim: Claim, patience: float) -> Answer:
        start, generation = self._clock(), self._generation
        pacing = self._pacing_of(manifest.host)
        if len(self._tasks) > MAX_REQUESTS and not claim.is_reserved:
            if claim.urgent and self._requested.used(claim.share)[1] < len(self._tasks):
                self._observer.over_share("requests")
            return self._finish(
                manifest, failed(f"more than {MAX_REQUESTS} requests under way"), start, generation
            )
        try:
            probe = await pacing.admit(claim, start + patience)
        except Blocked as problem:
            return self._finish(manifest, failed(str(problem)), start, generation)
        start = self._clock()
        try:
            async with pacing.slot(claim):
                late = self._clock() - start > REQUEST_SECONDS
                # Meanwhile the breaker may have opened, or the host may have requested a pause.
                reason = "" if probe else pacing.blocked() or (TOO_MANY * late)
                if reason:
                    return self._finish(manifest, failed(reason), start, generation)
                reply = await self._ask(manifest, self._turns(manifest, claim), claim.share)
        except Blocked as problem:
            # Perhaps no request was sent to the host, so this failure shows nothing about the host.
            if probe:
                pacing.abandon()
            return self._finish(manifest, failed(str(problem)), start, generation)
        except BaseException:
            if probe:
                pacing.abandon()
            raise
        pacing.record(trouble=reply.trouble, pause=reply.pause)
        return self._finish(manifest, reply.answer, start, generation)

    def _turns(self, manifest: Manifest, claim: Claim) -> Turn:
        """Return the function that an admitted look-up awaits before each request."""
        deadline = self._clock() + REQUEST_SECONDS

        async def turn(host: str) -> None:
            try:
                await self._pacing_of(host).take(claim, deadline)
            except Blocked as problem:
                raise Blocked(f"{host}: {problem}") from None

        return after_first_turn(manifest.host, turn)

    def _finish(self, manifest: Manifest, answer: Answer, start: float, generation: int) -> Answer:
        now = self._clock()
        self._count(manifest, answer, now - start)
        if answer.status == "found" and not manifest.kind.found_approves:
            # Settings and files that changed meanwhile cannot make the signature invalid.
            self._signatures.add(manifest, answer)
        elif (
            answer.status != "error"
            and generation == self._generation
            # The look-up did not search for signatures by a key that was removed meanwhile.
            and self._keys.issuperset(manifest.keys)
        ):
            fact = self._facts.store(manifest, answer, self._registry(manifest.host), now)
            self._schedule(manifest, fact, now)
        elif answer.status == "error":
            if (stale := self._find(manifest)) is not None:
                stale.retry_at = now + RETRY_SECONDS
            if self.is_in_use(manifest):
                self._refresh.retry(manifest)
        return answer

    def _count(self, manifest: Manifest, answer: Answer, seconds: float | None) -> None:
        """Count an answer, and log an error unless one of the same registry was logged lately."""
        host = manifest.host
        self._observer.lookup(host, answer.status, seconds)
        if not manifest.kind.found_approves:
            self._observer.signature(_signature_result(answer), seconds)
        if answer.status == "error":
            suppressed = self._log_limit.passes(host)
            if suppressed is not None:
                self._log.warning("lookup_failed", host=host, cause=answer.cause, suppressed=suppressed)

    def _note_breaker(self, host: str, *, is_open: bool) -> None:
        self._observer.breaker(host, is_open=is_open)
        if is_open:
            self._log.warning("lookup_breaker_opened", host=host)
        else:
            self._log.info("lookup_breaker_closed", host=host)

    def _pacing_of(self, host: str) -> Pacing:
        pacing = self._pacing.get(host)
        if pacing is None:
            pacing = self._pacing[host] = Pacing(
                self._registry(host).rate,
                clock=self._clock,
                on_breaker=lambda is_open: self._note_breaker(host, is_open=is_open),
                on_over_share=lambda: self._observer.over_share("rate"),
            )
        return pacing

    def _schedule(self, manifest: Manifest, fact: Fact, now: float) -> None:
        """Schedule the renewal of a ``found`` fact before it expires. A miss is queried again when needed."""
        if fact.answer.status == "found":
            self._refresh.schedule(manifest, now + RENEW_AT * (fact.fresh_until - now))
        else:
            self._refresh.cancel(manifest)


def _signature_result(answer: Answer) -> SignatureResult:
    if answer.status == "found":
        return "valid"
    if answer.status == "error":
        return "error"
    return "other_key" if answer.cause == OTHER_KEY else "unsigned"


def _resolution(lookup: Lookup, answers: Sequence[Answer], unanswered: Container[int]) -> Resolution:
    """Combine the answers about the candidates.

    ``unanswered`` contains the indexes of the answers that did not come from a finished request.
    """
    resolution = resolve(tuple(answers))
    if resolution.answer.status == "error":
        first = next(index for index, answer in enumerate(answers) if answer.status == "error")
        if first in unanswered:
            return resolution._replace(unanswered=lookup.candidates[first].host)
    return resolution
