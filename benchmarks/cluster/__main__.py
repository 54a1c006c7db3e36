"""``make compare``: gatekeeper-py, a native policy, Gatekeeper and Kyverno on one real API server.

Runs in a network namespace of its own, on one control plane. Each case first answers for the images of
``images.yaml``. Then come rounds in which each case has one short turn: sixteen clients create Pods in dry
run. A case is compared with the other cases of its round. Turns of minutes would hide a difference of a few
per cent, because the speed of a machine changes from one minute to the next. At the end, the processes of
each webhook are killed while it is registered. A wrong answer of gatekeeper-py, or a wrong number of reviews,
ends the run with status 1 and without results.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from benchmarks.cluster import creating
from benchmarks.cluster.cases import CASES, Case
from benchmarks.cluster.comparison import BASE, LEAST, as_json, tables
from benchmarks.cluster.correctness import ROWS, mistakes
from benchmarks.cluster.creating import Creators
from benchmarks.cluster.peers import Release
from benchmarks.cluster.rounds import outages, play, registrations
from benchmarks.cluster.site import Spoiled, site
from benchmarks.load.running import say
from benchmarks.report import table
from tools.controlplane import network
from tools.controlplane.plane import ControlPlane, ControlPlaneError
from tools.gobuild import BuildError
from tools.programs import CONTROL_PLANE

ROUNDS: Final = 50


def main() -> int:
    """Measure and write the results; return the exit status."""
    arguments = _arguments()
    cases = [case for case in CASES if case.name in {BASE, *arguments.cases}]
    releases = {case.needs.name: case.needs for case in cases if case.needs}
    try:
        if not network.isolated():
            CONTROL_PLANE.build()
            creating.build()
            if not _build(releases.values()):
                return 1
            if not arguments.build:
                network.run_isolated([sys.executable, "-m", "benchmarks.cluster", *sys.argv[1:]])
            return 0
        _compare(cases, releases, LEAST if arguments.short else arguments.rounds, arguments.out)
    except (BuildError, network.IsolationError, ControlPlaneError, TimeoutError) as problem:
        say(f"error: {problem}")
    except Spoiled as problem:
        say(f"SPOILED, no results: {problem}")
    else:
        return 0
    return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    names = [case.name for case in CASES]
    usual = [name for name in names if name != "none-again"]
    told = f"one or more of {', '.join(names)}; {BASE} is always measured; default: all but none-again"
    parser.add_argument("--cases", nargs="+", choices=names, default=usual, metavar="CASE", help=told)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"number of rounds; default: {ROUNDS}")
    parser.add_argument(
        "--short", action="store_true", help=f"measure only {LEAST} rounds; the speeds are not reliable"
    )
    parser.add_argument("--build", action="store_true", help="only build the programs")
    parser.add_argument("--out", type=Path, default=machine.LATEST, help="folder of the results")
    found = parser.parse_args()
    if found.rounds < LEAST:
        parser.error(f"--rounds is at least {LEAST}")
    return found


def _build(releases: Iterable[Release]) -> bool:
    """Build the peers; return whether all could be built."""
    good = True
    for release in releases:
        try:
            release.build()
        except BuildError as problem:
            say(f"error: {release.name} {release.version} cannot be built (--cases leaves it out): {problem}")
            good = False
    return good


def _compare(cases: Sequence[Case], releases: Mapping[str, Release], count: int, out: Path) -> None:
    began = time.monotonic()
    with ControlPlane(CONTROL_PLANE.cached()) as plane, site(plane, "enforce") as place:
        place.peers.extend(release.started(plane) for release in releases.values())
        place.disarm()
        registered = registrations(place, cases)
        say("ready to measure")
        with tempfile.TemporaryDirectory() as folder:
            creators = Creators(creating.build(), plane, Path(folder))
            rounds, left_out = play(place, registered, creators, count)
        down = outages(place, registered)
    admitted = {each.case.name: each.admitted for each in registered}
    described = machine.describe()
    document = {
        **described,
        "versions": described["versions"] | {name: each.version for name, each in releases.items()},
        "seconds": round(time.monotonic() - began),
        "left_out": left_out,
        "images": [
            dataclasses.asdict(row) | {"admitted": {name: found[index] for name, found in admitted.items()}}
            for index, row in enumerate(ROWS)
        ],
        "down": {
            name: dict(zip(("approved", "unlisted"), found, strict=True)) for name, found in down.items()
        },
        **as_json(rounds),
    }
    titles = {case.name: case.title for case in cases}
    lines = [
        *_introduction(document, len(rounds)),
        *tables(rounds, titles),
        *_correctness(admitted, titles),
        *_outages(down, titles),
    ]
    _write(out, document, lines, titles)


def _introduction(document: dict[str, Any], rounds: int) -> list[str]:
    found = document["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items() if version)
    text = (
        f"{rounds} rounds in {document['seconds']} s ({document['left_out']} more were left out, because a "
        f"client had to connect again). In each, every case has a turn of {creating.SECONDS:g} s, with "
        f"{creating.CLIENTS} creators of dry-run Pods, whose images are all pre-approved; {found['cores']} "
        f"cores of {found['processor']} for all processes; commit {machine.commit(document)}; {versions}. A "
        "turn is compared with the others of its round. The figures are medians; brackets hold the 95 % "
        "confidence interval. CPU is for each create; memory is that of one process."
    )
    return ["# Compared on a real API server", "", text, ""]


def _correctness(admitted: dict[str, list[bool]], titles: dict[str, str]) -> list[str]:
    """Return a table of all images, with the mistakes of each case in bold."""
    names = [name for name in admitted if name not in {BASE, "none-again"}]
    totals = {name: mistakes(admitted[name]) for name in names}
    rows = [
        (
            f"`{row.image}`" + ("" if row.place == "containers" else f" in {row.place}"),
            _word(row.admit),
            row.why,
            *(_word(admitted[name][index], right=row.admit) for name in names),
        )
        for index, row in enumerate(ROWS)
    ]
    rows += [
        (what, "", "", *(str(len(totals[name][side])) for name in names))
        for side, what in enumerate(("admitted wrongly", "refused wrongly"))
    ]
    return list(table(("image", "right", "why", *(titles[name] for name in names)), rows))


def _word(admitted: bool, *, right: bool | None = None) -> str:  # noqa: FBT001
    word = "admit" if admitted else "refuse"
    return word if right in {None, admitted} else f"**{word}**"


def _outages(down: dict[str, tuple[bool, bool]], titles: dict[str, str]) -> list[str]:
    rows = [(titles[name], *map(_word, found)) for name, found in down.items()]
    return list(table(("while the webhook is down", "approved images", "unlisted images"), rows))


def _write(folder: Path, document: dict[str, Any], lines: Sequence[str], titles: dict[str, str]) -> None:
    from benchmarks import plots  # noqa: PLC0415 - matplotlib is slow to import

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "compare.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    text = "\n".join([*lines, "", "![creates per second and CPU](compare.svg)"]) + "\n"
    (folder / "compare.md").write_text(text, encoding="utf-8")
    plots.save(plots.comparison(document["cases"], titles), folder / "compare.svg")
    say(f"{document['seconds']} s; written to {folder}")
    print(text)


if __name__ == "__main__":
    sys.exit(main())
