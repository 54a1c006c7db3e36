"""An alarm is logged when it begins and when it ends. Between them, its metric is 1."""

from __future__ import annotations

from gatekeeper_py.control.alarms import ALARMS, Alarm, Alarms
from gatekeeper_py.control.metrics import ControlMetrics
from recording import RecordingLog


def value(metrics: ControlMetrics, what: Alarm) -> float:
    found = metrics.registry.get_sample_value("gatekeeper_py_control_alarm", {"what": what})
    assert found is not None
    return found


def test_every_alarm_has_a_value_from_the_start() -> None:
    metrics = ControlMetrics()
    Alarms(metrics, RecordingLog())
    assert [value(metrics, what) for what in ALARMS] == [0.0] * 8


def test_an_alarm_is_logged_once_when_it_begins_and_once_when_it_ends() -> None:
    metrics, log = ControlMetrics(), RecordingLog()
    alarms = Alarms(metrics, log)
    alarms.update({"service": "missing", "secret": ""})
    alarms.update({"service": "still missing"})
    alarms.update({"secret": ""})
    assert value(metrics, "service") == 1.0
    alarms.update({"service": ""})
    assert value(metrics, "service") == 0.0
    assert log.lines == [
        ("warning", "alarm", {"what": "service", "problem": "missing"}),
        ("info", "alarm_ended", {"what": "service"}),
    ]
