"""The parts of a policy that a native policy cannot express, and how a backstop handles them."""

from __future__ import annotations

from operator import attrgetter
from typing import Final

import pytest

from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.compile.cost import Part
from gatekeeper_py.core.compile.native.selection import (
    EXCEPTS,
    EXPIRES,
    LOOKS_UP,
    MAX_BRANCHES,
    MAX_SHOWN,
    PINS,
    SIGNED,
    CannotExpress,
    Selection,
    select,
)
from support.builders import INSTANT, keys_text, policy_text

DIGEST: Final = "{images: ['*/**'], digest: true}"
EXCEPTED: Final = "{images: [a.io/x], exists: true, except: [a.io/x]}"
SIGNATURE: Final = "{images: [a.io/y], signedBy: [ci-2026]}"


def selected(
    more: str = "", *, allow: str = "[a.io]", mode: str = "enforce", backstop: bool = False
) -> Selection:
    return select(parse_policy(policy_text(more, allow=allow, mode=mode)), INSTANT, backstop=backstop)


@pytest.mark.parametrize(
    ("allow", "more", "parts"),
    [
        pytest.param("a.io, {image: b.io, until: 2027-01-01}", "", [("allow[1] b.io", EXPIRES)], id="until"),
        pytest.param(
            "a.io",
            f"require: [{EXCEPTED}, {DIGEST}, {SIGNATURE}]\n{keys_text()}",
            [("require[0]", LOOKS_UP), ("require[0]", EXCEPTS), ("require[2]", SIGNED)],
            id="requirements",
        ),
        pytest.param(
            "a.io",
            f"require: [{DIGEST}]\nnamespaces: [{{names: [x], mode: mutate}}]",
            [("require[0]", PINS)],
            id="digests-in-some-namespace-that-mutates",
        ),
        pytest.param(
            "a.io", "deny: [{image: a.io/x, until: 2027-01-01}]", [("deny[0] a.io/x", EXPIRES)], id="deny"
        ),
        pytest.param(
            "a.io",
            "namespaces: [{names: [x], mode: warn}, {names: [y], mode: warn, until: 2027-01-01}]",
            [("namespaces[1]", EXPIRES)],
            id="override",
        ),
        pytest.param(
            "a.io",
            "mirrors: [{from: b.io, to: a.io/b, pin: true}]\nnamespaces: [{names: [x], mode: mutate}]",
            [("mirrors[0]", LOOKS_UP)],
            id="mirror-in-some-namespace",
        ),
        pytest.param(
            "a.io",
            "resources: [{group: '', kind: Pod, images: [spec.x]}, {group: g.io, kind: K, images: [x]}]",
            [
                ("resources[0]", "a native policy cannot read the declared image paths of Pod"),
                ("resources[1]", "a native policy cannot read the declared image paths of K.g.io"),
            ],
            id="resources",
        ),
    ],
)
def test_a_part_that_cannot_be_expressed_is_refused_by_name(
    allow: str, more: str, parts: list[tuple[str, str]]
) -> None:
    with pytest.raises(CannotExpress) as refused:
        selected(f"{more}\n", allow=f"[{allow}]")
    assert [(obstacle.part, obstacle.why) for obstacle in refused.value.obstacles] == parts
    assert str(refused.value) == "; ".join(f"{part}: {why}" for part, why in parts)
    selected(f"{more}\n", allow=f"[{allow}]", backstop=True)


def test_expired_rules_and_overrides_are_left_out() -> None:
    found = selected(
        "deny: [{image: a.io/x, until: 2026-01-01}]\n"
        "namespaces: [{names: [x], mode: warn, until: 2026-01-01}]\n"
        "require: [{images: [a.io], digest: true, except: [{image: a.io/x, until: 2026-01-01}]}]\n",
        allow="[a.io, {image: b.io, until: 2026-01-01}]",
    )
    assert [rule.index for rule in found.allow] == [0]
    assert [requirement.index for requirement in found.require] == [0]
    assert (found.deny, found.overrides) == ((), ())


def test_a_mirror_that_looks_up_is_expressed_where_nothing_is_rewritten() -> None:
    found = selected("mirrors: [{from: b.io, to: a.io/b, verify: true}]\n")
    assert len(found.mirrors) == 1
    assert not found.skip_templates


def test_many_refusals_are_cut_and_counted() -> None:
    rules = ", ".join(f"{{image: r{number}.io, until: 2027-01-01}}" for number in range(MAX_SHOWN + 7))
    with pytest.raises(CannotExpress) as refused:
        selected(allow=f"[{rules}]")
    assert len(refused.value.obstacles) == MAX_SHOWN + 1
    assert str(refused.value.obstacles[-1]) == "policy: 7 more parts cannot be expressed"


def test_a_backstop_approves_what_will_expire_and_leaves_out_denials_that_will() -> None:
    found = selected(
        "deny: [{image: a.io/x, until: 2027-01-01}, a.io/y]\n"
        f"require: [{{images: [a.io], exists: true}}, {DIGEST}]\n",
        allow="[{image: a.io, until: 2027-01-01}]",
        backstop=True,
    )
    assert [rule.index for rule in found.allow] == [0]
    assert [rule.index for rule in found.deny] == [1]
    assert [requirement.index for requirement in found.require] == [1]


@pytest.mark.parametrize(
    ("overrides", "modes"),
    [
        pytest.param("[{names: [x], mode: warn, until: 2027-01-01}]", ["warn"], id="warn-stays"),
        pytest.param("[{names: [x], mode: enforce, until: 2027-01-01}]", [], id="enforce-is-left-out"),
        pytest.param("[{names: [x], mode: mutate, until: 2027-01-01}]", [], id="mutate-is-left-out"),
    ],
)
def test_a_backstop_keeps_the_milder_mode(overrides: str, modes: list[str]) -> None:
    found = selected(f"namespaces: {overrides}\n", backstop=True)
    assert [override.mode.name for override in found.overrides] == modes


MIRROR = "mirrors: [{from: b.io, to: a.io/b}]\n"


@pytest.mark.parametrize(
    ("more", "mode", "skips"),
    [
        pytest.param(MIRROR, "mutate", False, id="mirror-without-look-ups"),
        pytest.param("mirrors: [{from: b.io, to: a.io/b, verify: true}]\n", "mutate", True, id="look-up"),
        pytest.param("mirrors: [{from: b.io, to: a.io/b, verify: true}]\n", "enforce", False, id="never"),
        pytest.param(
            f"{MIRROR}namespaces: [{{names: [x], mode: mutate, until: 2027-01-01}}]\n",
            "enforce",
            True,
            id="mode-that-expires",
        ),
        pytest.param(
            f"{MIRROR}namespaces: [{{names: [x], mode: enforce, until: 2027-01-01}}]\n",
            "warn",
            False,
            id="nothing-is-rewritten",
        ),
        pytest.param(
            "namespaces: [{names: [x], mode: enforce, until: 2027-01-01}]\n", "mutate", False, id="no-mirrors"
        ),
    ],
)
def test_a_backstop_judges_no_templates_when_it_cannot_know_their_images(
    more: str, mode: str, *, skips: bool
) -> None:
    assert selected(more, mode=mode, backstop=True).skip_templates is skips


@pytest.mark.parametrize(
    ("overrides", "condition"),
    [
        pytest.param("", False, id="none"),
        pytest.param("[{names: [x], mode: mutate}]", False, id="no-warn"),
        pytest.param(
            "[{names: [x, 'y-*'], mode: warn}]",
            "((request.namespace == 'x' || request.namespace.startsWith('y-')) ? true : false)",
            id="one",
        ),
        pytest.param(
            "[{names: [x], mode: warn}, {names: [y], mode: warn}, {names: [z], mode: mutate}]",
            "(request.namespace in ['x', 'y'] ? true : request.namespace == 'z' ? false : false)",
            id="neighbours-are-joined",
        ),
        pytest.param(
            "[{names: [x], mode: enforce}, {names: [y, '*'], mode: warn}]",
            "(request.namespace == 'x' ? false : true ? true : false)",
            id="every-namespace",
        ),
    ],
)
def test_the_condition_for_namespaces_in_warn(overrides: str, condition: object) -> None:
    found = selected(f"namespaces: {overrides}\n" if overrides else "")
    part = found.where(attrgetter("warns"))
    assert (part.text if isinstance(part, Part) else part) == condition


def test_overrides_without_room_are_refused() -> None:
    found = selected(
        "namespaces: ["
        + ", ".join(
            f"{{names: [n{number}], mode: {'warn' if number % 2 else 'enforce'}}}"
            for number in range(MAX_BRANCHES + 1)
        )
        + "]\n"
    )
    with pytest.raises(CannotExpress, match="namespaces: the expression for all of them would become"):
        found.where(attrgetter("warns"))
