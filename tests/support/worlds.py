"""What registries answer in tests, and decisions as the webhook makes them: in rounds of look-ups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from gatekeeper_py.core.admission import Outcome, mutate
from gatekeeper_py.core.admission import review as wire
from gatekeeper_py.core.admission.world import MAX_ROUNDS, Answers, answers_so_far
from gatekeeper_py.core.images.manifest import (
    EXISTENCE,
    MISSING,
    Answer,
    Lookup,
    Manifest,
    Resolution,
    failed,
    found,
    resolve,
)
from gatekeeper_py.core.policy.keys import parse_key
from gatekeeper_py.core.policy.policy import CompiledPolicy
from support.builders import PUBLIC_KEYS, pod, review, workload
from support.contract import Answer as Response
from support.contract import check_response

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
FOUND, DOWN = found(DIGEST), failed("connection refused")
FINGERPRINTS: Final = {name: parse_key(pem).fingerprint for name, pem in PUBLIC_KEYS.items()}

Truth = Callable[[Manifest], Answer]
Endpoint = Callable[..., Outcome]


def request(
    *images: Any, kind: str = "Pod", old: Any = None, operation: str = "CREATE", **spec: Any
) -> wire.AdmissionRequest:
    """Return a request for an object with these images. An update keeps the images, unless ``old`` is set."""
    obj = pod(*images, **spec) if kind == "Pod" else workload(kind, *images, **spec)
    before = old if old is not None or operation != "UPDATE" else obj
    return wire.parse(review(obj, operation=operation, old=before))


def signed(manifest: Manifest, name: str = "ci-2026") -> Answer:
    """Return the answer that the key with this name signed a manifest."""
    return Answer("found", manifest.reference, key=FINGERPRINTS[name], form="bundle")


def truth(
    tag: Answer = FOUND,
    signature: Answer | str = "ci-2026",
    answers: Mapping[str, Answer] | None = None,
) -> Truth:
    """Return the answers of registries: to all tags and digests, and about all signatures.

    ``signature`` may be the name of the key that signed everything. ``answers`` are answers about single
    images, by name with the tag or the digest.
    """

    def answer(manifest: Manifest) -> Answer:
        if manifest.kind != EXISTENCE:
            if not isinstance(signature, str):
                return signature
            wanted = FINGERPRINTS[signature] in manifest.keys
            return signed(manifest, signature) if wanted else MISSING
        given = (answers or {}).get(str(manifest), tag)
        return found(manifest.reference) if given.status == "found" and manifest.by_digest else given

    return answer


def resolved(lookup: Lookup, answer: Truth) -> Resolution:
    return resolve(tuple(map(answer, lookup.candidates)))


def known(answer: Truth) -> Answers:
    """Return the world of a review that can use all answers."""
    return Answers(lambda lookup: resolved(lookup, answer))


def needed(endpoint: Endpoint, asked: wire.AdmissionRequest, compiled: CompiledPolicy) -> tuple[str, ...]:
    """Return the look-ups with which an endpoint begins, each by its first candidate."""
    nothing = Answers(lambda _lookup: None)
    endpoint(asked, compiled, nothing)
    return tuple(dict.fromkeys(str(lookup.candidates[0]) for lookup in nothing.missing))


def outcome_of(
    endpoint: Endpoint,
    asked: wire.AdmissionRequest,
    compiled: CompiledPolicy,
    answer: Truth,
    first: Answers | None = None,
) -> Outcome:
    """Decide as the webhook does: again with more answers, until none is missing."""
    answers: dict[Lookup, Resolution] = {}
    facts = Answers(lambda _lookup: None) if first is None else first
    for _ in range(MAX_ROUNDS + 1):
        outcome = endpoint(asked, compiled, facts)
        if not facts.missing:
            assert outcome == endpoint(asked, compiled, known(answer)), "the order of the answers matters"
            return outcome
        answers |= facts.used | {lookup: resolved(lookup, answer) for lookup in facts.missing}
        facts = answers_so_far(answers)
    raise AssertionError(f"more than {MAX_ROUNDS} rounds of look-ups")


def response_of(outcome: Outcome, asked: wire.AdmissionRequest) -> Response:
    """Return an answer as an API server reads it, with the object that it stores."""
    document = review(asked.object, kind=(asked.group, asked.kind), operation=asked.operation)
    endpoint: Final = "mutate" if outcome.response.patch else "validate"
    return check_response(outcome.response.document(), document, endpoint)


def stored(asked: wire.AdmissionRequest, compiled: CompiledPolicy, answer: Truth) -> tuple[str, ...]:
    """Return the images of a Pod after the mutating webhook."""
    outcome = outcome_of(mutate, asked, compiled, answer)
    return tuple(each["image"] for each in response_of(outcome, asked).object["spec"]["containers"])
