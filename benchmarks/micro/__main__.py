"""``python -m benchmarks.micro [pyperf options]``: microseconds for the core's single steps.

A decision is timed both when it is made, with 10 and with 10,000 rules, and when it is cached. pyperf
runs each step in several processes and reports mean and spread.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import pyperf
import structlog

from benchmarks.bodies import IMAGES
from benchmarks.policies import policy_text
from gatekeeper_py.core.images.manifest import Lookup, Manifest, found
from gatekeeper_py.core.images.reference import parse_reference
from gatekeeper_py.core.policy.policy import CompiledPolicy, parse_policy
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.live import CacheCounts, LivePolicy, Snapshot
from gatekeeper_py.registry.client import Reply, Turn
from gatekeeper_py.registry.lookups import Lookups
from gatekeeper_py.serving.metrics import Metrics

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CACHE_SIZE = 16384

Timed = Callable[[int], float]


def compiled(rules: int) -> CompiledPolicy:
    return parse_policy(policy_text(rules)).at(NOW)


def repeat(step: Callable[[], object], loops: int) -> float:
    """Return the seconds of ``loops`` calls."""
    turns = itertools.repeat(None, loops)
    start = time.perf_counter()
    for _ in turns:
        step()
    return time.perf_counter() - start


def parse_one_reference(loops: int) -> float:
    image = "registry.corp.example:5000/shop/web:1.4.2"
    if parse_reference(image).repository != "shop/web":
        raise AssertionError(image)
    return repeat(lambda: parse_reference(image), loops)


def decide_uncached(rules: int) -> Timed:
    def timed(loops: int) -> float:
        policy = compiled(rules)
        cases = (
            (IMAGES[0], True),
            ("eu.mirror.corp.example/team-a/app:v1", True),
            ("nginx:1.27", False),
            ("registry-1.corp.example/team-x/app:v1", False),
        )
        for image, approved in cases:
            if policy.decide("shop", image).approved is not approved:
                raise AssertionError(image)
        # The mean over the four kinds of image: pyperf divides by the loops.
        steps = [partial(policy.decide, "shop", image) for image, _ in cases]
        return sum(repeat(step, loops) for step in steps) / len(steps)

    return timed


def decide_cached(loops: int) -> float:
    snapshot = Snapshot(compiled(10_000), CACHE_SIZE, CacheCounts())
    if not snapshot.decide("shop", IMAGES[0]).approved:
        raise AssertionError(IMAGES[0])
    return repeat(partial(snapshot.decide, "shop", IMAGES[0]), loops)


class _Registry:
    """A registry that has every image."""

    async def query(self, manifest: Manifest, turn: Turn) -> Reply:  # noqa: ARG002 - the interface's
        return Reply(found("sha256:" + "ab" * 32))


def read_fresh_fact(loops: int) -> float:
    return asyncio.run(_read_fresh_fact(loops))


async def _read_fresh_fact(loops: int) -> float:
    registry, manifest = _Registry(), Manifest("registry.corp.example", "shop/web", "1.4.2")
    settings = Registry(host=manifest.host, ttl_found=3600)
    lookups = Lookups(
        registry,
        registry=lambda _host: settings,
        observer=Metrics(LivePolicy(), CacheCounts()),
        log=structlog.get_logger(),
        clock=time.monotonic,
    )
    lookups.configure(hosts=[manifest.host], changed=(), pinned=())
    await lookups.resolve([Lookup((manifest,))], 1.0)
    if not lookups.is_found(manifest) or lookups.is_found(manifest._replace(reference="1.4.3")):
        raise AssertionError(manifest)
    seconds = repeat(partial(lookups.is_found, manifest), loops)
    await lookups.close()
    return seconds


def compile_rules(loops: int) -> float:
    text = policy_text(10_000)
    if len(parse_policy(text).at(NOW).allow) != 10_000:
        raise AssertionError("rules were lost")
    return repeat(lambda: parse_policy(text).at(NOW), loops)


def main() -> None:
    """Run the steps that pyperf's options select."""
    runner = pyperf.Runner(program_args=("-m", "benchmarks.micro"))
    runner.bench_time_func("parse a reference", parse_one_reference)
    runner.bench_time_func("decision, remembered", decide_cached)
    runner.bench_time_func("a fresh fact about an image", read_fresh_fact)
    runner.bench_time_func("decision, made, 10 rules", decide_uncached(10))
    runner.bench_time_func("decision, made, 10,000 rules", decide_uncached(10_000))
    runner.bench_time_func("parse and compile 10,000 rules", compile_rules)


main()
