"""The services of the registry of S14 behave as intended, and differences use the valid rounds only."""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from benchmarks.load.bench import RUN
from benchmarks.load.certificates import Certificate
from benchmarks.load.lookups import cases, figures, signed_cases
from benchmarks.load.processes import Place
from benchmarks.load.registry import DOWN, FAST, HANGING, SERVICES, SIGNED, SLOW, ScriptedRegistry
from benchmarks.policies import policy_text
from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.images.reference import parse_reference
from gatekeeper_py.core.policy.keys import parse_key
from gatekeeper_py.registry.signatures.candidates import find_blob, list_bundles
from gatekeeper_py.registry.signatures.keys import load_keys
from gatekeeper_py.registry.signatures.verification import check_bundle
from registry.signatures.signing import judged

MANIFEST = "/v2/shop/app-1/manifests/1.0"
PATIENCE = 0.5


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="module")
def registry(certificate: Certificate) -> Iterator[ScriptedRegistry]:
    made = ScriptedRegistry(certificate, Place(min(os.sched_getaffinity(0))))
    yield made
    made.end()


def ask(
    registry: ScriptedRegistry, certificate: Certificate, service: str, path: str, *, seconds: float = 20.0
) -> tuple[int, str | None]:
    """Send HEAD for a manifest, and return the status and the digest of the answer."""
    connection = http.client.HTTPSConnection(
        registry.named(service), timeout=seconds, context=certificate.trust()
    )
    try:
        connection.request("HEAD", path)
        response = connection.getresponse()
        return response.status, response.headers["Docker-Content-Digest"]
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("service", "path", "answer"),
    [
        pytest.param(FAST, MANIFEST, (200, "sha256:" + "ab" * 32), id="found"),
        pytest.param(FAST, "/v2/absent/app-1/manifests/1.0", (404, None), id="absent"),
        pytest.param(SLOW, MANIFEST, (200, "sha256:" + "ab" * 32), id="found-slowly"),
    ],
)
def test_the_registry_answers_and_counts(
    registry: ScriptedRegistry,
    certificate: Certificate,
    service: str,
    path: str,
    answer: tuple[int, str | None],
) -> None:
    before = registry.request_count()
    assert ask(registry, certificate, service, path) == answer
    assert registry.request_count() == before + 1


@pytest.mark.parametrize(
    ("service", "problem"),
    [
        pytest.param(HANGING, TimeoutError, id="hangs"),
        pytest.param(DOWN, ConnectionRefusedError, id="refuses"),
    ],
)
def test_the_registry_does_not_answer(
    registry: ScriptedRegistry, certificate: Certificate, service: str, problem: type[OSError]
) -> None:
    with pytest.raises(problem):
        ask(registry, certificate, service, MANIFEST, seconds=PATIENCE)


@pytest.mark.parametrize("case", cases(quick=True), ids=lambda case: case.name)
def test_every_policy_looks_up_what_the_case_sends(case: Any) -> None:
    hosts = {service: f"localhost:{5000 + number}" for number, service in enumerate(SERVICES)}

    def named(text: str) -> str:
        for service, host in hosts.items():
            text = text.replace(service, host)
        return text

    text = policy_text(10, verified=case.server.verified, registry=case.server.registry)
    compiled = parse_policy(named(text)).at(datetime(2026, 1, 1, tzinfo=UTC))
    assert compiled.looks_up is bool(case.server.verified)
    image = named(case.load.images.format.replace(RUN, "run-1") % 7)
    decision = compiled.decide("shop", image)
    assert decision.approved
    assert parse_reference(image).tag in {"1.0", "run-1"}
    asks = case.load.images.format.startswith(SERVICES)
    assert bool(decision.requirements) is asks


def test_the_image_of_s15_has_a_valid_signature() -> None:
    digest = SIGNED["image"].partition("@")[2]
    contents = {path: text.encode() for path, text in SIGNED["contents"].items()}
    listing = list_bundles(contents[f"referrers/{digest}"])
    assert listing is not None
    ((manifest,), _) = listing
    ((blob,), _) = find_blob(manifest, contents[f"manifests/{manifest.digest}"])
    keys = load_keys([parse_key(SIGNED["key"]).der])
    assert judged(check_bundle, blob, contents[f"blobs/{blob.digest}"], digest, keys).status == "valid"
    assert [case.server.signed for case in signed_cases(quick=True)] == [False, *[True] * 5]


def case(name: str, *costs: float, void: tuple[int, ...] = (), p99: float = 1.0) -> dict[str, Any]:
    cost = sorted(costs)[len(costs) // 2]
    medians = {"cpu_us": 2 * cost, "own_cpu_us": cost, "p99_without_ms": p99, "failed": 0}
    return {
        f"S14/{name}": {
            "figures": {key: {"median": value, "min": value, "max": value} for key, value in medians.items()},
            "each": [{"cpu_us": cost, "void": ["x"] * (i in void)} for i, cost in enumerate(costs)],
        }
    }


def test_differences_are_taken_round_by_round() -> None:
    found = (
        case("saturated, no look-ups", 40.0, 80.0, 10.0, void=(2,))
        | case("saturated, a rule that never matches", 41.0, 82.0, 90.0)
        | case("saturated, facts fresh", 41.3, 82.9, 90.0)
        | case("200/s of new images, no look-ups", 150.0)
        | case("200/s of new images, looked up", 900.0)
        | case("2,000/s beside 20/s, no look-ups", 1.0, p99=0.5)
        | case("2,000/s beside 20/s, registry down", 1.0, p99=0.75)
    )
    derived = figures(found)
    assert derived["never_matching_rule_over_none"] == pytest.approx(1.025)
    assert derived["fresh_fact_us"] == pytest.approx(0.1)
    assert derived["lookup_cpu_ms"] == pytest.approx(0.25)
    assert derived["p99_moved_by_ms_registry_down"] == 0.25
    assert "p99_moved_by_ms_registry_slow" not in derived
    assert derived["reviews_failed"] == 0


def test_void_rounds_count_if_there_are_no_others() -> None:
    found = case("saturated, no look-ups", 40.0, void=(0,)) | case(
        "saturated, a rule that never matches", 42.0, void=(0,)
    )
    assert figures(found)["never_matching_rule_over_none"] == pytest.approx(1.05)
    assert "fresh_fact_us" not in figures(found)
