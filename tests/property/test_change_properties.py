"""Laws of the changes that ``diff`` reports: none for equal policies, symmetric, and correct."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper_py.cli.inventory.changes import ImageChange, ImageChanges
from gatekeeper_py.cli.inventory.tally import Usage
from gatekeeper_py.core import CompiledPolicy, admission
from gatekeeper_py.core.admission.review import AdmissionRequest, parse
from gatekeeper_py.core.compare.difference import compare
from gatekeeper_py.core.policy.cache import CacheCounts
from property.policy_pairs import pairs
from property.strategies import images, namespaces
from support.budget import budget
from support.builders import WORKLOADS, pod, review, workload

Pair = tuple[CompiledPolicy, CompiledPolicy]
examples: Final = settings(max_examples=budget(60))

OTHER_WAY: Final = {"approved": "rejected", "rejected": "approved", "rewritten": "rewritten"}


def _request(kind: str, image: str, namespace: str | None) -> AdmissionRequest:
    obj: dict[str, Any] = pod(image) if kind == "Pod" else workload(kind, image)
    return parse(review(obj, namespace=namespace))


requests = st.lists(
    st.builds(_request, st.sampled_from(["Pod", "Pod", *WORKLOADS]), images, namespaces),
    min_size=1,
    max_size=12,
)


def changes(
    old: CompiledPolicy, new: CompiledPolicy, review_requests: list[AdmissionRequest]
) -> ImageChanges:
    found = ImageChanges(old.serving(100, CacheCounts()), new.serving(100, CacheCounts()))
    for request in review_requests:
        found.take(request)
    return found


def by_use(found: ImageChanges) -> dict[tuple[str, Usage], list[ImageChange]]:
    uses: dict[tuple[str, Usage], list[ImageChange]] = {}
    for change, usages in found.listed():
        for usage in usages:
            # The mode is that of the new policy, so it differs between both directions.
            uses.setdefault((change.after.image, usage._replace(mode=None)), []).append(change)
    return uses


@examples
@given(pairs(), requests)
def test_a_policy_changes_nothing_against_itself(pair: Pair, review_requests: list[AdmissionRequest]) -> None:
    found = changes(pair[0], pair[0], review_requests)
    assert list(found.listed()) == []
    assert found.counts["rejected"] == found.counts["approved"] == found.counts["rewritten"] == 0


@examples
@given(pairs(), requests)
def test_the_reverse_change_is_symmetric(pair: Pair, review_requests: list[AdmissionRequest]) -> None:
    old, new = pair
    there, back = changes(old, new, review_requests), changes(new, old, review_requests)
    assert there.counts["unchanged"] == back.counts["unchanged"]
    assert there.counts["rewritten"] == back.counts["rewritten"]
    assert (there.counts["approved"], there.counts["rejected"]) == (
        back.counts["rejected"],
        back.counts["approved"],
    )
    forward, backward = by_use(there), by_use(back)
    assert forward.keys() == backward.keys()
    for use, found in forward.items():
        assert sorted((each.before.in_words, each.after.in_words, each.change) for each in found) == sorted(
            (each.after.in_words, each.before.in_words, OTHER_WAY[each.change]) for each in backward[use]
        )


@examples
@given(pairs(), requests)
def test_every_verdict_equals_that_of_the_webhook(
    pair: Pair, review_requests: list[AdmissionRequest]
) -> None:
    for request in review_requests:
        (before,), (after,) = (admission.validate(request, policy).images for policy in pair)
        listed = list(changes(*pair, [request]).listed())
        if before.approved != after.approved:
            [(change, _)] = listed
            assert (change.before.approved, change.after.approved) == (
                before.approved,
                after.approved,
            )
            assert (change.after.decision.reason, change.detail) == (
                after.decision.reason,
                after.decision.detail,
            )
        else:
            assert all(change.change == "rewritten" for change, _ in listed)


@examples
@given(pairs(), requests)
def test_nothing_that_runs_contradicts_the_exact_difference(
    pair: Pair, review_requests: list[AdmissionRequest]
) -> None:
    difference = compare(*pair)
    named = [request for request in review_requests if request.kind == "Pod"]
    counts = changes(*pair, named).counts
    assert difference.widens or not counts["approved"]
    assert difference.narrows or not counts["rejected"]
    assert difference.rewrites or not counts["rewritten"]
