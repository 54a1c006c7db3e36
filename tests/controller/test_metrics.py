"""A controller exposes the metrics of the fast path only with the fast path."""

from __future__ import annotations

from gatekeeper_py.controller.metrics import ControlMetrics, FastPathMetrics


def test_a_controller_without_the_fast_path_has_none_of_its_metrics() -> None:
    assert b"fastpath" not in ControlMetrics().exposition()


def test_every_counter_with_known_labels_starts_at_0() -> None:
    """If the first event created its series, an alert on ``increase()`` would miss that event."""
    lines = ControlMetrics().exposition().decode().splitlines()
    for series in (
        'control_repairs_total{configuration="image-validation-webhook"}',
        'control_repairs_total{configuration="image-mutation-webhook"}',
        'control_certificate_steps_total{step="promote"}',
        'control_reconciles_total{result="failed"}',
        "control_pauses_total",
    ):
        assert f"gatekeeper_py_{series} 0.0" in lines


def test_the_names_that_alerts_depend_on() -> None:
    metrics = ControlMetrics()
    fast_path = FastPathMetrics(metrics.registry)
    fast_path.fastpath_known("aaaaaaaaaaaa")
    fast_path.fastpath_known("bbbbbbbbbbbb")
    fast_path.fastpath_step(in_step=True, rules={"validating": 3, "mutating": 2})
    fast_path.fastpath_synced("tightened", 0.03)
    fast_path.fastpath_write("written")
    fast_path.policy_synced()
    lines = metrics.exposition().decode().splitlines()
    for line in (
        "gatekeeper_py_fastpath_in_step 1.0",
        'gatekeeper_py_fastpath_rules{endpoint="validating"} 3.0',
        'gatekeeper_py_fastpath_rules{endpoint="mutating"} 2.0',
        'gatekeeper_py_fastpath_revision{revision="bbbbbbbbbbbb"} 1.0',
        'gatekeeper_py_fastpath_sync_seconds_bucket{change="tightened",le="0.05"} 1.0',
        'gatekeeper_py_fastpath_sync_seconds_count{change="loosened"} 0.0',
        'gatekeeper_py_fastpath_writes_total{result="written"} 1.0',
        'gatekeeper_py_fastpath_writes_total{result="refused"} 0.0',
    ):
        assert line in lines
    assert not [line for line in lines if "aaaaaaaaaaaa" in line]
    assert [line for line in lines if line.startswith("gatekeeper_py_policy_synced_timestamp_seconds ")]


def test_without_a_policy_there_is_no_revision() -> None:
    metrics = ControlMetrics()
    fast_path = FastPathMetrics(metrics.registry)
    fast_path.fastpath_known("aaaaaaaaaaaa")
    fast_path.fastpath_known("")
    fast_path.fastpath_step(in_step=False, rules={})
    text = metrics.exposition().decode()
    assert "fastpath_revision{" not in text
    assert "gatekeeper_py_fastpath_in_step 0.0" in text
