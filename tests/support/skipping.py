"""The law of the fast path: a skipped request would have been allowed without a warning or a change."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache, partial
from itertools import product
from typing import Any, Final

from gatekeeper_py.core import CompiledPolicy, admission, parse_policy
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.admission.fields import CONTAINERS, IMAGE_LISTS, POD
from gatekeeper_py.core.admission.workload import slots
from gatekeeper_py.core.admission.world import Answers
from gatekeeper_py.core.compile import expression
from gatekeeper_py.core.compile.fastpath import WebhookKind
from gatekeeper_py.core.compile.preapproved import PreApproved
from gatekeeper_py.core.images.manifest import Answer, Lookup, Resolution, failed, found
from gatekeeper_py.core.images.pattern import parse_pattern
from gatekeeper_py.core.images.scope import Scope
from gatekeeper_py.core.policy.document import MODES
from support import naive
from support.builders import INSTANT

LATER: Final = (
    timedelta(),
    timedelta(days=1),
    timedelta(days=20),
    timedelta(days=365),
    timedelta(days=36500),
)


ANSWERS: Final = (found(f"sha256:{'0' * 64}"), Answer("missing"), failed("it is away"))


def _answer(answer: Answer, _: Lookup) -> Resolution:
    return Resolution(answer, 0)


@lru_cache(maxsize=256)
def _policies(text: str, until: datetime | None) -> tuple[CompiledPolicy, ...]:
    return tuple(parse_policy(text, mode).at(when) for mode in MODES for when in instants(until))


def instants(until: datetime | None) -> Iterator[datetime]:
    """Yield instants from the compilation on, the last one just before ``until``."""
    for later in LATER:
        if until is None or INSTANT + later < until:
            yield INSTANT + later
    if until is not None:
        yield until - timedelta(microseconds=1)


def objection(
    document: dict[str, Any],
    document_of_review: dict[str, Any],
    endpoint: WebhookKind,
    until: datetime | None = None,
) -> str:
    """Return the webhook's objection to a skipped request; empty when the law holds.

    The function checks every mode, every instant from the compilation until ``until`` and every answer of
    registries, with the product and with the second implementation of the decision.
    """
    text = json.dumps(document, default=str)
    for compiled in _policies(text, until):
        request = wire.parse(document_of_review)
        judge = admission.validate if endpoint == "validating" else admission.mutate
        for answer in ANSWERS if compiled.looked_up_hosts else ANSWERS[:1]:
            outcome = judge(request, compiled, Answers(partial(_answer, answer)))
            response = outcome.response
            if outcome.verdict != "allowed" or not response.allowed or response.warnings or response.patch:
                return f"{outcome.verdict} at {compiled.instant}: {response}"
    namespace = document_of_review["request"].get("namespace")
    for slot in slots(POD, document_of_review["request"]["object"], {}):
        for question in _questions(document, str(slot.value), namespace, until):
            if endpoint == "mutating":
                # A mirror that only changes an image for some answers is never skipped either.
                if naive.rewritten(document, question.image) or naive.mutate(question).written:
                    return f"{question.image} is rewritten in {namespace}"
            elif not (judged := naive.validate(question)).approved or judged.warned:
                return f"{question.image} is {judged.reason}, {judged.requirements} in {namespace}"
    return ""


def _questions(
    document: dict[str, Any], image: str, namespace: str | None, until: datetime | None
) -> Iterator[naive.Question]:
    """Yield what the second implementation is asked: every mode and answer, where they may matter."""
    asking = document.get("require") or any(
        {"verify", "pin"} & set(each) for each in document.get("mirrors", ())
    )
    for when in instants(until):
        question = naive.Question(document, image, when, namespace)
        for mode, world in product(MODES, WORLDS) if asking else [(None, None)]:
            yield replace(question, mode=mode, world=world)


def _world(answer: str | None, signed: bool, lookup: naive.LookUp) -> Any:  # noqa: FBT001
    if answer is None:
        raise naive.Error
    if lookup.kind == "signed":
        return SIGNERS if signed else ()
    return lookup.image.partition("@")[2] or answer if answer else None


SIGNERS: Final = ("ci-2025", "ci-2026")
WORLDS: Final = tuple(
    partial(_world, answer, signed)
    for answer, signed in (
        (f"sha256:{'7c' * 32}", True),
        (f"sha256:{'0' * 64}", False),
        ("", False),
        (None, False),
    )
)
"""Registries that have an image, signed or not, that have none, and that are away."""


def skips(approved: PreApproved, request: wire.AdmissionRequest) -> bool:
    """Return whether a match condition is false for a request: the rule of the expression in Python."""
    if approved.everything:
        return True
    if (request.group, request.kind) != POD or not isinstance(request.object, dict):
        return False
    if approved.by_namespace and request.namespace is None:
        return False
    spec = request.object.get("spec")
    if not isinstance(spec, dict) or not spec.get(CONTAINERS.key):
        return False
    if any(field.key in spec and not isinstance(spec[field.key], list) for field in IMAGE_LISTS):
        return False
    if any(
        len(spec.get(field.key, ())) > expression.MAX_VOLUMES for field in IMAGE_LISTS if len(field.path) > 1
    ):
        return False
    images = list(_images(spec))
    return len(images) <= expression.MAX_POD_IMAGES and all(
        isinstance(image, str) and approved.has(request.namespace, image) for image in images
    )


def _images(spec: dict[str, Any]) -> Iterator[Any]:
    """Yield every image of a pod spec, and ``None`` for an item without the image that it should have."""
    for field in IMAGE_LISTS:
        *source, last = field.path
        for item in spec.get(field.key, ()):
            if source and isinstance(item, dict) and source[0] not in item:
                continue
            holder = item
            for step in source:
                holder = holder.get(step) if isinstance(holder, dict) else None
            yield holder.get(last) if isinstance(holder, dict) else None


def scope(pattern: str, *namespaces: str) -> Scope:
    """Return the scope of a pattern, in the namespaces or in all of them."""
    images = parse_pattern(pattern).unwritten()
    return Scope(images=images, namespaces=namespaces or None, because=pattern)


def pre_approved(*included: str | Scope, excluded: Iterable[str | Scope] = ()) -> PreApproved:
    """Return the set of images that these patterns or entries pre-approve."""

    def entries(given: Iterable[str | Scope]) -> tuple[Scope, ...]:
        return tuple(scope(each) if isinstance(each, str) else each for each in given)

    return PreApproved(included=entries(included), excluded=entries(excluded))
