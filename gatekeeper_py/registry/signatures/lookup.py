"""A look-up of signatures: its requests, its valid answers, and how long an answer is used.

The places where cosign stores signatures are queried in parallel, and so are the candidates of a place.
The first valid signature ends the look-up (docs/signatures.md).

Anyone who can push to a repository can add candidates to it. Nothing that such a person can cause counts as
an error of the registry, because ``onError: keep`` would then approve the image. For example, a candidate
that is too large or absent is skipped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from gatekeeper_py.core.images.manifest import MISSING, OTHER_KEY, Answer, Manifest
from gatekeeper_py.core.policy.registries import Registry
from gatekeeper_py.registry.asking import MEDIA_TYPES, Ask, ContentTooLarge, Send, refused
from gatekeeper_py.registry.signatures.candidates import (
    MAX_BLOB_BYTES,
    MAX_BUNDLE_MANIFEST_BYTES,
    MAX_CANDIDATES,
    MAX_MANIFEST_BYTES,
    Listing,
    choose_newest,
    find_blob,
    list_bundles,
    list_payloads,
)
from gatekeeper_py.registry.signatures.documents import Candidate, Malformed
from gatekeeper_py.registry.signatures.verification import Check, Keys, check_bundle, check_simple

_OK: Final = 200
_NOT_FOUND: Final = frozenset({404})
_NOT_STORED: Final = _NOT_FOUND | {400}
"""The statuses of an absent digest that is not SHA-256. Some registries refuse those."""
_NO_API: Final = _NOT_FOUND | {400, 405, 406, 501}
"""The statuses of registries without the referrers API. The library of cosign accepts 400, 404 and 406."""

MAX_BYTES: Final = 2 * 1024 * 1024
"""Maximum size of all answers that a look-up reads. It usually reads 10 KiB."""

MANIFEST_SECONDS: Final = 2.5
"""Maximum time to wait for a turn and read the manifest of one bundle. It leaves time to verify the
others."""

MAX_VERIFICATIONS: Final = 320
"""Maximum number of verifications in a look-up: 20 keys, the most in a rule, for each of 16 signatures. One
takes 0.1 ms with P-256, and up to 1.3 ms with P-384 and P-521. A key of these two kinds needs a second
verification, with the older hash. So with more than ten such keys, whoever can push can keep a signature from
being verified."""


async def query(manifest: Manifest, send: Send, keys: Keys) -> Answer:
    """Find a valid signature by one of the keys. Raises ``Unusable`` and the errors of ``send``.

    The answer is ``missing`` only if all places could be read, or if there is no key. While the policy
    changes, a review may still name keys that have just been removed. Their signatures do not count any more.
    This is not an error, because ``onError: keep`` would approve the image.
    """
    if not keys:
        return MISSING._replace(cause="the policy does not name its keys any more")
    search = _Search(manifest.reference, send, keys)
    return await _first_valid(
        [form.find(search, partial(search.judge, name)) for name, form in FORMS.items()]
    )


def is_valid(manifest: Manifest, answer: Answer) -> bool:
    """Check an answer of the registry process.

    The server cannot check more, because the signature itself stays in the process. So an attacker who
    controls the process can make an image pass as signed, but only as signed by a key that its rule names.
    """
    if answer.status == "found":
        is_named = answer.key in manifest.keys and answer.form in FORMS
        return is_named and answer.digest == manifest.reference and not answer.cause
    if answer.digest or answer.key or answer.form:
        return False
    return answer.status == "missing" or bool(answer.cause)


def fresh_seconds(_manifest: Manifest, _answer: Answer, settings: Registry) -> float:
    """Return how long an image counts as unsigned. A valid signature has no expiry (``ValidSignatures``)."""
    return settings.ttl_missing


class _Search:
    """The search for a signature of the manifest with this digest."""

    def __init__(self, digest: str, send: Send, keys: Keys) -> None:
        self._digest = digest
        self._send = send
        self._keys = keys
        self._verifications = 0
        self._verifying = asyncio.Lock()

    async def bundles(self, judge: _Judge) -> Answer:
        """Search the bundles that refer to the image: the form of cosign 3."""
        # Here and below, no variable holds a body while other requests wait, because memory is limited.
        listing = _bundles(await self._get(f"referrers/{self._digest}", MAX_MANIFEST_BYTES, absent=_NO_API))
        if listing is None:
            listing = _bundles(await self._tagged(""))
        if listing is None:
            return MISSING
        if len(listing.candidates) <= MAX_CANDIDATES:
            bundles = (self._bundle(candidate, judge) for candidate in listing.candidates)
            return await _first_valid(bundles, listing.skipped)
        # Here, all manifests must be read first, because they state which bundles are the newest signatures.
        read = await asyncio.gather(*map(self._blob_of, listing.candidates), return_exceptions=True)
        blobs = choose_newest([each for each in read if isinstance(each, Listing)], listing.skipped)
        failures = [each for each in read if isinstance(each, BaseException)]
        return await _first_valid(map(judge, blobs.candidates), blobs.skipped, failures)

    async def simple(self, judge: _Judge) -> Answer:
        """Search the layers of the manifest with the tag ``sha256-HEX.sig``: the form of cosign 2."""
        listing = _payloads(await self._tagged(".sig"))
        return await _first_valid(map(judge, listing.candidates), listing.skipped)

    async def _bundle(self, candidate: Candidate, judge: _Judge) -> Answer:
        listing = await self._blob_of(candidate)
        return await _first_valid(map(judge, listing.candidates), listing.skipped)

    async def _blob_of(self, candidate: Candidate) -> Listing:
        try:
            async with asyncio.timeout(MANIFEST_SECONDS):
                manifest = await self._content("manifests", candidate, MAX_BUNDLE_MANIFEST_BYTES)
        except Malformed as problem:
            return Listing(skipped=str(problem))
        return find_blob(candidate, manifest)

    async def judge(self, form: str, candidate: Candidate) -> Answer:
        """Read and verify what may be a signature of this form."""
        # No variable here holds the blob while others are verified.
        verdict = await FORMS[form].check(
            candidate,
            await self._content("blobs", candidate, MAX_BLOB_BYTES),
            self._digest,
            self._keys,
            self._turn,
        )
        if verdict.status == "valid":
            return Answer("found", self._digest, key=verdict.key, form=form)
        return Answer("missing", cause=OTHER_KEY if verdict.status == "other_key" else verdict.reason)

    async def _turn(self) -> None:
        """Let other look-ups proceed before each verification, and limit their number.

        The candidates are read in parallel, but verified one at a time, because all of them together would
        hold the event loop for 20 ms.
        """
        async with self._verifying:
            await asyncio.sleep(0)
        self._verifications += 1
        if self._verifications > MAX_VERIFICATIONS:
            raise Malformed(f"more than {MAX_VERIFICATIONS} verifications of signatures by keys are needed")

    async def _content(self, kind: Literal["manifests", "blobs"], candidate: Candidate, limit: int) -> bytes:
        """Return a manifest or blob that the registry lists. Raises ``Malformed`` if it is absent."""
        absent = _NOT_FOUND if candidate.digest.startswith("sha256:") else _NOT_STORED
        content = await self._get(f"{kind}/{candidate.digest}", limit, absent=absent)
        if content is None:
            raise Malformed("the registry does not have a manifest or blob that it lists")
        return content

    async def _tagged(self, suffix: str) -> bytes | None:
        """Return the manifest with the tag of an image; ``None`` if there is none."""
        algorithm, _, value = self._digest.partition(":")
        if algorithm != "sha256":
            return None  # a tag has at most 128 characters, and this one would have more
        return await self._get(
            f"manifests/{algorithm}-{value}{suffix}", MAX_MANIFEST_BYTES, absent=_NOT_FOUND
        )

    async def _get(self, path: str, limit: int, *, absent: frozenset[int]) -> bytes | None:
        """Return the body of an answer; ``None`` if it is absent. Raises ``Malformed`` if it is too large."""
        try:
            response = await self._send(Ask("GET", path, MEDIA_TYPES, limit=limit))
        except ContentTooLarge as problem:
            raise Malformed(str(problem)) from None
        if response.status in absent:
            return None
        if response.status != _OK:
            raise refused(response)
        return response.body


_Judge = Callable[[Candidate], Coroutine[Any, Any, Answer]]


class Form(NamedTuple):
    """How a registry holds signatures: how to search for candidates, and how to verify one."""

    find: Callable[[_Search, _Judge], Coroutine[Any, Any, Answer]]
    check: Check


FORMS: Final[Mapping[str, Form]] = MappingProxyType(
    {"bundle": Form(_Search.bundles, check_bundle), "simple": Form(_Search.simple, check_simple)}
)
"""The forms by the names that reports show."""


def _bundles(index: bytes | None) -> Listing | None:
    return None if index is None else list_bundles(index)


def _payloads(manifest: bytes | None) -> Listing:
    return Listing() if manifest is None else list_payloads(manifest)


async def _first_valid(
    attempts: Iterable[Coroutine[Any, Any, Answer]], skipped: str = "", failed: Iterable[BaseException] = ()
) -> Answer:
    """Run the attempts in parallel. Return the first valid signature, and end the other attempts.

    Without a valid signature, raise the error of an attempt if one failed. Otherwise, return why there is
    none. ``skipped`` is the reason why other candidates were skipped, and ``failed`` are the errors of
    earlier attempts.
    """
    tasks = [asyncio.ensure_future(attempt) for attempt in attempts]
    pending = set(tasks)
    try:
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.exception() is None and task.result().status == "found":
                    return task.result()
    finally:
        for task in pending:
            task.cancel()
        # No request may start after the look-up has ended.
        await asyncio.gather(*tasks, return_exceptions=True)
    causes = [skipped]
    failures = list(failed)
    for task in tasks:
        match task.exception():
            case None:
                causes.append(task.result().cause)
            case Malformed() as problem:
                causes.append(str(problem))
            case failure:
                failures.append(failure)
    if failures:
        # A registry that requests a pause must get it.
        raise max(failures, key=lambda failure: getattr(failure, "pause", 0.0))
    # Prefer the reason of a skipped signature to ``OTHER_KEY``: users may look for the skipped one.
    found = filter(None, causes)
    return Answer("missing", cause=min(found, key=lambda cause: cause == OTHER_KEY, default=""))
