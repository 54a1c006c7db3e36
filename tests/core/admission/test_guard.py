"""The policy guard as a pure function: which object it judges, and its answers."""

from __future__ import annotations

from typing import Any

import pytest

from builders import UID, policy_text, review
from contract import MAX_WARNING_LENGTH, MAX_WARNINGS
from gatekeeper_py.core.admission import Outcome
from gatekeeper_py.core.admission.guard import accepted, guarded, read_writer, refused, untouched
from gatekeeper_py.core.admission.messages import MAX_MESSAGE_BYTES
from gatekeeper_py.core.admission.review import parse
from gatekeeper_py.core.policy.finding import Finding

NAMESPACE, NAME = "gatekeeper-py", "policy"


def change(
    data: Any,
    *,
    name: str = NAME,
    operation: str = "CREATE",
    namespace: str = NAMESPACE,
    kind: str = "ConfigMap",
) -> dict[str, Any]:
    """Return a review of a ConfigMap that is named in the object only, not in the request."""
    document = review(
        {"metadata": {"name": name}, "data": data},
        operation=operation,
        kind=("", kind),
        namespace=namespace,
    )
    del document["request"]["name"]
    return document


def finding(text: str = "x", *, line: int = 1) -> Finding:
    return Finding(severity="error", code="c", path="allow", line=line, message=text)


def response(outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = outcome.response.document()["response"]
    assert found["uid"] == UID
    return found


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(change({}, operation="DELETE"), id="removal"),
        pytest.param(change({}, kind="Secret"), id="another-kind"),
        pytest.param(change({}, name="another"), id="another-name"),
        pytest.param(change({}, namespace="shop"), id="another-namespace"),
        pytest.param(review(None, kind=("", "ConfigMap"), namespace=NAMESPACE), id="no-object"),
    ],
)
def test_other_objects_are_not_judged(document: dict[str, Any]) -> None:
    request = parse(document)
    assert guarded(request, NAMESPACE, NAME) is None
    assert response(untouched(request)) == {"uid": UID, "allowed": True}


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
def test_the_policy_is_read_with_its_findings(operation: str) -> None:
    good = guarded(parse(change({"policy.yaml": policy_text()}, operation=operation)), NAMESPACE, NAME)
    assert good is not None
    assert (good.text, good.findings) == (policy_text(), ())
    bad = guarded(parse(change({"policy.yml": "x"}, operation=operation)), NAMESPACE, NAME)
    assert bad is not None
    assert {each.severity for each in bad.findings} == {"error"}


def test_binary_data_and_undone_edits_are_findings_too() -> None:
    document = change({"policy.yaml": policy_text()}, operation="UPDATE")
    document["request"]["object"]["binaryData"] = {"policy.bin": "eA=="}
    manager = {
        "manager": "kubectl-edit",
        "operation": "Update",
        "fieldsV1": {"f:data": {"f:policy.yaml": {}}},
    }
    document["request"]["oldObject"] = {
        "metadata": {"name": NAME, "managedFields": [manager]},
        "data": {"policy.yaml": "edited"},
    }
    document["request"]["options"] = {"fieldManager": "helm"}
    read = guarded(parse(document), NAMESPACE, NAME, read_writer(document))
    assert read is not None
    assert {each.path for each in read.findings} == {"binaryData", "data.policy.yaml"}


def test_the_request_may_name_the_object_instead() -> None:
    document = change({"policy.yaml": policy_text()}, name="generated")
    document["request"]["name"] = NAME
    assert guarded(parse(document), NAMESPACE, NAME) is not None


def test_an_acceptable_policy_is_allowed_with_at_most_ten_warnings() -> None:
    request = parse(change({}))
    assert response(accepted(request, ())) == {"uid": UID, "allowed": True}
    assert [accepted(request, each).verdict for each in ((), [finding()])] == ["allowed", "warned"]
    found = response(accepted(request, [finding("x" * 500)] * 12))
    assert found["allowed"]
    assert len(found["warnings"]) == MAX_WARNINGS
    assert max(map(len, found["warnings"])) <= MAX_WARNING_LENGTH
    assert found["warnings"][-1] == "3 more findings"


def test_a_denial_counts_the_problems_and_lists_each_on_a_line() -> None:
    found = response(refused(parse(change({})), [finding("no\nimage", line=3)]))
    assert not found["allowed"]
    first, second = found["status"]["message"].split("\n")
    assert first == "the policy is not acceptable: 1 problem"
    assert "allow" in second
    assert "no\\nimage" in second


def test_a_long_denial_counts_the_problems_that_do_not_fit() -> None:
    """The message stays within the limit for every length of its lines."""
    for length in range(1, 301):
        message = response(refused(parse(change({})), [finding("x" * length)] * 100))["status"]["message"]
        lines = message.split("\n")
        assert len(message.encode()) <= MAX_MESSAGE_BYTES
        assert lines[0] == "the policy is not acceptable: 100 problems"
        assert lines[-1] == f"and {100 - (len(lines) - 2)} more"
