"""Plots of a load run and of a comparison on an API server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

SIZES: Final = ("pod-2k", "pod-7k", "pod-33k", "pod-1m")


def figures(results: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    """Yield the plots for which there are figures, each with the name of its file."""
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


def comparison(cases: Mapping[str, Any], titles: Mapping[str, str]) -> Figure:
    """Return bars for each case: creates per second as a share of none, and CPU per create."""
    figure = Figure(figsize=(9, 0.9 + 0.4 * len(cases)), layout="constrained")
    share, cpu = figure.subplots(1, 2, sharey=True)
    names = [titles[name] for name in cases]
    over = [case["over_none"] for case in cases.values()]
    medians = [each["median"] for each in over]
    below = [each["median"] - each["low"] for each in over]
    above = [each["high"] - each["median"] for each in over]
    share.barh(names, medians, xerr=[below, above], color="#5c7cfa", ecolor="#868e96")
    share.set(xlabel="creates/s relative to no webhook", xlim=(0, 1.1))
    share.invert_yaxis()
    webhook = [case["webhook_cpu_ms"] for case in cases.values()]
    api = [max(case["added_ms"]["median"], 0) for case in cases.values()]
    cpu.barh(names, webhook, color="#f59f00", label="webhook")
    cpu.barh(names, api, left=webhook, color="#868e96", label="API server, added")
    cpu.set(xlabel="CPU per create, ms")
    cpu.legend(frameon=False)
    return figure


_DARK: Final = (
    "<style>@media (prefers-color-scheme: dark) { text { fill: #e6edf3 !important }"
    " [style*='fill: #ffffff'] { fill: #161b22 !important }"
    " [style*='stroke: #000000'] { stroke: #8b949e !important } }</style>"
)
"""Makes the picture dark where the page is dark."""


def save(figure: Figure, file: Path) -> None:
    """Write a plot. The same figures give the same file."""
    with mpl.rc_context({"svg.hashsalt": "gatekeeper-py", "svg.fonttype": "none"}):
        figure.savefig(file, metadata={"Date": None})
    drawn = file.read_text(encoding="utf-8")
    file.write_text(drawn.replace("<defs>", f"{_DARK}\n <defs>", 1), encoding="utf-8")
