"""Build every peer, start each in turn, and compare its answers with the corpus.

``python -m benchmarks.peers`` prints a line for each: name, version, answers that were right, resident
memory after one review. It exits 1 when an answer differs from gatekeeper-py's, or when a peer cannot be
built or started. A peer whose tools are missing on this machine is named and left out.
"""

from __future__ import annotations

import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.contestant import Contestant
from benchmarks.peers import BuildError, contestants, corpus, missing
from benchmarks.peers.running import NotStarted, running
from gatekeeper_py.core import admission, parse_policy
from gatekeeper_py.core.admission import review as wire


def core_problems(cases: list[corpus.Case]) -> list[str]:
    """Return a line for each case in which gatekeeper-py's own decision differs from the corpus."""
    policy = parse_policy(corpus.policy_text()).at(datetime.now(UTC))
    found = []
    for case in cases:
        answer = admission.validate(wire.parse(json.loads(case.body)), policy).response.document()
        problem = corpus.problem(case, 200, json.dumps(answer).encode())
        if problem is not None:
            found.append(f"{case.name}: {problem}")
    return found


def peer_problems(contestant: Contestant, cases: list[corpus.Case]) -> tuple[list[str], float]:
    """Return the wrong answers of a contestant, and its resident memory in MiB before them."""
    found = []
    with tempfile.TemporaryDirectory() as folder, running(contestant, Path(folder)) as server:
        idle = server.rss_mib()
        for case in cases:
            problem = corpus.problem(case, *server.ask(case.body))
            if problem is not None:
                found.append(f"{case.name}: {problem}")
    return found, idle


def main() -> int:
    """Print a line for each peer; return 1 when an answer is wrong."""
    cases = corpus.cases()
    wrong = core_problems(cases)
    _line("gatekeeper-py", "its core", cases, wrong, "")
    try:
        built = contestants()
    except BuildError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    failed = bool(wrong)
    for contestant in built:
        try:
            wrong, idle = peer_problems(contestant, cases)
        except NotStarted as error:
            print(f"{contestant.name}: {error}")
            failed = True
            continue
        _line(contestant.name, contestant.version, cases, wrong, f"{idle:.0f} MiB idle")
        failed = failed or bool(wrong)
    for name, reason in missing().items():
        print(f"{name:<20} left out: {reason}")
    return int(failed)


def _line(name: str, version: str, cases: list[corpus.Case], wrong: list[str], memory: str) -> None:
    right = f"{len(cases) - len(wrong)} of {len(cases)} answers right"
    print(f"{name:<20} {version:<48} {right}  {memory}".rstrip(), flush=True)
    for problem in wrong:
        print(f"    {problem}")


if __name__ == "__main__":
    sys.exit(main())
