"""The forms of the expression, and the limits of its length and cost.

`make go-test` evaluates expressions as an API server does.
"""

from __future__ import annotations

import pytest

from gatekeeper_py.core.compile import expression as cel
from gatekeeper_py.core.compile.cost import MAX_COST, MAX_EXPRESSION_LENGTH, fits
from gatekeeper_py.core.compile.preapproved import EVERYTHING
from gatekeeper_py.core.images.scope import Scope
from support.skipping import pre_approved, scope


@pytest.mark.parametrize(
    ("patterns", "excluded", "form"),
    [
        pytest.param(["a.io"], [], "^(?:a[.]io/)[a-z0-9]+", id="registry"),
        pytest.param(["b.io/t/**", "a.io"], [], "^(?:a[.]io/|b[.]io/t/)[a-z0-9]+", id="subtree"),
        pytest.param(["*.a.io:5000"], [], "^(?:[a-z0-9]+(?:-+[a-z0-9]+)*[.]a[.]io:5000/)", id="whole-label"),
        pytest.param(
            ["a.io/*/**"], [], "^(?:a[.]io/[a-z0-9]+(?:(?:[.]|__?|-+)[a-z0-9]+)*/)", id="whole-segment"
        ),
        pytest.param(
            ["a.io@*", "b.io@*"],
            [],
            "(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?@sha256:[0-9a-f]{64}$",
            id="pinned",
        ),
        pytest.param(
            ["a.io"], ["*/**:latest"], "(?:@sha256:[0-9a-f]{64})?|@sha256:[0-9a-f]{64})$", id="tag-or-digest"
        ),
        pytest.param(
            ["a.io"], ["*/**:*", "*/**:latest"], "127})?@sha256:[0-9a-f]{64}$')", id="digests-alone"
        ),
        pytest.param(["a.io"], ["a.io/**:latest"], "127})?(?:@sha256:[0-9a-f]{64})?$", id="tag-or-none"),
    ],
)
def test_a_few_names_stand_in_the_form(patterns: list[str], excluded: list[str], form: str) -> None:
    """An API server evaluates them faster there."""
    part = cel.expression(pre_approved(*patterns, excluded=excluded))
    assert form in part.text
    assert part.text.count(".matches(") == 1 + (excluded == ["a.io/**:latest"])
    assert fits(part)


@pytest.mark.parametrize(
    ("patterns", "comparison"),
    [
        pytest.param(
            ["a.io", "b.io/x"],
            "c.image.startsWith('a.io/') || c.image.find('^[^/]+/[^:@]+') in ['b.io/x']",
            id="a-repository",
        ),
        pytest.param(
            ["a.io", "b.io@*"], "(c.image.contains('@') && c.image.startsWith('b.io/'))", id="one-pinned"
        ),
        pytest.param(
            ["a.io/x:v1", "a.io/y:latest"], "c.image in ['a.io/x:v1', 'a.io/y', 'a.io/y:latest']", id="tags"
        ),
        pytest.param(["a.io/team-*/**"], "^[^/]+/[a-z0-9]+", id="part-of-a-segment"),
        pytest.param(["eu-*.a.io"], "^[a-z0-9]+(?:-+[a-z0-9]+)*(?:[.]", id="part-of-a-label"),
        pytest.param(["a.io/**:v*"], "c.image.matches('^a[.]io/[^:@]+:v[A-Za-z0-9_.-]*$')", id="tag-glob"),
        pytest.param(
            [f"{'x' * 20}{n}.corp.io" for n in range(40)],
            "c.image.find('^(?:[^/]+/){1}') in ['xxx",
            id="too-many",
        ),
        pytest.param(
            [f"{'x.' * 10}{n}.io" for n in range(30)],
            "c.image.find('^(?:[^/]+/){1}') in ['x.x",
            id="too-long-when-written",
        ),
    ],
)
def test_other_names_are_compared(patterns: list[str], comparison: str) -> None:
    part = cel.expression(pre_approved(*patterns))
    assert comparison in part.text
    assert fits(part)


def test_namespaces_are_compared_with_the_requests() -> None:
    part = cel.expression(pre_approved("a.io", scope("b.io", "shop"), excluded=[scope("a.io/x", "t-*", "u")]))
    assert "&& has(request.namespace)" in part.text
    assert "(c.image.startsWith('a.io/') || (request.namespace == 'shop' && c.image" in part.text
    assert "!((request.namespace == 'u' || request.namespace.startsWith('t-')) && c.image" in part.text


@pytest.mark.parametrize(
    ("excluded", "comparison"),
    [
        pytest.param(
            scope("*/**:latest", "shop"),
            "!(request.namespace == 'shop' && (c.image.endsWith(':latest')"
            " || c.image.matches('^[^/]+/[^:@]+$')))",
            id="latest-in-one-namespace",
        ),
        pytest.param(
            scope("*/**:dev", "a", "b"),
            "!(request.namespace in ['a', 'b'] && c.image.endsWith(':dev'))",
            id="another-tag",
        ),
        pytest.param(
            scope("*/**:*", "shop"),
            "!(request.namespace == 'shop' && !(c.image.contains('@')))",
            id="without-a-digest-in-one-namespace",
        ),
        pytest.param(
            scope("a.io/x/**:*"),
            "!(!(c.image.contains('@')) && c.image.startsWith('a.io/x/'))",
            id="without-a-digest",
        ),
        pytest.param(
            scope("a.io/x", "*-a", "a-*-b", "*a*"),
            "(request.namespace.endsWith('-a') || request.namespace.matches('^.*a.*$') ||"
            " request.namespace.matches('^a-.*-b$'))",
            id="globs-of-namespaces",
        ),
    ],
)
def test_an_exclusion_compares_its_namespaces(excluded: Scope, comparison: str) -> None:
    assert comparison in cel.expression(pre_approved("a.io", excluded=[excluded])).text


def test_the_bounds_are_of_length_and_of_cost() -> None:
    """Many wildcards exceed the cost limit first; many names exceed the length limit first."""
    wildcards = cel.expression(pre_approved(*(f"a.io/x{number}-*/**" for number in range(300))))
    assert wildcards.cost > MAX_COST
    assert len(wildcards.text) < MAX_EXPRESSION_LENGTH
    names = cel.expression(pre_approved(*(f"a.io/{number:x}{'x' * 200}/**" for number in range(500))))
    assert names.cost < MAX_COST
    assert len(names.text) > MAX_EXPRESSION_LENGTH
    assert not fits(wildcards)
    assert not fits(names)
    assert MAX_EXPRESSION_LENGTH < 100_000  # cel-go, parser/parser.go, expressionSizeCodePointLimit


def test_the_expression_is_false_when_every_pod_is_skipped() -> None:
    assert cel.expression(EVERYTHING) == ("false", 0, False)
