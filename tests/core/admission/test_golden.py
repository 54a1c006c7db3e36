"""Reviews as an API server sends them, and the complete answer to each.

A case is a directory below ``tests/data/reviews`` with ``request.json`` and ``response.json``; its
policy is one of ``tests/data/policies``. After an intended change, ``--update-golden`` writes the
answers again, for review in the diff.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from gatekeeper_py.core import CompiledPolicy, admission, parse_policy
from gatekeeper_py.core.admission import review
from support.builders import INSTANT
from support.contract import Endpoint, check_response

DATA: Final = Path(__file__).parents[2] / "data"
REVIEWS: Final = DATA / "reviews"
POLICIES: Final = DATA / "policies"

CASES: Final[dict[str, tuple[Endpoint, str]]] = {
    "pod-approved": ("validate", "enforce"),
    "pod-denied": ("validate", "enforce"),
    "pod-denied-image": ("validate", "enforce"),
    "pod-warned": ("validate", "warn"),
    "pod-warn-namespace": ("validate", "enforce"),
    "pod-rewritten": ("mutate", "mutate"),
    "pod-rewritten-in-part": ("mutate", "mutate"),
    "pod-not-rewritten-in-enforce": ("mutate", "enforce"),
    "pod-stored-after-rewrite": ("validate", "mutate"),
    "pod-image-volume": ("validate", "enforce"),
    "pod-image-volume-rewritten": ("mutate", "mutate"),
    "pod-ephemeral-container": ("validate", "enforce"),
    "pod-ephemeral-container-rewritten": ("mutate", "mutate"),
    "pod-label-update": ("validate", "enforce"),
    "pod-image-update": ("validate", "enforce"),
    "pod-finalizer-removed": ("validate", "enforce"),
    "pod-static-mirror": ("validate", "enforce"),
    "pod-deleted": ("validate", "enforce"),
    "pod-exec": ("validate", "enforce"),
    "pod-eviction": ("validate", "enforce"),
    "deployment-denied": ("validate", "enforce"),
    "deployment-warned": ("validate", "warn"),
    "deployment-judged-on-mirror": ("validate", "mutate"),
    "deployment-not-rewritten": ("mutate", "mutate"),
    "deployment-restarted": ("validate", "enforce"),
    "deployment-scale": ("validate", "enforce"),
    "cronjob-denied": ("validate", "enforce"),
    "custom-resource-declared": ("validate", "enforce"),
    "custom-resource-by-shape": ("validate", "enforce"),
    "custom-resource-unknown": ("validate", "enforce"),
}
"""The endpoint and the policy of each case."""


@cache
def policy(name: str) -> CompiledPolicy:
    return parse_policy((POLICIES / f"{name}.yaml").read_text("utf-8")).at(INSTANT)


def answer_to(request: dict[str, Any], endpoint: Endpoint, compiled: CompiledPolicy) -> dict[str, Any]:
    judge = admission.validate if endpoint == "validate" else admission.mutate
    return judge(review.parse(request), compiled).response.document()


@pytest.mark.parametrize("case", CASES)
def test_the_answer_is_as_recorded(case: str, update_golden: bool) -> None:  # noqa: FBT001
    endpoint, policy_name = CASES[case]
    request = json.loads((REVIEWS / case / "request.json").read_text("utf-8"))
    answer = answer_to(request, endpoint, policy(policy_name))
    check_response(answer, request, endpoint)
    golden = REVIEWS / case / "response.json"
    if update_golden:
        golden.write_text(json.dumps(answer, indent=2) + "\n", "utf-8")
    assert answer == json.loads(golden.read_text("utf-8"))


def test_no_file_is_an_orphan() -> None:
    """Every file belongs to a case, and every policy to at least one case."""
    found = {path.relative_to(REVIEWS).as_posix() for path in REVIEWS.rglob("*") if path.is_file()}
    assert found == {f"{case}/{name}.json" for case in CASES for name in ("request", "response")}
    assert {path.name for path in POLICIES.iterdir()} == {f"{name}.yaml" for _, name in CASES.values()}
