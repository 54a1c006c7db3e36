"""Replicas are restarted while images have to be looked up: the caches are cold, and no review is lost."""

from __future__ import annotations

import logging
import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks import bodies
from benchmarks.load.certificates import Certificate
from benchmarks.load.processes import Place
from benchmarks.load.registry import FAST, ScriptedRegistry
from benchmarks.policies import policy_text
from faults.rolling import GeneratorRun, Site, lost

LOG = logging.getLogger(__name__)

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("go") is None, reason="the client of API servers is built with Go"),
]

PODS_A_SECOND: Final = 500
IMAGES: Final = 200
REPLICAS: Final = 2
CA: Final = "registry.crt"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[ScriptedRegistry]:
    certificate = Certificate(tmp_path)
    config = tmp_path / "registry-config"
    config.mkdir()
    (config / CA).write_bytes(certificate.ca.read_bytes())
    made = ScriptedRegistry(certificate, Place(max(os.sched_getaffinity(0))))
    yield made
    made.end()


def _bodies(registry: ScriptedRegistry, tmp_path: Path) -> list[dict[str, Any]]:
    """Pods of images that exist, and some of one that does not."""
    absent = (registry.named(f"{FAST}/absent/web:1"),)
    made = (
        ("present", bodies.pod_review(size=7000, images=bodies.MARKED, uid=bodies.UID), 9, True),
        ("absent", bodies.pod_review(size=7000, images=absent, uid=bodies.UID), 1, False),
    )
    for name, content, _, _ in made:
        (tmp_path / f"{name}.json").write_bytes(content)
    return [
        {
            "file": str(tmp_path / f"{name}.json"),
            "weight": weight,
            "expect": {"status": 200, "allowed": allowed},
        }
        for name, _, weight, allowed in made
    ]


def _restarted(registry: ScriptedRegistry, tmp_path: Path, settings: str, **plan: Any) -> dict[str, float]:
    """Restart both replicas under load, and return the lifetime of each of the four in seconds.

    Raises AssertionError when a review is lost or a verdict is wrong.
    """
    text = policy_text(20, verified=FAST, registry=f"ca: {CA}, ttlFound: 30m, ttlMissing: 10m, {settings}")
    # This requirement refuses the absent image even when too many reviews wait for the registry.
    strict = f'  - {{images: ["{FAST}/absent/**"], exists: true, onError: deny}}'
    text = text.replace("require:", f"require:\n{strict}", 1)
    options = ("--registry-config", str(tmp_path / "registry-config"), "--drain-seconds", "1")
    lives: dict[str, float] = {}
    with Site(tmp_path, registry.named(text)) as site:
        begun = {site.join(*options): time.monotonic() for _ in range(REPLICAS)}
        images = {"format": registry.named(f"{FAST}/shop/app-%d:1.0"), "count": IMAGES, "zipf": 0}
        with GeneratorRun(site.plan(rate=PODS_A_SECOND, seconds=60, images=images, **plan)) as run:
            for _ in range(REPLICAS):
                started = time.monotonic()
                site.replace(*options)
                begun[site.replicas[-1]] = started
                assert site.ended[-1].code() == 0
            run.stop()
            result = run.result()
        lives = {str(number): time.monotonic() - start for number, start in enumerate(begun.values())}
    LOG.info("%d reviews, %d requests", result["ok"], registry.request_count())
    assert lost(result) == {}
    assert result["ok"] > PODS_A_SECOND, "more than a second's"
    assert len(lives) == 2 * REPLICAS
    return lives


def test_each_replica_queries_each_image_once(registry: ScriptedRegistry, tmp_path: Path) -> None:
    """Every replica refuses the absent image and no other."""
    _restarted(registry, tmp_path, "rate: 500", bodies=_bodies(registry, tmp_path))
    # A missing image takes two requests: 404 from HEAD is confirmed by GET.
    assert IMAGES * REPLICAS < registry.request_count() <= (IMAGES + 2) * 2 * REPLICAS


def test_the_rate_limits_the_requests_of_cold_caches(registry: ScriptedRegistry, tmp_path: Path) -> None:
    """Most look-ups exceed the rate, and their images are kept as written."""
    rate = 20
    lives = _restarted(registry, tmp_path, f"rate: {rate}", bodies=_bodies(registry, tmp_path)[:1])
    burst = rate
    assert registry.request_count() <= sum(burst + math.ceil(rate * life) for life in lives.values())
    assert registry.request_count() < IMAGES * 2 * REPLICAS
