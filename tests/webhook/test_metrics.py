"""Metrics: the names that dashboards depend on, and the events that change them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.live.snapshot import LivePolicy
from gatekeeper_py.webhook.metrics import DURATION_BUCKETS, MAX_HOSTS, OTHER_HOSTS, Metrics
from support import documented
from support.builders import HUB_TO_CORP, policy
from support.served import families


def finding(code: str) -> Finding:
    return Finding(severity="warning", code=code, path="", line=1, message="")


class World:
    def __init__(self, now: Callable[[], float] = lambda: 1234.0) -> None:
        self.live, self.counts = LivePolicy(), CacheCounts()
        self.metrics = Metrics(self.live, self.counts, now=now)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"gatekeeper_py_{name}", labels)

    def use_everything(self) -> None:
        metrics = self.metrics
        metrics.review("validate", "CREATE", "denied", "enforce", 0.0003)
        metrics.images("unlisted", 1)
        metrics.rewritten([0, None])
        metrics.exemption("deleting")
        metrics.http_error(400)
        metrics.lookup("r.io", "found", 0.1)
        metrics.breaker("r.io", is_open=False)
        metrics.policy_live(policy(HUB_TO_CORP, mode="mutate").serving(5, self.counts), "file")
        metrics.policy_linted([finding("expired")])


def test_the_names_and_labels_are_those_of_the_interface_page() -> None:
    """Dashboards and alerts depend on them. An alert on a series that does not exist never fires."""
    world = World()
    world.use_everything()
    found = families(world.metrics.exposition())
    assert {"process_resident_memory_bytes", "process_open_fds"} <= found.keys()
    ours = {
        name: labels - {"le"}
        for name, labels in found.items()
        if name.startswith("gatekeeper_py_")
        and not name.endswith("_created")  # the server switches these off
    }
    for name, labels in ours.items():
        family = re.sub("_(bucket|count|sum)$", "", name.removeprefix("gatekeeper_py_"))
        assert labels == documented.METRICS[family], name
    assert len(ours) > 30


def test_every_counter_with_known_labels_starts_at_0() -> None:
    """An alert on increase() misses the event that creates a series."""
    world = World()
    for status in documented.STATUSES - {200}:
        assert world.value("http_errors_total", code=str(status)) == 0
    for verdict in ("allowed", "denied"):
        labels = {"endpoint": "validate", "operation": "CREATE", "verdict": verdict, "mode": "enforce"}
        assert world.value("reviews_total", **labels) == 0
    assert world.value("images_total", verdict="approved", reason="allowed") == 0
    assert world.value("images_total", verdict="rejected", reason="unlisted") == 0
    assert world.value("exemptions_total", reason="mirror-pod") == 0
    assert world.value("policy_checks_total", result="failed") == 0
    assert world.value("connections_evicted_total", why="idle") == 0


def test_a_policy_brings_the_counters_of_its_mirrors_and_registries() -> None:
    world = World()
    more = "mirrors: [{from: docker.io, to: registry.corp.io/hub, verify: true}]"
    world.metrics.policy_live(policy(more).serving(5, world.counts), "file")
    assert world.value("rewrites_total", mirror="0") == 0
    for result in ("found", "missing", "error", "stale"):
        assert world.value("lookups_total", host="registry.corp.io", result=result) == 0
    assert world.value("lookup_breaker_open", host="registry.corp.io") == 0
    assert world.value("lookup_duration_seconds_count", host="registry.corp.io") == 0


def test_the_breaker_of_other_registries_is_open_while_one_of_theirs_is() -> None:
    world = World()
    for number in range(MAX_HOSTS + 2):
        world.metrics.breaker(f"registry-{number}.example", is_open=True)
    first, last = f"registry-{MAX_HOSTS}.example", f"registry-{MAX_HOSTS + 1}.example"
    world.metrics.breaker(last, is_open=False)
    assert world.value("lookup_breaker_open", host=OTHER_HOSTS) == 1
    world.metrics.breaker(first, is_open=False)
    assert world.value("lookup_breaker_open", host=OTHER_HOSTS) == 0
    assert world.value("lookup_breaker_open", host="registry-0.example") == 1


def test_an_error_without_a_request_is_counted_and_takes_no_time_of_a_registry() -> None:
    world = World()
    world.metrics.lookup("r.io", "error", 0.1)
    world.metrics.lookup("r.io", "error", None)
    assert world.value("lookups_total", host="r.io", result="error") == 2
    assert world.value("lookup_duration_seconds_count", host="r.io") == 1


def test_registries_beyond_the_limit_share_one_series() -> None:
    world = World()
    for number in range(MAX_HOSTS + 5):
        world.metrics.lookup(f"registry-{number}.example", "found", 0.1)
    assert world.value("lookups_total", host=f"registry-{MAX_HOSTS - 1}.example", result="found") == 1
    assert world.value("lookups_total", host=f"registry-{MAX_HOSTS}.example", result="found") is None
    assert world.value("lookups_total", host="other", result="found") == 5


def test_reviews_are_counted_and_timed() -> None:
    world = World()
    for seconds in (0.00005, 0.0003, 30.0):
        world.metrics.review("mutate", "UPDATE", "mutated", "mutate", seconds)
    labels = {"endpoint": "mutate", "operation": "UPDATE", "verdict": "mutated", "mode": "mutate"}
    assert world.value("reviews_total", **labels) == 3
    assert world.value("review_duration_seconds_bucket", endpoint="mutate", le="0.0001") == 1
    assert world.value("review_duration_seconds_bucket", endpoint="mutate", le="0.0005") == 2
    assert world.value("review_duration_seconds_bucket", endpoint="mutate", le="+Inf") == 3
    assert DURATION_BUCKETS[0] == 0.0001


def test_input_of_callers_creates_no_series() -> None:
    world = World()
    for number in range(100):
        world.metrics.review("validate", f"OPERATION-{number}", "allowed", "enforce", 0.1)
    labels = {"endpoint": "validate", "operation": "other", "verdict": "allowed", "mode": "enforce"}
    assert world.value("reviews_total", **labels) == 100


def test_images_by_verdict_and_reason() -> None:
    world = World()
    world.metrics.images("allowed", 1)
    for _ in range(2):
        world.metrics.images("denied", 1)
    assert world.value("images_total", verdict="approved", reason="allowed") == 1
    assert world.value("images_total", verdict="rejected", reason="denied") == 2


def test_reloads_and_the_last_success() -> None:
    world = World()
    world.metrics.policy_reloaded("refused")
    world.metrics.policy_reloaded("unchanged")
    assert world.value("policy_last_success_timestamp_seconds") == 0
    world.metrics.policy_reloaded("loaded")
    assert world.value("policy_last_success_timestamp_seconds") == 1234.0
    for result in ("loaded", "refused", "unchanged"):
        assert world.value("policy_reloads_total", result=result) == 1


def test_the_policy_is_refused_until_another_delivery_is_accepted() -> None:
    world = World()
    for result, refused in (("refused", 1), ("unchanged", 0), ("refused", 1), ("loaded", 0)):
        world.metrics.policy_reloaded(result)  # type: ignore[arg-type]
        assert world.value("policy_refused") == refused


def test_the_next_expiry_is_absent_when_nothing_expires() -> None:
    world = World()
    assert world.value("policy_next_expiry_timestamp_seconds") is None
    world.live.install(policy().serving(5, world.counts))
    assert world.value("policy_next_expiry_timestamp_seconds") is None
    dated = policy("namespaces: [{names: [a], mode: warn, until: 2100-01-01}]")
    world.live.install(dated.serving(5, world.counts))
    expiry = datetime(2100, 1, 1, tzinfo=UTC)
    assert world.value("policy_next_expiry_timestamp_seconds") == expiry.timestamp()


def test_findings_are_counted_by_code_and_replace_the_earlier_ones() -> None:
    world = World()
    world.metrics.policy_linted([finding("expired"), finding("expired"), finding("dead-rule")])
    assert world.value("policy_findings", code="expired") == 2
    assert world.value("policy_findings", code="dead-rule") == 1
    world.metrics.policy_linted([finding("dead-rule")])
    assert world.value("policy_findings", code="expired") is None


def test_only_a_change_of_the_mode_changes_the_time_since_when_it_is_used() -> None:
    now = [100.0]
    world = World(now=lambda: now[0])
    for mode, shown in (("enforce", 100.0), ("enforce", 100.0), ("warn", 102.0), ("enforce", 103.0)):
        world.metrics.policy_live(policy(mode=mode).serving(5, world.counts), "file")
        assert world.value("mode_since_timestamp_seconds", mode=mode) == shown
        now[0] += 1
    assert world.value("mode_since_timestamp_seconds", mode="warn") is None


def test_only_the_live_policy_has_an_info_series() -> None:
    world = World()
    world.use_everything()
    enforced = policy()
    world.metrics.policy_live(enforced.serving(5, world.counts), "configmap")
    found = [s for f in world.metrics.registry.collect() for s in f.samples if s.name.endswith("policy_info")]
    assert [sample.labels for sample in found] == [
        {"revision": enforced.revision, "mode": "enforce", "source": "configmap"}
    ]
    assert world.value("policy_rules", kind="allow") == 1
    assert world.value("policy_rules", kind="mirror") == 0


def test_the_cache_is_read_when_scraped() -> None:
    world = World()
    assert world.value("cache_entries") == 0
    snapshot = policy().serving(5, world.counts)
    world.live.install(snapshot)
    for image in ("a", "a", "b"):
        snapshot.decide(None, image)
    assert world.value("cache_hits_total") == 1
    assert world.value("cache_misses_total") == 2
    assert world.value("cache_entries") == 2


def test_gauges() -> None:
    world = World()
    world.metrics.watch_connections(lambda: 7)
    world.metrics.watch_dropped_lines(lambda: 8)
    world.metrics.loop_lag(0.5)
    world.metrics.certificate(99.0)
    world.metrics.policy_present(present=True)
    world.metrics.policy_synced()
    world.metrics.http_error(413)
    assert world.value("connections") == 7
    assert world.value("log_lines_dropped_total") == 8
    assert world.value("event_loop_lag_seconds") == 0.5
    assert world.value("certificate_not_after_timestamp_seconds") == 99.0
    assert world.value("policy_present") == 1
    assert world.value("policy_synced_timestamp_seconds") == 1234.0
    assert world.value("http_errors_total", code="413") == 1
    world.metrics.policy_present(present=False)
    assert world.value("policy_present") == 0


def test_no_label_holds_an_image_a_namespace_or_a_user() -> None:
    world = World()
    world.use_everything()
    found = families(world.metrics.exposition())
    labels: set[str] = set().union(*(found[name] for name in found if name.startswith("gatekeeper_py_")))
    assert labels <= {
        "endpoint", "operation", "verdict", "mode", "le", "reason", "mirror", "revision", "source", "kind",
        "result", "code", "why", "host", "limit", "child", "cause",
    }  # fmt: skip


def test_refusals_over_a_share_are_counted_by_limit() -> None:
    world = World()
    assert world.value("lookups_over_share_total", limit="waiting") == 0
    world.metrics.over_share("rate")
    assert world.value("lookups_over_share_total", limit="rate") == 1
