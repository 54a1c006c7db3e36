"""Find what may hold a signature of an image: in an index of referrers, and in manifests.

Anyone who can push to the repository controls what these functions read. So nothing here counts as a failure
of the registry: these functions skip what is malformed or exceeds a limit, and give a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from gatekeeper_py.core.images.reference import InvalidReference, check_digest
from gatekeeper_py.core.policy.instant import parse_instant
from gatekeeper_py.registry.signatures.documents import (
    UNKNOWN_TIME,
    Candidate,
    Malformed,
    NotJson,
    check_content,
    parse_object,
)

MAX_CANDIDATES: Final = 8
"""Maximum number of bundles that are verified, and of payloads in a manifest of simple signing."""

MAX_BUNDLES: Final = 32
"""Maximum number of manifests of bundles that are read. Most registries do not list whether a bundle is a
signature or an attestation, and an image that is attested daily has many attestations. A manifest has about
870 bytes, and with the default ``rate`` (50), the requests of one look-up still fit into one second."""

MAX_BLOB_BYTES: Final = 64 * 1024
MAX_BUNDLE_MANIFEST_BYTES: Final = 16 * 1024
"""Maximum size of the manifest of a bundle. The descriptor states the size, so a larger one is not
requested."""

MAX_MANIFEST_BYTES: Final = 512 * 1024
"""Maximum size of an index, or of the manifest that the tag ``sha256-HEX.sig`` names."""

BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIMPLE_TYPE: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
DOCKER_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"
"""The media type that cosign writes if COSIGN_DOCKER_MEDIA_TYPES is set."""

INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"

_MANIFEST_TYPES: Final = (MANIFEST_TYPE, DOCKER_TYPE)
_LISTED_TYPES: Final = (BUNDLE_TYPE, "application/vnd.oci.empty.v1+json", "", None)
"""Artifact types in an index that may be those of a bundle. Without the referrers API, cosign 2.6 lists each
bundle with the empty type. The manifest itself states the right one."""


SIGN_PREDICATE: Final = "https://sigstore.dev/cosign/sign/v1"


class Listing(NamedTuple):
    """The candidates in the registry's order, and the first reason why others were skipped."""

    candidates: tuple[Candidate, ...] = ()
    skipped: str = ""


def list_bundles(index: bytes) -> Listing | None:
    """Return the manifests that may be bundles; ``None`` if the content is not an index.

    ``index`` is the answer of the referrers API (its first page), or what the tag ``sha256-HEX`` names. It
    has no descriptor, so its hash is not checked.
    """
    if len(index) > MAX_MANIFEST_BYTES:
        return Listing(skipped="an index is larger than 512 KiB")
    try:
        document = parse_object(index)
    except NotJson:
        return None
    except Malformed as problem:
        return Listing(skipped=f"an index is malformed: {problem}")
    match document:
        case {"manifests": [*entries]} if _is_only(document, (INDEX_TYPE,), without="layers"):
            return _listing(entries, _is_bundle, _MANIFESTS)
    return None


def find_blob(candidate: Candidate, manifest: bytes) -> Listing:
    """Return the blob that a bundle's manifest names, and when the bundle was made.

    There is no candidate if the manifest is not that of a bundle, or states that the bundle is an
    attestation. The subject of the manifest is not compared, because the bundle's statement names the image.
    """
    try:
        check_content(candidate, manifest)
        document = parse_object(manifest)
    except Malformed as problem:
        return Listing(skipped=f"a manifest is malformed: {problem}")
    if document.get("artifactType") != BUNDLE_TYPE or _is_attestation(document):
        return Listing()
    match document:
        case {"layers": [layer]} if _is_only(document, _MANIFEST_TYPES, without="manifests"):
            found = _listing([layer], lambda _layer: True, _BLOBS)
            created = _created(document)
            return found._replace(
                candidates=tuple(each._replace(created=created) for each in found.candidates)
            )
    return Listing(skipped="a manifest is malformed: not one of a bundle with one layer")


def choose_newest(found: Sequence[Listing], skipped: str = "") -> Listing:
    """Return the newest blobs of bundles; those of unknown age are last, in the registry's order.

    So an image that is signed again with a new key passes, although it has many old signatures. Whoever can
    push can state any time, and thus hide a signature. Then the image is refused. It is never approved.
    ``skipped`` is the reason why candidates of the index were skipped.
    """
    # The sort is stable, also in reverse.
    candidates = [candidate for listing in found for candidate in listing.candidates]
    candidates.sort(key=lambda candidate: candidate.created, reverse=True)
    too_many = _too_many(MAX_CANDIDATES, "signatures") if len(candidates) > MAX_CANDIDATES else ""
    reasons = filter(None, (skipped, too_many, *(listing.skipped for listing in found)))
    return Listing(tuple(candidates[:MAX_CANDIDATES]), next(reasons, ""))


def list_payloads(manifest: bytes) -> Listing:
    """Return the payloads of simple signing in the manifest that the tag ``sha256-HEX.sig`` names.

    The manifest has no descriptor, so its hash is not checked.
    """
    if len(manifest) > MAX_MANIFEST_BYTES:
        return Listing(skipped="a manifest is larger than 512 KiB")
    try:
        document = parse_object(manifest)
    except Malformed as problem:
        return Listing(skipped=f"a manifest is malformed: {problem}")
    match document:
        case {"layers": [*layers]} if _is_only(document, _MANIFEST_TYPES, without="manifests"):
            return _listing(layers, lambda layer: layer.get("mediaType") == SIMPLE_TYPE, _BLOBS)
    return Listing(skipped="a manifest is malformed: it has no layers")


def _is_only(document: dict[str, Any], media_types: Sequence[str], *, without: str) -> bool:
    """Return whether a document is of one of these types and cannot be read as one of another type.

    Source: CVE-2021-41190. The media type is optional in the OCI image specification.
    """
    return document.get("mediaType", media_types[0]) in media_types and without not in document


def _is_bundle(entry: dict[str, Any]) -> bool:
    """Return whether an entry of an index may be the signature of an image."""
    is_listed = entry.get("mediaType") in _MANIFEST_TYPES and entry.get("artifactType") in _LISTED_TYPES
    return is_listed and not _is_attestation(entry)


def _is_attestation(annotated: dict[str, Any]) -> bool:
    """Return whether an entry of an index or a manifest states that its bundle is an attestation.

    cosign annotates the manifest of each bundle with its predicate type, and some registries list this. No
    annotation makes a bundle valid: its signed payload decides.
    """
    match annotated:
        case {"annotations": {"dev.sigstore.bundle.predicateType": str(stated)}}:
            return stated != SIGN_PREDICATE
    return False


def _created(manifest: dict[str, Any]) -> datetime:
    match manifest:
        case {"annotations": {"org.opencontainers.image.created": str(stated)}}:
            try:
                return parse_instant(stated)
            except ValueError:
                return UNKNOWN_TIME
    return UNKNOWN_TIME


class _Limits(NamedTuple):
    """The limits of a list, and what it lists."""

    most: int
    what: str
    max_bytes: int
    too_large: str


_MANIFESTS: Final = _Limits(
    MAX_BUNDLES, "bundles", MAX_BUNDLE_MANIFEST_BYTES, "a manifest is larger than 16 KiB"
)
_BLOBS: Final = _Limits(MAX_CANDIDATES, "signatures", MAX_BLOB_BYTES, "a signature is larger than 64 KiB")


def _too_many(most: int, what: str) -> str:
    return f"there are more than {most} {what}"


def _listing(entries: list[Any], is_wanted: Callable[[dict[str, Any]], bool], limits: _Limits) -> Listing:
    """Return the wanted descriptors that are within the limits."""
    wanted = [entry for entry in entries if isinstance(entry, dict) and is_wanted(entry)]
    skipped = []
    if len(wanted) > limits.most:
        skipped.append(_too_many(limits.most, limits.what))
    candidates = []
    for entry in wanted[: limits.most]:
        candidate = _candidate(entry)
        if candidate is None:
            skipped.append("a descriptor is malformed")
        elif candidate.size > limits.max_bytes:
            skipped.append(limits.too_large)
        else:
            candidates.append(candidate)
    return Listing(tuple(candidates), next(iter(skipped), ""))


def _candidate(descriptor: dict[str, Any]) -> Candidate | None:
    """Return what a descriptor states; ``None`` if it is malformed."""
    match descriptor:
        case {"digest": str(digest), "size": int(size)} if size > 0 and size is not True:
            pass
        case _:
            return None
    try:
        check_digest(digest)
    except InvalidReference:
        return None
    match descriptor:
        case {"annotations": {"dev.cosignproject.cosign/signature": str(signature)}}:
            return Candidate(digest, size, signature)
    return Candidate(digest, size)
