"""Properties of the fast path, over policies, images and whole Pods."""

from __future__ import annotations

from typing import Final

from hypothesis import event, given, settings
from hypothesis import strategies as st

from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.compile.fastpath import ENDPOINTS, NEVER_CALLED, compile_fastpath
from gatekeeper_py.core.images.reference import locate, parse_reference
from property.fastpath_strategies import accepted, images_near, namespaces, policies
from property.strategies import Document
from support.budget import budget
from support.builders import INSTANT, pod, review
from support.skipping import objection, skips

examples: Final = settings(max_examples=budget(250))


@examples
@given(policies, namespaces, st.data())
def test_a_pre_approved_image_is_written_in_full_and_every_answer_has_a_reason(
    a_document: Document, namespace: str, data: st.DataObject
) -> None:
    fast_path = compile_fastpath(accepted(a_document), INSTANT)
    for image in images_near(fast_path, data):
        for endpoint in ENDPOINTS:
            why = fast_path.why(namespace, image, endpoint)
            assert why.isascii()
            assert why.isprintable()
            skipped = why.endswith(" approves it") or why == NEVER_CALLED
            assert skipped is fast_path.approves(namespace, image, endpoint)
        if fast_path.approves(namespace, image, "validating"):
            reference = parse_reference(image)
            assert locate(reference).name == reference.name
            assert image == reference.canonical


@examples
@given(policies, policies, namespaces, st.data())
def test_a_change_that_does_not_tighten_leaves_everything_pre_approved(
    before: Document, after: Document, namespace: str, data: st.DataObject
) -> None:
    # Some policies change by only one or two rules, which tightens less often.
    mixed = {**before, "allow": [*before["allow"], *after["allow"]], "deny": after["deny"][:1]}
    old = compile_fastpath(accepted(before), INSTANT)
    for new in (compile_fastpath(accepted(after), INSTANT), compile_fastpath(accepted(mixed), INSTANT)):
        assert not new.tightens(new)
        if not new.tightens(old):
            event("does not tighten")
            for image in images_near(old, data):
                for endpoint in ENDPOINTS:
                    assert new.approves(namespace, image, endpoint) or not old.approves(
                        namespace, image, endpoint
                    )


@examples
@given(policies, namespaces, st.data())
def test_a_pod_is_skipped_when_all_its_images_are_pre_approved(
    a_document: Document, namespace: str, data: st.DataObject
) -> None:
    """``whatever the API server skips, section 4 approves, without a warning`` or a change."""
    fast_path = compile_fastpath(accepted(a_document), INSTANT)
    near = images_near(fast_path, data)
    approvable = [image for image in near if fast_path.approves(namespace, image, "validating")]
    judged = data.draw(st.sampled_from([near, approvable or near]))
    volumes = [{"name": "i", "image": {"reference": data.draw(st.sampled_from(judged))}}, {"name": "e"}]
    operation = data.draw(st.sampled_from(["CREATE", "UPDATE"]))
    document = review(pod(*judged, volumes=volumes), operation=operation, namespace=namespace)
    for endpoint in ENDPOINTS:
        approved = all(fast_path.approves(namespace, image, endpoint) for image in judged)
        assert skips(fast_path.approved[endpoint], wire.parse(document)) is approved
        if approved:
            event("skipped")
            assert objection(a_document, document, endpoint, fast_path.valid_until) == ""
