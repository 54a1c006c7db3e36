"""Signatures of cosign are verified; those of the corpus have the results that another verifier confirms."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Final

import pytest

from gatekeeper_py.registry.signatures.candidates import find_blob, list_payloads
from gatekeeper_py.registry.signatures.documents import UNKNOWN_TIME
from gatekeeper_py.registry.signatures.keys import load_keys
from gatekeeper_py.registry.signatures.verification import Verdict, check_bundle, check_simple
from registry.signatures.corpus import CORPUS, PUBLISHED, published, rows
from registry.signatures.independent import is_signed, is_valid_bundle, is_valid_simple
from registry.signatures.recorded import KEYS, RECORDED, Recorded
from registry.signatures.signing import IMAGE, Row, described, fingerprint, judged, sign

VULNERABILITIES: Final = (
    "CVE-2022-35930",
    "CVE-2022-47633",
    "CVE-2025-29778",
    "GHSA-fx35-mq7g-6g98",
    "CVE-2023-46737",
    "CVE-2023-47630",
)
FIELDS: Final = {
    *("form", "id", "expect", "why"),
    *("payload", "charset", "over", "by", "hash", "padding", "bytes", "text", "later", "encoded", "bundle"),
    *("bundle-charset", "pad", "descriptor", "digest", "keys", "entries"),
    *("cosign", "difference"),
}


@pytest.mark.parametrize("row", rows("bundle", "simple"))
def test_a_signature_of_the_corpus_has_its_result(row: Row) -> None:
    signed = sign(row)
    if row["form"] == "bundle":
        verdict = judged(check_bundle, signed.candidate, signed.blob, signed.digest, signed.keys)
        is_valid = is_valid_bundle(signed.blob, signed.digest, signed.ders)
    else:
        verdict = judged(check_simple, signed.candidate, signed.blob, signed.digest, signed.keys)
        is_valid = is_valid_simple(signed.blob, signed.candidate.signature, signed.digest, signed.ders)
    match row["expect"].split():
        case ["valid", name]:
            assert verdict == ("valid", fingerprint(name), "")
            assert is_valid
        case _:
            assert ": ".join(filter(None, (verdict.status, verdict.reason))) == row["expect"]
            assert not verdict.key
            # The other verifier has no limits and does not know descriptors. Python 3.14 parses JSON
            # with more levels than other parsers.
            known = ("larger", "deeper", "descriptor", "levels")
            assert not is_valid or any(word in f"{verdict.reason} {row['id']}" for word in known)


@pytest.mark.parametrize("row", rows("published"))
def test_a_published_bundle_with_a_valid_signature_does_not_approve_an_image(row: Row) -> None:
    found = published(row["id"])
    assert is_signed(found.message, found.signature, [found.key])
    digest = f"sha256:{hashlib.sha256((PUBLISHED / 'a.txt').read_bytes()).hexdigest()}"
    verdict = judged(check_bundle, described(found.blob), found.blob, digest, load_keys([found.key]))
    assert ": ".join(filter(None, (verdict.status, verdict.reason))) == row["expect"]
    assert not is_valid_bundle(found.blob, digest, [found.key])


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda each: f"{each.by}-{each.form}-{each.key}")
def test_what_cosign_wrote_is_found_and_verified(recorded: Recorded) -> None:
    manifest, blob = recorded.manifest.encode(), recorded.blob.encode()
    is_bundle = recorded.form == "bundle"
    found = find_blob(described(manifest), manifest) if is_bundle else list_payloads(manifest)
    check = check_bundle if is_bundle else check_simple
    (candidate,) = found.candidates
    stated = described(blob)._replace(signature=recorded.signature, created=candidate.created)
    assert candidate == stated
    assert (candidate.created > UNKNOWN_TIME) == is_bundle
    key = KEYS[recorded.key]
    valid = Verdict("valid", key=hashlib.sha256(key).hexdigest())
    # cosign signs the prehashed form with such a key, which it cannot verify itself.
    expected = Verdict("other_key") if recorded.key == "ed25519" else valid
    assert judged(check, candidate, blob, recorded.digest, load_keys(KEYS.values())) == expected
    others = load_keys(other for other in KEYS.values() if other != key)
    assert judged(check, candidate, blob, recorded.digest, others).status == "other_key"
    assert judged(check, candidate, blob, f"sha256:{IMAGE}", load_keys([key])).status == "unrelated"


def test_the_corpus_has_different_names_known_fields_and_the_published_vulnerabilities() -> None:
    assert [name for name, count in Counter(row["id"] for row in CORPUS).items() if count > 1] == []
    assert {field for row in CORPUS for field in row} == FIELDS
    assert [name for name in VULNERABILITIES if not any(name in row["why"] for row in CORPUS)] == []
