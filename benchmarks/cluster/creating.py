"""Run one load of Pod creates with the program ``creator``, and measure the CPU of each process group."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.cluster.comparison import Turn
from benchmarks.cluster.pods import pod
from benchmarks.cluster.site import SPACE, Spoiled
from tools import gobuild
from tools.controlplane.components import API_URL
from tools.controlplane.plane import ControlPlane

SOURCES: Final = Path(__file__).resolve().parent / "creator"

CLIENTS: Final = 16
SECONDS: Final = 1.0
WARM_UP: Final = 0.25

BODIES: Final = 100
"""The number of different Pods. Each has different images."""

_SPARE_SECONDS: Final = 60.0


def build() -> Path:
    """Build the program that sends Pods, which has no dependencies. Raises ``BuildError``."""
    return gobuild.program("creator", SOURCES)


class Reconnected(Spoiled):
    """A client had to connect again. Go's client does so when a busy machine does not schedule it in time."""


@dataclass(frozen=True, slots=True)
class Creators:
    """The program that sends creates, the control plane that it uses, and a folder for the bodies."""

    program: Path
    plane: ControlPlane
    folder: Path

    def run(self, sample: Callable[[], Mapping[str, float]]) -> tuple[Turn, int]:
        """Create pre-approved Pods in dry run; return the figures and the number of all creates.

        Calls ``sample`` when the measured time begins and when it ends. Raises Spoiled unless every answer is
        a 201 with the Pod and without warnings. Raises Reconnected when a client had to connect more than
        once.
        """
        pki = self.plane.authority.certificate.parent
        argv = [
            str(self.program),
            f"-url={API_URL}/api/v1/namespaces/{SPACE}/pods?dryRun=All",
            f"-ca={self.plane.authority.certificate}",
            f"-cert={pki / 'admin.crt'}",
            f"-key={pki / 'admin.key'}",
            f"-bodies={self._bodies()}",
            f"-creators={CLIENTS}",
            f"-seconds={SECONDS}",
            f"-warm-up={WARM_UP}",
        ]
        samples: list[Mapping[str, float]] = []
        result: dict[str, Any] = {}
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    event = json.loads(line)
                    if event["event"] == "result":
                        result = event
                    else:
                        samples.append(sample())
                _, stderr = process.communicate(timeout=_SPARE_SECONDS)
            finally:
                process.kill()  # has no effect after its end
        if process.returncode != 0 or len(samples) != 2 or not result:
            raise Spoiled(f"the creator ended with status {process.returncode}: {stderr.strip()}")
        return creation(result, *samples), sum(result["statuses"].values())

    def _bodies(self) -> Path:
        path = self.folder / "pods.jsonl"
        return path if path.exists() else write_bodies(path, [pod(index) for index in range(BODIES)])


def creation(result: Mapping[str, Any], before: Mapping[str, float], after: Mapping[str, float]) -> Turn:
    """Return the figures from the program's result and two samples.

    Raises Spoiled when an answer was wrong or had a warning. Raises Reconnected when a client had to connect
    more than once.
    """
    wrong = {status: count for status, count in result["statuses"].items() if status != "201"}
    sent = sum(result["statuses"].values())
    if wrong or result["errors"] or result["warnings"]:
        raise Spoiled(
            f"{sent} answers: {wrong or 'none'} other than 201, {result['errors']} errors, "
            f"{result['warnings']} warnings; {'; '.join(result['problems'])}"
        )
    if result["creates"] == 0:
        raise Spoiled("no create was answered in the measured time")
    if result["dials"] != CLIENTS:
        raise Reconnected(f"{CLIENTS} clients made {result['dials']} connections: some were closed")
    return Turn.of(result, before, after)


def write_bodies(path: Path, bodies: Sequence[Mapping[str, Any]]) -> Path:
    """Write the file that the program reads: one body on each line."""
    path.write_text("".join(json.dumps(body, separators=(",", ":")) + "\n" for body in bodies))
    return path
