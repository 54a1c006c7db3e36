"""The effect of each optional field of a rule and of a mirror on every part of the product that reads it.

A new field fails these tests until it has a row here, and until every part treats it as its row says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple

import pytest

from builders import keys_text, policy_text
from gatekeeper_py.cli.main import run
from gatekeeper_py.core import Policy, parse_policy
from gatekeeper_py.core.admission.explain import rule_as_json
from gatekeeper_py.core.compare.difference import compare
from gatekeeper_py.core.compare.documents import compare_documents
from gatekeeper_py.core.compile.fastpath import compile_fastpath
from gatekeeper_py.core.compile.native.objects import ApiObject, Options
from gatekeeper_py.core.compile.native.selection import (
    EXCEPTS,
    EXPIRES,
    LOOKS_UP,
    SIGNED,
    CannotExpress,
    select,
)
from gatekeeper_py.core.compile.native.validating import validating_policy
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.document import MODES
from gatekeeper_py.core.policy.lint import lint
from gatekeeper_py.core.policy.mirror import Mirror
from gatekeeper_py.core.policy.parse.document import json_schema
from gatekeeper_py.core.policy.rules import Rule

PLACE: Final = {"list", "index", "pattern"}
"""The fields that every rule has."""

IMAGE: Final = "a.example/x:1"
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
LATER: Final = datetime(2026, 7, 1, tzinfo=UTC)
HERE: Final = "team-a"
ELSEWHERE: Final = "team-b"


class Field(NamedTuple):
    """A field of a rule: its YAML, what the field does, and why a native policy cannot have it.

    A field for the ``scope`` makes the rule approve less. A field for a ``look-up`` leaves the rule to the
    webhook. A field that is ``only shown`` changes nothing but the output of commands.
    """

    yaml: str
    does: Literal["scope", "look-up", "only shown"]
    not_native: str = ""


FIELDS: Final[Mapping[str, Field]] = {
    "namespaces": Field("namespaces: [team-a]", "scope"),
    "until": Field("until: 2026-06-01", "scope", EXPIRES),
    "owner": Field("owner: somebody", "only shown"),
    "reason": Field("reason: because", "only shown"),
    "verify": Field("verify: true", "look-up", LOOKS_UP),
    "on_error": Field("verify: true, onError: deny", "look-up", LOOKS_UP),
    "pin": Field("pin: true", "look-up", LOOKS_UP),
    "signed_by": Field("signedBy: [ci-2025]", "look-up", SIGNED),
    "signatures": Field("signedBy: [ci-2025], signatures: a.example/signatures", "look-up", SIGNED),
}
WRITTEN: Final = {"on_error": "onError", "signed_by": "signedBy"}
"""How the document and JSON name a field, if they use another name."""

every_field = pytest.mark.parametrize("name", FIELDS)


def with_field(name: str, after: str = "") -> Policy:
    """Return a policy with one rule that has a field, and more rules after it."""
    return parse_policy(policy_text(keys_text(), allow=f"[{{image: a.example, {FIELDS[name].yaml}}}{after}]"))


def names(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def native(policy: Policy) -> list[ApiObject]:
    return [each["spec"] for each in validating_policy(policy, NOW, Options(exempt=()))]


PLAIN: Final = parse_policy(policy_text(keys_text(), allow="[a.example]"))


def test_the_table_and_the_schema_have_the_fields_of_a_rule() -> None:
    assert names(Rule) == set(FIELDS) | PLACE | {"excepts"}
    _text, mapping = json_schema()["$defs"]["AllowModel"]["anyOf"]
    assert set(mapping["properties"]) == {WRITTEN.get(name, name) for name in FIELDS} | {"image"}
    _text, mapping = json_schema()["$defs"]["RuleModel"]["anyOf"]
    assert set(mapping["properties"]) == {"image", "namespaces", "until", "owner", "reason", "except"}


@every_field
def test_only_a_scope_changes_decisions(name: str) -> None:
    policy, is_scope = with_field(name), FIELDS[name].does == "scope"
    assert policy.at(NOW).decide(HERE, IMAGE).approved
    assert policy.at(LATER).decide(ELSEWHERE, IMAGE).approved is not is_scope
    assert compare(PLAIN.at(LATER), policy.at(LATER)).changes == ({"rejected"} if is_scope else set())


@every_field
def test_a_rule_is_pre_approved_only_where_and_when_it_applies(name: str) -> None:
    policy, does = with_field(name), FIELDS[name].does
    fast_path = compile_fastpath(policy, NOW)
    assert fast_path.approves(HERE, IMAGE, "validating") is (does != "look-up")
    later = compile_fastpath(policy, LATER)
    assert later.approves(ELSEWHERE, IMAGE, "validating") is (does == "only shown")
    assert (fast_path.valid_until is None) is (name != "until")


@every_field
@pytest.mark.parametrize("namespaces", [(HERE, ELSEWHERE), (ELSEWHERE, HERE), (None, HERE)])
def test_a_cached_decision_is_the_one_that_would_be_made(
    name: str, namespaces: tuple[str | None, ...]
) -> None:
    compiled = with_field(name).at(NOW)
    snapshot = compiled.serving(16, CacheCounts())
    for namespace in (*namespaces, *namespaces):
        assert snapshot.decide(namespace, IMAGE) == compiled.decide(namespace, IMAGE)


@every_field
def test_a_native_policy_has_the_field_or_is_refused(name: str) -> None:
    field = FIELDS[name]
    if field.not_native:
        with pytest.raises(CannotExpress, match=field.not_native):
            native(with_field(name))
    else:
        assert (native(with_field(name)) == native(PLAIN)) is (field.does == "only shown")


@every_field
def test_a_rule_makes_another_useless_unless_the_other_applies_elsewhere(name: str) -> None:
    found = lint(with_field(name, ", a.example"), NOW)
    useless = "allow[0]" if FIELDS[name].does == "scope" else "allow[1]"
    assert [finding.path for finding in found if finding.code == "dead-rule"] == [useless]


@every_field
def test_every_field_is_shown_and_a_change_of_it_is_reported(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    policy = with_field(name)
    shown = rule_as_json(policy.at(NOW).decide(HERE, IMAGE).rule)
    assert shown is not None
    assert WRITTEN.get(name, name) in shown
    (change,) = compare_documents(PLAIN, policy).changed
    assert change.new == shown
    if FIELDS[name].does == "only shown":
        file = tmp_path / "policy.yaml"
        file.write_text(policy.text, encoding="utf-8")
        assert run(["explain", str(file), IMAGE]) == 0
        assert f"  {name:<11}{FIELDS[name].yaml.partition(': ')[2]}\n" in capsys.readouterr().out


def denying(more: str) -> Policy:
    return parse_policy(policy_text(f"deny: [{{image: a.example/x{more}}}]", allow="[a.example]"))


def test_the_except_of_a_deny_rule_makes_it_deny_less() -> None:
    policy, plain = denying(", except: ['a.example/x:1']"), denying("")
    assert policy.at(NOW).decide(HERE, IMAGE).approved
    assert not policy.at(NOW).decide(HERE, "a.example/x:2").approved
    assert compare(plain.at(NOW), policy.at(NOW)).changes == {"approved"}
    # The fast path leaves what an ``except`` spares to the webhook.
    assert not compile_fastpath(policy, NOW).approves(HERE, IMAGE, "validating")
    with pytest.raises(CannotExpress, match=EXCEPTS):
        native(policy)
    assert select(policy, NOW, backstop=True).deny == ()
    shown = rule_as_json(policy.deny[0])
    assert shown is not None
    assert shown["except"] == [{"list": "except", "index": 0, "image": "a.example/x:1"}]
    (change,) = compare_documents(plain, policy).changed
    assert change.new == shown


MIRROR: Final[Mapping[str, str]] = {
    "excepts": "except: [b.io/x]",
    "image_pull_secret": "imagePullSecret: corp",
    "verify": "verify: true",
    "on_missing": "verify: true, onMissing: deny",
    "on_error": "verify: true, onError: deny",
    "pin": "pin: true",
}
"""Each optional field of a mirror as YAML. In a native policy, the first changes names, the second none."""


def test_the_table_has_the_optional_fields_of_a_mirror() -> None:
    assert names(Mirror) == set(MIRROR) | {"index", "source", "targets"}


@pytest.mark.parametrize("name", MIRROR)
def test_a_native_policy_has_the_field_of_a_mirror_or_is_refused(name: str) -> None:
    def variables(field: str) -> list[ApiObject]:
        mirrors = f"mirrors: [{{from: b.io, to: a.io/b{field}}}]\n"
        policy = parse_policy(policy_text(mirrors, allow="[a.io]", mode="mutate"))
        return [each["spec"].get("variables") for each in validating_policy(policy, NOW, Options(exempt=()))]

    if name in {"excepts", "image_pull_secret"}:
        assert (variables(f", {MIRROR[name]}") != variables("")) is (name == "excepts")
    else:
        with pytest.raises(CannotExpress, match=LOOKS_UP):
            variables(f", {MIRROR[name]}")


def test_every_mode_has_a_position_on_refusing_rewriting_and_warning() -> None:
    assert {name: (mode.refuses, mode.rewrites, mode.warns) for name, mode in MODES.items()} == {
        "enforce": (True, False, False),
        "warn": (False, False, True),
        "mutate": (True, True, False),
    }
