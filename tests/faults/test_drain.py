"""Replicas restart while an API server's client sends reviews, and no review is lost."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from faults.rolling import GeneratorRun, Leaving, Site, answered, leaves_when_unready, lost, refuses
from support.server import Server
from tools.polling import wait_until

LOG = logging.getLogger(__name__)
ENOUGH = 20_000

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="the client of API servers is built with Go")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as site:
        yield site


@needs_go
def test_rolling_restarts_under_load_lose_no_review(site: Site) -> None:
    """The test restarts two replicas repeatedly, with a surge of one, under 1,200 reviews a second."""
    for _ in range(2):
        site.join("--drain-seconds", "1")
    results: list[dict[str, Any]] = []
    # A machine that is too slow for this rate gets a second attempt with a lower one.
    while answered(results) < ENOUGH and len(results) < 3:
        with GeneratorRun(site.plan(rate=1200, seconds=20)) as run:
            while run.is_running:
                site.replace("--drain-seconds", "1")
                assert site.ended[-1].code() == 0
            results.append(run.result())
    rates = [round(result["goodput"]) for result in results]
    LOG.info("%d answered at %s/s during %d restarts", answered(results), rates, len(site.ended))
    assert [lost(result) for result in results] == [{}] * len(results)
    assert answered(results) >= ENOUGH
    assert len(site.ended) >= 4, "two whole rollouts at least"


def _leaves_late(replica: Server, leave: Callable[[], None], *, site: Site) -> None:
    """Remove the replica from the endpoints only after its socket closed, so dials fail."""
    refused = partial(refuses, replica.address("webhook"))
    wait_until(refused, seconds=30, what="the socket closed")
    # Dials go to each on the list in turn, so as many as to one of the others go to this one.
    others = [other for other in site.replicas if other is not replica]
    enough = _reviews(others) + 20 * len(others)
    wait_until(lambda: _reviews(others) > enough, seconds=30, what="reviews elsewhere")
    leave()


def _reviews(replicas: list[Server]) -> float:
    """Return the number of answered requests."""
    families = [text_string_to_metric_families(each.get("/metrics")[1].decode()) for each in replicas]
    samples = [sample for each in families for family in each for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == "gatekeeper_py_reviews_total")


@needs_go
@pytest.mark.parametrize(
    ("drain_seconds", "late", "loses"),
    [
        pytest.param("2", False, False, id="leave-when-unready"),
        pytest.param("0", True, True, id="leave-after-the-socket-closed"),
    ],
)
def test_the_delay_before_the_socket_closes_covers_endpoint_updates(
    site: Site, drain_seconds: str, *, late: bool, loses: bool
) -> None:
    """Each request dials anew, so an outdated list leads it to a closed port."""
    for _ in range(2):
        site.join("--drain-seconds", drain_seconds)
    with GeneratorRun(site.plan(rate=150, seconds=30, fresh_connections=True)) as run:
        leaving: Leaving = partial(_leaves_late, site=site) if late else leaves_when_unready
        for _ in range(2):
            site.replace("--drain-seconds", drain_seconds, leaving=leaving)
        assert set(site.exit_codes()) == {0}
        run.stop()
        result = run.result()
    missed = lost(result)
    assert ("dial" in missed) == loses
    # Accepted connections are still answered: only connections that were not accepted yet are lost.
    assert set(missed) <= {"dial", "handshake"}
    assert result["ok"] > 0
