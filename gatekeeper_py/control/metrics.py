"""The controller's Prometheus metrics: what there is to alert on."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest

from gatekeeper_py.control.reconcile import Report

PREFIX: Final = "gatekeeper_py_control"


class ControlMetrics:
    """All metrics of one controller, on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reconciles = Counter(
            f"{PREFIX}_reconciles", "Passes, by result.", ["result"], registry=self.registry
        )
        self._repairs = Counter(
            f"{PREFIX}_repairs",
            "Webhook configurations that were made or put right.",
            ["configuration"],
            registry=self.registry,
        )
        self._steps = Counter(
            f"{PREFIX}_certificate_steps", "Steps of certificate rotation.", ["step"], registry=self.registry
        )
        self._armed = Gauge(f"{PREFIX}_armed", "1 when the configurations are there.", registry=self.registry)
        self._replicas = Gauge(f"{PREFIX}_replicas", "Replicas behind the Service.", registry=self.registry)
        self._last = Gauge(
            f"{PREFIX}_last_success_timestamp_seconds", "When a pass last completed.", registry=self.registry
        )
        self._not_after = Gauge(
            "gatekeeper_py_certificate_not_after_timestamp_seconds",
            "When the certificate in the Secret expires.",
            registry=self.registry,
        )
        self._lag = Gauge(
            "gatekeeper_py_event_loop_lag_seconds",
            "How late the event loop last ran a timer.",
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        for result in ("completed", "failed"):
            self._reconciles.labels(result)

    def reconciled(self, report: Report) -> None:
        self._reconciles.labels("completed").inc()
        self._armed.set(1 if report.armed else 0)
        self._replicas.set(report.replicas)
        self._last.set_to_current_time()
        if report.not_after is not None:
            self._not_after.set(report.not_after.timestamp())
        if report.change:
            self._steps.labels(report.change).inc()
        for name in report.repaired:
            self._repairs.labels(name).inc()

    def failed(self) -> None:
        self._reconciles.labels("failed").inc()

    def loop_lag(self, seconds: float) -> None:
        self._lag.set(seconds)

    def exposition(self) -> bytes:
        """The text format that Prometheus scrapes."""
        return generate_latest(self.registry)
