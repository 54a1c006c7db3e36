"""Compiled objects that no longer belong to their policy."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gatekeeper_py.core import Policy, parse_policy
from gatekeeper_py.core.compile.committed import KINDS, problems
from gatekeeper_py.core.compile.fastpath import compile_fastpath
from support.builders import INSTANT, policy_text

POLICY = parse_policy(policy_text(allow="[a.io, {image: b.io, until: 2027-01-01}]"))
OTHER = parse_policy(policy_text(allow="[c.io]"))
IN_MUTATE = parse_policy(POLICY.text, "mutate")


def configuration(policy: Policy = POLICY, *, revision: str | None = "own", **condition: Any) -> Any:
    own = {"name": "not-pre-approved", "expression": compile_fastpath(policy, INSTANT).validating} | condition
    shown = policy.revision if revision == "own" else revision
    return {
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {
            "name": "w",
            "annotations": {} if shown is None else {"gatekeeper-py/fast-path-revision": shown},
        },
        "webhooks": [{"name": "a"}, {"matchConditions": [{"name": "x", "expression": "true"}, own]}],
    }


def native(revision: Any) -> Any:
    return {
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "n", "annotations": {"gatekeeper-py/policy-revision": revision}},
    }


@pytest.mark.parametrize(
    ("obj", "policies", "problem"),
    [
        pytest.param(configuration(), [POLICY], "", id="conditions-of-the-policy"),
        pytest.param(configuration(), [IN_MUTATE], "", id="in-another-mode-they-are-the-same"),
        pytest.param(configuration(), [OTHER, POLICY], "", id="of-one-of-two"),
        pytest.param(
            configuration(),
            [OTHER],
            "ValidatingWebhookConfiguration w was compiled from the revision "
            f"{POLICY.revision}, not {OTHER.revision}",
            id="of-another-policy",
        ),
        pytest.param(
            configuration(revision=None, expression="false"),
            [POLICY],
            "ValidatingWebhookConfiguration w has another match condition than the policy compiles to now",
            id="edited",
        ),
        pytest.param(configuration(name="another"), [OTHER], "", id="somebody-elses-condition"),
        pytest.param(configuration(revision=None), [POLICY], "", id="without-an-annotation"),
        pytest.param(native(POLICY.revision), [POLICY], "", id="native"),
        pytest.param(
            native("x\n" * 40),
            [POLICY, OTHER],
            "ValidatingAdmissionPolicy n was compiled from the revision "
            rf"x\nx\nx\nx\nx\nx\nx\nx\nx\nx\nx\nx\nx..., not {POLICY.revision} or {OTHER.revision}",
            id="native-of-another-policy",
        ),
        pytest.param(native(IN_MUTATE.revision), [POLICY], "was compiled from", id="native-in-another-mode"),
        pytest.param(
            {"kind": "ValidatingAdmissionPolicy", "metadata": {"name": "n"}}, [POLICY], "", id="not-ours"
        ),
        pytest.param(native(None) | {"metadata": None}, [POLICY], "", id="no-metadata"),
        pytest.param([], [POLICY], "", id="no-object"),
        pytest.param(configuration() | {"webhooks": {"a": "b"}}, [OTHER], "", id="odd-webhooks"),
        pytest.param(configuration() | {"webhooks": ["a"]}, [OTHER], "", id="odd-webhook"),
        pytest.param(configuration() | {"metadata": {"annotations": []}}, [POLICY], "", id="odd-annotations"),
    ],
)
def test_objects_compiled_from_another_policy_are_outdated(
    obj: Any, policies: list[Policy], problem: str
) -> None:
    found = list(problems(obj, policies, INSTANT))
    assert len(found) == bool(problem)
    assert problem in "".join(found)


def test_a_condition_is_outdated_once_a_rule_has_expired() -> None:
    later = datetime(2027, 1, 1, tzinfo=UTC)
    (problem,) = problems(configuration(), [POLICY], later)
    assert problem.endswith("a rule has expired, or another version compiled it")


def test_the_kinds_are_those_that_compile_prints() -> None:
    assert len(KINDS) == 3
