"""The hostile bodies of S13 get the answers that the scenario expects, and a wrong answer is reported."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Final

import orjson
import pytest

from benchmarks import report
from benchmarks.load.hostile import ATTACKS, MAX_BODY, Attack
from benchmarks.load.scenarios import QUIET, SCENARIOS
from benchmarks.policies import policy_text
from gatekeeper_py.core import admission, parse_policy
from gatekeeper_py.core.admission.review import InvalidReview, parse
from gatekeeper_py.serving.answers import Refusal
from gatekeeper_py.serving.body import parse_json

POLICY: Final = parse_policy(policy_text(10)).at(datetime(2026, 1, 1, tzinfo=UTC))


def answer_to(body: bytes) -> tuple[int, bytes]:
    """Return the webhook's answer. The request does not go over a socket."""
    try:
        request = parse(parse_json(body))
    except Refusal as refusal:
        return refusal.status, json.dumps({"error": refusal.reason}).encode()
    except InvalidReview as problem:
        return 400, json.dumps({"error": str(problem)}).encode()
    return 200, orjson.dumps(admission.validate(request, POLICY).response.document())


@pytest.mark.long
@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_gets_its_documented_answer(name: str) -> None:
    body = ATTACKS[name].body()
    assert len(body) <= MAX_BODY
    assert ATTACKS[name].problem(*answer_to(body)) == ""


@pytest.mark.parametrize(
    ("attack", "status", "answer"),
    [
        pytest.param(Attack(bytes), 413, b'{"error": "x"}', id="status"),
        pytest.param(Attack(bytes, allowed=False), 200, b'{"response": {"allowed": true}}', id="verdict"),
        pytest.param(Attack(bytes, status=413), 413, b'{"response": {"allowed": true}}', id="judged"),
        pytest.param(
            Attack(bytes, allowed=False, message="many"), 200, b'{"response": {"allowed": false}}', id="text"
        ),
    ],
)
def test_another_answer_is_a_problem(attack: Attack, status: int, answer: bytes) -> None:
    assert attack.problem(status, answer) != ""


def test_every_attack_is_a_case_beside_the_quiet_one() -> None:
    cases = [case.name for case in SCENARIOS["S13"].cases(True)]
    assert cases == [QUIET, *(f"S13/{name}" for name in ATTACKS)]


def figures(max_ms: float, rss: float, failed: float = 0) -> dict[str, object]:
    values = {"max_ms": max_ms, "rss_mib": rss, "rss_peak_mib": rss + 10, "failed": failed}
    return {"figures": {name: {"median": v, "min": v, "max": v} for name, v in values.items()}}


def test_the_worst_probe_of_all_attacks_is_reported() -> None:
    derived = SCENARIOS["S13"].derive(
        {QUIET: figures(2, 70), "S13/a": figures(90, 120), "S13/b": figures(30, 150, failed=1)}
    )
    assert derived == {
        "worst_probe_ms": 90.0,
        "worst_probe_by": "a",
        "quiet_probe_ms": 2,
        "probes_failed": 1.0,
        "rss_growth_mib": 90.0,
    }
    assert SCENARIOS["S13"].derive({"S13/a": figures(90, 120)}) == {}


@pytest.mark.parametrize(("value", "shown"), [(None, "-"), ("a name", "a name"), (12.3456, "12.35")])
def test_the_report_shows_names_and_numbers(value: float | str | None, shown: str) -> None:
    assert report._value(value) == shown
