"""Compare two load runs: figures that got worse, void cases, and runs that cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import main


def case(cost: float, p99: float = 1.0, *, loop: str = "open", void: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a case with only the compared figures. ``cost`` is in µs, ``p99`` in ms."""
    figures = {name: {"median": value} for name, value in {"cpu_us": cost, "p99_ms": p99}.items()}
    return {"figures": figures, "loop": loop, "void": list(void)}


def run(*, cores: int = 2, failures: dict[str, str] | None = None, **cases: dict[str, Any]) -> dict[str, Any]:
    return {"machine": {"cores": cores}, "failures": failures or {}, "scenarios": {"S5": {"cases": cases}}}


def compare(tmp_path: Path, old: dict[str, Any], new: dict[str, Any], *arguments: str) -> int:
    files = []
    for name, content in (("old", old), ("new", new)):
        files.append(str(tmp_path / f"{name}.json"))
        Path(files[-1]).write_text(json.dumps(content))
    return main([*files, *arguments])


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        pytest.param(case(50), case(50), 0, id="the-same"),
        pytest.param(case(50), case(40), 0, id="better"),
        pytest.param(case(50), case(60), 1, id="worse-by-both"),
        pytest.param(case(10), case(14), 0, id="many-percent-few-microseconds"),
        pytest.param(case(1000), case(1050), 0, id="few-percent-many-microseconds"),
        pytest.param(case(50), case(60, void=("late",)), 0, id="void-now"),
        pytest.param(case(50, void=("late",)), case(60), 0, id="void-before"),
        pytest.param(case(50, 1.0), case(50, 1.2), 1, id="p99-in-an-open-loop"),
        pytest.param(
            case(50, 1.0, loop="closed"), case(50, 1.2, loop="closed"), 0, id="p99-in-a-closed-loop"
        ),
    ],
)
def test_worse_means_by_both_bounds(
    tmp_path: Path, old: dict[str, Any], new: dict[str, Any], code: int
) -> None:
    assert compare(tmp_path, run(a=old), run(a=new)) == code


def test_the_bounds_are_options(tmp_path: Path) -> None:
    old, new = run(a=case(50)), run(a=case(60))
    assert compare(tmp_path, old, new, "--percent", "25") == 0
    assert compare(tmp_path, old, new, "--microseconds", "11") == 0


def test_every_figure_is_a_line_of_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(tmp_path, run(a=case(50, 1), b=case(5)), run(a=case(60, 1), b=case(5), c=case(1))) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines[1:-1]] == [["a", "cpu"], ["a", "p99"], ["b", "cpu"], ["b", "p99"]]
    assert lines[1] == ["a", "cpu", "50.0", "60.0", "+20.0%", "WORSE"]
    assert lines[-1] == ["4", "figures,", "1", "worse"]


def test_another_machine_is_refused_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = run(a=case(50)), run(a=case(60), cores=8)
    assert compare(tmp_path, old, new) == 2
    assert "different machines" in capsys.readouterr().err
    assert compare(tmp_path, old, new, "--force") == 1


def test_a_failed_run_is_refused(tmp_path: Path) -> None:
    assert compare(tmp_path, run(a=case(50)), run(a=case(50), failures={"S5": "wrong answer"})) == 2


def test_runs_without_a_common_case_are_refused(tmp_path: Path) -> None:
    assert compare(tmp_path, run(a=case(50)), run(b=case(50))) == 2
