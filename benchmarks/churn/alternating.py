"""``python -m benchmarks.churn.alternating [--pairs N] CASE...``: small differences.

On a machine whose speed changes from one minute to the next, rounds of minutes hide a difference of a few
per cent. Here ``none`` and one case take turns of a second, on one control plane, and a turn is compared with
the two of ``none`` beside it. ``none-again`` shows what is found where there is no difference. Writes
``alternating.json`` and ``alternating.md``.

Runs inside the network namespace of the end-to-end tests. It is for cases in which no webhook is asked about
a Pod that is plainly approved, and all are; when one is asked all the same there are no results.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.churn import comparison, creating, native, report
from benchmarks.churn.cases import CASES, Case, Stage
from benchmarks.churn.comparison import Turn
from benchmarks.churn.creating import Creators, write_bodies
from benchmarks.churn.floors import FLOORS
from benchmarks.churn.pods import bodies
from benchmarks.churn.rounds import await_effect, await_unlisted, expect_reviews, or_say_why, others, say
from benchmarks.churn.site import CHURN, Site, site
from tools.controlplane.build import cached
from tools.controlplane.plane import ControlPlane
from tools.installation.product import MUTATING, VALIDATING

COMPARED = tuple(
    case for case in (*CASES, *FLOORS) if case.plain_reviews == 0 and case.name not in {"none", "gatekeeper"}
)

PATHS = (
    VALIDATING,
    MUTATING,
    f"{native.POLICIES}/{native.NAME}",
    f"{native.BINDINGS}/{native.NAME}",
)
"""Whatever a case may register."""

CLIENTS = 16
SECONDS = 1.0
WARM_UP = 0.25

_PROBES_OF_A_PAIR = 20
"""At most, of those by which a change is awaited: they are reviewed."""

_SERVERS_OWN = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")


def main() -> int:
    """Measure and write; the exit status."""
    return or_say_why(partial(_measure, _arguments()))


def _arguments() -> argparse.Namespace:
    names = [case.name for case in COMPARED]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.churn.alternating", description=__doc__)
    parser.add_argument("cases", nargs="+", choices=names, metavar="CASE", help=", ".join(names))
    parser.add_argument("--pairs", type=_turns_of_each, default=40, help="turns of each case (40: 3 minutes)")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="folder of the results")
    return parser.parse_args()


def _turns_of_each(text: str) -> int:
    number = int(text)
    if number < comparison.LEAST:
        raise argparse.ArgumentTypeError(f"at least {comparison.LEAST}")
    return number


def _measure(arguments: argparse.Namespace) -> int:
    results: dict[str, list[Turn]] = {}
    program = creating.build()
    with ControlPlane(cached()) as plane, site(plane) as ours, tempfile.TemporaryDirectory() as folder:
        ours.disarm()
        creators = Creators(program=program, plane=plane, namespace=CHURN)
        pods = write_bodies(Path(folder) / "pods.jsonl", bodies(100))
        for case in COMPARED:
            if case.name in arguments.cases:
                results[case.name] = _turns(Stage(ours), case, creators, pods, arguments.pairs)
    _write(arguments.out, results)
    return 0


def _turns(stage: Stage, case: Case, creators: Creators, pods: Path, pairs: int) -> list[Turn]:
    place, began, turns, sent = stage.site, time.monotonic(), [], 0
    with case.registered(stage):
        await_effect(stage, case)
        with _switch(place) as register, place.kubelet.looking_away():
            reviews = place.reviews()
            for number in range(2 * pairs + 1):
                present = number % 2 == 1
                register(present)
                await_unlisted(place, denies=present and case.denies)
                load = creators.run(
                    pods, clients=CLIENTS, seconds=SECONDS, warm_up=WARM_UP, cpu=lambda: place.cpu(())
                )
                turns.append(Turn(load.per_second, load.cpu_ms("apiserver"), others(load)))
                sent += load.sent
            expect_reviews(max(place.reviews() - reviews - _PROBES_OF_A_PAIR * pairs, 0), sent, 0)
    found = comparison.against_neighbours(turns)["ratio"]
    say(f"{case.name}: {found.median:.3f} of none, {time.monotonic() - began:.0f} s")
    return turns


@contextmanager
def _switch(place: Site) -> Iterator[Callable[[bool], None]]:
    """What is registered, to be put there and taken away; nobody else does meanwhile."""
    objects = {path: found for path in PATHS if (found := place.product.get(path)) is not None}
    for document in objects.values():
        for key in _SERVERS_OWN:
            document["metadata"].pop(key, None)
    place.end_controller()

    def register(present: bool) -> None:  # noqa: FBT001 - there or not
        for path, document in objects.items():
            place.delete(path)
            if present:
                place.create(path.rpartition("/")[0], document)

    yield register


def _write(folder: Path, results: Mapping[str, Sequence[Turn]]) -> None:
    document: dict[str, Any] = {
        "scenario": "alternating",
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        **machine.describe(),
        "cases": comparison.as_json(results),
    }
    introduction = (
        f"`none` and one case in turn, {SECONDS:g} s each, {CLIENTS} creators of dry-run Pods that are all "
        f"plainly approved; {os.cpu_count()} cores of {machine.processor()} for all processes; commit "
        f"{machine.revision()}. A turn is compared with the two of `none` beside it. Medians; in brackets, "
        "what holds the true median in 95 of 100 such runs, and for creates/s the least and the most."
    )
    lines = [
        "# Small differences through a real API server",
        "",
        introduction,
        "",
        *comparison.table(results),
        "",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "alternating.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (folder / "alternating.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
