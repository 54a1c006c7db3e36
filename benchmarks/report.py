"""Tables of a load run, written with its plots beside its JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import commit

Results = Mapping[str, Any]

COLUMNS: Final = (
    ("cpu_us", "CPU µs/review", "{:.1f}"),
    ("own_cpu_us", "without child processes", "{:.1f}"),
    ("goodput", "answers/s", "{:,.0f}"),
    ("p50_ms", "p50 ms", "{:.2f}"),
    ("p99_ms", "p99 ms", "{:.2f}"),
    ("p999_ms", "p99.9 ms", "{:.1f}"),
    ("max_ms", "max ms", "{:.0f}"),
    ("rss_peak_mib", "RSS MiB", "{:.0f}"),
    ("hit_rate", "hits", "{:.0%}"),
    ("p99_without_ms", "p99 ms without look-up", "{:.2f}"),
    ("p99_with_ms", "p99 ms with look-up", "{:.1f}"),
    ("lookups", "look-ups", "{:,.0f}"),
    ("failed", "failed", "{:.0f}"),
)
RANGED: Final = frozenset({"cpu_us", "p99_ms", "p99_without_ms"})
"""Figures that are shown with their lowest and highest value."""


def write(results: Results, folder: Path) -> None:
    """Write ``load.md``, and the plots for which there are figures."""
    from benchmarks import plots  # noqa: PLC0415 - matplotlib is slow to import, and only for plots

    figures = dict(plots.figures(results))
    for name, figure in figures.items():
        plots.save(figure, folder / name)
    (folder / "load.md").write_text("\n".join(_lines(results, figures)) + "\n", encoding="utf-8")


def _lines(results: Results, plots: Iterable[str]) -> Iterator[str]:
    machine, versions = results["machine"], results["versions"]
    yield f"# Load on one core, {results['made']} ({results['scale']} run)"
    yield ""
    yield f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
    yield f"{machine['system']}; "
    yield f"commit {commit(results)}; {', '.join(results['ciphers'])}; "
    yield ", ".join(f"{name} {version}" for name, version in versions.items() if version) + "."
    yield ""
    yield (
        "Server and generator on a core each, over loopback. Medians; in brackets the least and the "
        "most of the rounds. How to read this: benchmarks/README.md."
    )
    for key, problem in results["failures"].items():
        yield ""
        yield f"**{key} failed, so the run does not count:** {problem}"
    if results["targets"]:
        yield from _target_table(results["targets"])
    for key, scenario in results["scenarios"].items():
        yield from _scenario(key, scenario)
    for name in plots:
        yield ""
        yield f"![{name.removesuffix('.svg').replace('-', ' ')}]({name})"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield an empty line and a table of Markdown."""
    yield ""
    yield f"| {' | '.join(columns)} |"
    yield f"{'|---' * len(columns)}|"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"


def _target_table(targets: list[dict[str, Any]]) -> Iterator[str]:
    yield ""
    yield "## Targets"
    rows = []
    for target in targets:
        why = f" ({'; '.join(target['why'])})" if target["why"] else ""
        rows.append((target["what"], target["target"], target["measured"], f"{target['verdict']}{why}"))
    yield from table(("", "target", "measured", ""), rows)


def _scenario(key: str, scenario: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield f"## {key}: {scenario['title']}"
    yield ""
    yield f"`{scenario['command']}`"
    cases = scenario["cases"]
    shown = [column for column in COLUMNS if any(column[0] in case["figures"] for case in cases.values())]
    rows = []
    for name, case in cases.items():
        cells = [_cell(case["figures"].get(figure), form, figure in RANGED) for figure, _, form in shown]
        rows.append((name, *cells, _note(case)))
    yield from table(("", *(title for _, title, _ in shown), ""), rows)
    derived = scenario["derived"] | scenario["direct"]
    if derived:
        found = ((name.replace("_", " "), _value(value)) for name, value in derived.items())
        yield from table(("derived", ""), found)


def _value(value: float | str | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.4g}"


def _cell(found: dict[str, float] | None, form: str, ranged: bool) -> str:  # noqa: FBT001
    if found is None:
        return "-"
    text = form.format(found["median"])
    if ranged and found["min"] != found["max"]:
        text += f" ({form.format(found['min'])} to {form.format(found['max'])})"
    return text


def _note(case: dict[str, Any]) -> str:
    if case["void"]:
        return f"void: {'; '.join(case['void'])}"
    if case["valid"] < case["rounds"]:
        return f"{case['rounds'] - case['valid']} of {case['rounds']} rounds void"
    return ""
