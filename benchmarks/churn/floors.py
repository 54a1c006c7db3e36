"""The minimum cost of match conditions in an API server, for comparison with the fast path.

Do not use these expressions in a cluster: they check only ``containers`` and do not handle absent fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from benchmarks.churn.approval import DENIED_IMAGE, HOST
from benchmarks.churn.cases import Case, Stage, ours
from tools.installation.product import VALIDATING

ONE_COMPARISON = f"object.spec.containers[2].image == '{DENIED_IMAGE}'"
"""Matches only Pods whose third container has the unlisted image of the probes."""

ONE_REGEX = rf"!object.spec.containers.all(c, c.image.matches('^(?:{HOST.replace('.', '[.]')})/.*'))"


@contextmanager
def _conditioned(stage: Stage, expression: str) -> Iterator[Sequence[str]]:
    """Register the validating webhook for Pods only, with this condition instead of its own."""
    plane = stage.site.plane
    with ours(stage, overlay="enforce") as servers:
        stage.site.end_controller()
        live = plane.api("GET", VALIDATING)
        live["webhooks"][0]["matchConditions"] = [{"name": "floor", "expression": expression}]
        plane.api("PUT", VALIDATING, live)
        yield servers


FLOORS = tuple(
    Case(
        name=name,
        registered=partial(_conditioned, expression=text),
        other_reviews=reviews,
        unlisted_reviews=1,
        shares=(100,),
    )
    for name, text, reviews in (("one-comparison", ONE_COMPARISON, 0), ("one-regex", ONE_REGEX, 1))
)
