"""The policy guard as a pure function: which object it judges, and its answers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import pytest

from gatekeeper_py.core.admission import Outcome
from gatekeeper_py.core.admission.guard import (
    MAX_RADIUS_LINES,
    accepted,
    approvals,
    excess,
    guarded,
    radius_notes,
    refused,
    untouched,
    written_exceptions,
)
from gatekeeper_py.core.admission.messages import MAX_MESSAGE_BYTES
from gatekeeper_py.core.admission.radius import Radius, Ratio
from gatekeeper_py.core.admission.review import parse
from gatekeeper_py.core.exceptions.exceptions import DocumentKey, Exceptions
from gatekeeper_py.core.policy.configmap import ExceptionsText
from gatekeeper_py.core.policy.finding import Finding
from gatekeeper_py.core.policy.parse.exceptions import parse_exceptions
from support.builders import INSTANT, UID, exceptions_text, policy, policy_text, review
from support.contract import MAX_WARNING_LENGTH, MAX_WARNINGS

NAMESPACE, NAME = "gatekeeper-py", "policy"


def change(
    data: Any,
    *,
    name: str = NAME,
    operation: str = "CREATE",
    namespace: str | None = NAMESPACE,
    kind: str = "ConfigMap",
    group: str = "",
) -> dict[str, Any]:
    """Return a review of a ConfigMap that is named in the object only, not in the request."""
    document = review(
        {"metadata": {"name": name}, "data": data},
        operation=operation,
        kind=(group, kind),
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
        pytest.param(change({}, operation="CONNECT"), id="connect"),
        pytest.param(change({}, group="x.io"), id="another-group"),
        pytest.param(change({}, kind="Secret"), id="another-kind"),
        pytest.param(change({}, name="another"), id="another-name"),
        pytest.param(change({}, namespace="shop"), id="another-namespace"),
        pytest.param(change({}, namespace=None), id="no-namespace"),
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


def test_binary_data_is_a_finding() -> None:
    document = change({"policy.yaml": policy_text()})
    document["request"]["object"]["binaryData"] = {"policy.bin": "eA=="}
    read = guarded(parse(document), NAMESPACE, NAME)
    assert read is not None
    assert [each.path for each in read.findings] == ["binaryData"]


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
    found = response(refused(parse(change({})), [finding("no\nimage \u00e9\x1b[31m", line=3)]))
    assert not found["allowed"]
    first, second = found["status"]["message"].split("\n")
    assert first == "the policy is not acceptable: 1 problem"
    assert "allow" in second
    assert "no\\nimage" in second
    assert second.isascii()
    assert second.isprintable()


def test_a_long_denial_counts_the_problems_that_do_not_fit() -> None:
    """The message stays within the limit for every length of its lines."""
    for length in range(1, 301):
        message = response(refused(parse(change({})), [finding("x" * length)] * 100))["status"]["message"]
        lines = message.split("\n")
        assert len(message.encode()) <= MAX_MESSAGE_BYTES
        assert lines[0] == "the policy is not acceptable: 100 problems"
        assert lines[-1] == f"and {100 - (len(lines) - 2)} more"


def radius(length: int = 34, **fields: Any) -> Radius:
    images = tuple(f"registry.corp.example/shop/{number:0>{length - 27}}" for number in range(20))
    found = Radius(rejected=214, known=230, images=images, worst=Ratio(214, 230), complete=True)
    return found._replace(**fields)


@pytest.mark.parametrize("length", [30, 34, 37, 120, 121, 512])
def test_up_to_five_warnings_name_images_that_an_acceptable_policy_rejects(length: int) -> None:
    notes = radius_notes(radius(length), insisted=False)
    assert len(notes) == MAX_RADIUS_LINES
    found = response(accepted(parse(change({})), [finding()] * 12, notes))["warnings"]
    assert found[0].startswith(
        "this policy rejects 214 of 230 images that were approved here in the last 24 hours:"
    )
    assert ("registry.corp.example/shop/0" in found[0]) is (
        length != 37
    )  # 37 fits into one line, but not here
    assert found[4].endswith("...")
    assert found[-1] == "8 more findings"
    assert len(found) == MAX_WARNINGS
    assert max(map(len, found)) <= MAX_WARNING_LENGTH


def test_few_rejected_images_are_all_named() -> None:
    few = radius(rejected=2, images=("a.io/x:1", "b.io/y:2"))
    (note,) = radius_notes(few, insisted=False)
    assert note.endswith(
        "rejects 2 of 230 images that were approved here in the last 24 hours: a.io/x:1, b.io/y:2"
    )


def test_a_policy_that_rejects_nothing_gets_no_note_but_the_annotation_gets_one() -> None:
    harmless = radius(rejected=0, images=())
    assert radius_notes(harmless, insisted=False) == ()
    (note,) = radius_notes(harmless, insisted=True)
    assert note.startswith("remove the annotation gatekeeper-py/accept-rejections")


@pytest.mark.parametrize(
    ("found", "most", "message"),
    [
        pytest.param(radius(worst=Ratio(5, 10)), 50, None, id="half"),
        pytest.param(radius(worst=Ratio(6, 10)), 50, "this policy rejects 6 of 10 images", id="more"),
        pytest.param(radius(worst=Ratio(10, 10)), 0, None, id="switched-off"),
        pytest.param(radius(worst=Ratio(), complete=False), 50, "takes too long", id="not-judged-in-time"),
        pytest.param(radius(worst=Ratio(), complete=False), 0, None, id="not-judged-and-switched-off"),
    ],
)
def test_a_policy_that_refuses_more_than_the_limit_is_refused_with_the_way_out(
    found: Radius, most: int, message: str | None
) -> None:
    error = excess(found, most)
    assert (error is None) is (message is None)
    if error is not None and message is not None:
        denial = response(refused(parse(change({})), [error]))["status"]["message"]
        assert message in denial
        assert 'set the annotation gatekeeper-py/accept-rejections: "true" on the ConfigMap' in denial


@pytest.mark.parametrize(
    ("annotations", "accepts"),
    [
        ({"gatekeeper-py/accept-rejections": "true"}, True),
        ({"gatekeeper-py/accept-rejections": "True"}, False),
        ({"gatekeeper-py/accept-rejections": True}, False),
        ({"gatekeeper-py/accept-rejections": ""}, False),
        ({}, False),
        (None, False),
        (["gatekeeper-py/accept-rejections"], False),
    ],
)
def test_only_the_annotation_with_the_value_true_insists_on_a_policy(
    annotations: Any,
    accepts: bool,  # noqa: FBT001 - a column of the table
) -> None:
    document = change({"policy.yaml": policy_text()})
    document["request"]["object"]["metadata"]["annotations"] = annotations
    policy = guarded(parse(document), NAMESPACE, NAME)
    assert policy is not None
    assert policy.accepts_rejections is accepts


DEEP: Any = []
for _ in range(1010):  # orjson accepts 1,024 levels
    DEEP = [DEEP]


def update(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return a review of a change of the policy's data."""
    document = change(new, operation="UPDATE")
    document["request"]["oldObject"] = {"metadata": {"name": NAME}, "data": old}
    return document


def codes(document: dict[str, Any]) -> list[str]:
    policy = guarded(parse(document), NAMESPACE, NAME)
    assert policy is not None
    return [each.code for each in policy.findings]


def test_values_that_are_too_deep_to_compare_cause_no_error() -> None:
    document = update({"policy.yaml": "a", "mode": DEEP}, {"policy.yaml": "a", "mode": [DEEP]})
    assert codes(document) == ["bad-value"]


def test_a_wrong_type_of_object_causes_no_error() -> None:
    document = update({"policy.yaml": "a"}, {"policy.yaml": "b"})
    document["request"] |= {"name": NAME, "object": []}
    document["request"]["oldObject"]["metadata"] = []
    assert codes(document) == ["missing-field"]


EXCEPTIONS: Final = {"exceptions.yaml": "text"}


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        pytest.param({}, DocumentKey("namespace", "team"), id="namespace"),
        pytest.param({"namespace": "system"}, DocumentKey("installation", "system"), id="installation"),
        pytest.param({"name": "gatekeeper-py-break-glass"}, None, id="break-glass-elsewhere"),
        pytest.param({"name": "other"}, None, id="another-name"),
        pytest.param({"kind": "Secret"}, None, id="another-kind"),
        pytest.param({"operation": "DELETE"}, None, id="delete"),
    ],
)
def test_exceptions_are_recognised_by_name_and_namespace(
    changed: dict[str, str], key: DocumentKey | None
) -> None:
    given = {"name": "gatekeeper-py-exceptions", "namespace": "team", **changed}
    found = written_exceptions(parse(change(EXCEPTIONS, **given)), "system")
    assert found == (None if key is None else ExceptionsText(key, "text", ()))


BINARY: Final = {"data": EXCEPTIONS, "binaryData": {"a": "AA=="}}


@pytest.mark.parametrize(
    ("before", "after", "is_judged"),
    [
        pytest.param({"data": EXCEPTIONS}, {"data": EXCEPTIONS}, False, id="the-same-text"),
        pytest.param({"data": EXCEPTIONS}, {"data": {"exceptions.yaml": "other"}}, True, id="another-text"),
        pytest.param({"data": None}, {"data": None}, False, id="no-text"),
        pytest.param({"data": EXCEPTIONS}, {"data": None}, True, id="no-text-any-more"),
        pytest.param({"data": {"x": [1]}}, {"data": {"x": [1]}}, True, id="not-text"),
        pytest.param({"data": EXCEPTIONS}, BINARY, True, id="binary-data"),
        pytest.param(BINARY, BINARY, False, id="the-same-binary-data"),
        pytest.param(None, {"data": EXCEPTIONS}, True, id="no-old-object"),
    ],
)
def test_an_update_that_leaves_the_text_is_not_judged(
    before: Any,
    after: Any,
    is_judged: bool,  # noqa: FBT001
) -> None:
    """Otherwise nobody could remove the finalizer of a ConfigMap that is refused."""
    document = change({}, name="gatekeeper-py-exceptions", namespace="team", operation="UPDATE")
    document["request"]["object"] |= after
    document["request"]["oldObject"] = before
    request = parse(document)
    assert (written_exceptions(request, "system") is not None) is is_judged
    assert (guarded(request, "team", "gatekeeper-py-exceptions") is not None) is is_judged


def test_an_accepted_document_is_answered_with_what_it_approves() -> None:
    grants = policy("exceptions: [{source: namespace, images: ['b.io'], longest: 1d, most: 1000}]").grants
    until = (INSTANT + timedelta(hours=1)).isoformat()
    key = DocumentKey("namespace", "team")
    for count in (1, MAX_WARNINGS + 5):
        listed = [f"image: 'b.io/x{number}', until: {until}, reason: r" for number in range(count)]
        warnings = approvals(grants, Exceptions({key: parse_exceptions(exceptions_text(*listed))}), INSTANT)
        assert warnings[0].startswith("approved until 20")
        assert warnings[0].endswith(": b.io/x0")
        assert len(warnings) <= MAX_WARNINGS
        assert warnings[-1].endswith("more entries") is (count > 1)
