"""Helm must not undo what somebody else changed in the policy's ConfigMap."""

from __future__ import annotations

from typing import Any

import pytest

from gatekeeper_py.core.admission.guard import Writer, guarded, read_writer
from gatekeeper_py.core.admission.review import parse

HELM = {"fieldManager": "helm"}


def managed(manager: Any, *keys: str) -> dict[str, Any]:
    fields: dict[str, Any] = {f"f:{key}": {} for key in keys}
    return {"manager": manager, "operation": "Update", "fieldsV1": {"f:data": {".": {}, **fields}}}


DEEP: Any = []
for _ in range(1010):  # orjson accepts 1,024 levels
    DEEP = [DEEP]

BY_HELM = [managed("helm", "policy.yaml", "mode")]
BY_HAND = [managed("helm", "mode"), managed("kubectl-edit", "policy.yaml")]


def review(
    old: dict[str, Any] | None,
    new: dict[str, Any],
    *,
    managers: Any = BY_HAND,
    options: Any = HELM,
) -> dict[str, Any]:
    def configmap(data: dict[str, Any], **metadata: Any) -> dict[str, Any]:
        return {"metadata": {"name": "p", **metadata}, "data": data}

    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "kind": {"group": "", "version": "v1", "kind": "ConfigMap"},
            "operation": "CREATE" if old is None else "UPDATE",
            "namespace": "ns",
            "name": "p",
            "options": options,
            "object": configmap(new),
            "oldObject": None if old is None else configmap(old, managedFields=managers),
        },
    }


def problems(document: dict[str, Any]) -> list[str]:
    policy = guarded(parse(document), "ns", "p", read_writer(document))
    assert policy is not None
    return [f"{each.code} {each.path}: {each.message}; {each.proposal}" for each in policy.findings]


def test_an_edited_policy_is_not_overwritten() -> None:
    (problem,) = problems(review({"policy.yaml": "edited"}, {"policy.yaml": "of the chart"}))
    assert problem == (
        "undone-edit data.policy.yaml: kubectl-edit changed this in the cluster, and Helm would undo it;"
        " take it into the value policy.document, or delete the ConfigMap to discard it, and upgrade again"
    )


def test_a_toggled_mode_is_not_overwritten_and_not_removed() -> None:
    managers = [managed("helm", "policy.yaml"), managed("kubectl-patch", "mode")]
    old = {"policy.yaml": "a", "mode": "warn"}
    for new in ({"policy.yaml": "a", "mode": "enforce"}, {"policy.yaml": "a"}):
        (problem,) = problems(review(old, new, managers=managers))
        assert problem.startswith("undone-edit data.mode: kubectl-patch changed this")
        assert "policy.mode" in problem


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(
            review({"policy.yaml": "a"}, {"policy.yaml": "b"}, managers=BY_HELM), id="helm-wrote-it"
        ),
        pytest.param(review({"policy.yaml": "a"}, {"policy.yaml": "a"}), id="the-same-text"),
        pytest.param(review({"policy.yaml": "a"}, {"policy.yaml": "a", "mode": "warn"}), id="a-new-key"),
        pytest.param(review(None, {"policy.yaml": "a"}), id="creation"),
        pytest.param(
            review({"policy.yaml": "a"}, {"policy.yaml": "b"}, options={"fieldManager": "kubectl-edit"}),
            id="another-writer",
        ),
        pytest.param(
            review({"policy.yaml": "a"}, {"policy.yaml": "b"}, options={**HELM, "force": True}), id="by-force"
        ),
        pytest.param(review({"policy.yaml": "a"}, {"policy.yaml": "b"}, options=None), id="no-options"),
        pytest.param(
            review({"policy.yaml": "a"}, {"policy.yaml": "b"}, options={"fieldManager": 1}), id="odd-options"
        ),
        pytest.param(review({"policy.yaml": "a"}, {"policy.yaml": "b"}, managers=None), id="nobody"),
        pytest.param(
            review(
                {"policy.yaml": "a"},
                {"policy.yaml": "b"},
                managers=[managed("kubectl-edit", "policy.yaml"), managed("helm3", "policy.yaml")],
            ),
            id="helm-has-the-same-text",
        ),
        pytest.param(
            review(
                {"policy.yaml": "a"},
                {"policy.yaml": "b"},
                managers=[1, {}, {"fieldsV1": []}, {"fieldsV1": {"f:data": 1}}, managed("x", "other")],
            ),
            id="odd-managers",
        ),
        pytest.param(
            review({"policy.yaml": "a"}, {"policy.yaml": "b"}, managers=[managed(DEEP, "policy.yaml")]),
            id="a-deep-manager",
        ),
    ],
)
def test_other_changes_are_left_to_the_other_checks(document: dict[str, Any]) -> None:
    assert problems(document) == []


@pytest.mark.parametrize("document", [None, [], {}, {"request": 1}, {"request": {"options": []}}])
def test_no_writer_is_read_from_other_documents(document: Any) -> None:
    assert read_writer(document) == Writer()


def test_the_name_of_a_manager_is_shortened_and_escaped() -> None:
    managers = [managed("\n" + "x" * 500, "policy.yaml")]
    (problem,) = problems(review({"policy.yaml": "a"}, {"policy.yaml": "b"}, managers=managers))
    assert "\n" not in problem
    assert len(problem) < 300


def test_values_that_are_too_deep_to_compare_cause_no_error() -> None:
    document = review({"policy.yaml": "a", "mode": DEEP}, {"policy.yaml": "a", "mode": [DEEP]})
    assert [problem.split(" ")[0] for problem in problems(document)] == ["bad-value"]


def test_a_wrong_type_of_object_causes_no_error() -> None:
    document = review({"policy.yaml": "a"}, {"policy.yaml": "b"})
    document["request"]["object"] = []
    document["request"]["oldObject"]["metadata"] = []
    assert [problem.split(" ")[0] for problem in problems(document)] == ["missing-field"]
