"""``python -m benchmarks.cluster [creates|scaling|delays|gatekeeper] [--cases CASE…] [--quick]``.

Runs on one control plane with our product, in a separate network namespace. ``creates`` and ``scaling``
compare cases side by side: each case has one short turn in each round, and is compared with the other cases
of its round. Turns of minutes would hide a difference of a few per cent, because the speed of a machine
changes from one minute to the next. With ``creates``, sixteen clients create Pods in dry run. With
``scaling``, Deployments are scaled up and down. A wrong answer or a wrong number of reviews ends the run with
status 1 and without results. ``delays.py`` describes ``delays``. ``gatekeeper`` only builds Gatekeeper, so
that ``creates`` and ``scaling`` can measure it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from benchmarks.cluster import creating, gatekeeper, scaling
from benchmarks.cluster.cases import CASES, OTHERS, Case, Stage
from benchmarks.cluster.comparison import BASE, LEAST, TARGETS, Target, as_json, tables
from benchmarks.cluster.creating import Creators
from benchmarks.cluster.delays import delays
from benchmarks.cluster.pods import PREFIXES
from benchmarks.cluster.rounds import Load, creates, play, registrations
from benchmarks.cluster.rounds import scaling as scaled
from benchmarks.cluster.site import Spoiled, site
from benchmarks.load.running import say
from tools.controlplane import network
from tools.controlplane.plane import ControlPlane, ControlPlaneError
from tools.gobuild import BuildError
from tools.programs import CONTROL_PLANE

USUAL: Final = ("enforce", "enforce-two-calls", "native", "fast-path")
ROUNDS: Final = {"creates": 60, "scaling": 10, "delays": 100}
QUICK_SECONDS: Final = 320.0
"""A quick run starts no further round this many seconds after its own start."""


def main() -> int:
    """Measure and write the results; return the exit status."""
    arguments = _arguments()
    try:
        if arguments.load == "gatekeeper":
            print(gatekeeper.build().binary)
            return 0
        if not network.isolated():
            CONTROL_PLANE.build()
            creating.build()
            network.run_isolated([sys.executable, "-m", "benchmarks.cluster", *sys.argv[1:]])
        return _measure(arguments)
    except (BuildError, network.IsolationError, ControlPlaneError, TimeoutError) as problem:
        say(f"error: {problem}")
    except Spoiled as problem:
        say(f"SPOILED, no results: {problem}")
    return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("load", nargs="?", default="creates", choices=[*ROUNDS, "gatekeeper"])
    parser.add_argument(
        "--cases",
        nargs="+",
        choices=[case.name for case in CASES],
        help=f"{BASE} is always measured; default: {' '.join(USUAL)}, and gatekeeper if it was built",
    )
    parser.add_argument("--quick", action="store_true", help="measure as many rounds as fit into six minutes")
    parser.add_argument("--rounds", type=int, help=f"number of rounds; default: {ROUNDS}")
    parser.add_argument("--out", type=Path, default=machine.LATEST, help="folder of the results")
    found = parser.parse_args()
    if found.rounds is not None and found.rounds < LEAST:
        parser.error(f"--rounds is at least {LEAST}")
    return found


def _measure(arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    count = arguments.rounds or ROUNDS[arguments.load]
    with ControlPlane(CONTROL_PLANE.cached()) as plane:
        if arguments.load == "delays":
            with site(plane, "fast-path") as place:
                found = delays(place, turns=min(count, LEAST) if arguments.quick else count)
            lines = ["# Delays on a real control plane", "", "```json", json.dumps(found, indent=2), "```"]
        else:
            end = began + QUICK_SECONDS if arguments.quick else math.inf
            found, lines = _compare(
                plane,
                arguments.load,
                arguments.cases,
                lambda done: done < count and (time.monotonic() < end or done < LEAST),
            )
    _write(arguments.out, arguments.load, found | {"seconds": round(time.monotonic() - began)}, lines)
    return 0


def _compare(
    plane: ControlPlane, name: str, requested: Sequence[str] | None, more: Callable[[int], bool]
) -> tuple[dict[str, Any], list[str]]:
    """Measure rounds of a load while ``more(number of rounds)`` is true; return results and a report."""
    release = gatekeeper.cached()
    cases = _chosen(requested, with_gatekeeper=release is not None)
    with site(plane, "enforce") as place, tempfile.TemporaryDirectory() as folder:
        peer = None
        if release is not None and any(case.name == "gatekeeper" for case in cases):
            peer = gatekeeper.start(plane, release, PREFIXES, OTHERS)
        place.disarm()
        stage = Stage(place, peer)
        load: Load = scaled
        targets: Sequence[Target] = ()
        if name == "creates":
            load, targets = creates(Creators(creating.build(), plane, Path(folder))), TARGETS
        else:
            scaling.prepare(plane)
        registered = registrations(stage, cases)
        say("ready to measure")
        rounds, left_out = play(stage, registered, load, more)
    lines = [*_introduction(name, len(rounds), left_out), *tables(rounds, targets)]
    return {"left_out": left_out, **as_json(rounds, targets)}, lines


def _chosen(names: Sequence[str] | None, *, with_gatekeeper: bool) -> list[Case]:
    """Return the cases to measure. Raises ``BuildError`` for Gatekeeper that is not built."""
    if names is not None and "gatekeeper" in names and not with_gatekeeper:
        raise BuildError("Gatekeeper is not built; run: make bench ARGS='cluster gatekeeper'")
    usual = (*USUAL, "gatekeeper") if with_gatekeeper else USUAL
    return [case for case in CASES if case.name in {BASE, *(names or usual)}]


def _introduction(name: str, rounds: int, left_out: int) -> list[str]:
    turn = {
        "creates": f"of {creating.SECONDS:g} s, with {creating.CLIENTS} creators of dry-run Pods, whose "
        "images are all pre-approved except in mutate",
        "scaling": f"in which {scaling.DEPLOYMENTS} Deployments of pre-approved Pods are scaled to "
        f"{scaling.REPLICAS} replicas until all run, and to none",
    }[name]
    described = machine.describe()
    found = described["machine"]
    text = (
        f"{rounds} rounds ({left_out} more were left out, because a client had to connect again). In each, "
        f"every case has a turn {turn}; {found['cores']} cores of {found['processor']} for all processes; "
        f"commit {machine.commit(described)}. A turn is compared with the others of its round. The figures "
        "are medians. The brackets hold the 95 % confidence interval, or for the rates the lowest and the "
        "highest one. CPU is for each create or Pod."
    )
    return ["# Side by side through a real API server", "", text, ""]


def _write(folder: Path, name: str, found: dict[str, Any], lines: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    document = {"load": name, **machine.describe(), **found}
    (folder / f"cluster-{name}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (folder / f"cluster-{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    say(f"{found['seconds']} s; written to {folder}")
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
