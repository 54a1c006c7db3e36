"""SARIF: every result names a rule of the document."""

from __future__ import annotations

from typing import get_args

from gatekeeper_py.cli.reporting.sarif import REASONS
from gatekeeper_py.core.policy.decision import Reason


def test_every_reason_to_reject_an_image_has_a_rule() -> None:
    assert {*REASONS, "allowed", "exception"} == set(get_args(Reason))
