"""The effect of each field of a rule, a requirement and a mirror on every part of the product that reads it.

A new field fails these tests until it has a row here, and until every part treats it as its row says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import pytest

from gatekeeper_py.cli.main import run
from gatekeeper_py.core import Policy, parse_policy
from gatekeeper_py.core.admission.explain import explain, rule_as_json
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
from gatekeeper_py.core.images.manifest import MISSING, SIGNATURE
from gatekeeper_py.core.policy.cache import CacheCounts
from gatekeeper_py.core.policy.document import MODES
from gatekeeper_py.core.policy.lint import lint
from gatekeeper_py.core.policy.mirror import Mirror
from gatekeeper_py.core.policy.parse.document import json_schema
from gatekeeper_py.core.policy.requirements import Requirement
from gatekeeper_py.core.policy.rules import Rule
from support.builders import keys_text, policy_text
from support.worlds import DIGEST, DOWN, known, signed, truth

PLACE: Final = {"list", "index", "pattern"}
"""The fields that every rule has."""

IMAGES: Final = ("a.example/x:1", f"a.example/x:1@{DIGEST}")
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
LATER: Final = datetime(2026, 7, 1, tzinfo=UTC)
HERE: Final = "team-a"
ELSEWHERE: Final = "team-b"
SIGNATURES: Final = "s.example/signatures"

Section = Literal["allow", "deny", "require"]
Effect = Literal["less", "more", "other", "same"]


class Field(NamedTuple):
    """A field of an entry: its YAML, the entry without it, and what the field changes.

    With the field, the policy approves ``less`` or ``more`` images, ``other`` ones, or the ``same``. So does
    the fast path. ``not_native`` is why a native policy cannot have the field.
    """

    yaml: str
    approves: Effect
    pre_approves: Effect = "same"
    without: str = ""
    not_native: str = ""


FIELDS: Final[Mapping[tuple[Section, str], Field]] = {
    ("allow", "namespaces"): Field("namespaces: [team-a]", "less", "less"),
    ("allow", "until"): Field("until: 2026-06-01", "less", "less", not_native=EXPIRES),
    ("allow", "owner"): Field("owner: somebody", "same"),
    ("allow", "reason"): Field("reason: because", "same"),
    ("deny", "excepts"): Field("except: ['a.example/x:1']", "more", not_native=EXCEPTS),
    ("require", "namespaces"): Field("namespaces: [team-a]", "more", "more", "digest: true"),
    # The webhook judges what is spared, because entries of ``except`` can expire, and what only warns.
    ("require", "excepts"): Field("except: ['a.example/x:1']", "more", "same", "digest: true", EXCEPTS),
    ("require", "warns"): Field("mode: warn", "more", "same", "digest: true"),
    ("require", "digest"): Field("digest: true", "less", "same", "exists: true", LOOKS_UP),
    ("require", "exists"): Field("exists: true", "less", "less", "digest: true", LOOKS_UP),
    ("require", "signed_by"): Field("signedBy: [ci-2026]", "less", "less", "digest: true", SIGNED),
    ("require", "signatures"): Field(
        f"signatures: {SIGNATURES}", "other", "same", "signedBy: [ci-2026]", SIGNED
    ),
    ("require", "on_error"): Field("onError: deny", "less", "same", "exists: true", LOOKS_UP),
    ("require", "owner"): Field("owner: somebody", "same", "same", "digest: true"),
    ("require", "reason"): Field("reason: because", "same", "same", "digest: true"),
}
WRITTEN: Final = {"on_error": "onError", "signed_by": "signedBy", "excepts": "except", "warns": "mode"}
"""How the document and JSON name a field, if they use another name."""

REPORTED: Final[Mapping[Section, Mapping[Effect, set[str]]]] = {
    "allow": {"less": {"rejected"}, "same": set()},
    "deny": {"more": {"approved"}},
    "require": {
        "less": {"more-required"},
        "more": {"less-required"},
        "other": {"more-required", "less-required"},
        "same": set(),
    },
}
"""The changes that a comparison reports for a field with this effect."""

every_field = pytest.mark.parametrize("field", FIELDS, ids="-".join)


def policies(field: tuple[Section, str]) -> tuple[Policy, Policy]:
    """Return a policy whose first entry of a section lacks a field, and the same policy with the field."""
    (section, _), row = field, FIELDS[field]
    name = "images: [a.example/x]" if section == "require" else "image: a.example/x"
    entries = (", ".join(filter(None, (name, row.without, more))) for more in ("", row.yaml))

    def written(entry: str) -> Policy:
        allow = f"[{{{entry}}}]" if section == "allow" else "[a.example]"
        more = "" if section == "allow" else f"{section}: [{{{entry}}}]\n"
        return parse_policy(policy_text(keys_text() + more, allow=allow))

    without, having = map(written, entries)
    return without, having


def with_field(field: tuple[Section, str]) -> Policy:
    return policies(field)[1]


def names(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def names_in(*sections: Section) -> set[str]:
    return {name for section, name in FIELDS if section in sections}


def schema_of(model: str) -> set[str]:
    found = json_schema()["$defs"][model]
    return set(found.get("anyOf", [found])[-1]["properties"])


def native(policy: Policy) -> list[ApiObject]:
    return [each["spec"] for each in validating_policy(policy, NOW, Options(exempt=()))]


def signed_at(repository: str) -> Any:
    """Return the answers of registries that hold all images, with signatures in one repository only."""
    return lambda manifest: (
        truth()(manifest)
        if manifest.kind != SIGNATURE
        else signed(manifest)
        if manifest.name == repository
        else MISSING
    )


WORLDS: Final = {
    "signed": signed_at("a.example/x"),
    "signed-elsewhere": signed_at(SIGNATURES),
    "unsigned": truth(signature=MISSING),
    "missing": truth(MISSING, signature=MISSING),
    "down": truth(DOWN, signature=DOWN),
}
Question = tuple[datetime, str, str]
QUESTIONS: Final[tuple[Question, ...]] = tuple(product((NOW, LATER), (HERE, ELSEWHERE), IMAGES))


def effects(policy: Policy) -> dict[tuple[Question, str], str]:
    """Return what happens to each image in each state of the registries."""
    compiled = {instant: policy.at(instant) for instant in (NOW, LATER)}
    return {
        ((instant, namespace, image), state): explain(
            compiled[instant], namespace, image, known(answers)
        ).effect
        for (instant, namespace, image), (state, answers) in product(QUESTIONS, WORLDS.items())
    }


def approved(policy: Policy) -> set[tuple[Question, str]]:
    return {each for each, effect in effects(policy).items() if effect != "refused"}


def pre_approved(policy: Policy) -> set[Question]:
    fast_paths = {instant: compile_fastpath(policy, instant) for instant in (NOW, LATER)}
    return {each for each in QUESTIONS if fast_paths[each[0]].approves(*each[1:], "validating")}


def difference(without: set[Any], having: set[Any]) -> Effect:
    if without == having:
        return "same"
    return "less" if having < without else "more" if without < having else "other"


def test_the_table_and_the_schema_have_the_fields_of_rules_and_requirements() -> None:
    assert names(Rule) == names_in("allow", "deny") | PLACE
    assert names(Requirement) == names_in("require") | {"index", "images"}
    for model, fields in {
        "AllowModel": names_in("allow") | {"image"},
        "RuleModel": names_in("allow", "deny") | {"image"},
        "RequirementModel": names_in("require") | {"images"},
    }.items():
        assert schema_of(model) == {WRITTEN.get(name, name) for name in fields}


@pytest.mark.bulk
@every_field
def test_a_field_changes_the_decisions_that_its_row_names_and_the_comparison_reports_it(
    field: tuple[Section, str],
) -> None:
    (without, having), row = policies(field), FIELDS[field]
    assert difference(*map(approved, (without, having))) == row.approves
    changes = compare(without.at(LATER), having.at(LATER)).changes
    assert changes == REPORTED[field[0]][row.approves]


@pytest.mark.bulk
@every_field
def test_an_image_is_pre_approved_only_if_it_is_admitted_whatever_registries_hold(
    field: tuple[Section, str],
) -> None:
    (without, having), row = policies(field), FIELDS[field]
    assert difference(*map(pre_approved, (without, having))) == row.pre_approves
    admitted = {each for each, effect in effects(having).items() if effect == "admitted"}
    assert set(product(pre_approved(having), WORLDS)) <= admitted
    assert (compile_fastpath(having, NOW).valid_until is None) is (field[1] != "until")


@every_field
@pytest.mark.parametrize("namespaces", [(HERE, ELSEWHERE), (ELSEWHERE, HERE), (None, HERE)])
def test_a_cached_decision_is_the_one_that_would_be_made(
    field: tuple[Section, str], namespaces: tuple[str | None, ...]
) -> None:
    compiled = with_field(field).at(NOW)
    snapshot = compiled.serving(16, CacheCounts())
    for namespace in (*namespaces, *namespaces):
        for image in IMAGES:
            assert snapshot.decide(namespace, image) == compiled.decide(namespace, image)


@every_field
def test_a_native_policy_has_the_field_or_is_refused(field: tuple[Section, str]) -> None:
    (without, having), row = policies(field), FIELDS[field]
    if row.not_native:
        with pytest.raises(CannotExpress, match=row.not_native):
            native(having)
        backstop = select(having, NOW, backstop=True)
        assert (backstop.deny, backstop.require) == ((), ())
    else:
        assert (native(having) == native(without)) is (row.approves == "same")


@pytest.mark.parametrize("name", sorted(names_in("allow")))
def test_a_rule_makes_another_useless_unless_the_other_applies_elsewhere(name: str) -> None:
    row = FIELDS["allow", name]
    allow = f"[{{image: a.example, {row.yaml}}}, a.example]"
    found = lint(parse_policy(policy_text(allow=allow)), NOW)
    useless = "allow[0]" if row.approves == "less" else "allow[1]"
    assert [finding.path for finding in found if finding.code == "dead-rule"] == [useless]


@every_field
def test_every_field_is_shown_and_a_change_of_it_is_reported(
    field: tuple[Section, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (section, name), (without, having), row = field, policies(field), FIELDS[field]
    (change,) = compare_documents(without, having).changed
    assert change.list == section
    assert WRITTEN.get(name, name) in (change.new or "")
    if section == "require":
        return
    assert change.new == rule_as_json(getattr(having, section)[0])
    if row.approves == "same":
        file = tmp_path / "policy.yaml"
        file.write_text(having.text, encoding="utf-8")
        assert run(["explain", str(file), IMAGES[0]]) == 0
        assert f"  {name:<11}{row.yaml.partition(': ')[2]}\n" in capsys.readouterr().out


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
