"""``python -m benchmarks.churn [--quick]``, inside the network namespace of the end-to-end tests.

Starts one control plane, installs our product on it, and measures with each case registered in turn: creates
of Pods by sixteen clients and by one, and Deployments scaled up and down. Writes ``churn.json`` and
``churn.md``. A wrong answer ends the run with status 1 and without results.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.churn import creating, gatekeeper, pods, report, scaling
from benchmarks.churn.approval import PREFIXES
from benchmarks.churn.cases import CASES, OTHERS, Stage, available
from benchmarks.churn.creating import Creators
from benchmarks.churn.rounds import FULL, QUICK, Plan, Sample, or_say_why, play, say
from benchmarks.churn.site import CHURN, site
from tools.controlplane.build import PRODUCTS, PROGRAMS, cached
from tools.controlplane.plane import ControlPlane


def main() -> int:
    """Measure and write the results; return the exit status."""
    arguments = _arguments()
    return or_say_why(_build_gatekeeper if arguments.build_gatekeeper else partial(_measure, arguments))


def _build_gatekeeper() -> int:
    print(gatekeeper.build())
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.churn", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: five minutes")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="folder of the results")
    parser.add_argument("--rounds", type=int, help="another number of rounds")
    parser.add_argument(
        "--cases", nargs="+", choices=[case.name for case in CASES], help="only these; none is always there"
    )
    parser.add_argument(
        "--gatekeeper",
        type=Path,
        help=f"its binary, with its manifest {gatekeeper.MANIFEST} in the same folder; "
        "by default the one that --build-gatekeeper built",
    )
    parser.add_argument(
        "--build-gatekeeper",
        action="store_true",
        help=f"only build {gatekeeper.VERSION} (some minutes, needs the network) and print where it is",
    )
    return parser.parse_args()


def _measure(arguments: argparse.Namespace) -> int:
    plan = QUICK if arguments.quick else FULL
    if arguments.rounds is not None:
        plan = dataclasses.replace(plan, rounds=arguments.rounds)
    binary = arguments.gatekeeper or gatekeeper.cached()
    cases, left_out = available(gatekeeper=binary is not None)
    if arguments.cases:
        requested = {report.BASE, *arguments.cases}
        for name in requested & left_out.keys():
            say(f"error: {name} can't be measured: {left_out[name]}")
            return 1
        left_out |= {case.name: "not asked for" for case in cases if case.name not in requested}
        cases = [case for case in cases if case.name in requested]
    for name, reason in left_out.items():
        say(f"left out: {name}: {reason}")

    began = time.monotonic()
    program = creating.build()
    with ControlPlane(cached()) as plane, site(plane) as ours, tempfile.TemporaryDirectory() as folder:
        say(f"control plane and product: {time.monotonic() - began:.0f} s")
        peer = None
        if binary is not None and any(case.name == "gatekeeper" for case in cases):
            peer = gatekeeper.start(plane, binary, prefixes=PREFIXES, namespaces=OTHERS)
        ours.disarm()
        creators = Creators(program=program, plane=plane, namespace=CHURN)
        samples = play(Stage(ours, peer), cases, plan, creators, Path(folder))
    _write(arguments.out, plan, samples, left_out, time.monotonic() - began)
    return 0


def _write(folder: Path, plan: Plan, samples: list[Sample], left_out: dict[str, str], seconds: float) -> None:
    found = report.figures(samples)
    sizes = [len(json.dumps(body, separators=(",", ":"))) for body in pods.bodies(50)]
    document: dict[str, Any] = {
        "scenario": "churn",
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds),
        "commit": machine.revision(),
        "machine": {"cpu": machine.processor(), "cores": os.cpu_count(), "load_average": os.getloadavg()[0]},
        "versions": {
            "python": platform.python_version(),
            **{product.folder: product.version(PROGRAMS.root) for product in PRODUCTS},
            **({} if "gatekeeper" in left_out else {"gatekeeper": gatekeeper.VERSION}),
        },
        "plan": dataclasses.asdict(plan),
        "body_bytes": sum(sizes) // len(sizes),
        "deployments": scaling.DEPLOYMENTS,
        "left_out": left_out,
        "targets": report.judged(found),
        "figures": {
            label: {name: spread.as_json() for name, spread in each.items()} for label, each in found.items()
        },
        "samples": [dataclasses.asdict(sample) for sample in samples],
    }
    table = report.markdown(document, found)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "churn.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (folder / "churn.md").write_text(table, encoding="utf-8")
    say(f"{seconds:.0f} s; written to {folder}")
    print(table)


if __name__ == "__main__":
    sys.exit(main())
