"""The webhook's handlers: bytes -> review -> outcome -> bytes (docs/interface.md, "HTTP")."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import orjson
from aiohttp import hdrs, web

from gatekeeper_py.core import admission
from gatekeeper_py.core.admission import Judging, Outcome, review
from gatekeeper_py.core.admission.fields import POD, POD_SPECS
from gatekeeper_py.core.admission.lookahead import images_ahead, lookups_ahead
from gatekeeper_py.core.admission.review import AdmissionRequest, InvalidReview
from gatekeeper_py.core.admission.world import (
    MAX_ROUNDS,
    NOT_LOOKED_UP,
    Answers,
    Known,
    ResolveCached,
    answers_so_far,
)
from gatekeeper_py.core.images.manifest import Lookup, Resolution
from gatekeeper_py.core.images.reference import escape
from gatekeeper_py.core.policy.configmap import ConfigMapPolicy, ExceptionsText
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.http.aiohttp_internals import Message
from gatekeeper_py.http.answers import Refusal, bytes_response, error_response, json_response
from gatekeeper_py.http.bodymemory import MAX_HELD_BYTES, BodyMemory, Sender
from gatekeeper_py.http.connections.slowpath import owner_of
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.process.logs import Log, RateLimit
from gatekeeper_py.process.shares import OTHERS, Share
from gatekeeper_py.process.slices import Steps, run_slice
from gatekeeper_py.webhook.body import (
    BODY_SECONDS,
    LARGE_BODY_BYTES,
    REVIEW_SLICE_SECONDS,
    parse_json,
    read_body,
    with_document,
)
from gatekeeper_py.webhook.decode import parse_pod_review, updates_template
from gatekeeper_py.webhook.denials import Denials
from gatekeeper_py.webhook.guard import PolicyGuard
from gatekeeper_py.webhook.metrics import Endpoint, Metrics
from gatekeeper_py.webhook.reviewlog import EXCEPTIONS, described, line_limits
from gatekeeper_py.webhook.tls import peer_names

BUDGET_MARGIN_SECONDS: Final = 0.5
"""Part of the caller's timeout that is reserved for the network. A later answer counts as a failure."""

MAX_DURATION_LENGTH: Final = 16
"""Maximum length of the ``timeout`` in a query. An API server sends at most ``30s``."""

_DURATION: Final = re.compile(r"(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?", re.ASCII)


_IMAGE: Final = attrgetter("decision.image")
_REASON: Final = attrgetter("decision.reason")

T = TypeVar("T")

Decide = Callable[[AdmissionRequest, CompiledPolicy, Answers], Judging]
"""``admission.validating`` or ``admission.mutating``."""

_VALIDATE: Final[tuple[Endpoint, Decide]] = ("validate", admission.validating)
_DECIDES: Final[dict[str, tuple[Endpoint, Decide]]] = {
    "/validate-image": _VALIDATE,
    "/mutate-image": ("mutate", admission.mutating),
}

MANY_IMAGES: Final = 32
"""An object with more images is judged in slices. Few Pods have more, and judging this many takes less than a
millisecond under most policies. The bound does not depend on the cost, because the cost is not known in
advance."""

_NEVER_ASKED: Final = Answers(lambda _lookup: NOT_LOOKED_UP)
"""The world under a policy without look-ups."""

LOOKUP_MARGIN_SECONDS: Final = 0.2
"""Part of a review's budget that is reserved for deciding and answering after a look-up."""

MAX_LOOKUP_SECONDS: Final = 5.0


class Registries(Protocol):
    """Resolves the look-ups that the policy requires."""

    def resolve_cached(self, lookup: Lookup) -> Resolution | None: ...

    async def resolve(
        self, lookups: Sequence[Lookup], seconds: float, share: Share, spent: float
    ) -> Mapping[Lookup, Resolution]: ...

    def answered(self, used: Mapping[Lookup, Resolution]) -> None: ...

    def look_ahead(self, needed: Callable[[], Iterable[Lookup]], share: Share) -> None: ...


class NeededLookups(NamedTuple):
    """The look-ups that a review needs before its answer, and the snapshot that they belong to.

    ``used`` holds the earlier answers of registries that the first decision used. ``share`` is that of
    the review.
    """

    lookups: tuple[Lookup, ...]
    snapshot: CompiledPolicy
    used: Mapping[Lookup, Resolution]
    share: Share


class Asked(NamedTuple):
    """The origin of a review. ``start`` is when its body had been read, on ``time.perf_counter``."""

    endpoint: Endpoint
    start: float
    peer: str | None


class Webhook:
    """Answers reviews with the live policy.

    If ``client_names`` is empty, every caller whose connection the listener accepted may send reviews.
    ``log_allowed`` logs allowed reviews, too, at level debug. ``has_log_room`` returns whether the log has
    room for lines that are not evidence.
    """

    def __init__(
        self,
        live: LivePolicy,
        guard: PolicyGuard,
        *,
        observer: Metrics,
        log: Log,
        limit: RateLimit,
        max_body_bytes: int,
        client_names: frozenset[str] = frozenset(),
        log_allowed: bool = False,
        has_log_room: Callable[[], bool] = lambda: True,
        body_seconds: float = BODY_SECONDS,
        max_held_bytes: int = MAX_HELD_BYTES,
        registries: Registries | None = None,
        denials: Denials | None = None,
    ) -> None:
        self.draining = False
        self.last_request = time.monotonic()
        self._live = live
        self._guard = guard
        self._note = guard.recent.note
        self._observer = observer
        self._log = log
        self._line_limits = line_limits(log, has_log_room)
        self._has_log_room = has_log_room
        self._limit = limit
        self._max_body_bytes = max_body_bytes
        self._client_names = client_names
        self._log_allowed = log_allowed
        self._body_seconds = body_seconds
        self._body_memory = BodyMemory(max_held_bytes)
        self._registries = registries
        self._resolve_cached: ResolveCached = (
            (lambda _: NOT_LOOKED_UP) if registries is None else registries.resolve_cached
        )
        self._known = Known(self._resolve_cached)
        self._denials = denials
        self._routes: dict[str, Callable[[web.BaseRequest], Awaitable[web.Response]]] = {
            **{path: partial(self._review, *decide) for path, decide in _DECIDES.items()},
            "/validate-policy": self._validate_policy,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer any request. Raises only ``ConnectionError``, when the peer is gone."""
        self.last_request = time.monotonic()
        inflight = self._observer.inflight
        inflight.inc()
        try:
            response = await self._answer(request)
        except Refusal as refusal:
            response = self._refused(request, refusal)
        except InvalidReview as problem:
            response = self._refused(request, Refusal(400, f"not an AdmissionReview: {problem}"))
        except ConnectionError:
            raise
        except Exception:  # noqa: BLE001 - the last place where a bug of ours can be reported
            suppressed = self._limit.passes("internal_error")
            if suppressed is not None:
                self._log.error(
                    "internal_error", path=escape(request.path), suppressed=suppressed, exc_info=True
                )
            self._observer.http_error(500)
            response = error_response(500, "internal error")
        finally:
            inflight.dec()
        if self.draining:
            response.force_close()
        return response

    def answer(self, message: Message, body: bytes, peer: str | None = None) -> bytes | None:
        """Return the answer to a review that arrived complete, or ``None`` to let ``handle`` process it.

        ``peer`` is the key of the peer that sent it. This is the hot path. It does not report problems of a
        request, because ``handle`` finds and reports them.
        """
        decide = _DECIDES.get(message.path.partition("?")[0])
        headers = message.headers
        snapshot = self._live.snapshot
        if (
            decide is None
            or snapshot is None
            or message.method != hdrs.METH_POST
            or headers.get(hdrs.CONTENT_TYPE) != "application/json"
            or hdrs.CONTENT_ENCODING in headers
            or len(body) > self._max_body_bytes
            or self._client_names
            or self.draining
        ):
            return None
        start = time.perf_counter()
        try:
            document = decoded(body, snapshot, whole_templates=False)
            request = review.parse(document)
            if decide is _VALIDATE:
                if not self._log_allowed:
                    images = admission.certainly_approved(request, snapshot, self._known, MANY_IMAGES)
                    if images is not None:
                        if not request.dry_run:
                            self._note(peer, request.namespace, images, start)
                            if snapshot.requires:
                                decide_image = partial(snapshot.decide_by_rules, request.namespace)
                                met = sum(len(decide_image(image).requirements) for image in images)
                                self._observer.required(["met"] * met)
                        return self._approved(request, snapshot, len(images), start)
                if updates_template(document):
                    request = review.parse(parse_json(body))
            endpoint, judging = decide
            steps = self._judged(judging, Asked(endpoint, start, peer), None, request, snapshot)
            answer = run_slice(steps, start + REVIEW_SLICE_SECONDS)
            return None if isinstance(answer, NeededLookups) else answer
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - handle() meets the same problem and reports it
            return None

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        route = self._routes.get(request.rel_url.raw_path)
        if route is None:
            raise Refusal(404, "not found")
        if request.method != hdrs.METH_POST:
            raise Refusal(405, "only POST", headers={hdrs.ALLOW: hdrs.METH_POST})
        if self._client_names and not self._client_names & _names_of(request):
            raise Refusal(403, "the client certificate has no accepted name")
        return await route(request)

    async def _review(self, endpoint: Endpoint, decide: Decide, request: web.BaseRequest) -> web.Response:
        end = time.perf_counter() + budget(request.rel_url.raw_query_string)
        body, sender, asked = await self._read(request, endpoint)
        judge = partial(self._judged, decide, asked, None)
        answer = await self._reviewed(body, sender, judge, end)
        start = time.perf_counter()
        answers: dict[Lookup, Resolution] = {}
        rounds = 0
        while isinstance(answer, NeededLookups):
            rounds += 1
            now = time.perf_counter()
            seconds = min(end - now, MAX_LOOKUP_SECONDS - (now - start)) - LOOKUP_MARGIN_SECONDS
            resolved = await self._resolve(answer, max(seconds, 0.0), now - start, len(body), sender)
            answers |= {**answer.used, **resolved}
            known = answers_so_far(answers, notes=rounds < MAX_ROUNDS)
            judge = partial(self._judged, decide, asked, known)
            answer = await self._reviewed(body, sender, judge, end, answer.snapshot)
        return bytes_response(200, answer)

    async def _resolve(
        self, needed: NeededLookups, seconds: float, spent: float, size: int, sender: Sender | None
    ) -> Mapping[Lookup, Resolution]:
        """Query registries, while the body of ``size`` bytes stays in memory and counts towards the limit.

        ``spent`` is the number of seconds since the review's first look-ups.
        """
        if self._registries is None:
            return dict.fromkeys(needed.lookups, NOT_LOOKED_UP)
        resolving = partial(self._registries.resolve, needed.lookups, seconds, needed.share, spent)
        if size <= LARGE_BODY_BYTES:
            return await resolving()
        with self._body_memory.body(sender) as held:
            held.take(size)
            async with held.waiting():
                return await resolving()

    def _world(self, snapshot: CompiledPolicy) -> Answers:
        """Return what earlier look-ups found."""
        return Answers(self._resolve_cached) if snapshot.looks_up else _NEVER_ASKED

    async def _reviewed(
        self,
        body: bytes,
        sender: Sender | None,
        judge: Callable[[AdmissionRequest, CompiledPolicy], Steps[T]],
        end: float,
        chosen: CompiledPolicy | None = None,
    ) -> T:
        """Decode a body and judge it with the ``chosen`` snapshot, or else with the live one.

        One snapshot judges the whole body. ``end`` is when the caller stops waiting, on the clock of
        ``time.perf_counter``.
        """
        decoded_for: CompiledPolicy | None = None

        def decode(content: bytes) -> Any:
            nonlocal decoded_for
            decoded_for = chosen or self._live.snapshot
            return decoded(content, decoded_for)

        def use(document: Any) -> Steps[T]:
            parsed = review.parse(document)
            snapshot = chosen or self._live.snapshot
            if snapshot is None:
                raise Refusal(503, "no policy is loaded yet")
            if decoded_for is not None and snapshot is not decoded_for:  # it may need other fields
                parsed = review.parse(parse_json(body))
            return (yield from judge(parsed, snapshot))

        return await with_document(body, self._body_memory, decode=decode, use=use, end=end, sender=sender)

    def _judged(
        self,
        decide: Decide,
        asked: Asked,
        answers: Answers | None,
        request: AdmissionRequest,
        snapshot: CompiledPolicy,
    ) -> Steps[bytes | NeededLookups]:
        """Judge, count and log a review and return its answer, or return the look-ups that it needs first.

        Without ``answers``, those of earlier look-ups are used.
        """
        answers = answers or self._world(snapshot)
        outcome = yield from _outcome(decide(request, snapshot, answers))
        if answers.missing:
            lookups = tuple(dict.fromkeys(answers.missing))
            return NeededLookups(lookups, snapshot, answers.used, _share(asked, request))
        if (
            snapshot.looks_up
            and not request.dry_run
            and asked.endpoint == "validate"
            and (request.group, request.kind) != POD
        ):
            yield  # the next step walks the object once more, which can take as long as the decision
            self._look_ahead(request, snapshot, _share(asked, request))
        return self._encoded(asked, request, snapshot, outcome, answers.used)

    def _encoded(
        self,
        asked: Asked,
        request: AdmissionRequest,
        snapshot: CompiledPolicy,
        outcome: Outcome,
        used: Mapping[Lookup, Resolution],
    ) -> bytes:
        """Count and log a judged review and return its answer. ``used`` are registries' answers for it."""
        if used and self._registries is not None:
            self._registries.answered(used)
        body = orjson.dumps(outcome.response.document())
        (self._record_dry_run if request.dry_run else self._record)(asked, request, outcome, snapshot)
        return body

    def _look_ahead(self, request: AdmissionRequest, snapshot: CompiledPolicy, share: Share) -> None:
        """Look up the signatures that the Pods of a reviewed workload will need."""
        registries, namespace = self._registries, request.namespace
        if registries is not None and (images := images_ahead(request, snapshot)):
            registries.look_ahead(
                lambda: lookups_ahead(images, snapshot, namespace, Answers(self._resolve_cached)), share
            )

    def _approved(
        self, request: AdmissionRequest, snapshot: CompiledPolicy, images: int, start: float
    ) -> bytes:
        """Return the answer to a review whose new images are all approved. Count it, but do not log it."""
        mode = snapshot.mode(request.namespace)
        body = review.approval(mode.name, snapshot.revision)(request.uid)
        if request.dry_run:
            self._observer.dry_run("validate", "allowed")
            return body
        if images:
            self._observer.images("allowed", images)
        else:
            self._observer.exemption("no-images")
        seconds = time.perf_counter() - start
        self._observer.review("validate", request.operation, "allowed", mode.name, seconds)
        return body

    async def _validate_policy(self, request: web.BaseRequest) -> web.Response:
        end = time.monotonic() + budget(request.rel_url.raw_query_string)
        body, sender, asked = await self._read(request, "policy")
        parsed, policy = await with_document(
            body, self._body_memory, decode=parse_json, use=self._parse_policy_review, sender=sender
        )
        del body
        peer = None if sender is None else sender.peer
        outcome = await self._guard.judge(parsed, policy, end - time.monotonic(), peer)
        snapshot = self._live.snapshot
        if snapshot is not None:
            outcome = outcome._replace(mode=snapshot.mode(None))
        response = json_response(200, outcome.response.document())
        (self._record_dry_run if parsed.dry_run else self._record)(asked, parsed, outcome, None)
        return response

    def _parse_policy_review(
        self, document: Any
    ) -> Steps[tuple[AdmissionRequest, ConfigMapPolicy | ExceptionsText | None]]:
        """Parse a review of ``/validate-policy`` in two steps. Raises ``InvalidReview``."""
        request = review.parse(document)
        yield
        policy = self._guard.read(request)
        # Drop the objects: a check may take seconds, and they can be megabytes.
        return request._replace(object=None, old_object=None), policy

    async def _read(self, request: web.BaseRequest, endpoint: Endpoint) -> tuple[bytes, Sender | None, Asked]:
        """Return the body of a request, its connection, and its origin."""
        sender = owner_of(request)
        peer = None if sender is None else sender.peer.key
        body = await read_body(
            request,
            max_bytes=self._max_body_bytes,
            seconds=min(self._body_seconds, budget(request.rel_url.raw_query_string)),
            memory=self._body_memory,
            sender=sender,
        )
        return body, sender, Asked(endpoint, time.perf_counter(), peer)

    def _record(
        self, asked: Asked, request: AdmissionRequest, outcome: Outcome, snapshot: CompiledPolicy | None
    ) -> None:
        """Count a review. Log it if it was denied, warned about or mutated, or admitted by an exception."""
        observer, (endpoint, start, peer) = self._observer, asked
        seconds = time.perf_counter() - start
        observer.review(endpoint, request.operation, outcome.verdict, outcome.mode.name, seconds)
        if outcome.exemption:
            observer.exemption(outcome.exemption)
        excepted = False
        if endpoint == "validate" and snapshot is not None:
            observer.judged(map(_REASON, outcome.images))
            excepted = EXCEPTIONS in outcome.response.audit_annotations and self._count_excepted(outcome)
            if snapshot.requires:
                observer.required(each.result for image in outcome.images for each in image.requirements)
            if outcome.verdict != "denied":
                self._note(peer, request.namespace, _admitted(outcome), start)
        elif outcome.verdict == "mutated":
            observer.rewritten(each.mirror for each in outcome.images)
        if outcome.verdict == "denied" and self._denials is not None:
            self._denials.add(request, outcome, peer)
        if outcome.verdict == "allowed" and not excepted:
            write = self._log.debug if self._log_allowed and self._has_log_room() else None
        else:
            kind = "excepted" if excepted and outcome.verdict != "denied" else outcome.verdict
            limit = self._line_limits["policy" if snapshot is None else kind]
            write = self._log.info if limit.passes(peer, request.namespace) else None
        if write is not None:
            # Describing a review costs a third of it, so it is done only if the line is written.
            write(
                "review",
                **described(endpoint, request, outcome, "" if snapshot is None else snapshot.revision),
            )

    def _record_dry_run(
        self, asked: Asked, request: AdmissionRequest, outcome: Outcome, snapshot: CompiledPolicy | None
    ) -> None:
        """Only count the review of a dry run, because anybody who may create objects can send many."""
        self._observer.dry_run(asked.endpoint, outcome.verdict)
        if self._log_allowed:
            revision = "" if snapshot is None else snapshot.revision
            self._log.debug("review", dry_run=True, **described(asked.endpoint, request, outcome, revision))

    def _count_excepted(self, outcome: Outcome) -> bool:
        """Count the images that exceptions approve, and return whether there are some."""
        excepted = outcome.excepted
        for each in excepted:
            self._observer.excepted(each.source)
        return bool(excepted)

    def _refused(self, request: web.BaseRequest, refusal: Refusal) -> web.Response:
        """Return the answer to a refusal. Count it, and log it at a limited rate."""
        self._observer.http_error(refusal.status)
        path = request.rel_url.raw_path  # many invented paths must not fill the log
        suppressed = self._limit.passes(f"http_{refusal.status}{path if path in self._routes else ''}")
        if suppressed is not None:
            self._log.warning(
                "request_refused",
                status=refusal.status,
                reason=escape(refusal.reason),
                method=escape(request.method, 20),
                path=escape(request.path),
                suppressed=suppressed,
            )
        response = error_response(refusal.status, refusal.reason, headers=refusal.headers)
        # An answer given before the body was read ends the connection.
        if refusal.close or not request.content.is_eof():
            response.force_close()
        return response


def _admitted(outcome: Outcome) -> tuple[str, ...]:
    """Return the images that Pods of an allowed object may have.

    In a mode that refuses, they do not include kept images of a workload that the policy rejects.
    """
    images = outcome.images
    if outcome.mode.refuses and outcome.verdict != "allowed":
        images = tuple(each for each in images if each.approved)
    return tuple(map(_IMAGE, images))


def _share(asked: Asked, request: AdmissionRequest) -> Share:
    return Share(asked.peer or OTHERS, request.namespace)


def _outcome(judging: Judging) -> Steps[Outcome]:
    """Judge all images of a request. Each image is a step if there are many."""
    if len(judging.slots) <= MANY_IMAGES:
        return judging.outcome()
    verdicts = []
    for slot in judging.slots:
        verdicts.append(judging.judge(slot))
        yield
    return judging.conclude(tuple(filter(None, verdicts)))


def decoded(body: bytes, snapshot: CompiledPolicy | None, *, whole_templates: bool = True) -> Any:
    """Return the AdmissionReview in a body, if possible with only the fields that the policy reads.

    With ``whole_templates``, an update of a workload has all its fields, as ``admission.validating`` needs.
    """
    # Pull secrets are read only by policies that add some.
    if snapshot is not None and not (
        snapshot.adds_pull_secrets
        or (snapshot.resources and not POD_SPECS.keys().isdisjoint(snapshot.resources))
    ):
        document = parse_pod_review(body, pull_policies=snapshot.looks_up)
        if document is not None and not (whole_templates and updates_template(document)):
            return document
    return parse_json(body)


def budget(query: str) -> float:
    """Return the seconds to spend, from a parameter such as ``timeout=5s`` in the query.

    The result is infinite without a valid timeout. Other parameters are ignored.
    """
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name == "timeout" and 0 < len(value) <= MAX_DURATION_LENGTH:
            match = _DURATION.fullmatch(value)
            if match is not None:
                seconds = 3600 * int(match["h"] or 0) + 60 * int(match["m"] or 0) + float(match["s"] or 0)
                return max(seconds - BUDGET_MARGIN_SECONDS, 0.1)
    return float("inf")


def _names_of(request: web.BaseRequest) -> frozenset[str]:
    transport = request.transport
    return peer_names(transport.get_extra_info("peercert") if transport is not None else None)
