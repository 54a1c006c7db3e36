"""Nothing is rewritten unless the record of the original images fits into the Pod."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from gatekeeper_py.core.admission.mutation import MAX_ANNOTATIONS_BYTES
from support.builders import HUB_TO_CORP, pod, policy, review
from support.calling import mutate, mutated, validate
from support.contract import ORIGINAL_IMAGES

POLICY: Final = policy(HUB_TO_CORP, mode="mutate")
RECORD: Final = '{"spec.containers[0].image":"nginx"}'
ROOM: Final = MAX_ANNOTATIONS_BYTES - len(ORIGINAL_IMAGES) - len(RECORD)
STAYS: Final = (
    "spec.containers[0].image: nginx is left as written: the annotation that records it would be too large"
)


def annotated(annotations: dict[str, Any], *images: str) -> dict[str, Any]:
    return review(pod(*(images or ("nginx",)), metadata={"annotations": annotations}))


def earlier(length: int) -> str:
    """Return a record with one image of this length."""
    return json.dumps({"a": "x" * length}, separators=(",", ":"))


@pytest.mark.parametrize(
    ("annotations", "fits"),
    [
        pytest.param({"a": "x" * (ROOM - 1)}, True, id="just-fits"),
        pytest.param({"a": "x" * ROOM}, False, id="a-byte-too-much"),
        pytest.param({"a" * ROOM: ""}, True, id="keys-count"),
        pytest.param({"a" * (ROOM + 1): ""}, False, id="a-byte-too-much-in-a-key"),
        pytest.param({"a": "\u20ac" * ((ROOM - 1) // 3)}, True, id="bytes-not-characters"),
        pytest.param({"a": "\u20ac" * ((ROOM - 1) // 3 + 1)}, False, id="a-character-too-much"),
        pytest.param({"a": "\n" * (ROOM - 1)}, True, id="as-it-is-not-as-json"),
        pytest.param({"a": "\ud800" * 100_000}, False, id="half-a-pair"),
        pytest.param({"a": "\ud800"}, True, id="half-a-pair-that-fits"),
        pytest.param({str(n): "" for n in range(60_000)}, False, id="many"),
        pytest.param({str(n): 7 for n in range(60_000)}, False, id="many-of-the-wrong-type"),
        pytest.param({ORIGINAL_IMAGES: "x" * MAX_ANNOTATIONS_BYTES}, True, id="garbage-is-replaced"),
        pytest.param({ORIGINAL_IMAGES: '"' + "x" * 3_000_000 + '"'}, True, id="much-garbage-is-replaced"),
        pytest.param({ORIGINAL_IMAGES: earlier(ROOM - 7)}, True, id="an-earlier-record-that-just-fits"),
        pytest.param({ORIGINAL_IMAGES: earlier(ROOM - 6)}, False, id="an-earlier-record"),
    ],
)
def test_a_pod_is_rewritten_only_if_an_api_server_takes_its_annotations(
    annotations: dict[str, Any],
    fits: bool,  # noqa: FBT001
) -> None:
    answer = mutate(annotated(annotations), POLICY)
    assert bool(answer.patch) is fits
    assert (answer.warnings == (STAYS,)) is not fits


def test_images_left_as_written_keep_their_own_reasons() -> None:
    unusable = "x" * 240
    document = annotated({"a": "x" * MAX_ANNOTATIONS_BYTES}, "nginx", unusable)
    outcome = mutated(document, POLICY)
    assert outcome.verdict == "allowed"
    assert outcome.response.warnings[0] == STAYS
    assert "left as written: on its mirror the name" in outcome.response.warnings[1]


def test_images_of_a_pod_without_room_for_annotations_are_judged_as_written() -> None:
    document = annotated({"a": "x" * MAX_ANNOTATIONS_BYTES})
    assert not validate(document, POLICY).allowed


@pytest.mark.bulk
def test_a_thousand_long_images_do_not_fit() -> None:
    """The original images alone exceed the limit of all annotations."""
    images = [f"{'x' * 100}/{'y' * 100}/{n:04}:{'t' * 120}" for n in range(1000)]
    answer = mutate(review(pod(*images)), POLICY)
    assert answer.patch == ()
    assert len(answer.warnings) == 10
    few = mutate(review(pod(*images[:600])), POLICY)
    assert len(few.originals) == 600
