"""Look-ups of commands stay within the rate of a registry."""

from __future__ import annotations

import pytest

from gatekeeper_py.cli.inputs.lookups import AT_ONCE, SIGNATURE_REQUESTS, _pace
from gatekeeper_py.registry.pacing import USUAL_REQUESTS
from support.builders import keys_text, policy


@pytest.mark.parametrize("timeout", ["1s", "2s", "5s"])
@pytest.mark.parametrize("rate", [1, 5, 20, 50, 1000])
@pytest.mark.parametrize("signed", [False, True], ids=["exists", "signed"])
def test_a_batch_has_no_more_requests_than_the_rate_allows(rate: int, timeout: str, *, signed: bool) -> None:
    required = "signedBy: [ci-2025, ci-2026]" if signed else "exists: true"
    settings = f"registries: [{{host: r.io, rate: {rate}, timeout: {timeout}}}]\n"
    compiled = policy(f"{settings}{keys_text() * signed}require: [{{images: [r.io], {required}}}]\n")
    at_once, pause = _pace(compiled)
    requests = at_once * (SIGNATURE_REQUESTS if signed else USUAL_REQUESTS)
    assert requests <= rate * (pause + float(timeout[:-1]) / 2) + 1e-9
    assert 1 <= at_once <= AT_ONCE
