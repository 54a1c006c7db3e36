"""A new field of a rule fails these tests until every part that reads rules has taken a position on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, get_args

import pytest

from builders import policy_text
from gatekeeper_py import live
from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.admission import explain
from gatekeeper_py.core.compare import documents, entries
from gatekeeper_py.core.compile import fastpath
from gatekeeper_py.core.compile.fastpath import compile_fastpath
from gatekeeper_py.core.policy import lint, rules
from gatekeeper_py.core.policy.document import MODES, Mode, refuses, rewrites
from gatekeeper_py.core.policy.parse.document import json_schema
from gatekeeper_py.core.policy.rules import Rule
from gatekeeper_py.live import CacheCounts, Snapshot

FIELDS: Final = {field.name for field in dataclasses.fields(Rule)}
PLACE: Final = {"list", "index"}
"""Fields with the position of a rule, not its content."""

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
VALUES: Final[Mapping[str, tuple[str, bool]]] = {
    "namespaces": ("[team-a]", True),
    "until": ("2026-06-01", True),
    "owner": ("somebody", False),
    "reason": ("because", False),
    "verify": ("true", True),
    "pin": ("true", True),
}
"""A value of each optional field as YAML, and whether the field can change the answer of a call.

``on_error`` needs ``verify``, and has no effect alone.
"""

LOOKED_UP: Final = {"verify", "pin"}
"""Fields with look-ups, which are left to the webhook."""

ELSEWHERE: Final = "team-b"
LATER: Final = datetime(2026, 7, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "reader", [fastpath, live, lint, explain, rules, entries, documents], ids=lambda reader: reader.__name__
)
def test_every_reader_of_rules_has_a_position_on_every_field(reader: Any) -> None:
    assert set(reader.RULE_FIELDS) == FIELDS


def test_a_document_can_set_every_field_of_a_rule() -> None:
    _text, mapping = json_schema()["$defs"]["AllowModel"]["anyOf"]
    others = FIELDS - PLACE - {"pattern"}
    assert {name.replace("onError", "on_error") for name in mapping["properties"]} == others | {"image"}
    assert set(VALUES) | {"on_error"} == others


@pytest.mark.parametrize("field", VALUES)
def test_a_rule_is_pre_approved_only_where_and_when_it_applies(field: str) -> None:
    value, narrows = VALUES[field]
    policy = parse_policy(policy_text(allow=f"[{{image: a.example, {field}: {value}}}]"))
    fast_path = compile_fastpath(policy, NOW)
    assert fast_path.approves("team-a", "a.example/x:1", "validating") is (field not in LOOKED_UP)
    later = compile_fastpath(policy, LATER)
    assert later.approves(ELSEWHERE, "a.example/x:1", "validating") is not narrows
    assert (fast_path.valid_until is None) is (field != "until")


@pytest.mark.parametrize("field", VALUES)
@pytest.mark.parametrize("namespaces", [("team-a", "team-b"), ("team-b", "team-a"), (None, "team-a")])
def test_a_cached_decision_is_the_one_that_would_be_made(
    field: str, namespaces: tuple[str | None, ...]
) -> None:
    compiled = parse_policy(policy_text(allow=f"[{{image: a.example, {field}: {VALUES[field][0]}}}]")).at(NOW)
    snapshot = Snapshot(compiled, 16, CacheCounts())
    for namespace in (*namespaces, *namespaces):
        assert snapshot.decide(namespace, "a.example/x:1") == compiled.decide(namespace, "a.example/x:1")


@pytest.mark.parametrize("field", VALUES)
def test_explain_shows_every_field(field: str) -> None:
    compiled = parse_policy(policy_text(allow=f"[{{image: a.example, {field}: {VALUES[field][0]}}}]")).at(NOW)
    shown = explain.rule_as_json(compiled.decide("team-a", "a.example/x:1").rule)
    assert shown is not None
    assert field in shown


def test_every_mode_has_a_position_on_refusing_and_rewriting() -> None:
    assert get_args(Mode) == MODES
    assert [(mode, refuses(mode), rewrites(mode)) for mode in MODES] == [
        ("enforce", True, False),
        ("warn", False, False),
        ("mutate", True, True),
    ]
