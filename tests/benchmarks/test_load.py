"""The arithmetic of the load runner: void rounds, sums, targets, and the report."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import machine, report
from benchmarks.load import processes
from benchmarks.load.bench import QUICK, Bench, summary
from benchmarks.load.processes import Place
from benchmarks.load.scenarios import OTHER_SHAPES, SCENARIOS, SIZES, knee
from benchmarks.load.targets import TARGETS, Target, verdicts

QUIET: dict[str, Any] = {"generator_share": 0.2, "lag_p99_ms": 0.1, "server_share": 0.97}


@pytest.mark.parametrize(
    ("mode", "change", "reason"),
    [
        pytest.param("open", {}, None, id="open"),
        pytest.param("open", {"generator_share": 0.71}, "the generator used 71%", id="open-busy"),
        pytest.param("open", {"lag_p99_ms": 1.2}, "1.2 ms late", id="open-late"),
        pytest.param("open", {"server_share": 0.1}, None, id="open-needs-no-saturation"),
        pytest.param("closed", {"server_share": 0.8}, "only 80%", id="closed-not-saturated"),
        pytest.param("closed", {"generator_share": 0.8, "lag_p99_ms": None}, None, id="closed-busy"),
    ],
)
def test_a_disturbed_round_is_void(
    tmp_path: Path, mode: str, change: dict[str, Any], reason: str | None
) -> None:
    reasons = Bench(tmp_path, QUICK, [0, 1]).void(mode, QUIET | change)
    assert len(reasons) == (reason is not None)
    assert all(reason is not None and reason in found for found in reasons)


def test_with_one_core_everything_is_void(tmp_path: Path) -> None:
    assert Bench(tmp_path, QUICK, [0]).void("closed", QUIET) == ["server and generator share the only core"]


def test_void_rounds_do_not_count_unless_all_are() -> None:
    rounds = [{"cpu_us": float(cost), "void": void} for cost, void in ((50, []), (90, ["late"]), (60, []))]
    found = summary(rounds)
    assert (found["rounds"], found["valid"], found["void"]) == (3, 2, [])
    assert found["figures"]["cpu_us"] == {"median": 55.0, "min": 50.0, "max": 60.0}
    found = summary([{"cpu_us": 90.0, "void": ["late"]}, {"cpu_us": 70.0, "void": ["late"]}])
    assert (found["valid"], found["void"], found["figures"]["cpu_us"]["median"]) == (0, ["late"], 80.0)


def case(value: float, *void: str) -> dict[str, Any]:
    return {"figures": {"p99_ms": {"median": value, "min": value, "max": value}}, "void": list(void)}


def scenarios(value: float, *void: str) -> dict[str, Any]:
    return {"S1": {"cases": {"S1/a": case(value, *void)}, "derived": {"knee": value}, "direct": {}}}


@pytest.mark.parametrize(
    ("value", "void", "verdict"),
    [
        pytest.param(1.0, (), "met", id="met"),
        pytest.param(9.0, (), "missed", id="missed"),
        pytest.param(9.0, ("the generator was 2 ms late",), "void", id="missed-by-a-late-generator"),
        pytest.param(1.0, ("the generator was 2 ms late",), "met", id="met-in-spite-of-a-late-generator"),
        pytest.param(1.0, ("server and generator share the only core",), "void", id="void"),
    ],
)
def test_a_target_of_a_case(value: float, void: tuple[str, ...], verdict: str) -> None:
    target = Target("latency", "S1", "p99_ms", 5.0, case="S1/a", unit="ms")
    assert target.verdict(scenarios(value, *void))["verdict"] == verdict


@pytest.mark.parametrize(
    ("value", "void", "verdict"), [(12.0, (), "met"), (9.0, (), "missed"), (12.0, ("x",), "void")]
)
def test_a_target_of_a_derived_figure(value: float, void: tuple[str, ...], verdict: str) -> None:
    target = Target("knee", "S1", "knee", 10.0, at_least=True)
    assert target.verdict(scenarios(value, *void))["verdict"] == verdict


def test_an_unmeasured_target_is_not_run() -> None:
    found = verdicts({"S1": {"cases": {}, "derived": {}, "direct": {}}})
    assert len(found) == sum(target.scenario == "S1" for target in TARGETS)
    assert {each["verdict"] for each in found} == {"not run"}


def test_the_knee_is_the_last_rate_before_the_first_slow_one() -> None:
    def at(rate: float, p99: float, goodput: float) -> dict[str, Any]:
        return {f"S1/allow/{rate}": {"figures": {"p99_ms": {"median": p99}, "goodput": {"median": goodput}}}}

    fast = at(1000, 1.0, 1000.0) | at(2000, 2.0, 2000.0)
    assert knee(fast, "allow") == 2000
    assert knee(fast | at(4000, 9.0, 4000.0) | at(6000, 1.0, 6000.0), "allow") == 2000
    assert knee(fast | at(4000, 2.0, 3000.0), "allow") == 2000
    assert knee(at(1000, 9.0, 1000.0), "allow") is None


def test_the_figures_of_a_process_include_its_children() -> None:
    script = (
        "import subprocess, sys; "
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE); "
        "print(child.pid, flush=True); input(); child.communicate(b'x')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert processes.family(process.pid) == [process.pid, child]
        seen = processes.usage(process.pid)
        process.communicate("x")
    assert seen.rss_mib > 2
    with pytest.raises(ProcessLookupError):
        processes.usage(process.pid)


def test_a_command_runs_on_its_core() -> None:
    core = min(os.sched_getaffinity(0))
    script = "import os; print(os.sched_getaffinity(0), os.nice(0))"
    command = Place(core, 3).command([sys.executable, "-c", script])
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert shown == [f"{{{core}}}", str(os.nice(0) + 3)]


def test_the_report_shows_targets_cases_and_void_rounds(tmp_path: Path) -> None:
    figures = {
        name: {"median": 2.0, "min": 1.0, "max": 3.0}
        for name in ("cpu_us", "p50_ms", "p99_ms", "goodput", "max_ms")
    }
    shared = {"figures": figures, "rounds": 3, "server": "gatekeeper-py", "body_bytes": 7000.0}
    valid, void = {**shared, "valid": 3, "void": []}, {**shared, "valid": 0, "void": ["it was late"]}
    cases = {"S1/allow/1000": valid, "S1/allow/2000": void, "S1/allow/closed": valid}
    whole = {
        "made": "2026-01-01T00:00:00Z",
        "scale": "quick",
        "ciphers": ["TLS"],
        "failures": {},
        **machine.describe(),
        "targets": [
            {"what": "cost", "target": "≤ 1", "measured": "2", "verdict": "missed", "why": []},
        ],
        "scenarios": {
            "S1": {
                "title": "rates",
                "command": "python …",
                "cases": cases,
                "derived": {"knee": None},
                "direct": {},
            },
            "S5": {
                "title": "sizes",
                "command": "python …",
                "cases": {"S5/pod-7k": valid},
                "derived": {},
                "direct": {"rss": 1.5},
            },
        },
    }
    report.write(whole, tmp_path)
    text = (tmp_path / "load.md").read_text()
    assert "| cost | ≤ 1 | 2 | missed |" in text
    assert "| S1/allow/1000 | 2.0 (1.0 to 3.0) |" in text
    assert "void: it was late" in text
    assert "| rss | 1.5 |" in text
    plots = {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}
    assert set(plots) == {"latency-over-rate.svg", "cpu-over-size.svg"}
    report.write(whole, tmp_path)
    assert plots == {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}


def sizes(*, shapes: tuple[str, ...]) -> dict[str, Any]:
    """Return figures of S5. A Pod costs 20 µs plus 3 µs for each KB; each shape costs 10 % more of 41 µs."""
    pods = dict(zip(SIZES, (2, 7, 33, 1000), strict=True))
    costs = {
        **{name: (kb, 20.0 + 3 * kb) for name, kb in pods.items()},
        **{shape: (7, 41.0 * (1 + 0.1 * number)) for number, shape in enumerate(shapes)},
    }
    return {
        f"S5/{name}": {"body_bytes": kb * 1000, "figures": {"cpu_us": {"median": cost}}}
        for name, (kb, cost) in costs.items()
    }


def test_other_shapes_are_compared_with_a_pod_of_the_same_size() -> None:
    found = SCENARIOS["S5"].derive(sizes(shapes=OTHER_SHAPES))

    assert found["us_per_kb"] == pytest.approx(3.0)
    assert found["deployment-7k_over_pod"] == pytest.approx(1.0)
    assert found["shape_over_pod"] == pytest.approx(1.3)


def test_the_costliest_shape_is_unknown_when_one_was_not_measured() -> None:
    assert "shape_over_pod" not in SCENARIOS["S5"].derive(sizes(shapes=OTHER_SHAPES[1:]))


def test_the_machine_is_described() -> None:
    described = machine.describe()
    assert described["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert described["versions"]["aiohttp"]
