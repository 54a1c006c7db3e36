"""The exact difference between two policies: cases with known answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
import yaml

from gatekeeper_py.core import CompiledPolicy, parse_policy
from gatekeeper_py.core.compare import difference
from gatekeeper_py.core.compare.difference import (
    MAX_COMBINATIONS,
    Contradiction,
    TooComplex,
    compare,
    shortest_by,
)
from gatekeeper_py.core.compare.parts import MAX_EFFORT, Effort
from gatekeeper_py.core.policy.decision import Decision
from support.budget import is_long
from support.builders import keys_text, policy_text

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def policy(rules: str, mode: str = "enforce", at: datetime = NOW) -> CompiledPolicy:
    return parse_policy(f"apiVersion: gatekeeper-py/v1\nkind: ImagePolicy\nmode: {mode}\n{rules}").at(at)


CASES = yaml.safe_load((Path(__file__).parents[2] / "data" / "policy-differences.yaml").read_text())


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in CASES])
def test_widens_and_narrows(case: dict[str, Any]) -> None:
    old, new, expected = policy(case["old"]), policy(case["new"]), (case["widens"], case["narrows"])
    forward, backward = compare(old, new), compare(new, old)
    assert (forward.widens, forward.narrows) == expected
    assert (backward.narrows, backward.widens) == expected
    changes = {witness.change for witness in forward.witnesses}
    assert ("approved" in changes, "rejected" in changes) == expected


LONG = "x" * 250  # library/ before it makes more than 255 characters


def test_a_name_that_is_too_long_below_docker_io_is_written_with_another_name_of_that_registry() -> None:
    (witness,) = compare(policy("allow: [r.io]"), policy(f"allow: [r.io, docker.io/{LONG}]")).witnesses
    assert witness.image == f"registry-1.docker.io/{LONG}"


HUB, DR = "{from: docker.io, to: a.io/hub}", "{from: docker.io, to: a.io/dr}"
QUAY = "{from: quay.io, to: a.io/q}"


def quay_except(*patterns: str) -> str:
    return f"{{from: quay.io, to: a.io/q, except: {list(patterns)}}}"


@pytest.mark.parametrize(
    ("old", "new", "mode", "expected"),
    [
        pytest.param(HUB, HUB, "mutate", False, id="the-same"),
        pytest.param(HUB, DR, "mutate", True, id="another-target"),
        pytest.param(HUB, DR, "enforce", False, id="outside-mutate-mode"),
        pytest.param(QUAY, quay_except("quay.io/x"), "mutate", True, id="an-except"),
        pytest.param(
            quay_except("quay.io/x"),
            quay_except("quay.io/x:*", "quay.io/x@*"),
            "mutate",
            False,
            id="the-same-except-in-two",
        ),
        pytest.param(
            QUAY,
            QUAY + ", {from: quay.io/x, to: a.io/q/x}",
            "mutate",
            False,
            id="a-longer-mirror-with-the-same-result",
        ),
        pytest.param(QUAY, QUAY + ", {from: quay.io/x, to: a.io/x}", "mutate", True, id="a-longer-mirror"),
    ],
)
def test_rewrites(old: str, new: str, mode: str, expected: bool) -> None:  # noqa: FBT001
    a, b = (policy(f"allow: [a.io]\nmirrors: [{mirrors}]", mode) for mirrors in (old, new))
    assert compare(a, b).rewrites is expected
    assert compare(b, a).rewrites is expected


def test_a_changed_mode_rewrites_only_where_a_mirror_can() -> None:
    mirrors = "allow: [a.io]\nmirrors: [{from: quay.io, to: a.io/q}]"
    assert compare(policy(mirrors), policy(mirrors, "mutate")).rewrites
    assert not compare(policy("allow: [a.io]"), policy("allow: [a.io]", "mutate")).rewrites


def test_an_override_of_the_mode_rewrites_in_its_namespaces_only() -> None:
    rules = "allow: [a.io]\nmirrors: [{from: quay.io, to: a.io/q}]"
    override = f"{rules}\nnamespaces: [{{names: [ci-*], mode: mutate}}]"
    (witness,) = compare(policy(rules), policy(override)).witnesses
    assert witness.change == "rewritten"
    assert witness.namespace is not None
    assert witness.namespace.startswith("ci-")


def test_each_mirror_that_causes_a_change_has_a_witness() -> None:
    old, new = (
        policy(
            f"allow: [z.io]\nmirrors: [{{from: a.io, to: {to}.io}}, {{from: b.io, to: {to}.io/b}}]", "mutate"
        )
        for to in "xy"
    )
    assert [witness.image for witness in compare(old, new).witnesses] == ["a.io/x", "b.io/x"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param("", "", None, id="never"),
        pytest.param("2026-01-03", "", 2, id="a-rule-of-the-old-policy"),
        pytest.param("2026-01-05", "2026-01-03", 2, id="the-earlier-one"),
        pytest.param("2025-01-01", "", None, id="what-has-expired-already"),
    ],
)
def test_the_answers_hold_until_something_expires(old: str, new: str, expected: int | None) -> None:
    pair = [
        policy(f"allow: [a.io]\ndeny: [{{image: a.io/x{f', until: {until}' if until else ''}}}]")
        for until in (old, new)
    ]
    found = compare(*pair).next_change
    assert found == (None if expected is None else NOW + timedelta(days=expected))


def test_a_witness_names_the_rules_that_decided() -> None:
    old = policy("allow: [a.io]\ndeny: [a.io/team/x]")
    found = compare(old, policy("allow: [b.io, a.io]")).witnesses
    (witness,) = (witness for witness in found if witness.image == "a.io/team/x")
    assert (witness.before, witness.after, witness.change) == ("rejected", "approved", "approved")
    assert str(witness.old) == "deny[0] a.io/team/x"
    assert str(witness.new) == "allow[1] a.io"


def test_each_rule_that_causes_a_change_has_a_witness() -> None:
    hosts = [f"r{number}.io" for number in range(150)]
    found = compare(policy("allow: [a.io]"), policy(f"allow: [a.io, {', '.join(hosts)}]"))
    assert len(found.witnesses) == difference.MAX_WITNESSES
    assert len({str(witness.new) for witness in found.witnesses}) == difference.MAX_WITNESSES


def test_a_host_without_a_dot_is_written_so_that_it_is_not_a_docker_hub_user() -> None:
    (witness,) = compare(policy("allow: [a.io]"), policy("allow: [a.io, 'foo:443/']")).witnesses
    assert witness.image.startswith("foo:443/")


def test_both_policies_are_judged_at_one_instant() -> None:
    with pytest.raises(ValueError, match="same instant"):
        compare(policy("allow: [a.io]"), policy("allow: [a.io]", at=NOW + timedelta(days=1)))


def test_a_comparison_that_would_take_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difference, "MAX_COMBINATIONS", 3)
    with pytest.raises(TooComplex):
        compare(policy("allow: [a.io]"), policy("allow: [a.io/x, a.io/y, 'a.io/z:v*', 'a.io/z:*1']"))


def mixed_rules(count: int, seed: int) -> str:
    """Rules as companies have them: many registries of their own, some for all of those, and public ones."""
    random = Random(seed)
    rules = []
    for _ in range(count):
        host = random.choice(["*.corp.io", "quay.io", "docker.io", "ghcr.io"])
        if random.random() < 0.6:
            host = f"r{random.randrange(count)}.corp.io"
        path = random.choice(["app", "*", "a*", "**"]) + random.choice(["", ":v*"])
        rules.append(f"'{host}/team-{random.randrange(count)}/{path}'")
    return f"allow: [{', '.join(rules)}]"


def whole_registries(count: int, seed: int) -> str:
    """Return rules for a whole registry of each team, and for all registries. ``seed`` changes one rule."""
    rules = [f"r{number}.corp.io" for number in range(count)]
    rules += [f"'*.corp.io/team-{number}/**'" for number in range(count)]
    return f"allow: [{', '.join(rules)}, docker.io/{'ab'[seed - 1]}/**, '*.corp.io/edited-{seed}/**']"


def many_grants(count: int, seed: int) -> str:
    """Return grants for a registry of each team, and for repositories. ``seed`` changes one of them."""
    teams = ", ".join(f"'*.corp.io/team-{number}/**'" for number in range(count))
    hosts = ", ".join(f"r{number}.corp.io" for number in range(count))
    grants = [f"source: installation, images: [{images}]" for images in (teams, hosts)]
    grants.append(f"source: namespace, images: ['*.corp.io/edited-{seed}/**']")
    listed = ", ".join(f"{{{grant}, longest: 1d}}" for grant in grants)
    return f"allow: [a.io/{seed}]\ndeny: ['*/**:latest']\nexceptions: [{listed}]"


@pytest.mark.bulk
@pytest.mark.growth
@pytest.mark.parametrize("rules", [mixed_rules, whole_registries, many_grants])
def test_the_work_grows_with_the_number_of_rules_and_not_with_its_square(
    rules: Callable[[int, int], str],
) -> None:
    def work(count: int) -> tuple[int, int]:
        old, new = (policy(rules(count, seed)) for seed in (1, 2))
        comparison = difference._Comparison(old, new)
        found = comparison.run()
        assert (found.widens, found.narrows) == (True, True)
        return MAX_COMBINATIONS - comparison._budget, MAX_EFFORT - comparison._effort._left

    number, factor = (100, 8) if is_long() else (50, 4)
    few, many = work(number), work(factor * number)
    assert many[0] < 2 * factor * few[0]
    assert many[1] < 2 * factor * few[1]


def test_a_disagreement_with_the_decision_is_never_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: CompiledPolicy, namespace: str | None, image: str) -> Decision:
        return Decision(image=image, approved=False, reason="unlisted", detail=f"in {namespace}")

    monkeypatch.setattr(CompiledPolicy, "decide_by_rules", wrong)
    with pytest.raises(Contradiction):
        compare(policy("allow: [a.io]"), policy("allow: [a.io, b.io]"))


def test_a_digest_that_no_rule_names_is_found() -> None:
    known = "\n".join(f"  - 'a.io/x@sha256:{number:064x}'" for number in range(3))
    found = compare(policy(f"allow:\n{known}"), policy("allow: ['a.io/x@*']"))
    (witness,) = found.witnesses
    assert witness.image == f"a.io/x@sha256:{3:064x}"


def test_no_change_loses_all_its_witnesses_to_the_limit() -> None:
    hosts = [f"r{number}.io" for number in range(150)]
    old = policy("allow: [a.io/a-long-path]")
    found = compare(old, policy(f"allow: [{', '.join(hosts)}]"))
    assert (found.widens, found.narrows) == (True, True)
    assert found.changes == {"approved", "rejected"}
    assert [witness.change for witness in found.witnesses] == ["approved"] * 99 + ["rejected"]


def test_wildcards_that_overlap_too_much_are_an_error_before_they_fill_the_memory() -> None:
    stars = [f"'a.io/*{a}*{b}*{c}*'" for a in "abcd" for b in "efgh" for c in "ijkl"]
    comparison = difference._Comparison(policy("allow: [a.io]"), policy(f"allow: [{', '.join(stars)}]"))
    comparison._effort = Effort(MAX_EFFORT // 100)
    with pytest.raises(TooComplex, match="too many combinations of wildcards"):
        comparison.run()


@pytest.mark.bulk
def test_hundreds_of_rules_for_one_repository_are_compared() -> None:
    rules = [f"{{image: 'a.io/x:v{number}', namespaces: [team-{number}]}}" for number in range(600)]
    old, new = (policy(f"allow: [{', '.join(chosen)}]") for chosen in (rules, rules[:-1]))
    (witness,) = compare(old, new).witnesses
    assert (witness.image, witness.namespace, witness.change) == ("a.io/x:v599", "team-599", "rejected")


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
    given = parse_policy(policy_text(f"deny: {deny}\n", allow=allow))
    found = shortest_by(given, getattr(given, rule[0])[rule[1]], NOW)
    assert (None if found is None else found.image) == image


GRANT: Final = "exceptions: [{source: namespace, images: [b.io, c.io/longer], longest: 1d}]"
MIRRORED: Final = "allow: [a.io]\ndeny: [d.io]\nmirrors: [{from: d.io, to: b.io}]\n"
BREAK_GLASS: Final = "exceptions: [{source: break-glass, images: [b.io], longest: 1d, overrides: deny}]"


@pytest.mark.parametrize(
    ("old", "new", "widens"),
    [
        pytest.param("allow: [a.io]", f"allow: [a.io]\n{GRANT}", True, id="a-grant"),
        pytest.param(f"allow: [a.io]\n{GRANT}", f"allow: [a.io]\n{GRANT}", False, id="the-same"),
        pytest.param("allow: [a.io]", f"allow: [a.io]\ndeny: [b.io, c.io]\n{GRANT}", False, id="all-denied"),
        pytest.param("allow: [a.io]", f"allow: [a.io]\ndeny: [b.io]\n{BREAK_GLASS}", True, id="overrides"),
        pytest.param(MIRRORED, f"{MIRRORED}{BREAK_GLASS}", False, id="another-name-is-denied"),
        pytest.param(
            MIRRORED, MIRRORED + BREAK_GLASS.replace("[b.io]", "[b.io, d.io]"), True, id="overrides-both"
        ),
    ],
)
def test_what_exceptions_could_approve(old: str, new: str, widens: bool) -> None:  # noqa: FBT001
    forward, backward = compare(policy(old), policy(new)).grants, compare(policy(new), policy(old)).grants
    assert (forward.widens, forward.narrows) == (backward.narrows, backward.widens) == (widens, False)
    assert [witness.change for witness in forward.witnesses] == ["granted"] * widens
    assert [witness.change for witness in backward.witnesses] == ["withdrawn"] * widens
    assert all(witness.image.startswith("b.io/") for witness in forward.witnesses)


MIRROR_OF_C: Final = "mirrors: [{from: c.io, to: b.io/c}]\n"


def required(*requirements: str, more: str = "", keys: str = keys_text()) -> str:
    """Return a policy that approves b.io, with requirements."""
    listed = "".join(f"\n  - {{images: [b.io], {each}}}" for each in requirements)
    return f"allow: [b.io]\nrequire:{listed or ' []'}\n{keys if 'ci-' in listed else ''}{more}"


BY_ONE, BY_BOTH = "signedBy: [ci-2025]", "signedBy: [ci-2025, ci-2026]"
SIGNED: Final = required(BY_BOTH)
NEVER: Final = required("signedBy: [ci-2026]", keys=keys_text(until="2025-01-01")).replace("b.io", "c.io", 1)
DENIED: Final = "deny: [{image: b.io, namespaces: [team]}]\n"
SWAPPED: Final = (
    keys_text().replace("ci-2025", "ci").replace("ci-2026", "ci-2025").replace('"ci"', '"ci-2026"')
)
ENDED: Final = keys_text(until="2025-01-01")
LESS, MORE = "less-required", "more-required"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(required("digest: true"), required(), {LESS}, id="no-digest"),
        pytest.param(required("exists: true"), required(), {LESS}, id="not-even-existing"),
        pytest.param(required("exists: true"), required("digest: true"), {LESS, MORE}, id="something-else"),
        pytest.param(required(BY_ONE), required(BY_BOTH), {LESS}, id="one-more-signer"),
        pytest.param(required(BY_ONE), required("digest: true"), {LESS}, id="no-signature"),
        pytest.param(required(BY_ONE), required("digest: true", BY_ONE), set(), id="nothing-in-addition"),
        pytest.param(required(BY_ONE), required("exists: true", BY_ONE), {MORE}, id="signed-and-existing"),
        pytest.param(required(BY_ONE, BY_BOTH), required(BY_ONE), set(), id="implied-by-fewer-signers"),
        pytest.param(required(BY_ONE), required(BY_ONE, keys=SWAPPED), {LESS, MORE}, id="another-key"),
        pytest.param(required(BY_BOTH), required(BY_BOTH, keys=SWAPPED), set(), id="other-names-of-keys"),
        pytest.param(required(BY_BOTH), required(BY_BOTH, keys=ENDED), {MORE}, id="a-key-that-has-ended"),
        pytest.param(
            required("signedBy: [ci-2026], signatures: b.io/s", keys=ENDED),
            required(BY_ONE),
            {LESS},
            id="no-key-that-is-live",
        ),
        pytest.param(
            required(BY_ONE), required(f"{BY_ONE}, signatures: b.io/s"), {LESS, MORE}, id="another-repository"
        ),
        pytest.param(required(BY_ONE), required(f"{BY_ONE}, onError: keep"), {LESS}, id="errors"),
        pytest.param(
            required("exists: true, onError: deny"), required(f"{BY_ONE}, onError: keep"), {LESS, MORE},
            id="errors-of-what-is-signed",
        ),
        pytest.param(
            required(BY_ONE), required(f"{BY_ONE}, onError: keep", BY_BOTH), {LESS}, id="errors-of-one-signer"
        ),
        pytest.param(required(BY_ONE), required(f"{BY_ONE}, mode: warn"), {LESS}, id="only-a-warning"),
        pytest.param(required("digest: true, mode: warn"), required(), set(), id="a-warning-less"),
        pytest.param(
            required("digest: true"), required("digest: true, except: [b.io/x]"), {LESS}, id="an-except"
        ),
        pytest.param(
            required("digest: true"), required("digest: true, namespaces: [a*]"), {LESS}, id="a-namespace"
        ),
        pytest.param(
            required("digest: true").replace("[b.io], d", "[b.io/x, 'b.io/*/**', 'b.io/*'], d"),
            required("digest: true"),
            set(),
            id="other-patterns",
        ),
        pytest.param(
            required("digest: true", more=MIRROR_OF_C),
            required("digest: true", more=MIRROR_OF_C).replace("[b.io], d", "[c.io], d"),
            {LESS},
            id="only-copies-on-a-mirror",
        ),
        pytest.param(
            required("digest: true, onError: deny"), required("digest: true"), set(), id="no-look-up"
        ),
    ],
)  # fmt: skip
def test_what_is_required_of_images_that_both_policies_approve_by_name(
    old: str, new: str, expected: set[str]
) -> None:
    forward, backward = compare(policy(old), policy(new)), compare(policy(new), policy(old))
    swapped = {LESS: MORE, MORE: LESS}
    assert forward.changes == {witness.change for witness in forward.witnesses} == expected
    assert backward.changes == {swapped[change] for change in expected}
    assert (forward.widens, forward.narrows) == (LESS in expected, MORE in expected)


def test_errors_of_a_digest_alone_count_only_where_the_webhook_writes_it() -> None:
    old, new = (required(f"digest: true, onError: {each}") for each in ("deny", "keep"))
    assert compare(policy(old, "mutate"), policy(new, "mutate")).changes == {LESS}
    assert not compare(policy(old, "mutate"), policy(new)).changes
    tags = [
        required(f"{each}, onError: keep").replace("[b.io], ", "['b.io/**:*'], ")
        for each in (BY_ONE, "exists: true, digest: true")
    ]
    assert compare(*(policy(text, "mutate") for text in tags)).changes == {LESS}
    everywhere = [text.replace("images: [b.io]", "images: ['*.io/**']") for text in (old, new)]
    assert not compare(*(policy(text, "mutate") for text in everywhere)).changes  # no host may be asked


def test_a_witness_of_requirements_names_them_and_is_an_image_without_a_digest_if_that_matters() -> None:
    old, new = required("digest: true", BY_ONE), required("digest: true, mode: warn", BY_ONE)
    assert not compare(policy(old), policy(new)).changes, "the second one implies the first one"
    (witness,) = compare(policy(old), policy(required("exists: true"))).witnesses[:1]
    assert (witness.image, witness.before, witness.after) == ("b.io/x", "approved", "approved")
    assert [str(witness.old), str(witness.new)] == ["require[0] b.io", "require[0] b.io"]


def glass(overrides: str = "", more: str = "") -> str:
    """Return a grant for a break-glass document."""
    overriding = f", overrides: {overrides}" if overrides else ""
    return f"exceptions: [{{source: break-glass, images: [b.io], longest: 1d{overriding}{more}}}]"


@pytest.mark.parametrize(
    ("old", "new", "widens", "namespace"),
    [
        pytest.param(SIGNED, SIGNED + glass("require"), True, "", id="a-grant"),
        pytest.param(SIGNED + glass(), SIGNED + glass("require"), True, "", id="an-override"),
        pytest.param(SIGNED + glass("require"), SIGNED + glass("require"), False, "", id="the-same"),
        pytest.param(
            f"{SIGNED}{DENIED}{glass('deny')}",
            f"{SIGNED}{DENIED}{glass('[deny, require]')}",
            True,
            "",
            id="also-of-deny-rules",
        ),
        pytest.param(
            SIGNED + glass("require", ", namespaces: [a]"),
            SIGNED + glass("require", ", namespaces: [a, team]"),
            True,
            "team",
            id="a-namespace",
        ),
        pytest.param(NEVER, NEVER + glass(), False, "", id="what-nothing-meets"),
        pytest.param(required(), required(more=glass("require")), False, "", id="nothing-is-required"),
        pytest.param(
            required("digest: true"), required("digest: true", more=glass("require")), True, "", id="a-digest"
        ),
        pytest.param(
            SIGNED.replace("[b.io]", "[c.io]", 1),
            SIGNED.replace("[b.io]", "[c.io]", 1) + glass("require"),
            True,
            "",
            id="no-rule-approves",
        ),
    ],
)
def test_what_exceptions_could_approve_that_does_not_meet_requirements(
    old: str,
    new: str,
    widens: bool,  # noqa: FBT001
    namespace: str,
) -> None:
    forward, backward = compare(policy(old), policy(new)), compare(policy(new), policy(old))
    assert not forward.changes, "the rules and the requirements are the same"
    assert (forward.grants.widens, forward.grants.narrows) == (widens, False)
    assert (backward.grants.widens, backward.grants.narrows) == (False, widens)
    assert all(witness.image.startswith("b.io/") for witness in forward.grants.witnesses)
    if namespace:
        assert {witness.namespace for witness in forward.grants.witnesses} == {namespace}


LOOKED_UP: Final = "registries: [{host: b.io}]\n"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(BY_ONE, BY_BOTH, {LESS}, id="one-more-signer"),
        pytest.param(BY_ONE, "digest: true, exists: true, onError: deny", {LESS}, id="no-signature"),
        pytest.param(BY_ONE, f"{BY_ONE}, onError: keep", {LESS}, id="errors"),
    ],
)
def test_a_tag_that_the_webhook_pins_needs_its_signatures(old: str, new: str, expected: set[str]) -> None:
    """The digest that it writes is no longer matched by the pattern."""
    texts = (
        required(each, "signedBy: [ci-2026]").replace("[b.io], ", "['b.io/x:v1'], ", 1) for each in (old, new)
    )
    one, two = (policy(text, mode="mutate") for text in texts)
    assert compare(one, two).changes == expected
    assert compare(two, one).changes == {MORE}


def test_a_registry_that_may_be_asked_for_digests_makes_a_requirement_easier_to_meet() -> None:
    """Even if only wildcards match its images."""
    rules = "allow: ['*.io/x']\nrequire: [{images: ['*/**'], digest: true}]\n"
    for mode, expected in (("mutate", {LESS}), ("enforce", set())):
        old, new = policy(rules, mode=mode), policy(f"{rules}{LOOKED_UP}", mode=mode)
        found, back = compare(old, new), compare(new, old)
        assert found.changes == expected
        assert back.changes == {MORE for _ in expected}
        assert {witness.image for witness in (*found.witnesses, *back.witnesses)} <= {"b.io/x"}


def test_exceptions_can_approve_more_if_less_is_required() -> None:
    old, new = required("digest: true", more=glass()), required("exists: true", more=glass())
    found = compare(policy(old.replace("[b.io]", "[c.io]", 1)), policy(new.replace("[b.io]", "[c.io]", 1)))
    assert not found.changes, "no rule approves b.io"
    assert (found.grants.widens, found.grants.narrows) == (True, True)


def test_an_answer_about_grants_that_decisions_contradict_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    approved = difference._grant_for(policy(f"allow: [b.io]\n{GRANT}"), "team", "b.io/x", unmet=False)
    assert approved is None, "an image that the rules approve needs no grant"
    monkeypatch.setattr(difference, "_grant_for", lambda *_, **__: None)
    with pytest.raises(Contradiction, match=r"exceptions for b\.io/"):
        compare(policy("allow: [a.io]"), policy(f"allow: [a.io]\n{GRANT}"))


def test_an_except_of_a_deny_rule_also_holds_for_the_names_of_mirrors() -> None:
    rules = "allow: [m.io]\nmirrors: [{from: quay.io, to: m.io/q}]\ndeny: ["
    old, new = policy(f"{rules}quay.io]"), policy(f"{rules}{{image: quay.io, except: [quay.io/x]}}]")
    found = compare(old, new)
    assert (found.widens, found.narrows) == (True, False)
    assert [witness.image for witness in found.witnesses] == ["m.io/q/x"]
