"""``python -m benchmarks.load [--full] [--out DIRECTORY] [SCENARIO …]``: load from outside.

Without scenarios, runs all but S11, which needs other servers to be built: ``python -m benchmarks.load S11``.
Writes ``load.json``, tables and plots. Exits 1 when an answer was wrong or a run failed; a missed target
is a line in the report, not a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks import machine, report
from benchmarks.load import running, targets
from benchmarks.load.bench import FULL, QUICK, Bench, WrongAnswer
from benchmarks.load.generator import GeneratorFailed, build
from benchmarks.load.running import say
from benchmarks.load.scenarios import SCENARIOS
from benchmarks.load.server import NotReady
from tools.gobuild import BuildError

PEERS: Final = "S11"


def main() -> int:
    """Run the named scenarios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--full", action="store_true", help="more rounds, longer, more cases")
    parser.add_argument("--out", type=Path, default=machine.LATEST, help="directory for the results")
    parser.add_argument(
        "--nice",
        type=int,
        default=0,
        metavar="N",
        help="niceness of server and generator; a negative one, for a machine with other work, needs root",
    )
    parser.add_argument("scenario", nargs="*", help=f"of {', '.join(SCENARIOS)}")
    arguments = parser.parse_args()
    unknown = [key for key in arguments.scenario if key not in SCENARIOS]
    if unknown:
        parser.error(f"no such scenario: {', '.join(unknown)}")
    chosen = arguments.scenario or [key for key in SCENARIOS if key != PEERS]
    try:
        build()
        results = _run(chosen, full=arguments.full, niceness=arguments.nice)
    except BuildError as missing:
        say(f"error: {missing}")
        return 1
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "load.json"
    file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    report.write(results, arguments.out)
    for target in results["targets"]:
        print(f"{target['verdict']:<8} {target['what']}: {target['measured']} (target: {target['target']})")
    for key, problem in results["failures"].items():
        say(f"FAILED {key}: {problem}")
    print(f"results in {arguments.out}")
    return 1 if results["failures"] else 0


def _run(chosen: list[str], *, full: bool, niceness: int) -> dict[str, Any]:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        say("only one core: server and generator share it, so every measurement is void")
    scenarios: dict[str, Any] = {}
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="gatekeeper-py-load-") as folder:
        bench = Bench(Path(folder), FULL if full else QUICK, cores, niceness)
        described = machine.describe()
        try:
            for key in chosen:
                say(f"{key}: {SCENARIOS[key].title}")
                try:
                    scenarios[key] = running.run(SCENARIOS[key], bench)
                except WrongAnswer as problem:
                    # A wrong answer invalidates the whole run.
                    failures[key] = f"wrong answer: {problem}"
                    break
                except (NotReady, GeneratorFailed) as problem:
                    failures[key] = str(problem)
        finally:
            bench.end()
        return {
            "format": 1,
            "kind": "load",
            "made": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "scale": "full" if full else "quick",
            "nice": niceness,
            **described,
            "ciphers": sorted(bench.ciphers - {""}),
            "scenarios": scenarios,
            "failures": failures,
            "targets": [] if failures else targets.verdicts(scenarios),
        }


if __name__ == "__main__":
    sys.exit(main())
