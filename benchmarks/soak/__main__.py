"""Load and faults on the real process, for as long as asked."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from benchmarks.load import generator
from benchmarks.load.bodyfiles import BodyFiles
from benchmarks.load.cases import Images, Load, Part, Verdict
from benchmarks.load.certificates import Certificate
from benchmarks.load.generator import Generator, GeneratorFailed, Plan
from benchmarks.load.processes import Place
from benchmarks.load.running import say
from benchmarks.load.server import NotReady
from benchmarks.soak import report
from benchmarks.soak.faults import FAULTS, World
from benchmarks.soak.policies import PolicyFile, VerdictProbe
from benchmarks.soak.process import Held, SoakFailure, WatchedServer, wait
from benchmarks.soak.sampling import Sampler
from benchmarks.soak.verdict import Outcome, problems, stood_still
from tools.gobuild import BuildError

SECONDS: Final = 1800.0
RATE: Final = 300.0
"""Reviews a second. This fills logs and caches but leaves the core mostly idle, so that only a fault can
make an answer late or lost."""

CACHE_SIZE: Final = 4096
"""A quarter of the default, so that it is full within the first minutes."""

ATTEMPTS: Final = 2
"""The number of runs at most. Only a run that failed while the machine stood still is repeated."""

LEFT_SECONDS: Final = 20.0
"""Seconds for connections to end after their clients have disconnected."""

LOAD: Final = Load(
    parts=(
        Part("approved-7k", Verdict(allowed=True), 0.40),
        Part("pod-7k", Verdict(allowed=True), 0.20),
        Part("refused-7k", Verdict(allowed=False), 0.15),
        Part("update-7k", Verdict(allowed=True), 0.10),
        Part("deployment-7k", Verdict(allowed=True), 0.05),
        Part("pod-33k", Verdict(allowed=True), 0.05),
        Part("no-json-7k", Verdict(status=400), 0.05),
    ),
    images=Images(count=20_000, fresh_share=0.05),
    rate=RATE,
    timeout=5.0,
    check_revisions=True,
)


def main() -> int:
    """Run the soak. Return 0 when it passed, 1 when it failed, 2 when it could not be run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/soak"))
    options = parser.parse_args()
    for attempt in range(ATTEMPTS):
        made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ")
        with tempfile.TemporaryDirectory(prefix="gatekeeper-py-soak-") as folder:
            try:
                outcome = run(Path(folder), options.seconds)
            except (BuildError, GeneratorFailed, NotReady, SoakFailure) as problem:
                say(f"the soak did not come to its end: {problem}")
                return 2
        found = list(problems(outcome))
        report.write(options.out, made=made, machine=machine.describe(), outcome=outcome, found=found)
        sys.stdout.write((options.out / "soak.md").read_text(encoding="utf-8"))
        if not found or not stood_still(outcome):
            break
        if attempt + 1 < ATTEMPTS:
            say("once more, because the machine stood still")
    return 1 if found else 0


def run(folder: Path, seconds: float) -> Outcome:
    """Run one soak and return its outcome.

    Raises ``SoakFailure``, ``NotReady``, ``GeneratorFailed`` and ``BuildError``.
    """
    certificate = Certificate(folder)
    policies = PolicyFile(folder / "policy.yaml")
    server = WatchedServer(folder, policies.path, certificate, "--cache-size", str(CACHE_SIZE))
    try:
        server.start()
        planned = generator.plan(LOAD, server, BodyFiles(folder), seconds=seconds, warmup=2.0)
        return _under_load(server, policies, planned, seconds)
    finally:
        server.end()


def _under_load(server: WatchedServer, policies: PolicyFile, planned: Plan, seconds: float) -> Outcome:
    before = server.held()
    sampler = Sampler(server)
    probe = VerdictProbe(server, policies)
    running = Generator(planned, Place(max(os.sched_getaffinity(0))))
    try:
        running.wait("measuring")
        sampler.start()
        probe.start()
        faults = list(_faults(World(server, policies, probe), sampler, seconds))
        running.wait("measured")
        load = running.result()
    finally:
        running.interrupt()
        running.end()
    probe.stop()
    sampler.stop()
    after = _left(server)
    metrics = server.metrics()
    code = server.end()
    return Outcome(
        load=load,
        samples=sampler.samples,
        livez=sampler.livez,
        sampled_late=sampler.late,
        probe_reviews=probe.reviews_sent,
        probe_wrong=probe.wrong,
        probe_failed=probe.failed,
        faults=faults,
        before=before,
        after=after,
        reviews_logged=server.events["review"],
        reviews_counted=metrics.sum("reviews_total") - metrics.sum("reviews_total", 'verdict="allowed"'),
        lines_dropped=metrics.sum("log_lines_dropped_total"),
        errors_500=metrics.sum("http_errors_total", 'code="500"'),
        bad_lines=server.bad_lines,
        stderr=server.errors.decode(errors="replace"),
        exit_code=code,
    )


def _faults(world: World, sampler: Sampler, seconds: float) -> Any:
    """Cause one fault after another until the time is over. Yield name, start, end and problem of each."""
    number = 0
    longest = 15.0
    while sampler.second < seconds - longest:
        fault = FAULTS[number % len(FAULTS)]
        begin, problem = sampler.second, ""
        try:
            fault(world)
        except (SoakFailure, OSError) as found:
            problem = str(found) or repr(found)
        say(f"{begin:6.0f} s {fault.__name__}{': ' + problem if problem else ''}")
        yield {"name": fault.__name__, "begin": begin, "end": sampler.second, "problem": problem}
        number += 1
        time.sleep(1.0)  # so that the samples show which fault had an effect


def _left(server: WatchedServer) -> Held:
    """Return the server's resources once all connections have ended, or after 20 s."""
    try:
        wait(lambda: server.held().connections == 0, LEFT_SECONDS, "end of the connections")
    except SoakFailure as problem:
        say(str(problem))  # the verdict reports the connections that are left
    return server.held()


if __name__ == "__main__":
    sys.exit(main())
