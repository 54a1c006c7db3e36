"""Reviews that wait for registries: the facts that decide them, and how long they wait."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence

import pytest

from gatekeeper_py.core.images.manifest import (
    EXISTENCE,
    MISSING,
    SIGNATURE,
    Lookup,
    Manifest,
    Resolution,
    failed,
    found,
    resolve,
)
from gatekeeper_py.core.images.manifest import Answer as RegistryAnswer
from gatekeeper_py.process.shares import Share
from gatekeeper_py.webhook.webhook import BUDGET_MARGIN_SECONDS, LOOKUP_MARGIN_SECONDS, MAX_LOOKUP_SECONDS
from registries.signing import Signer
from support.builders import NAMESPACE, pod, policy, review, workload
from support.served import Start
from support.wire import eventually, request

DIGEST = "sha256:" + "a" * 64
EXISTS = "require: [{images: [r.io/**], exists: true, onError: deny}]\n"


class Registries:
    """Fake registries. ``facts`` holds their earlier answers; a test may change it."""

    def __init__(self, answer_of: Callable[[str], RegistryAnswer]) -> None:
        self.facts: dict[str, RegistryAnswer] = {}
        self.queried: list[Lookup] = []
        self.seconds: list[float] = []
        self.began: list[float] = []
        """When each look-up began, on ``time.perf_counter``."""
        self.ahead: list[tuple[Callable[[], tuple[Lookup, ...]], Share]] = []
        self.used: list[Mapping[Lookup, Resolution]] = []
        self.on_query: Callable[[], None] = lambda: None
        self._answer_of = answer_of

    def resolve_cached(self, lookup: Lookup) -> Resolution | None:
        answers = [self.facts.get(str(manifest)) for manifest in lookup.candidates]
        known = tuple(answer for answer in answers if answer is not None)
        return resolve(known) if len(known) == len(answers) else None

    def answered(self, used: Mapping[Lookup, Resolution]) -> None:
        self.used.append(used)

    def look_ahead(self, needed: Callable[[], tuple[Lookup, ...]], share: Share) -> None:
        self.ahead.append((needed, share))

    async def resolve(
        self, lookups: Sequence[Lookup], seconds: float, share: Share, spent: float
    ) -> Mapping[Lookup, Resolution]:
        self.queried += lookups
        self.seconds.append(seconds)
        self.began.append(time.perf_counter())
        await asyncio.sleep(0)
        self.on_query()
        return {
            lookup: resolve(tuple(self._answer_of(str(manifest)) for manifest in lookup.candidates))
            for lookup in lookups
        }


async def test_a_fact_that_expires_while_the_review_waits_still_decides(start: Start) -> None:
    """A missing image is forgotten after 10 s, and new credentials make the webhook forget all images."""
    registries = Registries(lambda _image: found(DIGEST))
    registries.facts["r.io/gone:1"] = MISSING
    registries.on_query = registries.facts.clear
    served = start(policy(EXISTS, allow="[r.io]"), registries=registries)
    answer = await served.review(review(pod("r.io/gone:1", "r.io/new:1")))
    assert [str(lookup.candidates[0]) for lookup in registries.queried] == ["r.io/new:1"]
    assert not answer.allowed
    assert "r.io/gone:1 does not exist in r.io (absent)" in answer.message
    assert "r.io/new:1" not in answer.message


async def test_a_fact_that_changes_while_the_review_waits_does_not_change_its_answer(start: Start) -> None:
    registries = Registries(lambda _image: found(DIGEST))
    registries.facts["r.io/old:1"] = found(DIGEST)
    registries.on_query = lambda: registries.facts.update({"r.io/old:1": MISSING})
    served = start(policy(EXISTS, allow="[r.io]"), registries=registries)
    assert (await served.review(review(pod("r.io/old:1", "r.io/new:1")))).allowed


async def test_the_time_that_reading_the_body_took_is_not_spent_on_registries_again(start: Start) -> None:
    """The API server's timeout runs while it sends the body."""
    registries = Registries(lambda _image: found(DIGEST))
    served = start(policy(EXISTS, allow="[r.io]"), registries=registries)
    document = review(pod("r.io/new:1"))
    content = request(json.dumps(document).encode(), path="/validate-image?timeout=5s")
    async with served.connected() as connection:
        sent = time.perf_counter()
        await connection.send(content[:-1])
        await eventually(lambda: served.metric("inflight_reviews") == 1)
        began = time.perf_counter()
        await eventually(lambda: time.perf_counter() - began > 0.5)
        assert (await connection.ask(content[-1:])).status == 200
    (seconds,), (looked_up,) = registries.seconds, registries.began
    left = 5 - BUDGET_MARGIN_SECONDS - LOOKUP_MARGIN_SECONDS
    assert max(left - (looked_up - sent), 0) <= seconds <= max(left - 0.5, 0)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("", MAX_LOOKUP_SECONDS - LOOKUP_MARGIN_SECONDS, id="no-timeout"),
        pytest.param("?timeout=30s", MAX_LOOKUP_SECONDS - LOOKUP_MARGIN_SECONDS, id="a-long-one"),
        pytest.param("?timeout=1s", 1 - BUDGET_MARGIN_SECONDS - LOOKUP_MARGIN_SECONDS, id="a-short-one"),
        pytest.param("?timeout=0.5s", 0, id="no-time-left"),
    ],
)
async def test_a_review_waits_for_registries_within_its_timeout(
    start: Start, query: str, expected: float
) -> None:
    registries = Registries(lambda _image: found(DIGEST))
    served = start(policy(EXISTS, allow="[r.io]"), registries=registries)
    content = request(json.dumps(review(pod("r.io/new:1"))).encode(), path=f"/validate-image{query}")
    sent = time.perf_counter()
    assert (await served.ask(content)).status == 200
    (seconds,), (looked_up,) = registries.seconds, registries.began
    assert max(expected - (looked_up - sent), 0) <= seconds <= expected


async def test_a_review_reports_the_answers_of_registries_once(start: Start) -> None:
    registries = Registries(lambda _image: failed("down"))
    registries.facts["r.io/old:1"] = failed("its last 5 requests failed")
    served = start(policy(EXISTS, allow="[r.io]"), registries=registries)
    old, new = (Lookup((Manifest("r.io", name, "1"),)) for name in ("old", "new"))
    await served.review(review(pod("r.io/old:1", "r.io/old:1")))
    await served.review(review(pod("r.io/old:1", "r.io/new:1")))
    causes = [{lookup: used[lookup].answer.cause for lookup in used} for used in registries.used]
    assert causes == [
        {old: "its last 5 requests failed"},
        {old: "its last 5 requests failed", new: "down"},
    ]


async def test_the_log_names_the_cause_for_an_image_that_is_kept_after_an_error(start: Start) -> None:
    registries = Registries(lambda _image: failed("down"))
    served = start(
        policy(EXISTS.replace("deny", "keep"), allow="[r.io]"), registries=registries, log_allowed=True
    )
    assert (await served.review(review(pod("r.io/app:1")))).allowed
    (line,) = served.log.named("review")
    assert line["images"][0]["unverified"] == "down"


SIGNER = Signer("p256")
KEYS = f"keys: [{json.dumps({'name': 'ci', 'key': SIGNER.pem})}]\n"
SIGNED = policy(f"{KEYS}require: [{{images: [r.io/**], signedBy: [ci]}}]\n", mode="mutate", allow="[r.io]")
VALID = RegistryAnswer("found", DIGEST, key=SIGNER.fingerprint, form="bundle")


def signatures(valid: RegistryAnswer) -> Registries:
    """Return registries with one image, whose signature has this answer."""
    return Registries(lambda image: valid if image.endswith(DIGEST) else found(DIGEST))


@pytest.mark.parametrize(
    ("answer", "stored"),
    [
        pytest.param(VALID, f"r.io/app:1@{DIGEST}", id="signed"),
        pytest.param(MISSING, "r.io/app:1", id="unsigned"),
        pytest.param(failed("down"), "r.io/app:1", id="error"),
    ],
)
async def test_mutate_pins_the_digest_whose_signature_is_valid(
    start: Start, answer: RegistryAnswer, stored: str
) -> None:
    """The signature is looked up by the digest that the first look-up finds."""
    registries = signatures(answer)
    served = start(SIGNED, registries=registries)
    reply = await served.review(review(pod("r.io/app:1")), "mutate")
    assert reply.object["spec"]["containers"][0]["image"] == stored
    manifests = [lookup.candidates[0] for lookup in registries.queried]
    assert [(manifest.kind, manifest.reference) for manifest in manifests] == [
        (EXISTENCE, "1"),
        (SIGNATURE, DIGEST),
    ]


async def test_the_audit_annotation_names_the_key_of_each_signed_image(start: Start) -> None:
    served = start(SIGNED, registries=signatures(VALID))
    image = f"r.io/app:1@{DIGEST}"
    reply = await served.review(review(pod(image)))
    assert reply.allowed
    assert reply.audit["signed"] == f"{image} by ci"


async def test_the_review_of_a_workload_starts_the_look_ups_of_its_pods(start: Start) -> None:
    """The answers are found in the background. Its own review asks no registry."""
    registries = signatures(VALID)
    served = start(SIGNED, registries=registries)
    assert (await served.review(review(workload("Deployment", "r.io/app:1", "r.io/app:1")))).allowed
    (needed, share) = registries.ahead[0]
    assert registries.queried == []
    assert share == Share("127.0.0.1", NAMESPACE)
    assert needed() == (Lookup((Manifest("r.io", "app", "1"),)),)
    registries.facts["r.io/app:1"] = found(DIGEST)
    keys = (SIGNER.fingerprint,)
    assert needed() == (Lookup((Manifest("r.io", "app", DIGEST, SIGNATURE, keys),)),)
    registries.facts[f"r.io/app@{DIGEST}"] = VALID
    assert needed() == ()
    await served.review(review(pod("r.io/app:1")))
    tried = review(workload("Deployment", "r.io/app:1"))
    tried["request"]["dryRun"] = True
    await served.review(tried)
    assert len(registries.ahead) == 1, "only workloads that are stored"


async def test_a_signature_is_looked_up_in_the_repository_that_the_requirement_names(start: Start) -> None:
    elsewhere = policy(
        f"{KEYS}require: [{{images: [r.io/**], signedBy: [ci], signatures: s.io/signatures}}]\n",
        allow="[r.io]",
    )
    registries = signatures(VALID)
    served = start(elsewhere, registries=registries)
    assert (await served.review(review(pod(f"r.io/app@{DIGEST}")))).allowed
    asked = Manifest("s.io", "signatures", DIGEST, SIGNATURE, (SIGNER.fingerprint,))
    assert registries.queried == [Lookup((asked,))]
    assert elsewhere.looked_up_hosts == {"r.io", "s.io"}
