"""Files of requests and images are read, or refused with the line number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper_py.cli.inventory.changes import ImageChanges
from gatekeeper_py.cli.inventory.recorded import (
    InvalidRecord,
    SavedAudit,
    listed_images,
    reviewed_requests,
)
from gatekeeper_py.cli.inventory.tally import Use
from gatekeeper_py.core import parse_policy
from gatekeeper_py.core.admission.review import AdmissionRequest
from support.budget import budget
from support.builders import INSTANT, pod, policy_text, review

examples: Final = settings(max_examples=budget(100))
OLD: Final = parse_policy(policy_text(allow="[a.io, docker.io/library/**]")).at(INSTANT)
NEW: Final = parse_policy(policy_text("deny: ['*/**:latest']\n", mode="mutate")).at(INSTANT)

KEYS: Final = (
    "kind", "apiVersion", "resource", "namespace", "name", "metadata", "spec", "containers", "image",
    "reference", "path", "request", "uid", "operation", "object", "counts", "images", "objects",
)  # fmt: skip
WORDS: Final = (
    "CREATE", "pods", "Pod", "nginx", "a.io/x:1", "AdmissionReview", "admission.k8s.io/v1", "\ud800", "",
)  # fmt: skip
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.sampled_from(WORDS)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)
    ),
    max_leaves=25,
)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a review with some of its fields replaced by any values."""
    changed: dict[str, Any] = dict(review(pod("nginx", "a.io/x")))
    for key in draw(st.sets(st.sampled_from(sorted(changed)), max_size=3)):
        value = draw(values)
        changed[key] = (
            {**changed[key], **value} if isinstance(changed[key], dict) and isinstance(value, dict) else value
        )
    return changed


lines = st.lists(
    st.one_of(
        st.one_of(values, mutated()).map(lambda value: json.dumps(value).encode()),
        st.binary(max_size=40),
    ),
    min_size=1,
    max_size=3,
)


def audited(text: bytes) -> Iterator[Use]:
    """Yield the images of a saved audit, after its other reader has read them as well."""
    saved = SavedAudit(text)
    with suppress(InvalidRecord):
        for image, usages in saved.judged():
            assert image.as_json()
            assert all(image.effect(usage) for usage in usages)
    yield from saved.used()


@examples
@given(lines)
def test_any_line_is_judged_or_refused(given_lines: list[bytes]) -> None:
    changes = ImageChanges(OLD, NEW)
    readers: tuple[Iterator[AdmissionRequest | Use], ...] = (
        reviewed_requests(given_lines),
        listed_images(given_lines, None),
        audited(b"\n".join(given_lines)),
    )
    for records in readers:
        with suppress(InvalidRecord):
            for record in records:
                if isinstance(record, Use):
                    changes.take_image(*record)
                else:
                    changes.take(record)
    assert sum(changes.counts.values()) >= 0
    for change, usages in changes.listed():
        assert usages
        assert change.before.approved != change.after.approved or change.change == "rewritten"
