"""``python -m benchmarks.compare OLD.json NEW.json``: report what became worse between two load runs.

Same-named cases are compared by CPU per review and, in an open loop, by latency at the median and at p99
(in a closed loop, latency follows from the cost). Worse means more than X percent *and* more than Y
microseconds: small figures vary by many percent, and large figures by many microseconds. A case that is void
in either run is shown and not judged. Exits 1 when something became worse, 2 when the runs cannot be
compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FIGURES: Final = {"cpu_us": 1.0, "p50_ms": 1000.0, "p99_ms": 1000.0}
"""Microseconds in each unit."""

Results = Mapping[str, Any]


class Incomparable(ValueError):
    """The two runs cannot be compared; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class Change:
    """One figure before and after, in microseconds."""

    case: str
    figure: str
    old: float
    new: float
    void: bool

    @property
    def percent(self) -> float:
        return (self.new / self.old - 1) * 100 if self.old else 0.0

    def worse(self, percent: float, microseconds: float) -> bool:
        """Return whether the figure grew by more than both limits."""
        return not self.void and self.percent > percent and self.new - self.old > microseconds


def changes(old: Results, new: Results) -> Iterator[Change]:
    """Yield all figures that both runs have."""
    for key, scenario in new["scenarios"].items():
        before = old["scenarios"].get(key, {"cases": {}})["cases"]
        for name, case in scenario["cases"].items():
            if name not in before:
                continue
            for figure, unit in FIGURES.items():
                if figure != "cpu_us" and case["loop"] == "closed":
                    continue
                sides = before[name]["figures"].get(figure), case["figures"].get(figure)
                if sides[0] is not None and sides[1] is not None:
                    void = bool(before[name]["void"] or case["void"])
                    yield Change(name, figure, sides[0]["median"] * unit, sides[1]["median"] * unit, void)


def check_comparable(old: Results, new: Results) -> None:
    """Raise ``Incomparable`` for runs that failed or were made on different machines."""
    for name, run in (("old", old), ("new", new)):
        if run["failures"]:
            raise Incomparable(f"the {name} run failed: {run['failures']}")
    if old["machine"] != new["machine"]:
        raise Incomparable(
            f"different machines: {old['machine']} and {new['machine']}; --force compares them"
        )


def table(compared: list[Change], percent: float, microseconds: float) -> Iterator[str]:
    """Yield the lines of a table."""
    width = max([len(change.case) for change in compared], default=4)
    yield f"{'case':<{width}}  {'figure':<7} {'old µs':>12} {'new µs':>12} {'change':>8}"
    for change in compared:
        note = "  void" if change.void else "  WORSE" if change.worse(percent, microseconds) else ""
        yield (
            f"{change.case:<{width}}  {change.figure.partition('_')[0]:<7} {change.old:>12,.1f} "
            f"{change.new:>12,.1f} {change.percent:>+7.1f}%{note}"
        )


def main(arguments: list[str] | None = None) -> int:
    """Print the table; return 1 when something became worse."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--percent", type=float, default=10.0, help="X (default 10)")
    parser.add_argument("--microseconds", type=float, default=5.0, help="Y (default 5)")
    parser.add_argument("--force", action="store_true", help="compare runs of different machines")
    options = parser.parse_args(arguments)
    old, new = (json.loads(file.read_text(encoding="utf-8")) for file in (options.old, options.new))
    try:
        if not options.force:
            check_comparable(old, new)
    except Incomparable as problem:
        sys.stderr.write(f"error: {problem}\n")
        return 2
    compared = list(changes(old, new))
    if not compared:
        sys.stderr.write("error: the runs have no case in common\n")
        return 2
    for line in table(compared, options.percent, options.microseconds):
        print(line)
    worse = [change for change in compared if change.worse(options.percent, options.microseconds)]
    print(f"{len(compared)} figures, {len(worse)} worse")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
