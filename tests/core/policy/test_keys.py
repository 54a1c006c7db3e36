"""The text of a key is read strictly, and no message repeats a part of it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper_py.core import PolicyError, parse_policy
from gatekeeper_py.core.policy.keys import ED25519_PRIME, FORGEABLE, MAX_PEM_LENGTH, parse_key
from gatekeeper_py.core.policy.registries import SIGNED_RATE, Registry
from support.builders import INSTANT, PUBLIC_KEYS, keys_text, policy_text

PEM: Final = PUBLIC_KEYS["ci-2025"]
SPKI: Final = serialization.PublicFormat.SubjectPublicKeyInfo


def rsa_key(bits: int) -> Callable[[], Any]:
    return lambda: rsa.generate_private_key(65537, bits)


def curve(kind: ec.EllipticCurve) -> Callable[[], Any]:
    return lambda: ec.generate_private_key(kind)


def pem_of(private: Any) -> str:
    text: bytes = private.public_key().public_bytes(serialization.Encoding.PEM, SPKI)
    return text.decode()


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        pytest.param(curve(ec.SECP256R1()), "P-256", id="p256"),
        pytest.param(curve(ec.SECP384R1()), "P-384", id="p384"),
        pytest.param(curve(ec.SECP521R1()), "P-521", id="p521"),
        pytest.param(ed25519.Ed25519PrivateKey.generate, "Ed25519", id="ed25519"),
        pytest.param(rsa_key(2048), "RSA", id="rsa-2048"),
    ],
)
def test_a_key_has_its_kind_and_the_fingerprint_of_its_der(make: Callable[[], Any], kind: str) -> None:
    private = make()
    der = private.public_key().public_bytes(serialization.Encoding.DER, SPKI)
    key = parse_key(pem_of(private))
    assert (key.kind, key.der, key.fingerprint) == (kind, der, hashlib.sha256(der).hexdigest())


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        pytest.param(curve(ec.SECP256K1()), "must be a key for ECDSA", id="another-curve"),
        pytest.param(ed448.Ed448PrivateKey.generate, "must be a key for ECDSA", id="ed448"),
        pytest.param(rsa_key(1024), "from 2048 to 8192 bits, and this one has 1024", id="short-rsa"),
    ],
)
def test_keys_of_other_kinds_are_refused(make: Callable[[], Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_key(pem_of(make()))


@pytest.mark.parametrize(("exponent", "good"), [(2**31 - 1, True), (2**31 + 1, False), (2**3000 + 1, False)])
def test_an_rsa_key_with_a_large_exponent_is_refused(exponent: int, *, good: bool) -> None:
    modulus = rsa.generate_private_key(65537, 2048 + 1024).public_key().public_numbers().n
    key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, SPKI).decode()
    if good:
        assert parse_key(pem).kind == "RSA"
    else:
        with pytest.raises(ValueError, match=r"must be less than 2\^31"):
            parse_key(pem)


def ed25519_keys_of_small_order() -> Iterator[bytes]:
    """Yield every encoding of a point of small order, including those whose y is not below the prime."""
    for y in FORGEABLE:
        for written in (y, y + ED25519_PRIME):
            for sign in (0, 1 << 255) if written < 1 << 255 else ():
                yield (written + sign).to_bytes(32, "little")


@pytest.mark.parametrize("point", sorted(ed25519_keys_of_small_order()), ids=bytes.hex)
def test_a_key_for_which_anybody_can_sign_is_refused(point: bytes) -> None:
    """The signature below is made without a private key, and is valid for at least one in eight messages."""
    key = ed25519.Ed25519PublicKey.from_public_bytes(point)
    forged = bytes([1]) + bytes(63)
    messages = [b"%d" % number for number in range(100)]
    assert any(verifies(key, forged, message) for message in messages)
    pem = key.public_bytes(serialization.Encoding.PEM, SPKI).decode()
    with pytest.raises(ValueError, match="anybody can sign for this Ed25519 key"):
        parse_key(pem)


def verifies(key: ed25519.Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    with suppress(InvalidSignature):
        key.verify(signature, message)
        return True
    return False


def test_a_compressed_point_is_refused_so_that_a_key_has_one_fingerprint() -> None:
    der = parse_key(PEM).der
    short = b"\x30\x39" + der[2:23] + b"\x03\x22\x00" + bytes([2 + der[-1] % 2]) + der[27:59]
    loaded = serialization.load_der_public_key(short)
    assert loaded.public_bytes(serialization.Encoding.DER, SPKI) == der
    lines = PEM.splitlines()
    body = base64.b64encode(short).decode()
    with pytest.raises(ValueError, match="an unusual encoding"):
        parse_key("\n".join([lines[0], body, lines[-1]]))


@pytest.mark.parametrize(
    "form",
    [
        serialization.PrivateFormat.PKCS8,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.PrivateFormat.OpenSSH,
    ],
)
@pytest.mark.parametrize("around", ["%s", f"%s{PEM}", f"{PEM}%s", " %s "])
def test_a_private_key_is_refused_and_never_repeated(form: serialization.PrivateFormat, around: str) -> None:
    """This holds for a key in a block and in quotes."""
    private = ec.generate_private_key(ec.SECP256R1())
    encoded = private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    text = around % encoded.decode()
    with pytest.raises(ValueError, match="this is a private key"):
        parse_key(text)
    indented = text.strip().replace("\n", "\n      ")
    quoted = text.strip().replace("\n", "\\n")
    for keys in (f"\n  - name: ci\n    key: |\n      {indented}", f'[{{name: ci, key: "{quoted}"}}]'):
        with pytest.raises(PolicyError) as caught:
            parse_policy(policy_text(f"keys: {keys}\n"))
        said = str(caught.value)
        assert "keys[0].key: this is a private key" in said
        assert not any(line in said for line in encoded.decode().splitlines()[1:-1])


OURS: Final = r"^(must be one public key|the text between|the PEM block holds|the key)"


@given(st.text(max_size=80) | st.integers(0, len(PEM)).map(lambda at: PEM[:at] + "=" + PEM[at:]))
def test_any_other_text_is_refused_with_a_message_of_our_own(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"^(must be one public key|the text between|the PEM block holds|the key)"
    ):
        parse_key(text)


def test_a_long_text_is_not_read() -> None:
    with pytest.raises(ValueError, match=r"at most 4,096 characters, here 4,097"):
        parse_key(PEM.ljust(MAX_PEM_LENGTH + 1))
    assert parse_key(PEM.ljust(MAX_PEM_LENGTH)) == parse_key(PEM)


SIGNED: Final = "require: [{images: [a.io/x], signedBy: [ci-2025], signatures: '%s'}]\n"


@pytest.mark.parametrize(
    ("written", "repository"),
    [("docker.io/nginx", "docker.io/library/nginx"), ("s.io:443/a/b", "s.io/a/b")],
)
def test_the_repository_of_signatures_is_folded_like_a_pattern(written: str, repository: str) -> None:
    policy = parse_policy(policy_text(keys_text() + SIGNED % written))
    assert [each.signatures for each in policy.document.require] == [repository]


def test_the_hosts_of_a_requirement_with_signed_by_have_another_default_rate() -> None:
    registries = "registries: [{host: a.io, timeout: 2s}, {host: b.io, rate: 5}, {host: c.io}]\n"
    require = "[{images: [a.io/x], signedBy: [ci-2025], signatures: s.io/signatures},"
    require += " {images: [b.io], signedBy: [ci-2026]}, {images: [c.io], exists: true}]"
    compiled = parse_policy(policy_text(f"{keys_text()}{registries}require: {require}\n")).at(INSTANT)
    assert compiled.looked_up_hosts == {"a.io", "s.io", "b.io", "c.io"}
    assert compiled.require.signed_hosts == {"a.io", "s.io", "b.io"}
    assert [compiled.registries.of(host) for host in ("a.io", "s.io", "b.io", "c.io", "d.io")] == [
        Registry(host="a.io", timeout=2.0, rate=SIGNED_RATE),
        Registry(host="s.io", rate=SIGNED_RATE),
        Registry(host="b.io", rate=5),
        Registry(host="c.io"),
        Registry(host="d.io"),
    ]


def test_the_keys_of_a_requirement_are_those_that_are_live() -> None:
    more = keys_text(until="2026-03-01") + "require: [{images: [a.io], signedBy: [ci-2026, ci-2025]}]\n"
    require = parse_policy(policy_text(more)).at(INSTANT).require
    assert [[key.name for key in require.signers(each)] for each in require.all] == [["ci-2025"]]
