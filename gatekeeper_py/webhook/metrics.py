"""Prometheus metrics. Counters that every review increments are plain integers, read when scraped.

No label carries an image, a namespace or a user. docs/interface.md, "Metrics", lists the names.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import accumulate, product
from typing import TYPE_CHECKING, Final, Literal, TypeVar, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from gatekeeper_py.core.admission.judge import Met
from gatekeeper_py.core.admission.outcome import Exemption
from gatekeeper_py.core.exceptions.exceptions import State
from gatekeeper_py.core.exceptions.grants import SOURCES, Source
from gatekeeper_py.core.images.glob import is_glob
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.decision import Reason
from gatekeeper_py.core.policy.document import MODES, Mode
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.policy import CompiledPolicy
from gatekeeper_py.http.listener import EVICTIONS
from gatekeeper_py.live.reload import Result
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.process.children.process import CAUSES, Cause
from gatekeeper_py.registry.lookups import SharedLimit, SignatureResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

PREFIX: Final = "gatekeeper_py"

Value = TypeVar("Value")
"""The value of a label."""

Endpoint = Literal["validate", "mutate", "policy"]
ENDPOINTS: Final[tuple[Endpoint, ...]] = ("validate", "mutate", "policy")

CheckResult = Literal["accepted", "refused", "failed", "busy", "skipped"]
CHECK_RESULTS: Final[tuple[CheckResult, ...]] = ("accepted", "refused", "failed", "busy", "skipped")
"""The results of reviews of ``/validate-policy``."""

DURATION_BUCKETS: Final = (
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
)  # fmt: skip
"""Seconds. They start at 100 µs, which is about what a review takes; its caller gives up after 5 s."""

LOOKUP_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds. A registry nearby answers in some milliseconds; no look-up takes longer than 5 s."""

APPROVED: Final[frozenset[Reason]] = frozenset({"allowed", "exception"})
"""The reasons of images that are approved."""

MAX_HOSTS: Final = 100
"""Maximum number of registries with series of their own, which is how many a policy can configure."""

ERROR_CODES: Final = (400, 403, 404, 405, 408, 413, 415, 500, 503)
"""Statuses of answers that are not 200; docs/interface.md, "HTTP", has the same list."""

LOOKUP_RESULTS: Final = ("found", "missing", "error", "stale")

REVIEW_VERDICTS: Final[Mapping[Endpoint, tuple[tuple[str, str], ...]]] = {
    "validate": tuple(
        (verdict, mode.name)
        for mode in MODES.values()
        for verdict in ("allowed", "denied", "warned")
        if verdict != "denied" or mode.refuses
    ),
    "mutate": (
        *product(("allowed",), MODES),
        *(("mutated", mode.name) for mode in MODES.values() if mode.rewrites),
    ),
    "policy": tuple(product(("allowed", "denied", "warned"), MODES)),
}
"""The verdicts that each endpoint can give, each with the mode in which it gives it."""

CHILDREN: Final = ("parser", "exceptions", "registry")
"""The child processes."""

OTHER_HOSTS: Final = "other"
"""The label of all registries beyond MAX_HOSTS."""

KNOWN_OPERATIONS: Final = frozenset({"CREATE", "UPDATE", "DELETE", "CONNECT"})


class Metrics:
    """All metrics of one process, in their own registry."""

    def __init__(
        self, live: LivePolicy, counts: CacheCounts, *, now: Callable[[], float] = time.time
    ) -> None:
        self.registry = CollectorRegistry()
        self._now = now
        self._reviews = _Counts(
            "reviews", "Admission reviews answered.", ("endpoint", "operation", "verdict", "mode")
        )
        self._durations = _Durations(
            "review_duration_seconds", "Time from reading the body to encoding the response, in seconds."
        )
        self._images = _Counts("images", "Images judged.", ("verdict", "reason"))
        self._requirements = _Counts("requirements", "Requirements of judged images.", ("result",))
        self._dry_runs = _Counts(
            "dry_run_reviews",
            "Reviews of dry runs. Other counters of reviews do not include them.",
            ("endpoint", "verdict"),
        )
        for collector in (self._reviews, self._durations, self._images, self._requirements, self._dry_runs):
            self.registry.register(collector)
        self._rewrites = self._counter(
            "rewrites", "Images rewritten, by the index of the mirror in the policy.", "mirror"
        )
        self.exemption = self._counted(
            "exemptions",
            "Reviews allowed without judging an image, by reason.",
            "reason",
            filter(None, get_args(Exemption)),
        )
        self._reloads = self._counter(
            "policy_reloads", "Policy documents received from the source, by result.", "result"
        )
        self.policy_check = self._counted(
            "policy_checks", "Reviews of the /validate-policy endpoint, by result.", "result", CHECK_RESULTS
        )
        self.guard_rejected = self._gauge(
            "guard_rejected_images",
            "Recently admitted images that the last policy change checked by the policy guard rejects.",
        ).set
        self.http_error = self._counted(
            "http_errors",
            "HTTP requests answered with a status other than 200, by status code.",
            "code",
            ERROR_CODES,
        )
        self._info = self._gauge(
            "policy_info", "The policy in use; the value is always 1.", "revision", "mode", "source"
        )
        self._rules = self._gauge(
            "policy_rules",
            "Number of allow rules, deny rules, overrides, mirrors and resources in use.",
            "kind",
        )
        self._last_success = self._gauge(
            "policy_last_success_timestamp_seconds", "Unix time at which a policy was last loaded."
        )
        self._synced = self._gauge(
            "policy_synced_timestamp_seconds",
            "Unix time at which the policy source was last read successfully.",
        )
        self._present = self._gauge("policy_present", "1 if the policy source holds a document, else 0.")
        self._refused = self._gauge(
            "policy_refused", "1 while the present content of the policy source is refused, else 0."
        )
        self._findings = self._gauge("policy_findings", "Findings about the policy in use, by code.", "code")
        self._mode_since = self._gauge(
            "mode_since_timestamp_seconds",
            "Unix time since which this replica has used the mode; only the present mode has a value.",
            "mode",
        )
        self._mode: Mode | None = None
        self.registry.register(
            _OptionalGauge(
                "policy_next_expiry_timestamp_seconds",
                "Unix time at which the next rule or override expires; absent if none does.",
                lambda: _next_expiry(live),
            )
        )
        self.certificate = self._gauge(
            "certificate_not_after_timestamp_seconds", "Unix time at which the served certificate expires."
        ).set
        self.certificate_files_bad = self._gauge(
            "certificate_files_bad", "1 while the certificate files cannot be used, else 0."
        ).set
        self.loop_lag = self._gauge(
            "event_loop_lag_seconds", "Delay of the last timer that the event loop ran, in seconds."
        ).set
        self.inflight = self._gauge("inflight_reviews", "Reviews in progress.")
        self.watch_connections = self._gauge(
            "connections", "Open connections to the webhook port."
        ).set_function
        self.connection_evicted = self._counted(
            "connections_evicted", "Connections closed because all were in use, by reason.", "why", EVICTIONS
        )
        self._log_dropped = _FunctionCounter(
            "log_lines_dropped", "Log lines dropped because nothing read them fast enough.", lambda: 0
        )
        for counted in (
            self._log_dropped,
            _FunctionCounter("cache_hits", "Decisions taken from the cache.", lambda: counts.hits),
            _FunctionCounter(
                "cache_misses",
                "Decisions computed because the cache did not have them.",
                lambda: counts.misses,
            ),
        ):
            self.registry.register(counted)
        self._fast_http = self._gauge(
            "fast_http",
            "1 if the hot path is available: complete reviews are answered without aiohttp's server.",
        )
        self._gauge("cache_entries", "Decisions in the cache.").set_function(
            lambda: 0 if live.snapshot is None else live.snapshot.cached
        )
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._register_lookups()
        self._children = self._gauge("child_runs", "1 while a child process runs, else 0.", "child")
        self._child_deaths = self._counter(
            "child_deaths",
            "Child processes that died or were killed because of a fault, by cause.",
            "child",
            "cause",
        )
        self._exceptions = self._gauge(
            "exceptions",
            "Exceptions by source and state; for the state invalid, the number of invalid documents.",
            "source",
            "state",
        )
        self._next_end: datetime | None = None
        self.registry.register(
            _OptionalGauge(
                "exceptions_next_end_timestamp_seconds",
                "Unix time at which the next live exception ends; absent if none is live.",
                lambda: None if self._next_end is None else self._next_end.timestamp(),
            )
        )
        self._exceptions_readable = self._gauge(
            "exceptions_readable",
            "1 if the API server lets this replica read the exceptions of a source, else 0; absent until it"
            " answered.",
            "source",
        )
        self.excepted = self._counted(
            "excepted_images", "Images approved by an exception, by its source.", "source", SOURCES
        )
        self._hosts: set[str] = set()
        self._open_breakers: set[str] = set()
        self._start_at_zero()

    def _register_lookups(self) -> None:
        self._lookups = self._counter(
            "lookups", "Look-ups in registries, by host and result.", "host", "result"
        )
        self._lookup_durations = Histogram(
            f"{PREFIX}_lookup_duration_seconds",
            "Time that a registry took to answer a look-up, in seconds.",
            ("host",),
            buckets=LOOKUP_BUCKETS,
            registry=self.registry,
        )
        self._breakers = self._gauge(
            "lookup_breaker_open", "1 while a registry is not contacted because it failed, else 0.", "host"
        )
        self._signatures = self._counted(
            "signatures", "Look-ups of signatures, by result.", "result", get_args(SignatureResult)
        )
        self._signature_durations = Histogram(
            f"{PREFIX}_signature_seconds",
            "Time to find and verify the signature of an image, in seconds.",
            buckets=LOOKUP_BUCKETS,
            registry=self.registry,
        )
        self.over_share = self._counted(
            "lookups_over_share",
            "Look-ups and reviews that were refused because their share was used, by limit.",
            "limit",
            get_args(SharedLimit),
        )
        self._registry_config = self._gauge(
            "registry_config_valid", "1 if the newest files in --registry-config are in use, else 0."
        )
        self._registry_config.set(1)

    def _start_at_zero(self) -> None:
        """Create every series whose label values are known before its first event.

        An alert on increase() misses the event that creates a series.
        """
        for endpoint, verdicts in REVIEW_VERDICTS.items():
            for verdict, mode in verdicts:
                self.dry_run(endpoint, verdict, 0)
                for operation in ("CREATE", "UPDATE"):
                    self._reviews.add((endpoint, operation, verdict, mode), 0)
        for reason in get_args(Reason):
            self._images.add(("approved" if reason in APPROVED else "rejected", reason), 0)
        for met in get_args(Met):
            self._requirements.add((met,), 0)
        for result in get_args(Result):
            self._reloads.labels(result)
        for child in CHILDREN:
            self._children.labels(child)
            for cause in CAUSES:
                self._child_deaths.labels(child, cause)

    def review(self, endpoint: Endpoint, operation: str, verdict: str, mode: str, seconds: float) -> None:
        """Count one answered review."""
        self._reviews.add((endpoint, operation if operation in KNOWN_OPERATIONS else "other", verdict, mode))
        self._durations.observe(endpoint, seconds)

    def dry_run(self, endpoint: Endpoint, verdict: str, count: int = 1) -> None:
        """Count the review of a dry run. Call no other method for such a review."""
        self._dry_runs.add((endpoint, verdict), count)

    def images(self, reason: str, count: int) -> None:
        """Count judged images, by reason."""
        self._images.add(("approved" if reason in APPROVED else "rejected", reason), count)

    def judged(self, reasons: Iterable[str]) -> None:
        """Count judged images, each by its reason."""
        add = self._images.add
        for reason in reasons:
            add(("approved" if reason in APPROVED else "rejected", reason))

    def required(self, results: Iterable[Met]) -> None:
        """Count requirements of judged images, by result."""
        for result in results:
            self._requirements.add((result,))

    def rewritten(self, mirrors: Iterable[int | None]) -> None:
        """Count rewritten images, each by the index of its mirror in the policy, if a mirror replaced it."""
        for mirror in mirrors:
            if mirror is not None:
                self._rewrites.labels(str(mirror)).inc()

    def fast_http(self, *, usable: bool) -> None:
        """Note whether whole reviews are answered without aiohttp's server."""
        self._fast_http.set(1 if usable else 0)

    def policy_reloaded(self, result: Result) -> None:
        self._reloads.labels(result).inc()
        self._refused.set(1 if result == "refused" else 0)
        if result == "loaded":
            self._last_success.set(self._now())

    def policy_present(self, *, present: bool) -> None:
        self._present.set(1 if present else 0)

    def policy_synced(self) -> None:
        self._synced.set(self._now())

    def policy_linted(self, findings: Iterable[Finding]) -> None:
        """Note the findings about the policy in use."""
        self._findings.clear()
        for code, count in Tally(finding.code for finding in findings).items():
            self._findings.labels(code).set(count)

    def policy_live(self, compiled: CompiledPolicy, source: str) -> None:
        if self._mode != compiled.policy.mode:
            self._mode = compiled.policy.mode
            self._mode_since.clear()
            self._mode_since.labels(self._mode.name).set(self._now())
        self._info.clear()
        self._info.labels(compiled.revision, compiled.policy.mode.name, source).set(1)
        for kind, size in (
            ("allow", len(compiled.allow)),
            ("deny", len(compiled.deny)),
            ("override", len(compiled.overrides)),
            ("mirror", len(compiled.mirrors)),
            ("resource", len(compiled.policy.document.resources)),
        ):
            self._rules.labels(kind).set(size)
        for mirror in compiled.mirrors:
            self._rewrites.labels(str(mirror.index))
        for host in sorted(compiled.looked_up_hosts):
            if not is_glob(host):
                self._host_label(host)

    def lookup(self, host: str, result: str, seconds: float | None) -> None:
        """Count a look-up when it ends. ``seconds`` is ``None`` for an answer without a request."""
        host = self._host_label(host)
        self._lookups.labels(host, result).inc()
        if seconds is not None:
            self._lookup_durations.labels(host).observe(seconds)

    def signature(self, result: SignatureResult, seconds: float | None) -> None:
        """Count a look-up of signatures when it ends. ``seconds`` is as in ``lookup``."""
        self._signatures(result)
        if seconds is not None:
            self._signature_durations.observe(seconds)

    def breaker(self, host: str, *, is_open: bool) -> None:
        (self._open_breakers.add if is_open else self._open_breakers.discard)(host)
        label = self._host_label(host)
        if label == OTHER_HOSTS:  # 1 if any of these hosts has an open breaker
            is_open = not self._open_breakers <= self._hosts
        self._breakers.labels(label).set(1 if is_open else 0)

    def registry_config(self, problem: str) -> None:
        """Note whether the files for look-ups can be used; an empty text means that they can."""
        self._registry_config.set(0 if problem else 1)

    def child_runs(self, child: str, *, runs: bool) -> None:
        self._children.labels(child).set(runs)

    def child_died(self, child: str, cause: Cause) -> None:
        self._child_deaths.labels(child, cause).inc()

    def exceptions_counted(self, counts: Tally[tuple[Source, str]], next_end: datetime | None) -> None:
        """Note the number of entries by source and state, and when the next live exception ends."""
        self._next_end = next_end
        for source, state in product(SOURCES, (*get_args(State), "invalid")):
            self._exceptions.labels(source, state).set(counts[source, state])

    def exceptions_readable(self, source: Source, *, readable: bool | None) -> None:
        if readable is None:
            self._exceptions_readable.remove(source)
        else:
            self._exceptions_readable.labels(source).set(readable)

    def _host_label(self, host: str) -> str:
        """Return the label for a registry; a new one gets its series.

        A policy can name thousands of hosts; only the first 100 have series of their own.
        """
        if host in self._hosts:
            return host
        label = host if len(self._hosts) < MAX_HOSTS else OTHER_HOSTS
        if label not in self._hosts:
            self._hosts.add(label)
            for result in LOOKUP_RESULTS:
                self._lookups.labels(label, result)
            self._lookup_durations.labels(label)
            self._breakers.labels(label)
        return label

    def watch_dropped_lines(self, count: Callable[[], int]) -> None:
        self._log_dropped.count = count

    def verdicts(self) -> dict[str, int]:
        """Return how many reviews of images had each verdict."""
        return self._reviews.totals("verdict", lambda values: values[0] != "policy")

    def durations(self, endpoint: Endpoint) -> list[int]:
        """Return how many reviews fell into each bucket. The last bucket has no upper bound."""
        return list(self._durations.counts[endpoint])

    def exposition(self) -> bytes:
        """Return all metrics in the text format that Prometheus scrapes."""
        return generate_latest(self.registry)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", help_text, labels, registry=self.registry)

    def _counted(
        self, name: str, help_text: str, label: str, values: Iterable[Value]
    ) -> Callable[[Value], None]:
        """Register a counter with one label, whose series for ``values`` start at 0.

        Return the function that counts an event.
        """
        counter = self._counter(name, help_text, label)
        for value in values:
            counter.labels(value)
        return lambda value: counter.labels(value).inc()

    def _gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", help_text, labels, registry=self.registry)


class _Counts(Collector):
    """A counter that holds plain integers by label values.

    A review increments four or five of them. The library's own counters take a lock each and cost three
    times as much.
    """

    def __init__(self, name: str, help_text: str, labels: tuple[str, ...]) -> None:
        self._name = f"{PREFIX}_{name}"
        self._help = help_text
        self._labels = labels
        self._counts: dict[tuple[str, ...], int] = {}

    def add(self, values: tuple[str, ...], count: int = 1) -> None:
        """Add to the counter with these label values. Call it on the event loop only."""
        counts = self._counts
        counts[values] = counts.get(values, 0) + count

    def totals(self, label: str, include: Callable[[tuple[str, ...]], bool]) -> dict[str, int]:
        """Return the counts summed by one label, over the series for which ``include`` returns true."""
        index = self._labels.index(label)
        sums: dict[str, int] = {}
        for values, count in self._counts.items():
            if include(values):
                sums[values[index]] = sums.get(values[index], 0) + count
        return sums

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        for values, count in self._counts.items():
            family.add_metric(values, count)
        yield family


class _Durations(Collector):
    """A histogram by endpoint that finds the bucket by bisection."""

    def __init__(self, name: str, help_text: str) -> None:
        self._name = f"{PREFIX}_{name}"
        self._help = help_text
        self.counts = {endpoint: [0] * (len(DURATION_BUCKETS) + 1) for endpoint in ENDPOINTS}
        self._sums = dict.fromkeys(ENDPOINTS, 0.0)

    def observe(self, endpoint: Endpoint, seconds: float) -> None:
        self.counts[endpoint][bisect_left(DURATION_BUCKETS, seconds)] += 1
        self._sums[endpoint] += seconds

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._help, labels=["endpoint"])
        bounds = [str(bound) for bound in DURATION_BUCKETS] + ["+Inf"]
        for endpoint, counts in self.counts.items():
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            family.add_metric([endpoint], buckets, self._sums[endpoint])
        yield family


class _FunctionCounter(Collector):
    """A counter whose value is a plain integer that another object keeps."""

    def __init__(self, name: str, help_text: str, count: Callable[[], int]) -> None:
        self._name = f"{PREFIX}_{name}"
        self._help = help_text
        self.count = count

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(self._name, self._help, self.count())


class _OptionalGauge(Collector):
    """A gauge that has no value while the function returns ``None``. The library's gauge would be 0."""

    def __init__(self, name: str, help_text: str, value: Callable[[], float | None]) -> None:
        self._name = f"{PREFIX}_{name}"
        self._help = help_text
        self._value = value

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(self._name, self._help)
        value = self._value()
        if value is not None:
            family.add_metric([], value)
        yield family


def _next_expiry(live: LivePolicy) -> float | None:
    expiry = None if live.snapshot is None else live.snapshot.next_expiry
    return None if expiry is None else expiry.timestamp()
