"""One run's files, servers and cores, and the measurement of one case on a running server."""

from __future__ import annotations

import json
import statistics
import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.bodies import deployment_review, pod_review
from benchmarks.contestant import PLAIN, ours
from benchmarks.load import generator, processes
from benchmarks.load.bodyfiles import APPROVED, BodyFiles
from benchmarks.load.cases import Case, Figures, Load, Meanwhile, ServerSpec
from benchmarks.load.certificates import Certificate, KeyKind
from benchmarks.load.generator import Generator, Plan
from benchmarks.load.processes import Place
from benchmarks.load.registry import SERVICES, SIGNED, ScriptedRegistry
from benchmarks.load.server import Server
from benchmarks.policies import policy_text

MOST_GENERATOR_SHARE: Final = 0.70
MOST_LAG_MS: Final = 1.0
LEAST_SERVER_SHARE: Final = 0.90
"""A closed loop measures saturation. Below this share, the cost of a review includes idle waits."""

REGISTRY_CA: Final = "registry.crt"
"""The CA file that entries of the scripted registry name."""

RUN: Final = "@run@"
"""A marker in images that each round replaces by a different text. Otherwise rounds would repeat images,
because the generator numbers new images from the same number again."""

SAMPLE_SECONDS: Final = 0.25
CAPACITY_SECONDS: Final = 1.5


@dataclass(frozen=True, slots=True)
class Scale:
    """The number of rounds, and their lengths in seconds."""

    quick: bool
    rounds: int
    warmup: float
    seconds: float


QUICK: Final = Scale(quick=True, rounds=3, warmup=0.5, seconds=1.2)
FULL: Final = Scale(quick=False, rounds=5, warmup=1.0, seconds=4.0)


class WrongAnswer(Exception):
    """A server gave an answer that it must not give; no figure of the run counts."""


class Bench:
    """What all scenarios of a run share. The server has the first core, the generator the second."""

    def __init__(self, folder: Path, scale: Scale, cores: list[int], niceness: int = 0) -> None:
        self.folder = folder
        self.scale = scale
        self.server_place = Place(cores[0], niceness)
        self.generator_place = Place(cores[-1], niceness)
        self.one_core = len(cores) == 1
        self.bodies = BodyFiles(folder)
        self.ciphers: set[str] = set()
        self._certificates: dict[KeyKind, Certificate] = {}
        self._started = 0
        self._capacities: dict[tuple[int, Load], float] = {}
        self._runs = 0
        self._registry: ScriptedRegistry | None = None
        self._registry_config = folder / "registry-config"

    def end(self) -> None:
        """End the registry that the servers share."""
        if self._registry is not None:
            self._registry.end()

    def registry(self) -> ScriptedRegistry:
        """Return the registry in which servers look up images. It runs on the generator's core.

        The first call starts it.
        """
        if self._registry is None:
            certificate = self.certificate("p256")
            self._registry_config.mkdir()
            (self._registry_config / REGISTRY_CA).write_bytes(certificate.ca.read_bytes())
            self._registry = ScriptedRegistry(certificate, self.generator_place)
        return self._registry

    def certificate(self, kind: KeyKind) -> Certificate:
        if kind not in self._certificates:
            self._certificates[kind] = Certificate(self.folder, kind)
        return self._certificates[kind]

    def start(self, spec: ServerSpec) -> Server:
        """Start a server and wait until it answers. Raises ``NotReady``."""
        self._started += 1
        policy = self.folder / f"policy-{self._started}.yaml"
        text = policy_text(spec.rules, mode=spec.mode, verified=spec.verified, registry=spec.registry)
        if spec.signed:
            keys = json.dumps([{"name": "ci", "key": SIGNED["key"]}])
            text = text.replace("exists: true", "signedBy: [ci], onError: keep") + f"keys: {keys}\n"
        options = spec.options
        if spec.verified:
            text = self.registry().named(text)
            options = (*options, "--registry-config", str(self._registry_config))
        policy.write_text(text, encoding="utf-8")
        contestant = spec.contestant or ours(options=options, module=PLAIN if spec.plain else "gatekeeper_py")
        server = Server(
            contestant,
            policy=policy,
            certificate=self.certificate(spec.key),
            place=self.server_place,
            output=self.folder / f"output-{self._started}",
            plain=spec.plain,
        )
        body = pod_review(size=2300, images=APPROVED)
        if spec.announced:
            image = self.registry().named(spec.verified + SIGNED["image"])
            body = deployment_review(size=7000, images=(image,))
        try:
            server.wait_ready(body)
        except BaseException:
            server.end()
            raise
        self.ciphers.add(server.cipher)
        return server

    def plan(self, load: Load, server: Server) -> Plan:
        """Return the generator's plan. A ``share`` must have been replaced by a rate."""
        return generator.plan(
            load,
            server,
            self.bodies,
            seconds=load.seconds or self.scale.seconds,
            warmup=self.scale.warmup if load.warmup is None else load.warmup,
            named=self._image_format,
        )

    def _image_format(self, text: str) -> str:
        if RUN in text:
            self._runs += 1
            text = text.replace(RUN, f"run-{self._runs}")
        return self.registry().named(text) if text.startswith(SERVICES) else text

    def capacity(self, load: Load, server: Server) -> float:
        """Return the reviews a second of this server in a closed loop of the same load; measured once."""
        closed = replace(
            load, rate=0.0, share=0.0, check_revisions=False, seconds=CAPACITY_SECONDS, warmup=None
        )
        known = (server.process.pid, closed)
        if known not in self._capacities:
            result, *_ = self._generate(self.plan(closed, server), server, None)
            self._capacities[known] = result["goodput"]
        return self._capacities[known]

    def measure(self, case: Case, server: Server) -> Figures:
        """Return the figures of one round. Raises ``WrongAnswer`` and ``GeneratorFailed``."""
        figures: Figures = {}
        load = case.load
        if load.share > 0:
            figures["capacity"] = self.capacity(load, server)
            load = replace(load, rate=load.share * figures["capacity"], share=0.0)
        figures |= self._figures(self.plan(load, server), server, case)
        if case.after is not None:
            after = replace(case.after, rate=case.after.share * figures["capacity"], share=0.0)
            then = self._figures(self.plan(after, server), server, replace(case, meanwhile=None))
            figures["after"] = {name: then[name] for name in ("goodput", "p99_ms", "failed", "timeline")}
        return figures

    def _figures(self, plan: Plan, server: Server, case: Case) -> Figures:
        ours_only = case.server.contestant is None
        before = self._counts(server) if ours_only else {}
        result, used, samples, extra = self._generate(plan, server, case)
        figures: Figures = figures_of(result) | used | extra
        if ours_only:
            counts = {name: now - before[name] for name, now in self._counts(server).items()}
            decided = counts["hits"] + counts["misses"]
            figures["hit_rate"] = counts["hits"] / decided if decided else None
            if case.server.verified:
                figures["lookups"] = counts["lookups"]
        for part in case.load.parts:
            if part.label:
                percentiles = result["by_body"][str(self.bodies.path(part.body))]
                figures |= {f"{name}_{part.label}_ms": percentiles[name] for name in ("p50", "p99")}
        figures["timeline"] = result["timeline"]
        figures["rss_samples"] = [[round(at, 2), round(rss, 1)] for at, rss in samples]
        figures["void"] = self.void(plan["mode"], figures)
        return figures

    def _counts(self, server: Server) -> dict[str, float]:
        """Return cache hits and misses, and the look-ups except those answered with stale facts."""
        metrics = server.metrics()
        return {
            "hits": metrics.sum("cache_hits_total"),
            "misses": metrics.sum("cache_misses_total"),
            "lookups": metrics.sum("lookups_total") - metrics.sum("lookups_total", 'result="stale"'),
        }

    def _run_beside(self, server: Server, load: Load) -> Figures:
        # This generator must not delay the one that uses the established connections.
        place = replace(self.generator_place, niceness=self.generator_place.niceness + 10)
        return generator.run(self.plan(load, server), place)

    def _generate(
        self, plan: Plan, server: Server, case: Case | None
    ) -> tuple[dict[str, Any], Figures, list[tuple[float, float]], Figures]:
        """Return the generator's result, the server's CPU use, memory over time, and the step's figures."""
        running = Generator(plan, self.generator_place)
        ended = threading.Event()
        samples: list[tuple[float, float]] = []
        extra: Figures = {}
        failures: list[BaseException] = []
        try:
            running.wait("measuring")
            start, before, busy = time.monotonic(), server.usage(), processes.busy_seconds()

            def sample() -> None:
                while not ended.wait(SAMPLE_SECONDS):
                    samples.append((time.monotonic() - start, server.usage().rss_mib))

            def step() -> None:
                if case is None or case.meanwhile is None:
                    return
                try:
                    run = partial(self._run_beside, server)
                    extra.update(case.meanwhile(Meanwhile(run, server, plan["seconds"], ended.is_set)))
                except BaseException as problem:  # noqa: BLE001 - raised below, where it is waited for
                    failures.append(problem)

            threads = [threading.Thread(target=work, daemon=True) for work in (sample, step)]
            for thread in threads:
                thread.start()
            try:
                running.wait("measured")
                after, length = server.usage(), time.monotonic() - start
                busy = processes.busy_seconds() - busy
            finally:
                ended.set()
                for thread in threads:
                    thread.join()
            result = running.result()
        finally:
            running.end()
        if failures:
            raise failures[0]
        if result["wrong"]:
            counts = {name: result[name] for name in ("ok", "wrong", "shed", "failed", "errors")}
            raise WrongAnswer(f"{server.contestant.name}: {counts}, {result['wrong_examples']}")
        cpu = after.cpu_seconds - before.cpu_seconds
        own = after.own_cpu_seconds - before.own_cpu_seconds
        answered = result["ok"] + result["shed"]
        used: Figures = {
            "cpu_us": cpu / answered * 1e6 if answered else None,
            "own_cpu_us": own / answered * 1e6 if answered else None,
            "server_share": cpu / length,
            "rss_mib": after.rss_mib,
            "rss_peak_mib": max([after.rss_mib, *(rss for _, rss in samples)]),
            "others_share": max(busy - cpu - result["cpu_seconds"], 0.0) / length,
        }
        return result, used, samples, extra

    def void(self, mode: str, figures: Figures) -> list[str]:
        """Return why a round is void; empty if it is not."""
        reasons = ["server and generator share the only core"] if self.one_core else []
        if mode == "open":
            if figures["generator_share"] > MOST_GENERATOR_SHARE:
                reasons.append(f"the generator used {figures['generator_share']:.0%} of its core")
            if figures["lag_p99_ms"] > MOST_LAG_MS:
                reasons.append(f"the generator was {figures['lag_p99_ms']:.1f} ms late at p99")
        elif figures["server_share"] < LEAST_SERVER_SHARE:
            reasons.append(f"the server used only {figures['server_share']:.0%} of its core")
        return reasons


def figures_of(result: dict[str, Any]) -> Figures:
    """Return the generator's figures under the names that results use."""
    latency = result["latency_ms"]
    figures: Figures = {
        **{name: result[name] for name in ("sent", "ok", "shed", "failed", "errors", "goodput", "dials")},
        **{f"{name}_ms": latency[name] for name in ("p50", "p99", "p999", "max")},
        "generator_share": result["cpu_share"],
        "lag_p99_ms": result.get("lag_ms", {}).get("p99"),
    }
    if len(result["by_body"]) > 1:
        figures["by_body"] = {Path(file).stem: each for file, each in result["by_body"].items()}
    for name in ("revisions", "stale"):
        if name in result:
            figures[name] = result[name]
    return figures


def summary(rounds: list[Figures]) -> Figures:
    """Return the median, lowest and highest of every number over the rounds that are not void.

    If all rounds are void, all of them are used, and ``void`` gives the reasons.
    """
    valid = [each for each in rounds if not each["void"]]
    counted = valid or rounds
    numbers = {
        name: [each[name] for each in counted if each.get(name) is not None]
        for name, value in counted[0].items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return {
        "rounds": len(rounds),
        "valid": len(valid),
        "void": [] if valid else sorted({reason for each in rounds for reason in each["void"]}),
        "figures": {
            name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
            for name, values in numbers.items()
            if values
        },
    }
