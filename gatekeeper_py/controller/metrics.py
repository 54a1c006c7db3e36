"""The controller's Prometheus metrics."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final, Literal, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from gatekeeper_py.controller import certificates
from gatekeeper_py.controller.plan import Alarm, Paused, Report
from gatekeeper_py.controller.webhooks.drift import TAMPERINGS
from gatekeeper_py.controller.webhooks.templates import MUTATING_NAME, VALIDATING_NAME
from gatekeeper_py.core.compile.fastpath import WebhookKind

PREFIX: Final = "gatekeeper_py_control"

ProofResult = Literal["enforced", "not_enforced", "unreachable"]
"""The result of a probe for one API server. ``not_enforced`` is any answer that does not prove enforcement;
``unreachable`` means that no answer arrived."""

PolicyChange = Literal["tightened", "loosened"]
"""Whether a policy removes images from the fast path or only adds some."""


class ControlMetrics:
    """All metrics of one controller, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=self.registry), partial(Gauge, registry=self.registry)
        self._reconciles = counter(f"{PREFIX}_reconciles", "Passes of the controller, by result.", ["result"])
        self._repairs = counter(
            f"{PREFIX}_repairs",
            "Webhook configurations that somebody else changed or deleted, and that were repaired.",
            ["configuration"],
        )
        self._tampering = counter(
            f"{PREFIX}_tampering",
            "Changes that somebody else made to the webhook configurations, by what was changed.",
            ["what"],
        )
        self._steps = counter(f"{PREFIX}_certificate_steps", "Steps of certificate rotation.", ["step"])
        self._armed = gauge(f"{PREFIX}_armed", "1 while the webhook configurations exist.")
        self._alarm = gauge(
            f"{PREFIX}_alarm", "1 while something needs attention: see docs/on-call.md.", ["what"]
        )
        self._pauses = counter(f"{PREFIX}_pauses", "Pauses that began, each by an annotation.")
        self._paused_until = gauge(
            f"{PREFIX}_paused_until_timestamp_seconds",
            "Unix time at which the current pause ends; 0 without a pause.",
        )
        self._mutation = gauge(
            f"{PREFIX}_mutation_active",
            "1 while the mutating webhook is registered and active, because the policy can rewrite images.",
        )
        self._tolerated = gauge(
            f"{PREFIX}_tolerated_selector_terms",
            "Selector terms of a managed platform in the webhook configurations.",
        )
        self._replicas = gauge(f"{PREFIX}_replicas", "Replicas behind the Service.")
        self._last = gauge(
            f"{PREFIX}_last_success_timestamp_seconds", "Unix time at which a pass last completed."
        )
        self._not_after = gauge(
            "gatekeeper_py_certificate_not_after_timestamp_seconds",
            "Unix time at which the certificate in the Secret expires.",
        )
        self._lag = gauge(
            "gatekeeper_py_event_loop_lag_seconds", "Seconds by which the event loop ran its last timer late."
        )
        ProcessCollector(registry=self.registry)
        for result in ("completed", "failed"):
            self._reconciles.labels(result)
        for name in (VALIDATING_NAME, MUTATING_NAME):
            self._repairs.labels(name)
        for what in TAMPERINGS:
            self._tampering.labels(what)
        for step in filter(None, get_args(certificates.Step)):
            self._steps.labels(step)

    def reconciled(self, report: Report) -> None:
        self._reconciles.labels("completed").inc()
        self._armed.set(1 if report.armed else 0)
        self._replicas.set(report.replicas)
        self._last.set_to_current_time()
        if report.not_after is not None:
            self._not_after.set(report.not_after.timestamp())
        if report.change:
            self._steps.labels(report.change).inc()
        for name in report.changes.repaired:
            self._repairs.labels(name).inc()
        for what in report.changes.tampering:
            self._tampering.labels(what).inc()
        until = report.stage.until.timestamp() if isinstance(report.stage, Paused) else 0
        self._paused_until.set(until)
        self._mutation.set(1 if report.changes.active else 0)
        self._tolerated.set(report.changes.tolerated_terms)

    def failed(self) -> None:
        self._reconciles.labels("failed").inc()

    def paused(self) -> None:
        self._pauses.inc()

    def alarm(self, what: Alarm, *, active: bool) -> None:
        self._alarm.labels(what).set(1 if active else 0)

    def loop_lag(self, seconds: float) -> None:
        self._lag.set(seconds)

    def exposition(self) -> bytes:
        """Return the metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


class EnforcementMetrics:
    """Metrics of the proof of enforcement; only a controller with a probe namespace has them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        self._enforced = gauge(
            f"{PREFIX}_enforced",
            "1 while every API server that answers refuses a rejected image, or warns about it.",
        )
        self._last = gauge(
            f"{PREFIX}_last_enforced_timestamp_seconds",
            "Unix time at which that was last proven; 0 if never.",
        )
        self._servers = gauge(
            f"{PREFIX}_api_servers", "API servers in the last round, by outcome.", ["outcome"]
        )
        self.enforced(enforced=False, servers={})

    def enforced(self, *, enforced: bool, servers: Mapping[ProofResult, int]) -> None:
        self._enforced.set(1 if enforced else 0)
        if enforced:
            self._last.set_to_current_time()
        for outcome in get_args(ProofResult):
            self._servers.labels(outcome).set(servers.get(outcome, 0))


SYNC_BUCKETS: Final = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds in seconds. A removal takes a few requests to the API server. Any other change first waits for
one to five seconds."""


class FastPathMetrics:
    """Metrics of the fast path; only a controller with ``--fast-path`` has them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        prefix = "gatekeeper_py_fastpath"
        self._in_step = gauge(
            f"{prefix}_in_step",
            "1 when the match conditions are those of the policy, and the webhook was called for a removed"
            " image, if there was one to probe.",
        )
        self._rules = gauge(
            f"{prefix}_rules", "Allow rules handled without calling the webhook, by endpoint.", ["endpoint"]
        )
        self._info = gauge(
            f"{prefix}_revision", "1 for the revision of the policy that was read last.", ["revision"]
        )
        self._sync = Histogram(
            f"{prefix}_sync_seconds",
            "Seconds from a change of the policy until the match conditions are in step with it.",
            ["change"],
            buckets=SYNC_BUCKETS,
            registry=registry,
        )
        self._writes = counter(f"{prefix}_writes", "Writes of match conditions, by result.", ["result"])
        self._synced = gauge(
            "gatekeeper_py_policy_synced_timestamp_seconds",
            "Unix time at which the controller last knew that it had the newest policy.",
        )
        for change in ("tightened", "loosened"):
            self._sync.labels(change)
        for result in ("written", "failed", "refused"):
            self._writes.labels(result)

    def fastpath_known(self, revision: str) -> None:
        self._info.clear()
        if revision:
            self._info.labels(revision).set(1)

    def fastpath_step(self, *, in_step: bool, rules: dict[WebhookKind, int]) -> None:
        self._in_step.set(1 if in_step else 0)
        for endpoint, count in rules.items():
            self._rules.labels(endpoint).set(count)

    def fastpath_synced(self, change: PolicyChange, seconds: float) -> None:
        self._sync.labels(change).observe(seconds)

    def fastpath_write(self, result: Literal["written", "failed", "refused"]) -> None:
        self._writes.labels(result).inc()

    def policy_synced(self) -> None:
        self._synced.set_to_current_time()
