"""Run one load of Pod creates with the program ``creator``, and measure the CPU of each process group."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.goprogram import compiled
from tools.controlplane.components import API_URL
from tools.controlplane.plane import ControlPlane

SOURCES: Final = Path(__file__).resolve().parent / "creator"

_SPARE_SECONDS = 60.0


def build() -> Path:
    """Build the program that sends Pods, which has no dependencies. Raises ``BuildError``."""
    return compiled("creator", SOURCES)


class Spoiled(RuntimeError):
    """An answer was wrong during the measurement, so the figures are not valid."""


class Reconnected(Spoiled):
    """A client had to connect again. Go's client does so when a busy machine does not schedule it in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """The figures of one load; CPU in seconds per process group over the measured time."""

    creates: int
    seconds: float
    latency_ms: Mapping[str, float]
    cpu: Mapping[str, float]
    creator_cpu: float
    sent: int
    """All creates of the load, including its warm-up. Counters of reviews are compared with this number."""

    @property
    def per_second(self) -> float:
        return self.creates / self.seconds

    def cpu_ms(self, group: str) -> float:
        """Return the milliseconds of a group's CPU per create; 0 for a group that does not exist."""
        return self.cpu.get(group, 0.0) / self.creates * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Creators:
    """How to run the program: its identity for the API server, and the namespace of its Pods."""

    program: Path
    plane: ControlPlane
    namespace: str

    def run(
        self,
        bodies: Path,
        *,
        clients: int,
        seconds: float,
        warm_up: float,
        holds: str = "",
        warnings: int = 0,
        cpu: Callable[[], Mapping[str, float]],
    ) -> Creation:
        """Send the bodies of this file as dry-run creates, and return the figures.

        Calls ``cpu`` when the measured time begins and when it ends. Raises Spoiled unless every answer is a
        201 that contains the Pod and the text ``holds``, and the answers have ``warnings`` warnings each on
        average. Raises Reconnected when a client had to connect more than once.
        """
        pki = self.plane.authority.certificate.parent
        argv = [
            str(self.program),
            f"-url={API_URL}/api/v1/namespaces/{self.namespace}/pods?dryRun=All",
            f"-ca={self.plane.authority.certificate}",
            f"-cert={pki / 'admin.crt'}",
            f"-key={pki / 'admin.key'}",
            f"-bodies={bodies}",
            f"-creators={clients}",
            f"-seconds={seconds}",
            f"-warm-up={warm_up}",
            f"-holds={holds}",
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
                        samples.append(cpu())
                _, stderr = process.communicate(timeout=_SPARE_SECONDS)
            finally:
                process.kill()  # has no effect after its end
        if process.returncode != 0 or len(samples) != 2 or not result:
            raise Spoiled(f"the creator ended with status {process.returncode}: {stderr.strip()}")
        return creation(result, *samples, clients=clients, warnings=warnings)


def creation(
    result: Mapping[str, Any],
    before: Mapping[str, float],
    after: Mapping[str, float],
    *,
    clients: int,
    warnings: int,
) -> Creation:
    """Return the figures from the program's result and two samples of CPU.

    Raises Spoiled when an answer was wrong or when the answers do not have ``warnings`` warnings each on
    average. Raises Reconnected when a client had to connect more than once.
    """
    wrong = {status: count for status, count in result["statuses"].items() if status != "201"}
    sent = sum(result["statuses"].values())
    if wrong or result["errors"] or result["warnings"] != warnings * sent:
        raise Spoiled(
            f"{sent} answers: {wrong or 'none'} other than 201, {result['errors']} errors, "
            f"{result['warnings']} warnings; {'; '.join(result['problems'])}"
        )
    if result["creates"] == 0:
        raise Spoiled("no create was answered in the measured time")
    if result["dials"] != clients:
        raise Reconnected(f"{clients} clients made {result['dials']} connections: some were closed")
    return Creation(
        creates=result["creates"],
        seconds=result["seconds"],
        latency_ms=result["latency_ms"],
        cpu={group: after[group] - before[group] for group in after},
        creator_cpu=result["cpu_seconds"],
        sent=sent,
    )


def write_bodies(path: Path, bodies: Sequence[Mapping[str, Any]]) -> Path:
    """Write the file that the program reads: one body on each line."""
    path.write_text("".join(json.dumps(body, separators=(",", ":")) + "\n" for body in bodies))
    return path
