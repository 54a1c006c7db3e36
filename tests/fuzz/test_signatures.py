"""No signature is approved that an independent verifier refuses, and none is refused without a reason.

The signatures are those that cosign wrote, with mistakes in them, and mistaken texts that the right key
signed.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.mutations import mutated, mutated_text
from gatekeeper_py.registry.signatures.candidates import find_blob, list_bundles, list_payloads
from gatekeeper_py.registry.signatures.keys import load_keys
from gatekeeper_py.registry.signatures.verification import Verdict, check_bundle, check_simple
from registry.signatures.corpus import CORPUS
from registry.signatures.independent import is_valid_bundle, is_valid_simple
from registry.signatures.recorded import KEYS, RECORDED
from registry.signatures.signing import (
    IMAGE,
    MESSAGES,
    PAYLOAD,
    STATEMENT,
    TEXTS,
    bundle_of,
    der_of,
    described,
    judged,
    listing,
    named,
    private_key,
    sign_with,
    text_of,
)
from support.budget import budget

NAMES: Final = ("p256", "ed25519", "rsa")
DERS: Final = (*KEYS.values(), *map(der_of, NAMES))
LOADED: Final = load_keys(DERS)

TOKENS: Final = (
    *('"', "\\", "\\u0073", "{", "}", "[", "]", ":", ",", " ", "\n", "\0", "=", "-", "_", "+", "/", "A"),
    *('"sha256":"' + IMAGE + '",', '"sig":"",', '"payload":"e30=",', "null", "1e999", "NaN", "\ufeff", "é"),
)
DIGEST: Final = r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}"
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


def edits_of(form: str, stage: str) -> list[Any]:
    """Return the single replacements of the corpus."""
    return [edit for row in CORPUS if row["form"] == form for edit in row.get(stage, ())]


@st.composite
def changed(draw: st.DrawFn, original: Any, edits: list[Any]) -> str:
    """Draw a JSON document with up to two replacements of the corpus, and with other mistakes."""
    document = json.loads(original) if isinstance(original, str) else original
    text = text_of(draw(st.one_of(st.just(document), st.just(document), mutated([document]))))
    for old, new, *times in draw(st.lists(st.sampled_from(edits), max_size=2)):
        text = text.replace(named(old), named(new) * (times[0] if times else 1), 1)
    return draw(st.one_of(st.just(text), st.just(text), mutated_text([text], TOKENS)))


@st.composite
def in_base64(draw: st.DrawFn, content: bytes) -> str:
    """Draw the text of some content in Base64, with a change of the corpus or without one."""
    text = base64.b64encode(content).decode()
    return draw(
        st.one_of(st.just(text), st.sampled_from(list(TEXTS.values())).map(lambda change: change(text)))
    )


@cache
def signature_of(name: str, message: bytes) -> bytes:
    """Sign a message once, because ECDSA signatures are random and Hypothesis draws the same data again."""
    return sign_with(private_key(name), message)


@settings(max_examples=budget(500))
@given(st.data())
def a_bundle_with_mistakes_is_judged(data: st.DataObject) -> None:
    recorded = data.draw(st.sampled_from(BUNDLES))
    blob = encodable(data.draw(changed(recorded.blob, edits_of("bundle", "bundle"))))
    verdict = judged(check_bundle, described(blob), blob, recorded.digest, LOADED)
    check(verdict, is_valid=is_valid_bundle(blob, recorded.digest, DERS))


@settings(max_examples=budget(500))
@given(st.data(), st.sampled_from(NAMES))
def a_mistaken_statement_is_judged(data: st.DataObject, name: str) -> None:
    payload = encodable(data.draw(changed(STATEMENT, edits_of("bundle", "payload"))))
    message = data.draw(st.sampled_from(list(MESSAGES.values())) | st.just(MESSAGES["encoding"]))(payload)
    signature = signature_of(name, message)
    made = bundle_of(data.draw(in_base64(payload)), data.draw(in_base64(signature)))
    blob = encodable(data.draw(st.just(text_of(made)) | changed(made, edits_of("bundle", "bundle"))))
    verdict = judged(check_bundle, described(blob), blob, f"sha256:{IMAGE}", LOADED)
    check(verdict, is_valid=is_valid_bundle(blob, f"sha256:{IMAGE}", DERS))


@settings(max_examples=budget(500))
@given(st.data(), st.sampled_from(NAMES))
def a_mistaken_payload_is_judged(data: st.DataObject, name: str) -> None:
    if data.draw(st.booleans()):
        recorded = data.draw(st.sampled_from(SIMPLE))
        digest, payload, signed = recorded.digest, recorded.blob.encode(), recorded.signature
        signature = data.draw(in_base64(base64.b64decode(signed)) | mutated_text([signed], TOKENS))
    else:
        digest, payload = (
            f"sha256:{IMAGE}",
            encodable(data.draw(changed(PAYLOAD, edits_of("simple", "payload")))),
        )
        signature = data.draw(in_base64(signature_of(name, payload)))
    verdict = judged(check_simple, described(payload)._replace(signature=signature), payload, digest, LOADED)
    check(verdict, is_valid=is_valid_simple(payload, signature, digest, DERS))


@settings(max_examples=budget(100))
@given(st.data())
def any_list_is_read(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(("index", "manifest", "payloads")))
    _, document = listing({"form": form, "entries": data.draw(st.sampled_from((1, 2, 9, 33)))})
    content = encodable(data.draw(changed(document.decode(), edits_of(form, "text"))))
    lists = (
        (find_blob(described(content), content), 1),
        (list_payloads(content), 8),
        (list_bundles(content), 32),
    )
    for found, most in lists:
        if found is not None:
            assert len(found.candidates) <= most
            assert all(0 < candidate.size <= 512 * 1024 for candidate in found.candidates)
            assert all(re.fullmatch(DIGEST, candidate.digest) for candidate in found.candidates)


@pytest.mark.hypothesis
def test_an_independent_verifier_agrees_about_any_signature(rounds: Iterator[int]) -> None:
    for _ in rounds:
        a_bundle_with_mistakes_is_judged()
        a_mistaken_statement_is_judged()
        a_mistaken_payload_is_judged()
        any_list_is_read()
