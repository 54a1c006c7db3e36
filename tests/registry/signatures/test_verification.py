"""Each signature of the corpus has its result, and an independent verifier agrees."""

from __future__ import annotations

from collections import Counter
from typing import Final

import pytest

from gatekeeper_py.registry.signatures.verification import check_bundle, check_simple
from registry.signatures.corpus import CORPUS, rows
from registry.signatures.independent import is_valid_bundle, is_valid_simple
from registry.signatures.signing import Row, fingerprint, sign

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
}


@pytest.mark.parametrize("row", rows("bundle", "simple"))
def test_a_signature_of_the_corpus_has_its_result(row: Row) -> None:
    signed = sign(row)
    if row["form"] == "bundle":
        verdict = check_bundle(signed.candidate, signed.blob, signed.digest, signed.keys)
        is_valid = is_valid_bundle(signed.blob, signed.digest, signed.ders)
    else:
        verdict = check_simple(signed.candidate, signed.blob, signed.digest, signed.keys)
        is_valid = is_valid_simple(signed.blob, signed.candidate.signature, signed.digest, signed.ders)
    match row["expect"].split():
        case ["valid", name]:
            assert verdict == ("valid", fingerprint(name), "")
            assert is_valid
        case _:
            assert ": ".join(filter(None, (verdict.status, verdict.reason))) == row["expect"]
            assert not verdict.key
            # The other verifier has no limits and does not know descriptors.
            assert not is_valid or any(word in verdict.reason for word in ("larger", "deeper", "descriptor"))


def test_the_corpus_has_different_names_known_fields_and_the_published_vulnerabilities() -> None:
    assert [name for name, count in Counter(row["id"] for row in CORPUS).items() if count > 1] == []
    assert {field for row in CORPUS for field in row} == FIELDS
    assert [name for name in VULNERABILITIES if not any(name in row["why"] for row in CORPUS)] == []
