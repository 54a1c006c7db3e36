"""Verify one signature of an image, in both forms that cosign writes with a key.

The steps have the numbers of "How a signature is verified" in docs/signatures.md.

Not validated here, because a key alone vouches for the image: certificates, hints about keys, log entries and
timestamps. So a signature does not show when it was made, or whether its key was stolen. Of a payload of
simple signing, ``docker-reference`` and ``optional`` are not compared, so a signature is valid in every
repository.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, Literal, NamedTuple

from gatekeeper_py.registry.signatures.candidates import BUNDLE_TYPE, MAX_BLOB_BYTES, SIGN_PREDICATE
from gatekeeper_py.registry.signatures.documents import (
    Candidate,
    Malformed,
    check_content,
    decode_base64,
    parse_object,
)

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
SIMPLE_SIGNING: Final = "cosign container image signature"

Verifier = Callable[[bytes, bytes], bool]
"""Returns whether its key made a signature (first argument) of a message, with one hash. Raises nothing."""

Keys = Mapping[str, tuple[Verifier, ...]]
"""The keys that may sign an image, by fingerprint, with a verifier for each hash (see ``keys.load_keys``)."""

Turn = Callable[[], Awaitable[None]]
"""Waits before a verification. Raises ``Malformed`` if there were too many."""


class Verdict(NamedTuple):
    """Whether a signature vouches for an image.

    ``valid``: ``key`` is the fingerprint of the key that signed. ``other_key``: none of the keys signed what
    is otherwise a signature of this image. ``unrelated``: it is about another image, or it is an attestation.
    ``malformed``: ``reason`` is a short text without any part of the content.
    """

    status: Literal["valid", "other_key", "unrelated", "malformed"]
    key: str = ""
    reason: str = ""


Check = Callable[[Candidate, bytes, str, Keys, Turn], Coroutine[Any, Any, Verdict]]
"""Verifies one signature: ``check_bundle`` or ``check_simple``."""

UNRELATED: Final = Verdict("unrelated")


async def check_bundle(candidate: Candidate, blob: bytes, digest: str, keys: Keys, turn: Turn) -> Verdict:
    """Verify that a Sigstore bundle is a signature of the image with this digest by one of the keys.

    ``candidate`` is what the descriptor of the blob states (``candidates.find_blob``).
    """
    try:
        # 1. The blob is within its limit, and is what its descriptor states.
        _check_blob(candidate, blob)
        # 2. It is a bundle that holds one DSSE envelope with one signature, and nothing else that is signed.
        envelope = _envelope(parse_object(blob))
        # 3. The payload is an in-toto Statement 1: cosign's signature of an image, and of this image.
        if envelope.payload_type != PAYLOAD_TYPE:
            return UNRELATED
        payload = decode_base64(envelope.payload)
        if not _is_about(parse_object(payload), digest):
            return UNRELATED
        # 4. One of the keys signed the pre-authentication encoding of the payload.
        signature, message = decode_base64(envelope.signature), _pre_authentication_encoding(payload)
        del blob, envelope, payload  # memory is limited, and this call waits for others
        return await _signed_by(keys, signature, message, turn)
    except Malformed as problem:
        return Verdict("malformed", reason=str(problem))


async def check_simple(candidate: Candidate, payload: bytes, digest: str, keys: Keys, turn: Turn) -> Verdict:
    """Verify that a payload of simple signing is signed for the image with this digest by one of the keys.

    ``candidate`` is what the descriptor of the payload states, with the signature beside it
    (``candidates.list_payloads``).
    """
    try:
        # 1. The payload is within its limit, and is what its descriptor states.
        _check_blob(candidate, payload)
        # 2. It states that it is a signature of an image, and of this image.
        if not _is_simple(parse_object(payload), digest):
            return UNRELATED
        # 3. One of the keys signed the payload.
        return await _signed_by(keys, decode_base64(candidate.signature), payload, turn)
    except Malformed as problem:
        return Verdict("malformed", reason=str(problem))


def _check_blob(candidate: Candidate, blob: bytes) -> None:
    if len(blob) > MAX_BLOB_BYTES:
        raise Malformed("larger than 64 KiB")
    check_content(candidate, blob)


class _Envelope(NamedTuple):
    """An envelope of DSSE. The payload and the signature are Base64."""

    payload_type: str
    payload: str
    signature: str


def _envelope(bundle: dict[str, Any]) -> _Envelope:
    """Return the only envelope of a bundle, with its only signature. Raises ``Malformed``."""
    match bundle:
        case {
            "mediaType": media_type,
            "dsseEnvelope": {
                "payloadType": str(payload_type),
                "payload": str(payload),
                "signatures": [{"sig": str(signature)}],
            },
        } if media_type == BUNDLE_TYPE and "messageSignature" not in bundle:
            return _Envelope(payload_type, payload, signature)
    raise Malformed("not a bundle with one signed envelope")


def _is_about(statement: dict[str, Any], digest: str) -> bool:
    """Return whether a statement is cosign's signature of an image, and one of its subjects is this image.

    Raises ``Malformed``.
    """
    match statement:
        case {"_type": kind, "predicateType": predicate_type, "subject": [*subjects]} if (
            kind == STATEMENT_TYPE
        ):
            algorithm, _, value = digest.partition(":")
            return predicate_type == SIGN_PREDICATE and any(
                isinstance(subject, dict)
                and isinstance(digests := subject.get("digest"), dict)
                and digests.get(algorithm) == value
                for subject in subjects
            )
    raise Malformed("not an in-toto Statement 1")


def _is_simple(document: dict[str, Any], digest: str) -> bool:
    """Return whether a payload of simple signing is a signature of this image. Raises ``Malformed``."""
    match document:
        case {"critical": {"type": kind, "image": {"docker-manifest-digest": stated}}}:
            return bool(kind == SIMPLE_SIGNING and stated == digest)
    raise Malformed("not a payload of simple signing")


def _pre_authentication_encoding(payload: bytes) -> bytes:
    """Return the bytes that the signature of an envelope signs (DSSE 1.0)."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


async def _signed_by(keys: Keys, signature: bytes, message: bytes, turn: Turn) -> Verdict:
    # The older hash of a key is tried only after the usual hash of all keys.
    for usual in (True, False):
        for fingerprint, verifiers in keys.items():
            for verifies in verifiers[:1] if usual else verifiers[1:]:
                await turn()
                if verifies(signature, message):
                    return Verdict("valid", key=fingerprint)
    return Verdict("other_key")
