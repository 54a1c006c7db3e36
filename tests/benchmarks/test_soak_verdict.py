"""A soak fails for each single problem, and its report names the problem."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from benchmarks.load.server import Metrics
from benchmarks.soak.process import Held
from benchmarks.soak.sampling import Sample
from benchmarks.soak.verdict import MOST_GROWTH, Outcome, problems, stood_still

FLAT: Final = [
    Sample(
        second=float(second),
        livez_ms=1,
        held=Held(
            rss_mib=80 + second % 3, files=35 + second % 5, tasks=24 + second % 2, threads=8, connections=20,
            inflight=0,
        ),
    )
    for second in range(1, 301)
]  # fmt: skip
ALONE: Final = Held(rss_mib=70, files=12, tasks=4, threads=3, connections=0, inflight=0)
LOAD: Final[dict[str, Any]] = {
    "ok": 1000, "wrong": 0, "failed": 0, "shed": 0, "errors": {}, "wrong_examples": [], "lag_ms": {"max": 20},
}  # fmt: skip
PASSED: Final = Outcome(
    load=LOAD,
    samples=FLAT,
    livez=[],
    sampled_late=0.01,
    probe_reviews=100,
    probe_wrong=[],
    probe_failed=[],
    faults=[{"name": "garbage", "begin": 1.0, "end": 2.0, "problem": ""}],
    before=ALONE,
    after=replace(ALONE, files=13, threads=8),
    reviews_logged=150,
    reviews_counted=150,
    lines_dropped=0,
    errors_500=0,
    bad_lines=[],
    stderr="",
    exit_code=0,
)


def grown(a_second: float, *names: str) -> list[Sample]:
    def later(each: Sample) -> Held:
        more = int if names[0] != "rss_mib" else float
        return replace(
            each.held, **{name: getattr(each.held, name) + more(a_second * each.second) for name in names}
        )

    return [replace(each, held=later(each)) for each in FLAT]


def test_a_soak_without_problems_passes() -> None:
    assert list(problems(PASSED)) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param(
            {"load": {**LOAD, "wrong": 1, "wrong_examples": ["uid"]}}, "1 good requests wrong", id="wrong"
        ),
        pytest.param({"load": {**LOAD, "failed": 2, "errors": {"reset": 2}}}, "reset", id="failed"),
        pytest.param({"load": {**LOAD, "shed": 3}}, "shed", id="shed"),
        pytest.param({"load": {**LOAD, "ok": 0}}, "no answer", id="no-load"),
        pytest.param({"probe_wrong": ["allowed"]}, "allowed", id="stale-verdict"),
        pytest.param({"probe_failed": ["reset"]}, "reset", id="probe-failed"),
        pytest.param({"probe_reviews": 0}, "sent no review", id="no-probe"),
        pytest.param({"faults": []}, "no fault", id="no-faults"),
        pytest.param(
            {"faults": [{"name": "x", "begin": 1.0, "end": 2.0, "problem": "no 408"}]}, "no 408", id="fault"
        ),
        pytest.param({"livez": ["timed out"]}, "/livez", id="livez"),
        pytest.param({"errors_500": 1}, "500", id="bug"),
        pytest.param({"stderr": "Traceback"}, "Traceback", id="stderr"),
        pytest.param({"exit_code": 1}, "exit code", id="exit-code"),
        pytest.param({"exit_code": None}, "exit code", id="no-exit"),
        pytest.param({"bad_lines": ["{"]}, "log lines", id="bad-log"),
        pytest.param({"lines_dropped": 1}, "lost", id="dropped-lines"),
        pytest.param({"reviews_logged": 149}, "149", id="line-missing"),
        pytest.param({"samples": FLAT[:2]}, "too few", id="no-samples"),
        pytest.param({"samples": grown(0.2, "rss_mib")}, "rss_mib", id="memory-leak"),
        pytest.param({"samples": grown(0.1, "files")}, "files", id="descriptor-leak"),
        pytest.param({"samples": grown(0.1, "tasks")}, "tasks", id="task-leak"),
        pytest.param({"samples": grown(0.1, "threads")}, "threads", id="thread-leak"),
        pytest.param({"after": replace(PASSED.after, connections=1)}, "connections", id="connection-left"),
        pytest.param({"after": replace(PASSED.after, inflight=1)}, "inflight", id="review-left"),
        pytest.param({"after": replace(PASSED.after, files=40)}, "files", id="files-left"),
        pytest.param({"after": replace(PASSED.after, tasks=8)}, "tasks", id="task-left"),
        pytest.param({"after": replace(PASSED.after, threads=20)}, "threads", id="threads-left"),
    ],
)
def test_one_problem_fails_the_soak(changes: dict[str, Any], problem: str) -> None:
    (found,) = problems(replace(PASSED, **changes))
    assert problem in found


def test_growth_within_the_limit_passes() -> None:
    for name, most in MOST_GROWTH.items():
        assert list(problems(replace(PASSED, samples=grown(most / 150 / 2, name)))) == []


def test_files_and_tasks_of_more_connections_are_not_a_leak() -> None:
    samples = grown(0.5, "connections", "files", "tasks")
    assert list(problems(replace(PASSED, samples=samples))) == []


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        pytest.param({}, 0, id="ran-on"),
        pytest.param({"sampled_late": 3.0}, 3, id="sampler-woken-late"),
        pytest.param({"load": {**LOAD, "lag_ms": {"max": 4000}}}, 4, id="generator-woken-late"),
    ],
)
def test_a_stalled_machine_is_detected_by_late_timers(changes: dict[str, Any], seconds: float) -> None:
    assert stood_still(replace(PASSED, **changes)) == seconds


def test_a_scrape_is_summed_by_label() -> None:
    metrics = Metrics(
        'gatekeeper_py_reviews_total{mode="warn",verdict="allowed"} 3.0\n'
        'gatekeeper_py_reviews_total{mode="warn",verdict="denied"} 4.0\n'
        "gatekeeper_py_connections 2.0\n"
    )
    assert metrics.sum("reviews_total") == 7
    assert metrics.sum("reviews_total", 'verdict="denied"') == 4
    assert metrics.sum("connections") == 2
    assert metrics.sum("nothing") == 0
