"""Tables and plots of a load run, written beside its JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

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

SIZES: Final = ("pod-2k", "pod-7k", "pod-33k", "pod-1m")


def write(results: Results, folder: Path) -> None:
    """Write ``load.md``, and the plots for which there are figures."""
    plots = dict(_plots(results))
    for name, figure in plots.items():
        save(figure, folder / name)
    (folder / "load.md").write_text("\n".join(_lines(results, plots)) + "\n", encoding="utf-8")


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


def _plots(results: Results) -> Iterator[tuple[str, Figure]]:
    scenarios = results["scenarios"]
    if "S1" in scenarios:
        yield "latency-over-rate.svg", _latency(scenarios["S1"]["cases"])
    if any(f"S5/{size}" in scenarios.get("S5", {}).get("cases", {}) for size in SIZES):
        yield "cpu-over-size.svg", _cost(scenarios["S5"]["cases"], scenarios.get("S11", {}).get("cases", {}))


def _latency(cases: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(
        xlabel="offered reviews/s on one core", ylabel="p99 latency, ms", yscale="log", title="7 KB Pod, TLS"
    )
    curves: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for name, case in cases.items():
        _, mode, rate = name.split("/")
        if rate.isdigit() and mode != "mixed":
            curves.setdefault(mode, []).append((int(rate), case))
    for mode, points in curves.items():
        points.sort(key=lambda point: point[0])
        line = axes.plot(
            [rate for rate, _ in points],
            [case["figures"]["p99_ms"]["median"] for _, case in points],
            marker="o",
            label=mode,
        )[0]
        void = [(rate, case["figures"]["p99_ms"]["median"]) for rate, case in points if case["void"]]
        if void:
            axes.plot(*zip(*void, strict=True), "x", color=line.get_color(), markersize=10)
    axes.plot([], [], "xk", label="void")
    axes.axhline(5, color="grey", linewidth=0.8, linestyle="--")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return figure


def _cost(ours: dict[str, Any], peers: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(
        xlabel="body, KB", ylabel="CPU µs/review", xscale="log", yscale="log", title="at saturation, TLS"
    )
    lines: dict[str, list[dict[str, Any]]] = {
        "gatekeeper-py": [ours[f"S5/{size}"] for size in SIZES if f"S5/{size}" in ours]
    }
    for case in peers.values():
        if case["server"] != "gatekeeper-py":
            lines.setdefault(case["server"], []).append(case)
    for name, points in lines.items():
        measured = [point for point in points if "cpu_us" in point["figures"]]
        axes.plot(
            [point["body_bytes"] / 1000 for point in measured],
            [point["figures"]["cpu_us"]["median"] for point in measured],
            marker="o",
            label=name,
            linewidth=2.5 if name == "gatekeeper-py" else 1,
        )
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    return figure


def save(figure: Figure, file: Path) -> None:
    """Write a plot. The same figures give the same file."""
    with mpl.rc_context({"svg.hashsalt": "gatekeeper-py", "svg.fonttype": "none"}):
        figure.savefig(file, metadata={"Date": None})
