"""An error in YAML is explained at the position that must be changed.

``tests/data/findings/policy.yaml`` has the explanations.
"""

from __future__ import annotations

from yaml.error import MarkedYAMLError

from gatekeeper_py.core.policy.finding import Mark
from gatekeeper_py.core.policy.parse.syntax import syntax_problem


def test_an_error_without_a_position_is_at_the_beginning() -> None:
    found = syntax_problem(MarkedYAMLError(context="while reading", problem="it broke"), "")
    assert (found.mark, found.message) == (Mark(1, 1), "not YAML: it broke")
