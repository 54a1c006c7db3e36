"""``explain``: the reasons for a decision."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pytest

from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.admission.explain import (
    MAX_NEAREST,
    Explanation,
    explain,
    nearest_as_json,
    rule_as_json,
)
from gatekeeper_py.core.admission.judge import exception_as_json
from gatekeeper_py.core.admission.world import Answers
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions
from gatekeeper_py.core.images.manifest import MISSING, Answer, Resolution, found
from gatekeeper_py.core.policy.parse.exceptions import parse_exceptions
from support.builders import INSTANT, exceptions_text, policy, policy_text

SHA256: Final = "sha256:" + "7c" * 32
OTHER: Final = "sha256:" + "8d" * 32
MIRRORED: Final = "mirrors: [{from: docker.io, to: r.io/hub, except: [docker.io/team/**]}]\n"


def explained(
    image: str, more: str = "", *, allow: str = "[a.io]", namespace: str | None = "shop"
) -> Explanation:
    return explain(policy(more, allow=allow), namespace, image)


def missed(image: str, allow: str, *, namespace: str | None = "shop") -> list[tuple[int, str]]:
    """Return the nearest rules by index, each with the reason why it does not match."""
    nearest = explained(image, allow=allow, namespace=namespace).nearest
    return [(miss.rule.index, miss.missed) for miss in nearest]


def test_an_approved_image() -> None:
    explanation = explained("A.io:443/x")
    assert (explanation.verdict.in_words, explanation.verdict.decision.reason, explanation.matched_as) == (
        "approved",
        "allowed",
        "a.io/x",
    )
    assert (explanation.verdict.slot.value, explanation.namespace) == ("A.io:443/x", "shop")
    assert (explanation.origins, explanation.rewritten, explanation.nearest) == ((), None, ())


@pytest.mark.parametrize(
    "image",
    [
        pytest.param("a b", id="no-reference"),
        pytest.param("a.io:0/x", id="never"),
        pytest.param("", id="empty"),
    ],
)
def test_an_invalid_image(image: str) -> None:
    explanation = explained(image, MIRRORED)
    assert (explanation.verdict.in_words, explanation.verdict.decision.reason, explanation.matched_as) == (
        "rejected",
        "invalid",
        None,
    )
    assert (
        explanation.origins,
        explanation.rewritten,
        explanation.new,
        explanation.nearest,
    ) == ((), None, None, ())


def test_a_denied_image_has_no_near_misses() -> None:
    explanation = explained("a.io/x", "deny: [a.io]")
    assert (explanation.verdict.decision.reason, explanation.nearest, explanation.rewritten) == (
        "denied",
        (),
        None,
    )


def test_an_image_on_a_mirror_has_its_origin() -> None:
    assert explained("r.io/hub/nginx", MIRRORED).origins == ("docker.io/library/nginx",)


def test_the_rewrite_of_an_image_is_shown() -> None:
    explanation = explained("nginx", MIRRORED, allow="[r.io]")
    assert explanation.rewritten == "r.io/hub/library/nginx"
    assert explanation.new is not None
    assert explanation.new.approved
    assert explanation.verdict.in_words == "rejected"


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        pytest.param("elsewhere.io/app", "", id="no-mirror"),
        pytest.param("team/app", "the except of mirrors[0] matches it", id="exception"),
    ],
)
def test_an_image_that_mutate_leaves_has_no_rewrite(image: str, problem: str) -> None:
    explanation = explained(image, MIRRORED)
    assert explanation.rewritten is None
    assert explanation.rewrite_problem == problem


def test_the_reason_for_no_rewrite_is_shown() -> None:
    explanation = explained("nginx", "mirrors: [{from: docker.io/library/nginx, to: r.io}]")
    assert explanation.rewritten is None
    assert "Docker Hub" in explanation.rewrite_problem


@pytest.mark.parametrize(
    ("image", "allow", "reason"),
    [
        pytest.param("b.io/x", "[a.io]", "the registry is b.io, the rule requires a.io", id="host"),
        pytest.param("a.io/x", "[a.io/y]", "the repository is x, the rule requires y", id="path"),
        pytest.param(
            "a.io/x/y",
            "['a.io/x:v1']",
            "the repository is x/y, the rule requires x; a.io/x/**:v1 would match all below it",
            id="path-of-an-exact-rule",
        ),
        pytest.param(
            "a.io/x", "[a.io/x/**]", "the repository is x, the rule requires x/**", id="path-of-a-subtree"
        ),
        pytest.param("a.io/x", "['a.io/x:v1']", "the tag is latest, the rule requires v1", id="tag"),
        pytest.param(
            f"a.io/x:v1@{SHA256}",
            "['a.io/x:v1']",
            "the tag is none, as runtimes ignore it beside a digest, the rule requires v1",
            id="tag-beside-a-digest",
        ),
        pytest.param("a.io/x", "[a.io@*]", "the image is not pinned by a digest", id="not-pinned"),
        pytest.param(
            f"a.io/x@{SHA256}",
            f"['a.io/x@{OTHER}']",
            f"the digest is {SHA256}, the rule requires {OTHER}",
            id="digest",
        ),
        pytest.param(
            "a.io/x",
            "[{image: a.io, namespaces: [pay, 'b*']}]",
            "the namespace is shop, the rule is for pay, b*",
            id="namespace",
        ),
        pytest.param(
            "a.io/x",
            "[{image: a.io, until: 2026-01-31}]",
            "the rule expired at 2026-01-31T00:00:00Z",
            id="expired",
        ),
    ],
)
def test_why_a_rule_missed(image: str, allow: str, reason: str) -> None:
    assert missed(image, allow) == [(0, reason)]


def test_why_a_rule_missed_a_request_without_a_namespace() -> None:
    assert missed("a.io/x", "[{image: a.io, namespaces: [pay]}]", namespace=None) == [
        (0, "the namespace is none, the rule is for pay")
    ]


def test_the_nearest_are_those_that_failed_last_then_those_that_look_alike() -> None:
    allow = "[zzz.io, a.io/app2, 'a.io/app1:v9', a.io/zzz, a.io/app3x]"
    assert [index for index, _ in missed("a.io/app1", allow)] == [2, 1, 4]


def test_the_first_of_equally_near_rules_are_listed() -> None:
    allow = "[" + ", ".join(f"a.io/app{i}" for i in range(1, 9)) + "]"
    assert [index for index, _ in missed("a.io/app0", allow)] == list(range(MAX_NEAREST))


def test_rules_as_json() -> None:
    text = policy_text(
        "deny: [{image: a.io, namespaces: [shop], until: 2027-01-01, owner: me, reason: why}, b.io]"
    )
    full, unqualified = parse_policy(text).deny
    assert rule_as_json(full) == {
        "list": "deny",
        "index": 0,
        "image": "a.io",
        "namespaces": ["shop"],
        "until": "2027-01-01T00:00:00Z",
        "owner": "me",
        "reason": "why",
    }
    assert rule_as_json(unqualified) == {"list": "deny", "index": 1, "image": "b.io"}
    assert rule_as_json(None) is None


def test_near_misses_as_json() -> None:
    compiled = parse_policy(policy_text(allow="[a.io]")).at(datetime(2026, 3, 1, tzinfo=UTC))
    assert nearest_as_json(explain(compiled, None, "b.io/x").nearest) == [
        {
            "rule": {"list": "allow", "index": 0, "image": "a.io"},
            "missed": "the registry is b.io, the rule requires a.io",
        }
    ]


def explained_in(answer: Answer, image: str, more: str = "", *, allow: str = "[a.io]") -> Explanation:
    """Explain an image in a world where every look-up has this answer."""
    compiled = policy(more, allow=allow, mode="mutate")
    return explain(compiled, "shop", image, Answers(lambda _lookup: Resolution(answer, 0)))


def test_a_look_up_decides_whether_an_image_is_rewritten() -> None:
    mirror = "mirrors: [{from: docker.io, to: a.io/hub, verify: true}]"
    there = explained_in(found(SHA256), "nginx:1", mirror)
    assert there.rewritten == "a.io/hub/library/nginx:1"
    assert there.new is not None
    assert there.new.approved
    absent = explained_in(MISSING, "nginx:1", mirror)
    assert absent.rewritten is None
    assert absent.rewrite_problem


def test_an_exception_is_shown_with_its_document_and_its_grant() -> None:
    document = parse_exceptions(exceptions_text("image: b.io/x, until: 2026-03-02, reason: r"))
    policy_with_grant = parse_policy(
        policy_text("exceptions: [{source: namespace, images: [b.io], longest: 9d}]\n")
    )
    found = policy_with_grant.at(INSTANT, Exceptions({DocumentKey("namespace", "shop"): document}))
    assert exception_as_json(explain(found, "shop", "b.io/x").verdict.decision.exception) == {
        "source": "namespace",
        "namespace": "shop",
        "index": 0,
        "image": "b.io/x",
        "until": "2026-03-02T00:00:00Z",
        "reason": "r",
        "owner": None,
        "grant": 0,
    }
    assert exception_as_json(explain(found, "other", "b.io/x").verdict.decision.exception) is None


def test_the_nearest_exceptions_of_the_deny_rule_are_shown_by_the_name_that_it_matched() -> None:
    more = "deny: [{image: b.io, except: ['b.io/x:1', c.io]}]\nmirrors: [{from: b.io, to: m.io/b}]\n"
    for image in ("b.io/x:2", "m.io/b/x:2"):
        nearest = explain(policy(more), None, image).nearest
        assert [miss.missed for miss in nearest] == [
            "the tag is 2, the rule requires 1",
            "the registry is b.io, the rule requires c.io",
        ]
