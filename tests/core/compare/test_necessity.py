"""The images for which a rule is needed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from builders import policy_text
from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.compare.necessity import shortest_by

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("allow", "deny", "rule", "image"),
    [
        pytest.param("[a.io, b.io]", "[]", ("allow", 1), "b.io/x", id="needed"),
        pytest.param("[a.io]", "[]", ("allow", 0), "a.io/x", id="the-only-one"),
        pytest.param("[a.io, a.io/team]", "[]", ("allow", 1), None, id="shadowed"),
        pytest.param("[a.io/x*, a.io/*x, a.io/*]", "[]", ("allow", 0), None, id="shadowed-by-a-wildcard"),
        pytest.param("['a.io/a*', 'a.io/*a']", "[]", ("allow", 1), "a.io/xa", id="partly-shadowed"),
        pytest.param(
            f"[a.io, docker.io/{'x' * 250}]",
            "[]",
            ("allow", 1),
            f"registry-1.docker.io/{'x' * 250}",
            id="long-name",
        ),
        pytest.param("[a.io, b.io]", "[b.io]", ("allow", 1), None, id="denied"),
        pytest.param("[a.io]", "[b.io]", ("deny", 0), None, id="denies-what-nothing-approves"),
        pytest.param("[a.io]", "[a.io/x]", ("deny", 0), "a.io/x", id="deny"),
        pytest.param("[a.io]", "[a.io/x/**, 'a.io/**']", ("deny", 0), None, id="deny-shadowed"),
    ],
)
def test_the_shortest_image_of_a_rule(
    allow: str, deny: str, rule: tuple[str, int], image: str | None
) -> None:
    policy = parse_policy(policy_text(f"deny: {deny}\n", allow=allow))
    found = shortest_by(policy, getattr(policy, rule[0])[rule[1]], NOW)
    assert (None if found is None else found.image) == image
