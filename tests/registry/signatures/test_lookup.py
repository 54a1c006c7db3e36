"""A look-up of signatures finds a valid one wherever cosign stores it, and refuses everything else."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from gatekeeper_py.core.images.manifest import MISSING, OTHER_KEY, SIGNATURE, Answer, Manifest, failed, found
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.registry.asking import Ask, Reply, Response
from gatekeeper_py.registry.signatures import lookup
from gatekeeper_py.registry.signatures.candidates import (
    BUNDLE_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    MAX_BLOB_BYTES,
    MAX_BUNDLE_MANIFEST_BYTES,
    SIGN_PREDICATE,
)
from gatekeeper_py.registry.signatures.keys import load_keys
from gatekeeper_py.registry.signatures.lookup import is_valid, query
from gatekeeper_py.registry.signatures.verification import Verifier
from registries.signing import Signatures, Signer, contents, holds, signed
from registry.scripted import DIGEST, OTHER_DIGEST, Scripted, challenge, scripted, status
from registry.world import World

REPOSITORY = "team/app"
TAG = DIGEST.replace(":", "-")
OURS, THEIRS, ANOTHER = Signer("p256"), Signer("p256-b"), Signer("p384")
REFERRERS = f"GET /v2/{REPOSITORY}/referrers/{DIGEST}"
OF_BUNDLES = f"GET /v2/{REPOSITORY}/manifests/{TAG}"
OF_SIMPLE = f"GET /v2/{REPOSITORY}/manifests/{TAG}.sig"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    made.verifiers = load_keys(signer.der for signer in (OURS, ANOTHER))
    yield made
    await made.close()


@pytest.fixture
async def registry() -> AsyncIterator[Scripted]:
    async with scripted() as made:
        yield made


async def looked_up(world: World, registry: Scripted, *signers: Signer) -> Reply:
    keys = tuple(sorted(signer.fingerprint for signer in signers or (OURS,)))
    manifest = Manifest(registry.host, REPOSITORY, DIGEST, SIGNATURE, keys)
    return await world.client.query(manifest, world.turn)


def answered(content: bytes | None) -> Response:
    # A copy, so that only the look-up can keep it.
    body = bytes(bytearray(content or b""))
    return Response(404 if content is None else 200, CIMultiDictProxy(CIMultiDict()), body, len(body), "")


@pytest.mark.parametrize("referrers", [True, False], ids=["referrers", "tag"])
async def test_a_bundle_by_a_named_key_is_valid(world: World, registry: Scripted, *, referrers: bool) -> None:
    holds(registry, signed(DIGEST, THEIRS, OURS), referrers=referrers)
    valid = Answer("found", DIGEST, key=OURS.fingerprint, form="bundle")
    assert await looked_up(world, registry, OURS, ANOTHER) == Reply(valid)


@pytest.mark.parametrize("code", [400, 405, 406, 501])
async def test_a_registry_that_refuses_the_referrers_api_is_queried_for_the_tag(
    world: World, registry: Scripted, code: int
) -> None:
    holds(registry, signed(DIGEST, OURS), referrers=False)
    registry.on(REFERRERS, status(code))
    assert (await looked_up(world, registry)).answer.key == OURS.fingerprint


async def test_a_payload_of_simple_signing_by_a_named_key_is_valid(world: World, registry: Scripted) -> None:
    holds(registry, signed(DIGEST, THEIRS, OURS, simple=True))
    valid = Answer("found", DIGEST, key=OURS.fingerprint, form="simple")
    assert await looked_up(world, registry) == Reply(valid)


async def test_an_image_without_any_signature_is_unsigned(world: World, registry: Scripted) -> None:
    assert await looked_up(world, registry) == Reply(MISSING)
    assert sorted(registry.request_lines) == sorted([REFERRERS, OF_BUNDLES, OF_SIMPLE])


@pytest.mark.parametrize("simple", [False, True], ids=["bundle", "simple"])
@pytest.mark.parametrize(
    ("signer", "about", "cause"),
    [
        pytest.param(THEIRS, DIGEST, OTHER_KEY, id="another-key"),
        pytest.param(ANOTHER, DIGEST, OTHER_KEY, id="a-key-that-the-rule-does-not-name"),
        pytest.param(OURS, OTHER_DIGEST, "", id="another-image"),
    ],
)
async def test_a_signature_that_does_not_count_leaves_the_image_unsigned(
    world: World, registry: Scripted, signer: Signer, about: str, cause: str, *, simple: bool
) -> None:
    signatures = Signatures(DIGEST)
    if simple:
        signatures.add_simple(*signer.payload(about))
    else:
        signatures.add_bundle(signer.bundle(about))
    holds(registry, signatures)
    assert await looked_up(world, registry) == Reply(MISSING._replace(cause=cause))


ABSENT = "the registry does not have a manifest or blob that it lists"
CHANGED = "the registry sent other content than its descriptor states"


@pytest.mark.parametrize("part", ["manifests", "blobs"])
@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        pytest.param(status(404), ABSENT, id="absent"),
        pytest.param(web.Response(body=b"{}"), CHANGED, id="other-content"),
        pytest.param(web.Response(body=b" " * (512 * 1024 + 1)), "is larger than", id="too-large"),
    ],
)
async def test_what_a_pusher_can_break_is_skipped_and_is_not_an_error(
    world: World, registry: Scripted, part: str, answer: web.Response, cause: str
) -> None:
    """``onError: keep`` approves after an error, so nobody who can push may be able to cause one."""
    signatures = signed(DIGEST, OURS)
    holds(registry, signatures)
    for digest in signatures.blobs if part == "blobs" else signatures.manifests:
        registry.on(f"GET /v2/{REPOSITORY}/{part}/{digest}", answer)
    reply = await looked_up(world, registry)
    assert (reply.answer.status, reply.trouble) == ("missing", False)
    assert cause in reply.answer.cause


@pytest.mark.parametrize(
    ("digest", "outcome"),
    [
        pytest.param("sha512:" + "a" * 128, ("missing", ABSENT), id="a-digest-that-not-all-support"),
        pytest.param("sha256:" + "a" * 64, ("error", "the registry answered 400"), id="sha256"),
    ],
)
async def test_a_registry_may_refuse_a_digest_that_somebody_listed(
    world: World, registry: Scripted, digest: str, outcome: tuple[str, str]
) -> None:
    entry = {"mediaType": MANIFEST_TYPE, "artifactType": BUNDLE_TYPE, "digest": digest, "size": 9}
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]}
    registry.on(REFERRERS, web.json_response(index))
    registry.on(f"GET /v2/{REPOSITORY}/manifests/{digest}", status(400))
    answer = (await looked_up(world, registry)).answer
    assert (answer.status, answer.cause) == outcome


async def test_a_token_server_that_sends_too_much_is_an_error(world: World, registry: Scripted) -> None:
    for line in (REFERRERS, OF_BUNDLES, OF_SIMPLE):
        registry.on(line, challenge(f'Bearer realm="http://{registry.host}/token"'))
    registry.on("GET /token", web.Response(body=b"x" * 300_000))
    reply = await looked_up(world, registry)
    assert (reply.answer.status, reply.trouble) == ("error", True)
    assert reply.answer.cause == "the token server: the answer is larger than 262144 bytes"


@pytest.mark.parametrize("page", [b"<html>" + b"a,[" * 40_000, b" <p>", b"[" * 40_000], ids=len)
async def test_a_page_instead_of_referrers_leads_to_the_tag(
    world: World, registry: Scripted, page: bytes
) -> None:
    holds(registry, signed(DIGEST, OURS), referrers=False)
    registry.on(REFERRERS, web.Response(body=page))
    assert (await looked_up(world, registry)).answer.key == OURS.fingerprint


@pytest.mark.parametrize("simple", [False, True], ids=["bundle", "simple"])
async def test_the_ninth_signature_is_not_looked_at(
    world: World, registry: Scripted, *, simple: bool
) -> None:
    holds(registry, signed(DIGEST, *[THEIRS] * 8, OURS, simple=simple))
    assert (await looked_up(world, registry)).answer == MISSING._replace(
        cause="there are more than 8 signatures"
    )
    assert len(registry.requests) <= 2 + 2 * 8 + 1


def annotated(signer: Signer, predicate: str = SIGN_PREDICATE, created: str = "") -> tuple[Signer, Any]:
    """Return a bundle as cosign stores it: its signer, and the annotations of its manifest."""
    made = {"org.opencontainers.image.created": created} if created else {}
    return signer, {"dev.sigstore.bundle.predicateType": predicate} | made


ATTESTED = annotated(OURS, "https://slsa.dev/provenance/v1")
OLD, NEW = (
    annotated(by, created=at) for by, at in ((THEIRS, "2026-01-02T03:04:05Z"), (OURS, "2026-02-01T00:00:00Z"))
)
FUTURE = annotated(THEIRS, created="9999-12-31T23:59:59Z")
UNDATED, WRONGLY_DATED = annotated(THEIRS), annotated(THEIRS, created="tomorrow")
SKIPPED = "there are more than 8 signatures"


@pytest.mark.parametrize(
    ("bundles", "cause"),
    [
        pytest.param([*[ATTESTED] * 20, annotated(OURS)], None, id="after-20-attestations"),
        pytest.param([*[ATTESTED] * 31, annotated(OURS)], None, id="32-entries"),
        pytest.param([*[ATTESTED] * 32, annotated(OURS)], "there are more than 32 bundles", id="33-entries"),
        pytest.param([ATTESTED], "", id="only-attestations"),
        pytest.param([*[OLD] * 12, NEW, *[OLD] * 3], None, id="signed-again-with-a-new-key"),
        pytest.param([*[UNDATED] * 8, *[WRONGLY_DATED] * 8, NEW], None, id="others-without-a-date"),
        pytest.param([annotated(OURS), *[UNDATED] * 9], None, id="no-dates-in-the-order-of-the-list"),
        pytest.param([annotated(OURS, created="-"), *[OLD] * 8], SKIPPED, id="no-date-sorts-last"),
        pytest.param([NEW, *[FUTURE] * 7], None, id="seven-of-the-future"),
        # In this way, whoever can push can make an image refused, but never approved.
        pytest.param([NEW, *[FUTURE] * 8], SKIPPED, id="eight-of-the-future"),
        pytest.param([FUTURE] * 8, OTHER_KEY, id="annotations-approve-nothing"),
    ],
)
async def test_the_newest_signatures_count_wherever_the_tag_lists_them(
    world: World, registry: Scripted, bundles: list[tuple[Signer, Any]], cause: str | None
) -> None:
    signatures = Signatures(DIGEST)
    for signer, stated in bundles:
        signatures.add_bundle(signer.bundle(DIGEST), annotations=stated)
    holds(registry, signatures, referrers=False)
    valid = Answer("found", DIGEST, key=OURS.fingerprint, form="bundle")
    expected = valid if cause is None else MISSING._replace(cause=cause)
    assert (await looked_up(world, registry)).answer == expected
    assert len(registry.requests) <= 3 + 32 + 8


@pytest.mark.parametrize(
    ("signer", "answer", "expected"),
    [
        pytest.param(OURS, status(503), None, id="valid-beside-a-failure"),
        pytest.param(OURS, status(404), None, id="valid-beside-an-absent-one"),
        pytest.param(
            THEIRS, status(503), Reply(failed("the registry answered 503"), trouble=True), id="failure"
        ),
        pytest.param(THEIRS, status(404), Reply(MISSING._replace(cause=ABSENT)), id="absent"),
    ],
)
async def test_an_unreadable_manifest_does_not_stop_the_others(
    world: World, registry: Scripted, signer: Signer, answer: web.Response, expected: Reply | None
) -> None:
    signatures = signed(DIGEST, *[THEIRS] * 8, signer)
    holds(registry, signatures)
    registry.on(f"GET /v2/{REPOSITORY}/manifests/{next(iter(signatures.manifests))}", answer)
    reply = await looked_up(world, registry)
    assert reply == expected or (expected is None and reply.answer.status == "found")


@pytest.mark.parametrize("failing", [REFERRERS, OF_BUNDLES, OF_SIMPLE])
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(status(503), Reply(failed("the registry answered 503"), trouble=True), id="fails"),
        pytest.param(status(403), Reply(failed("the registry refused our credentials (403)")), id="refuses"),
        pytest.param(
            status(429, Retry_After="7"),
            Reply(failed("the registry limits our requests (429)"), pause=7.0),
            id="limits",
        ),
    ],
)
async def test_one_place_that_fails_beside_an_empty_one_leaves_the_image_unverified(
    world: World, registry: Scripted, failing: str, answer: web.Response, error: Reply
) -> None:
    registry.on(failing, answer)
    assert await looked_up(world, registry) == error


@pytest.mark.parametrize(("failing", "simple"), [(REFERRERS, True), (OF_SIMPLE, False)])
async def test_a_valid_signature_counts_although_the_other_place_fails(
    world: World, registry: Scripted, failing: str, *, simple: bool
) -> None:
    holds(registry, signed(DIGEST, OURS, simple=simple))
    registry.on(failing, status(503))
    assert (await looked_up(world, registry)).answer.status == "found"


async def test_the_places_and_candidates_are_queried_in_parallel_until_the_first_valid_one(
    world: World, registry: Scripted
) -> None:
    """The second place never answers, and the first candidate answers only after the second one."""
    second_asked = asyncio.Event()

    async def after_second(_request: web.BaseRequest) -> web.Response:
        await second_asked.wait()
        return web.Response(status=404)

    signatures = signed(DIGEST, THEIRS, OURS)
    holds(registry, signatures)
    first, second = signatures.manifests
    content = signatures.manifests[second]

    def at_once(_request: web.BaseRequest) -> web.Response:
        second_asked.set()
        return web.Response(body=content)

    registry.on(OF_SIMPLE, never)
    registry.on(f"GET /v2/{REPOSITORY}/manifests/{first}", after_second)
    registry.on(f"GET /v2/{REPOSITORY}/manifests/{second}", at_once)
    assert (await looked_up(world, registry)).answer.key == OURS.fingerprint
    assert len(asyncio.all_tasks()) < 20, "no request is left"


async def test_keys_that_the_policy_has_just_removed_do_not_count(world: World, registry: Scripted) -> None:
    """An error would let onError: keep approve the image, although every registry answers."""
    holds(registry, signed(DIGEST, OURS))
    world.verifiers = load_keys([ANOTHER.der])
    reply = await looked_up(world, registry, OURS, ANOTHER)
    assert reply == Reply(MISSING._replace(cause=OTHER_KEY))
    world.verifiers = {}
    requested = len(registry.requests)
    reply = await looked_up(world, registry, OURS, ANOTHER)
    assert reply == Reply(MISSING._replace(cause="the policy does not name its keys any more"))
    assert len(registry.requests) == requested


async def test_each_verification_has_a_turn_of_its_own_and_their_number_is_limited() -> None:
    """Wrong signatures and keys with two hashes must not make the look-ups of other images wait."""
    turns = 0
    tried: list[tuple[str, int]] = []

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def verifier(by: str) -> Verifier:
        def verifies(_signature: bytes, _message: bytes) -> bool:
            tried.append((by, turns))
            return False

        return verifies

    async def send(ask: Ask) -> Response:
        return answered(held.get(ask.path))

    signatures = signed(DIGEST, *[OURS] * 8)
    for _ in range(8):
        signatures.add_simple(*OURS.payload(DIGEST))
    held = contents(signatures)
    keys = {str(number): (verifier("usual"), verifier("older")) for number in range(20)}
    counting = asyncio.create_task(count())
    answer = await query(Manifest("r.io", REPOSITORY, DIGEST, SIGNATURE, tuple(keys)), send, keys)
    counting.cancel()
    cause = "more than 320 verifications of signatures by keys are needed"
    assert answer == MISSING._replace(cause=cause)
    assert len({turn for _, turn in tried}) == len(tried) == 320


async def test_no_blob_is_kept_while_other_signatures_are_verified() -> None:
    """Whoever can push chooses the size of blobs, and the memory of the process is limited."""
    signatures = Signatures(DIGEST)
    for _ in range(8):
        signatures.add_bundle(OURS.bundle(DIGEST) + b" " * 60_000)
    held, used = contents(signatures), []

    async def send(ask: Ask) -> Response:
        return answered(held.get(ask.path))

    def verifies(_signature: bytes, _message: bytes) -> bool:
        used.append(tracemalloc.get_traced_memory()[0])
        return False

    manifest = Manifest("r.io", REPOSITORY, DIGEST, SIGNATURE, ("a" * 64,))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        await query(manifest, send, {"a" * 64: (verifies,)})
    finally:
        tracemalloc.stop()
    assert len(used) == 8
    assert max(used) - before < 2 * 60_000


VALID = Answer("found", DIGEST, key="a" * 64, form="simple")


@pytest.mark.parametrize(
    ("answer", "valid"),
    [
        pytest.param(VALID, True, id="valid"),
        pytest.param(VALID._replace(digest=OTHER_DIGEST), False, id="another-digest"),
        pytest.param(VALID._replace(key="c" * 64), False, id="a-key-that-the-rule-does-not-name"),
        pytest.param(VALID._replace(key=""), False, id="no-key"),
        pytest.param(VALID._replace(form=""), False, id="no-form"),
        pytest.param(VALID._replace(cause="why"), False, id="valid-with-a-cause"),
        pytest.param(found(DIGEST), False, id="found-as-a-manifest"),
        pytest.param(MISSING, True, id="unsigned"),
        pytest.param(MISSING._replace(cause=OTHER_KEY), True, id="other-key"),
        pytest.param(MISSING._replace(key="a" * 64), False, id="unsigned-with-a-key"),
        pytest.param(failed("down"), True, id="error"),
        pytest.param(failed(""), False, id="error-without-a-cause"),
        pytest.param(VALID._replace(status="error", cause="why"), False, id="error-with-a-key"),
    ],
)
def test_the_server_checks_what_it_can_of_an_answer(answer: Answer, *, valid: bool) -> None:
    manifest = Manifest("r.io", REPOSITORY, DIGEST, SIGNATURE, ("a" * 64, "b" * 64))
    assert is_valid(manifest, answer) is valid


async def test_no_manifest_is_kept_while_a_look_up_waits_for_blobs() -> None:
    """Whoever can push chooses the size of manifests, and the memory of the process is limited."""
    signatures = Signatures(DIGEST, padding=MAX_BUNDLE_MANIFEST_BYTES - 1000)
    for name in ("p256", "p256-b", "p384", "p521") * 2:
        signatures.add_bundle(Signer(name).bundle(DIGEST))
    asked, held = 0, []

    async def send(ask: Ask) -> Response:
        nonlocal asked
        if ask.path.startswith("blobs/"):
            asked += 1
            if asked == len(signatures.manifests):
                held.append(tracemalloc.get_traced_memory()[0])
            await asyncio.sleep(0)
        content = contents(signatures).get(ask.path)
        return answered(content)

    manifest = Manifest("r.io", REPOSITORY, DIGEST, SIGNATURE, ("a" * 64,))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        answer = await query(manifest, send, {"a" * 64: (lambda *_: False,)})
    finally:
        tracemalloc.stop()
    assert answer == MISSING._replace(cause=OTHER_KEY)
    assert [used - before < 5 * MAX_BUNDLE_MANIFEST_BYTES for used in held] == [True]


DOCKER = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.mark.parametrize("simple", [False, True], ids=["bundle", "simple"])
async def test_a_manifest_of_dockers_media_type_is_read_like_one_of_oci(
    world: World, registry: Scripted, *, simple: bool
) -> None:
    """Cosign writes this type with COSIGN_DOCKER_MEDIA_TYPES."""
    signatures = Signatures(DIGEST, media_type=DOCKER)
    if simple:
        signatures.add_simple(*OURS.payload(DIGEST))
    else:
        signatures.add_bundle(OURS.bundle(DIGEST))
    holds(registry, signatures)
    assert (await looked_up(world, registry)).answer.key == OURS.fingerprint


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("padding", [b" ", b"\n", b"\r\n", b"  \n"], ids=["spaces", "lf", "crlf", "lines"])
async def test_a_payload_may_be_as_large_as_the_limit_whatever_fills_it(
    world: World, registry: Scripted, padding: bytes, more: int
) -> None:
    payload, _ = OURS.payload(DIGEST)
    signatures = Signatures(DIGEST)
    signatures.add_simple(*OURS.signed((payload + padding * MAX_BLOB_BYTES)[: MAX_BLOB_BYTES + more]))
    holds(registry, signatures)
    answer = (await looked_up(world, registry)).answer
    expected = ("missing", "a signature is larger than 64 KiB") if more else ("found", "")
    assert (answer.status, answer.cause) == expected


@pytest.mark.parametrize("more", [0, 1])
async def test_the_manifest_of_a_bundle_may_be_as_large_as_the_limit(
    world: World, registry: Scripted, more: int
) -> None:
    """A larger one is not requested."""
    padding = 1
    for _ in range(2):
        signatures = Signatures(DIGEST, padding=padding)
        signatures.add_bundle(OURS.bundle(DIGEST))
        (manifest,) = signatures.manifests.values()
        padding += MAX_BUNDLE_MANIFEST_BYTES + more - len(manifest)
    holds(registry, signatures)
    answer = (await looked_up(world, registry)).answer
    expected = ("missing", "a manifest is larger than 16 KiB") if more else ("found", "")
    assert (answer.status, answer.cause) == expected
    assert any("/manifests/sha256:" in line for line in registry.request_lines) is not bool(more)


class TestLimits:
    """A look-up has limits for all its requests together."""

    @pytest.mark.parametrize("more", [0, 1])
    async def test_all_bodies_together_have_two_mebibytes(
        self, world: World, registry: Scripted, more: int
    ) -> None:
        """Redirected requests count, too."""
        host = redirecting(world, registry)
        for number in range(3):
            path = f"/{number}" if number else f"/v2/{REPOSITORY}/referrers/{DIGEST}"
            registry.on(f"GET {path}", redirected(f"http://{host}/{number + 1}", 512 * 1024))
        registry.on("GET /3", web.Response(body=b" " * (512 * 1024 - 1)))
        registry.on(OF_BUNDLES, web.Response(body=b" " * (1 + more)))
        cause = "all answers together are too large" if more else ""
        assert await looked_up(world, registry) == Reply(MISSING._replace(cause=cause))

    async def test_it_sends_at_most_64_requests(self, world: World, registry: Scripted) -> None:
        signatures = Signatures(DIGEST)
        for number in range(32):
            signatures.add_bundle(THEIRS.bundle(DIGEST), annotations={"number": str(number)})
        holds(registry, signatures)
        host = redirecting(world, registry)
        for digest, content in signatures.manifests.items():
            registry.on(f"GET /v2/{REPOSITORY}/manifests/{digest}", redirected(f"http://{host}/{digest}"))
            registry.on(f"GET /{digest}", web.Response(body=content))
        reply = await looked_up(world, registry)
        assert reply == Reply(MISSING._replace(cause=SKIPPED))
        assert len(registry.requests) == len(world.turns) == 64

    async def test_it_ends_in_time_which_shows_nothing_bad_about_a_registry_that_answered(
        self, world: World, registry: Scripted
    ) -> None:
        signatures = signed(DIGEST, *[THEIRS] * 8)
        holds(registry, signatures)
        for digest in signatures.manifests:
            registry.on(f"GET /v2/{REPOSITORY}/manifests/{digest}", never)
        manifest = Manifest(registry.host, REPOSITORY, DIGEST, SIGNATURE, (OURS.fingerprint,))
        reply = await world.client.query(manifest, world.turn, 0.2)
        assert reply == Reply(failed("no answer in 0.2 s"))
        assert len(asyncio.all_tasks()) < 20, "no request is left"

    async def test_a_manifest_that_hangs_does_not_hide_those_that_were_read(
        self, world: World, registry: Scripted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lookup, "MANIFEST_SECONDS", 0.5)
        signatures = Signatures(DIGEST)
        for number, signer in enumerate((*[THEIRS] * 8, OURS, THEIRS)):
            signatures.add_bundle(signer.bundle(DIGEST), annotations={"number": str(number)})
        holds(registry, signatures)
        for number in (0, 1, 9):
            registry.on(f"GET /v2/{REPOSITORY}/manifests/{[*signatures.manifests][number]}", never)
        assert (await looked_up(world, registry)).answer.key == OURS.fingerprint
        late = failed("no answer in 5 s")
        assert await looked_up(world, registry, ANOTHER) == Reply(late)

    async def test_what_nobody_who_pushes_can_cause_is_an_error_of_the_registry(
        self, world: World, registry: Scripted
    ) -> None:
        registry.on(REFERRERS, status(200, **{f"X_{number}": "x" * 4000 for number in range(20)}))
        reply = await looked_up(world, registry)
        assert (reply.answer.status, reply.trouble) == ("error", True)
        assert "the head of the answer is larger" in reply.answer.cause


def redirecting(world: World, registry: Scripted) -> str:
    """Let a registry redirect to itself, and return its host."""
    world.settings[registry.host] = Registry(
        host=registry.host, plain_http=True, redirect_hosts=(registry.host,)
    )
    return registry.host


def redirected(location: str, size: int = 0) -> web.Response:
    return web.Response(status=307, headers={"Location": location}, body=b" " * size)


async def never(_request: web.BaseRequest) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError
