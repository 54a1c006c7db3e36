"""``python -m benchmarks.churn.alternating [--quick] [CASE...]``: small differences, side by side.

On a machine whose speed changes from one minute to the next, rounds of minutes hide a difference of a few
per cent. Here each case has one turn of a second in each round, in an order that changes, on one control
plane, and is compared with the others of its round. ``none-again`` shows what is found where there is no
difference. Writes ``alternating.json`` and ``alternating.md``.

Runs inside the network namespace of the end-to-end tests. All Pods are pre-approved, and the policy is the
one that is shipped. A wrong answer, or another number of reviews than a case must cause, ends the run with
status 1 and no results.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

from benchmarks import machine
from benchmarks.churn import comparison, creating, native, report
from benchmarks.churn.cases import CASES, Case, Stage
from benchmarks.churn.comparison import BASE, Round, Turn
from benchmarks.churn.creating import Creators, Reconnected, Spoiled, write_bodies
from benchmarks.churn.floors import FLOORS
from benchmarks.churn.pods import bodies
from benchmarks.churn.rounds import await_effect, expect_reviews, or_say_why, others, say
from benchmarks.churn.site import CHURN, Site, site
from tools.controlplane.build import cached
from tools.controlplane.plane import ControlPlane
from tools.installation.product import MUTATING, VALIDATING

CANDIDATES: Final = tuple(case for case in (*CASES, *FLOORS) if case.name not in {"mutate", "gatekeeper"})
"""All cases except those that need another policy or another webhook."""

USUAL: Final = ("enforce", "enforce-two-calls", "native", "fast-path")

CLIENTS: Final = 16
SECONDS: Final = 1.0
WARM_UP: Final = 0.25
ROUNDS: Final = 60
MOST_LEFT_OUT: Final = 5
QUICK_SECONDS: Final = 320.0
"""A quick run starts no further round this many seconds after its own start."""

_SERVERS_OWN: Final = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")


@dataclass(frozen=True, slots=True)
class Registration:
    """A case, and the objects that it creates on the API server, by path."""

    case: Case
    objects: Mapping[str, Mapping[str, Any]]


def main() -> int:
    """Measure and write the results; return the exit status."""
    return or_say_why(partial(_measure, _arguments()))


def _arguments() -> argparse.Namespace:
    names = [case.name for case in CANDIDATES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.churn.alternating", description=__doc__)
    parser.add_argument(
        "cases", nargs="*", metavar="CASE", help=f"{', '.join(names)} (default: {' '.join(USUAL)})"
    )
    parser.add_argument("--quick", action="store_true", help="as many rounds as fit into six minutes")
    parser.add_argument("--rounds", type=_rounds, help=f"another number of rounds than {ROUNDS}")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="folder of the results")
    found = parser.parse_args()
    for name in found.cases:
        if name not in names:
            parser.error(f"{name} is not a case; the cases are {', '.join(names)}")
    return found


def _rounds(text: str) -> int:
    number = int(text)
    if number < comparison.LEAST:
        raise argparse.ArgumentTypeError(f"at least {comparison.LEAST}")
    return number


def _measure(arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    chosen = {BASE, *(arguments.cases or USUAL)}
    count = arguments.rounds or ROUNDS
    end = began + QUICK_SECONDS if arguments.quick else math.inf
    rounds: list[Round] = []
    left_out = 0
    program = creating.build()
    with ControlPlane(cached()) as plane, site(plane) as ours, tempfile.TemporaryDirectory() as folder:
        stage = Stage(ours)
        ours.disarm()
        paths = [VALIDATING, MUTATING, *map(native.path, native.documents())]
        registrations = [_registration(stage, case, paths) for case in CANDIDATES if case.name in chosen]
        creators = Creators(program=program, plane=plane, namespace=CHURN)
        pods = write_bodies(Path(folder) / "pods.jsonl", bodies(100))
        say(f"ready to measure: {time.monotonic() - began:.0f} s")
        with ours.kubelet.looking_away():
            while len(rounds) < count and (time.monotonic() < end or len(rounds) < comparison.LEAST):
                try:
                    rounds.append(_round(stage, registrations, creators, pods, len(rounds) + left_out))
                except Reconnected as problem:
                    left_out += 1
                    say(f"a round is left out: {problem}")
                    if left_out > MOST_LEFT_OUT:
                        raise
    _write(arguments.out, rounds, left_out, time.monotonic() - began)
    return 0


def _registration(stage: Stage, case: Case, paths: Sequence[str]) -> Registration:
    """Register a case as shipped. Return the objects at ``paths`` that exist once the case is in effect."""
    with case.registered(stage):
        await_effect(stage, case)
        objects = {path: found for path in paths if (found := stage.site.product.get(path)) is not None}
    for document in objects.values():
        for key in _SERVERS_OWN:
            document["metadata"].pop(key, None)
    return Registration(case, objects)


def _round(
    stage: Stage, registrations: Sequence[Registration], creators: Creators, pods: Path, number: int
) -> Round:
    """Return one turn of each case, in an order that depends on the number of the round."""
    began = time.monotonic()
    order = Random(number).sample(registrations, len(registrations))
    found: dict[str, Turn] = {}
    for registration in order:
        try:
            _register(stage.site, registration, registrations)
            found[registration.case.name] = _turn(stage, registration.case, creators, pods)
        except Reconnected:
            raise
        except Spoiled as problem:
            raise Spoiled(f"round {number + 1}, {registration.case.name}: {problem}") from problem
    rates = ", ".join(f"{name} {turn.creates_per_second:.0f}/s" for name, turn in found.items())
    void = " VOID" if comparison.is_void(found) else ""
    say(f"round {number + 1}: {rates}, {time.monotonic() - began:.0f} s{void}")
    return {each.case.name: found[each.case.name] for each in registrations}


def _register(place: Site, chosen: Registration, registrations: Sequence[Registration]) -> None:
    """Delete the objects of all cases, and create those of the chosen case."""
    for path in {path for each in registrations for path in each.objects}:
        place.delete(path)
    for path, document in chosen.objects.items():
        place.create(path.rpartition("/")[0], document)


def _turn(stage: Stage, case: Case, creators: Creators, pods: Path) -> Turn:
    await_effect(stage, case)
    servers = stage.site.servers()
    reviews = stage.site.reviews()
    load = creators.run(
        pods, clients=CLIENTS, seconds=SECONDS, warm_up=WARM_UP, cpu=lambda: stage.site.cpu(servers)
    )
    expect_reviews(stage.site.reviews() - reviews, load.sent, case.preapproved_reviews)
    return Turn(load.per_second, load.cpu_ms("apiserver"), load.cpu_ms("webhook"), others(load))


def _write(folder: Path, rounds: Sequence[Round], left_out: int, seconds: float) -> None:
    document: dict[str, Any] = {
        "scenario": "alternating",
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds),
        "left_out": left_out,
        **machine.describe(),
        **comparison.as_json(rounds),
    }
    introduction = (
        f"{len(rounds)} rounds ({left_out} more were left out, because a client had to connect again). "
        f"In each, every case has a turn of {SECONDS:g} s, with {CLIENTS} creators of "
        f"dry-run Pods whose images are all pre-approved by the policy as shipped; {os.cpu_count()} cores of "
        f"{machine.processor()} for all processes; commit {machine.revision()}. A turn is compared with the "
        "others of its round. Medians; in brackets, what holds the true median in 95 of 100 such runs, and "
        "for creates/s the least and the most. CPU is per create."
    )
    lines = ["# Side by side through a real API server", "", introduction, "", *comparison.tables(rounds), ""]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "alternating.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (folder / "alternating.md").write_text("\n".join(lines), encoding="utf-8")
    say(f"{seconds:.0f} s; written to {folder}")
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
