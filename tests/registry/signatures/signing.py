"""Build what a registry holds about a signature, from a row of ``tests/data/signatures/corpus.yaml``."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from gatekeeper_py.registry.signatures.documents import Candidate
from gatekeeper_py.registry.signatures.keys import load_keys
from gatekeeper_py.registry.signatures.verification import Check, Keys, Verdict

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
Row = Mapping[str, Any]

IN_TOTO: Final = "application/vnd.in-toto+json"
BUNDLE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIMPLE: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"

IMAGE_MANIFEST: Final = (
    b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":'
    b'{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":'
    b'"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"layers":[]}'
)
"""The image that most rows sign. Its only blob is ``{}``."""

IMAGE: Final = hashlib.sha256(IMAGE_MANIFEST).hexdigest()
OTHER: Final = "0dd5" * 16
NAMES: Final = {"{image}": IMAGE, "{IMAGE}": IMAGE.upper(), "{other}": OTHER}

P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SHA256_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")
"""The DigestInfo of SHA-256 without its hash (RFC 8017, section 9.2)."""

HASHES: Final = {
    "sha1": hashes.SHA1(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


@functools.cache
def private_key(name: str) -> PrivateKey:
    """Return one of the keys of the corpus. Each run of the tests has others."""
    match name.partition("-")[0]:
        case "rsa":
            return rsa.generate_private_key(65537, 2048)
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case curve:
            curves = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
            return ec.generate_private_key(curves[curve])


@functools.cache
def der_of(name: str) -> bytes:
    return public_der(private_key(name).public_key())


def public_der(key: PublicKeyTypes) -> bytes:
    """Return a public key as the policy has it, without its PEM."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def fingerprint(name: str) -> str:
    return hashlib.sha256(der_of(name)).hexdigest()


class Signed(NamedTuple):
    """A blob that may be a signature of ``digest`` by one of ``keys``."""

    candidate: Candidate
    blob: bytes
    digest: str
    keys: Keys
    ders: tuple[bytes, ...]


STATEMENT: Final = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [{"digest": {"sha256": IMAGE}}],
    "predicateType": "https://sigstore.dev/cosign/sign/v1",
    # In Base64, this text has all characters that differ in the URL-safe alphabet.
    "predicate": {"note": "~~~???>>>."},
}
PAYLOAD: Final = {
    "critical": {
        "identity": {"docker-reference": "registry.corp.example/team/app"},
        "image": {"docker-manifest-digest": f"sha256:{IMAGE}"},
        "type": "cosign container image signature",
    },
    "optional": {"note": "~~~???>>>."},
}


def sign(row: Row) -> Signed:
    """Build the blob of a row, and sign it as the row says."""
    is_bundle = row["form"] == "bundle"
    payload = edited(text_of(STATEMENT if is_bundle else PAYLOAD), row.get("payload", ())).encode(
        row.get("charset", "utf-8"), "surrogateescape"
    )
    message = MESSAGES[row.get("over", "encoding" if is_bundle else "payload")](payload)
    signature = _signature_text(row, message)
    payload = edited(payload.decode("latin-1"), row.get("later", ())).encode("latin-1")
    blob = payload
    if is_bundle:
        encoded = base64.b64encode(payload).decode()
        for name in row.get("encoded", ()):
            encoded = changed(TEXTS[name], encoded)
        blob = edited(text_of(bundle_of(encoded, signature)), row.get("bundle", ())).encode(
            row.get("bundle-charset", "utf-8"), "surrogateescape"
        )
    blob += b" " * (row.get("pad", 0) - len(blob))
    candidate = _stated(row, blob)._replace(signature="" if is_bundle else signature)
    ders = tuple(der_of(name) for name in row.get("keys", ["p256"]))
    asked = named(row.get("digest", "sha256:{image}"))
    return Signed(candidate, blob, asked, load_keys(ders), ders)


def listing(row: Row) -> tuple[Candidate, bytes]:
    """Build the index or the manifest of a row, and what a descriptor states about it."""
    entry: dict[str, Any] = {
        "mediaType": MANIFEST,
        "artifactType": BUNDLE,
        "digest": f"sha256:{IMAGE}",
        "size": 1000,
    }
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": f"sha256:{OTHER}", "size": 2}
    annotations = {"dev.cosignproject.cosign/signature": "c2ln"}
    entries = row.get("entries", 1)
    documents: dict[str, dict[str, Any]] = {
        "index": {"mediaType": INDEX, "manifests": [entry] * entries},
        "manifest": {
            "mediaType": MANIFEST,
            "artifactType": BUNDLE,
            "config": empty,
            "layers": [entry | {"mediaType": BUNDLE}] * entries,
            "subject": {"digest": f"sha256:{IMAGE}"},
        },
        "payloads": {
            "mediaType": MANIFEST,
            "config": empty,
            "layers": [entry | {"mediaType": SIMPLE, "annotations": annotations}] * entries,
        },
    }
    document = edited(text_of({"schemaVersion": 2} | documents[row["form"]]), row.get("text", ())).encode()
    return _stated(row, document), document


def edited(text: str, edits: Any) -> str:
    """Replace the first of each text by another, ``times`` it; a text that is not there is an error."""
    for old, new, *times in edits:
        assert named(old) in text, old
        text = text.replace(named(old), named(new) * (times[0] if times else 1), 1)
    return text


def named(text: str) -> str:
    """Replace the names of digests and of public keys."""
    for name, value in NAMES.items():
        text = text.replace(name, value)
    for name in ("p256", "p256-b"):
        text = text.replace(f"{{key {name}}}", base64.b64encode(der_of(name)).decode())
        text = text.replace(f"{{fingerprint {name}}}", fingerprint(name))
    return text


def text_of(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"))


def changed(change: Callable[[str], str], text: str) -> str:
    """Apply a change that must have an effect."""
    result = change(text)
    assert result != text
    return result


def judged(check: Check, candidate: Candidate, blob: bytes, digest: str, keys: Keys) -> Verdict:
    """Return the result of a verification that waits for nothing."""

    async def turn() -> None:
        pass

    return asyncio.run(check(candidate, blob, digest, keys, turn))


def described(content: bytes) -> Candidate:
    """Return what a right descriptor states about some content."""
    return Candidate(f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))


def _stated(row: Row, content: bytes) -> Candidate:
    stated = row.get("descriptor", {})
    right = described(content)
    return Candidate(stated.get("digest", right.digest), right.size + stated.get("more", 0))


def bundle_of(payload: str, signature: str) -> Any:
    return {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": "hint"}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": payload,
            "payloadType": IN_TOTO,
            "signatures": [{"sig": signature, "keyid": ""}],
        },
    }


def _signature_text(row: Row, message: bytes) -> str:
    """Return the Base64 text of the signature, with all changes of the row."""
    # The text of one signature in four has no padding, and not all have a character that the URL-safe
    # alphabet replaces. A change must have an effect.
    for _ in range(100):
        made = _signature(row, message)
        for name in row.get("bytes", ()):
            made = BYTES[name](made)
        text = base64.b64encode(made).decode()
        if all(TEXTS[name](text) != text for name in row.get("text", ())):
            break
    for name in row.get("text", ()):
        text = changed(TEXTS[name], text)
    return text


def sign_with(key: PrivateKey, message: bytes, algorithm: hashes.HashAlgorithm = HASHES["sha256"]) -> bytes:
    """Sign as cosign does with a key of this kind, except for the hash."""
    match key:
        case ec.EllipticCurvePrivateKey():
            return key.sign(message, ec.ECDSA(algorithm))
        case ed25519.Ed25519PrivateKey():
            return key.sign(message)
    return key.sign(message, padding.PKCS1v15(), algorithm)


def _signature(row: Row, message: bytes) -> bytes:
    key = private_key(row.get("by", "p256"))
    algorithm = HASHES[row.get("hash", "sha256")]
    if "padding" not in row:
        return sign_with(key, message, algorithm)
    assert isinstance(key, rsa.RSAPrivateKey)
    if row["padding"] == "pss":
        return key.sign(message, padding.PSS(padding.MGF1(algorithm), 32), algorithm)
    size = key.key_size // 8
    block = BLOCKS[row["padding"]](hashlib.sha256(message).digest(), size)
    numbers = key.private_numbers()
    return pow(int.from_bytes(block), numbers.d, numbers.public_numbers.n).to_bytes(size)


def encoding(payload: bytes, payload_type: str = IN_TOTO) -> bytes:
    """Return the pre-authentication encoding of DSSE."""
    return f"DSSEv1 {len(payload_type)} {payload_type} {len(payload)} ".encode() + payload


MESSAGES: Final[dict[str, Callable[[bytes], bytes]]] = {
    "encoding": encoding,
    "payload": lambda payload: payload,
    "base64": base64.b64encode,
    "encoding-of-base64": lambda payload: encoding(base64.b64encode(payload)),
    "encoding-of-another-type": lambda payload: encoding(payload, "text/plain"),
    "encoding-without-type": lambda payload: encoding(payload, ""),
    "encoding-without-lengths": lambda payload: f"DSSEv1 {IN_TOTO} ".encode() + payload,
    "encoding-in-version-2": lambda payload: encoding(payload).replace(b"DSSEv1", b"DSSEv2", 1),
    "encoding-with-a-line-end": lambda payload: encoding(payload) + b"\n",
    "encoding-with-a-leading-zero": lambda payload: encoding(payload).replace(b" 28 ", b" 028 ", 1),
    "digest": lambda payload: hashlib.sha256(payload).digest(),
    "digest-of-encoding": lambda payload: hashlib.sha256(encoding(payload)).digest(),
    "hexadecimal-digest": lambda payload: hashlib.sha256(payload).hexdigest().encode(),
    "image": lambda _payload: f"sha256:{IMAGE}".encode(),
    "nothing": lambda _payload: b"",
}
"""What is signed."""


def _with_other_s(signature: bytes) -> bytes:
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, P256_ORDER - s)


def _fixed_width(signature: bytes) -> bytes:
    return b"".join(number.to_bytes(32) for number in decode_dss_signature(signature))


BYTES: Final[dict[str, Callable[[bytes], bytes]]] = {
    "other-s": _with_other_s,
    "s-plus-order": lambda signature: encode_dss_signature(
        decode_dss_signature(signature)[0], decode_dss_signature(signature)[1] + P256_ORDER
    ),
    "fixed-width": _fixed_width,
    "zeros": lambda _signature: encode_dss_signature(0, 0),
    "ones": lambda _signature: encode_dss_signature(1, 1),
    "order": lambda _signature: encode_dss_signature(P256_ORDER, P256_ORDER),
    "s-zero": lambda signature: encode_dss_signature(decode_dss_signature(signature)[0], 0),
    "trailing-byte": lambda signature: signature + b"\0",
    "leading-zero": lambda signature: b"\0" + signature,
    "inner-trailing-byte": lambda signature: bytes([signature[0], signature[1] + 1]) + signature[2:] + b"\0",
    "long-length": lambda signature: signature[:1] + b"\x81" + signature[1:],
    "indefinite-length": lambda signature: b"\x30\x80" + signature[2:] + b"\0\0",
    "without-last-byte": lambda signature: signature[:-1],
    "one-byte": lambda _signature: b"\0",
    "large": lambda signature: signature + bytes(20_000),
    "plus-modulus": lambda signature: (int.from_bytes(signature) + _modulus("rsa")).to_bytes(
        len(signature) + 1
    ),
    "zero-of-modulus-size": lambda signature: bytes(len(signature)),
    "one-of-modulus-size": lambda signature: bytes(len(signature) - 1) + b"\1",
}
"""Changes to a signature."""


def _modulus(name: str) -> int:
    key = private_key(name)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key.private_numbers().public_numbers.n


def _block(info: bytes, size: int, *, kind: bytes = b"\1", fill: bytes = b"\xff", garbage: int = 0) -> bytes:
    """Return a block of PKCS #1 v1.5, whose parts may be wrong."""
    return b"\0" + kind + fill * (size - 3 - len(info) - garbage) + b"\0" + info + bytes(garbage)


BLOCKS: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "right": lambda digest, size: _block(SHA256_INFO + digest, size),
    "garbage": lambda digest, size: _block(SHA256_INFO + digest, size, garbage=100),
    "short": lambda digest, size: b"\0\1" + b"\xff" * 8 + b"\0" + SHA256_INFO + digest + bytes(size - 62),
    "type-2": lambda digest, size: _block(SHA256_INFO + digest, size, kind=b"\2"),
    "type-0": lambda digest, size: _block(SHA256_INFO + digest, size, kind=b"\0", fill=b"\0"),
    "other-fill": lambda digest, size: _block(SHA256_INFO + digest, size, fill=b"\xfe"),
    "no-info": _block,
    # The parameters of the algorithm (NULL) are left out, which RFC 8017 allows for MD5 and SHA-1 only.
    "no-null": lambda digest, size: _block(
        bytes.fromhex("302f300b0609608648016503040201") + b"\x04\x20" + digest, size
    ),
    "sha1-info": lambda digest, size: _block(
        bytes.fromhex("3021300906052b0e03021a05000414") + digest[:20], size
    ),
    "sha512-info": lambda digest, size: _block(
        bytes.fromhex("3051300d060960864801650304020305000440") + digest * 2, size
    ),
}
"""Blocks that a signature of RSA encrypts, given a SHA-256 and the size of the key in bytes."""


def _with_last_bits(text: str) -> str:
    """Set the last bit, which no byte uses, of a text with padding."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    body = text.rstrip("=")
    if body == text:
        return text
    return body[:-1] + alphabet[alphabet.index(body[-1]) | 1] + text[len(body) :]


TEXTS: Final[dict[str, Callable[[str], str]]] = {
    "url-safe": lambda text: text.replace("+", "-").replace("/", "_"),
    "unpadded": lambda text: text.rstrip("="),
    "more-padding": lambda text: text + "====",
    "line-end": lambda text: text + "\n",
    "lines": lambda text: "\n".join(text[at : at + 64] for at in range(0, len(text), 64)),
    "space": lambda text: " " + text,
    "inner-space": lambda text: text[:4] + " " + text[4:],
    "last-bits": _with_last_bits,
    "wide": lambda text: "".join(chr(ord(first) + 0xFEE0) for first in text[:1]) + text[1:],
    "star": lambda text: text[:4] + "*" + text[4:],
    "padding-inside": lambda text: text[:4] + "==" + text[4:],
    "twice": lambda text: base64.b64encode(text.encode()).decode(),
    "hexadecimal": lambda text: base64.b64decode(text).hex(),
    "prefix": lambda text: "data:;base64," + text,
    "empty": lambda _text: "",
    "nul": lambda text: text + "\0",
    "surrogate": lambda text: text + "\ud800",
}
"""Changes to a text in Base64."""
