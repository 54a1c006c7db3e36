"""Native admission policies as an API server's own code evaluates them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from gatekeeper_py.core.compile.native.objects import KIND
from support.evaluating import COST_LIMIT, Evaluator

BUDGET = 10 * COST_LIMIT
"""Cost limit of all expressions of a policy together (apiserver, pkg/apis/cel/config.go)."""

Document = dict[str, Any]


class Verdict(NamedTuple):
    """Return the result of the native policies for a request, and the message of a rejection."""

    verdict: Literal["allowed", "denied", "warned"]
    message: str = ""


def specs(documents: Iterable[Document]) -> Iterator[tuple[Document, list[str]]]:
    """Yield the spec of each policy with the actions that its binding takes."""
    listed = list(documents)
    for document in listed:
        if document["kind"] == KIND:
            (binding,) = (
                each
                for each in listed
                if each["kind"] == f"{KIND}Binding"
                and each["spec"]["policyName"] == document["metadata"]["name"]
            )
            yield document["spec"], binding["spec"]["validationActions"]


def validated(evaluator: Evaluator, documents: Iterable[Document], review: Document) -> Verdict:
    """Return the result of ValidatingAdmissionPolicies for a review. An evaluation error fails the test."""
    for spec, actions in specs(documents):
        judged = evaluator.judge(spec, review)
        assert judged.error == "", judged
        assert judged.cost <= BUDGET
        if not judged.skipped and not judged.allowed:
            return Verdict("denied" if "Deny" in actions else "warned", judged.message)
    return Verdict("allowed")


def undated(a_document: Document) -> Document:
    """Return a policy document without the dates, so that a native policy can express it."""

    def without(entry: Any) -> Any:
        return {k: v for k, v in entry.items() if k != "until"} if isinstance(entry, dict) else entry

    lists = {key: list(map(without, a_document.get(key, ()))) for key in ("allow", "deny", "namespaces")}
    return {**a_document, **lists}
