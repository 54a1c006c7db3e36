"""No signature is approved that an independent verifier refuses, and none is refused without a reason.

The signatures are those that cosign wrote, with mistakes in them, and mistaken texts that the right key
signed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget import budget
from fuzz.mutations import mutated, mutated_text
from gatekeeper_py.registry.signatures.candidates import find_blob, list_bundles, list_payloads
from gatekeeper_py.registry.signatures.keys import load_keys
from gatekeeper_py.registry.signatures.verification import Verdict, check_bundle, check_simple
from registry.signatures.independent import is_valid_bundle, is_valid_simple
from registry.signatures.recorded import KEYS, RECORDED
from registry.signatures.signing import (
    IMAGE,
    PAYLOAD,
    STATEMENT,
    bundle_of,
    der_of,
    described,
    encoding,
    private_key,
    sign_with,
    text_of,
)

NAMES: Final = ("p256", "ed25519", "rsa")
DERS: Final = (*KEYS.values(), *map(der_of, NAMES))
LOADED: Final = load_keys(DERS)

TOKENS: Final = (
    *('"', "\\", "\\u0073", "{", "}", "[", "]", ":", ",", " ", "\n", "\0", "=", "-", "_", "+", "/", "A"),
    *('"sha256":"' + IMAGE + '",', '"sig":"",', '"payload":"e30=",', "null", "1e999", "NaN", "\ufeff", "é"),
)
LIMITS: Final = ("larger than", "deeper than", "more than")
BUNDLES: Final = [each for each in RECORDED if each.form == "bundle"]
SIMPLE: Final = [each for each in RECORDED if each.form == "simple"]


def check(verdict: Verdict, *, is_valid: bool) -> None:
    """Check that a verdict is that of the independent verifier, which has no limits."""
    if is_valid:
        assert verdict.status == "valid" or any(limit in verdict.reason for limit in LIMITS), verdict
    else:
        assert verdict.status != "valid"
    assert bool(verdict.key) == (verdict.status == "valid")
    assert bool(verdict.reason) == (verdict.status == "malformed")


def encodable(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def changed_texts(original: Any) -> st.SearchStrategy[str]:
    """Draw a JSON document with mistakes in its values, its text, or both."""
    document = json.loads(original) if isinstance(original, str) else original
    in_values = mutated([document]).map(text_of)
    return st.one_of(in_values, mutated_text([text_of(document)], TOKENS), in_values.flatmap(_with_typos))


def _with_typos(text: str) -> st.SearchStrategy[str]:
    return mutated_text([text], TOKENS)


@settings(max_examples=budget(300))
@given(st.data())
def a_bundle_with_mistakes_is_judged(data: st.DataObject) -> None:
    recorded = data.draw(st.sampled_from(BUNDLES))
    blob = encodable(data.draw(changed_texts(recorded.blob)))
    verdict = check_bundle(described(blob), blob, recorded.digest, LOADED)
    check(verdict, is_valid=is_valid_bundle(blob, recorded.digest, DERS))


@settings(max_examples=budget(300))
@given(st.data(), st.sampled_from(NAMES))
def a_mistaken_statement_is_judged(data: st.DataObject, name: str) -> None:
    payload = encodable(data.draw(changed_texts(STATEMENT)))
    signature = sign_with(private_key(name), data.draw(st.sampled_from((encoding(payload), payload))))
    made = bundle_of(base64.b64encode(payload).decode(), base64.b64encode(signature).decode())
    blob = encodable(data.draw(st.one_of(st.just(text_of(made)), changed_texts(made))))
    verdict = check_bundle(described(blob), blob, f"sha256:{IMAGE}", LOADED)
    check(verdict, is_valid=is_valid_bundle(blob, f"sha256:{IMAGE}", DERS))


@settings(max_examples=budget(300))
@given(st.data(), st.sampled_from(NAMES))
def a_mistaken_payload_is_judged(data: st.DataObject, name: str) -> None:
    if data.draw(st.booleans()):
        recorded = data.draw(st.sampled_from(SIMPLE))
        digest, payload, signature = recorded.digest, recorded.blob.encode(), recorded.signature
    else:
        digest, payload = f"sha256:{IMAGE}", encodable(data.draw(changed_texts(PAYLOAD)))
        signature = base64.b64encode(sign_with(private_key(name), payload)).decode()
    signature = data.draw(st.one_of(st.just(signature), mutated_text([signature], TOKENS)))
    verdict = check_simple(described(payload)._replace(signature=signature), payload, digest, LOADED)
    check(verdict, is_valid=is_valid_simple(payload, signature, digest, DERS))


@settings(max_examples=budget(300))
@given(st.data())
def any_list_is_read(data: st.DataObject) -> None:
    recorded = data.draw(st.sampled_from(RECORDED))
    manifest = encodable(data.draw(changed_texts(recorded.manifest)))
    index = {"schemaVersion": 2, "manifests": [json.loads(recorded.manifest).get("config")] * 3}
    for found in (
        find_blob(described(manifest), manifest),
        list_payloads(manifest),
        list_bundles(encodable(data.draw(changed_texts(index)))),
    ):
        if found is not None:
            assert len(found.candidates) <= 8
            assert all(0 < candidate.size <= 512 * 1024 for candidate in found.candidates)


@pytest.mark.hypothesis
def test_an_independent_verifier_agrees_about_any_signature(rounds: Iterator[int]) -> None:
    for _ in rounds:
        a_bundle_with_mistakes_is_judged()
        a_mistaken_statement_is_judged()
        a_mistaken_payload_is_judged()
        any_list_is_read()
