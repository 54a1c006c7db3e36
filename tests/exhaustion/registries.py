"""The catalogue of hostile registries. Each makes one step of the protocol expensive for a client."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from typing import Any, Final

from exhaustion.sealed import (
    ALERT,
    CERTIFICATE_REQUEST,
    DATA,
    HANDSHAKE,
    KEY_UPDATE,
    message,
    sealed,
    ticket,
)
from exhaustion.steps import (
    AUTHORIZED,
    Outcome,
    Row,
    Step,
    Steps,
    alternate,
    close,
    drip,
    half_close,
    hang,
    pour,
    reset,
)
from support.hostilejson import VALUES

MANIFEST_BYTES: Final = 4 * 2**20
TOKEN_BYTES: Final = 250_000
SHORT_SECONDS: Final = 0.3
"""Duration of a row whose answers are complete."""

DIGEST: Final = "sha256:" + "a" * 64
TYPE: Final = "Content-Type: application/vnd.oci.image.manifest.v1+json"

FOUND: Final = frozenset[Outcome]({"found"})
ABSENT: Final = frozenset[Outcome]({"absent"})
UNVERIFIED: Final = frozenset[Outcome]({"unverified"})
LIMITED: Final = frozenset[Outcome]({"unsigned", "unverified"})
"""A look-up ends at a limit of size or of time, whichever it reaches first."""
EITHER: Final = FOUND | UNVERIFIED
"""After a good answer, the rest of the stream may come with the answer or after it."""


def head(status: int | str = 200, *lines: str, length: int | None = 0) -> bytes:
    """Return the head of an answer; ``length`` is its Content-Length."""
    sized = [] if length is None else [f"Content-Length: {length}"]
    return "\r\n".join([f"HTTP/1.1 {status} X", *lines, *sized, "", ""]).encode("latin-1")


GOOD: Final = head(200, f"Docker-Content-Digest: {DIGEST}", TYPE)
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS: Final = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
CHUNKED: Final = head(200, TYPE, "Transfer-Encoding: chunked", length=None)
COOKIES: Final = "".join(f"Set-Cookie: c{number}={'v' * 50}\r\n" for number in range(5000)).encode()
NUMBERED: Final = "".join(f"x-{number}: y\r\n" for number in range(50_000)).encode()


def row(name: str, outcomes: frozenset[Outcome], *steps: Step, **options: Any) -> Row:
    """Return a row that takes these steps for each request."""
    return Row(name, {"": steps}, outcomes, **options)


def answer(name: str, outcomes: frozenset[Outcome], content: bytes) -> Row:
    """Return a row that sends one answer, whose content has nothing to do with TLS."""
    return Row(name, {"": (content,)}, outcomes, speaks=("plain",), seconds=SHORT_SECONDS)


def bodied(name: str, outcomes: frozenset[Outcome], *steps: Step, **options: Any) -> Row:
    """Return a row that refuses HEAD, so that the client sends GET, which gets these steps."""
    return Row(name, {"HEAD": (head(405),), "": steps}, outcomes, **options)


def body(content: bytes, *lines: str) -> bytes:
    return head(200, *(lines or (TYPE,)), length=len(content)) + content


def signed(name: str, outcomes: frozenset[Outcome], content: bytes, *steps: Step) -> Row:
    """Return a row that lists signatures in this content, and takes these steps for each that it lists."""
    lists = (body(content),)
    answers: dict[str, Steps] = {"GET /v2/app/referrers/": lists, "GET /v2/app/manifests/sha256-": lists}
    return Row(name, {**answers, "": steps}, outcomes, seconds=SHORT_SECONDS)


def challenged(name: str, value: str) -> Row:
    """Return a row whose answers hold a challenge. A client that follows it gets the same challenge."""
    return answer(name, UNVERIFIED, head(401, f"WWW-Authenticate: {value}"))


def token(name: str, outcomes: frozenset[Outcome], *contents: bytes | Steps) -> Row:
    """Return a row that requires a token. For tokens it sends these bodies, or takes these steps, in turn."""
    asks = head(401, 'WWW-Authenticate: Bearer realm="@ORIGIN/token",service="s"')
    turns = [
        each if isinstance(each, tuple) else (body(each, "Content-Type: application/json"),)
        for each in contents
    ]
    answers: dict[str, Steps] = {"GET /token": (alternate(*turns),), AUTHORIZED: (GOOD,), "": (asks,)}
    return Row(name, answers, outcomes, speaks=("plain",), seconds=SHORT_SECONDS)


def digested(name: str, value: str, outcomes: frozenset[Outcome] = UNVERIFIED) -> Row:
    return answer(name, outcomes, head(200, TYPE, f"Docker-Content-Digest: {value}"))


def redirected(name: str, location: str) -> Row:
    return answer(name, UNVERIFIED, head(307, f"Location: {location}"))


def limited(name: str, *lines: str) -> Row:
    return answer(name, UNVERIFIED, head(429, *lines))


def _bomb(bits: int) -> bytes:
    """Return 3 MiB of zeros that were compressed; ``bits`` selects the format as in zlib."""
    packer, zeros = zlib.compressobj(wbits=bits), bytes(2**22)
    start, again = (packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return start + again * (3 * 2**20 // len(again))


GZIP_BOMB: Final = _bomb(31)

STREAMS: Final = (
    row("answers-after-an-answer", EITHER, GOOD, pour(GOOD)),
    row("bytes-after-an-answer", EITHER, GOOD, pour(b"\0")),
    row("empty-lines-after-an-answer", EITHER, GOOD, pour(b"\r\n")),
    row("100s-after-an-answer", EITHER, GOOD, pour(CONTINUE)),
    row("a-header-line-after-an-answer", EITHER, GOOD, b"HTTP/1.1 200 OK\r\nX: ", pour(b"x")),
    row("a-byte-a-second-after-an-answer", EITHER, GOOD, drip(b"HTTP/1.1 ", 0.3)),
    row("answers-before-the-request", EITHER, first=(pour(GOOD),)),
    row("a-hundred-answers-at-once", EITHER, GOOD * 100),
    row("endless-100", UNVERIFIED, pour(CONTINUE)),
    row("endless-102", UNVERIFIED, pour(b"HTTP/1.1 102 Processing\r\n\r\n")),
    row("endless-103", UNVERIFIED, pour(HINTS)),
    row("endless-103-with-large-headers", UNVERIFIED, pour(HINTS[:-2] + b"X: " + b"x" * 7000 + b"\r\n\r\n")),
    row("a-100-each-millisecond", UNVERIFIED, drip(CONTINUE, 0.001)),
    row("a-thousand-100s-then-an-answer", EITHER, CONTINUE * 1000, GOOD),
    row("switching-protocols", UNVERIFIED,
        b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", pour(b"\0")),
    row("a-status-line-without-an-end", UNVERIFIED, b"HTTP/1.1 200 ", pour(b"O")),
    row("a-header-line-without-an-end", UNVERIFIED, b"HTTP/1.1 200 OK\r\nX: ", pour(b"x")),
    row("a-header-name-without-an-end", UNVERIFIED, b"HTTP/1.1 200 OK\r\n", pour(b"x")),
    row("headers-without-an-end", UNVERIFIED, b"HTTP/1.1 200 OK\r\n", pour(NUMBERED)),
    row("cookies-without-an-end", UNVERIFIED, b"HTTP/1.1 200 OK\r\n", pour(COOKIES)),
    row("thousands-of-cookies", UNVERIFIED, GOOD[:-2] + COOKIES + b"\r\n"),
    row("folded-lines-without-an-end", UNVERIFIED, b"HTTP/1.1 200 OK\r\nX: a\r\n", pour(b" x\r\n")),
    row("empty-lines-without-an-end", UNVERIFIED, pour(b"\r\n")),
    row("a-header-byte-by-byte", UNVERIFIED, b"HTTP/1.1 200 OK\r\n", drip(b"x: y\r\n", 0.001)),
    row("a-header-byte-a-second", UNVERIFIED, drip(GOOD, 1.0)),
    row("odd-bytes-in-the-header", UNVERIFIED, GOOD[:-2] + b"\0\x80: \xff\0\r\n\r\n", hang),
    row("http-0.9", UNVERIFIED, pour(b"<html>")),
    row("http-2", UNVERIFIED, pour(b"\0\0\x12\4\0\0\0\0\0" + b"\0" * 18)),
    row("body-after-head", EITHER, head(200, f"Docker-Content-Digest: {DIGEST}", length=10**6), pour(b"x")),
    row("204-with-a-body", UNVERIFIED, head(204, length=10**6), pour(b"x")),
    row("304-with-a-body", UNVERIFIED, head(304, length=10**6), pour(b"x")),
    row("never-answers", UNVERIFIED, hang),
    row("never-reads", UNVERIFIED, first=(hang,)),
    row("never-accepts", UNVERIFIED, accept_seconds=math.inf),
    row("accepts-slowly", EITHER, GOOD, accept_seconds=0.3),
    row("half-closes", UNVERIFIED, half_close),
    row("half-closes-in-the-header", UNVERIFIED, GOOD[:-4], half_close),
    row("closes-at-once", UNVERIFIED, first=(close,)),
    row("resets-at-once", UNVERIFIED, first=(reset,)),
    row("resets-after-the-request", UNVERIFIED, reset),
    row("resets-in-the-header", UNVERIFIED, GOOD[:-4], reset),
    row("resets-after-an-answer", EITHER, GOOD, reset),
    row("good-and-bad-in-turn", EITHER, alternate((GOOD,), (GOOD, pour(GOOD)), (GOOD,), (reset,))),
)  # fmt: skip
"""Rows about the stream of bytes before and around an answer."""

BODIES: Final = (
    bodied("a-body-without-a-length", UNVERIFIED, head(200, TYPE, length=None), pour(b"[]")),
    bodied("a-body-beyond-its-length", EITHER, head(200, TYPE, length=10), pour(b"x")),
    bodied("4-gib-and-nothing", UNVERIFIED, head(200, TYPE, length=2**32), hang),
    bodied("4-gib", UNVERIFIED, head(200, TYPE, length=2**32), pour(b"[")),
    bodied("a-huge-length", UNVERIFIED, head(200, TYPE, f"Content-Length: {'9' * 4000}", length=None), hang),
    bodied("two-lengths", UNVERIFIED, head(200, TYPE, "Content-Length: 5", length=9), pour(b"x")),
    bodied("a-length-and-chunks", EITHER,
           head(200, TYPE, "Transfer-Encoding: chunked", length=5), pour(b"0\r\n\r\n")),
    bodied("a-byte-a-second", UNVERIFIED, head(200, TYPE, length=100), drip(b"x", 1.0)),
    bodied("a-body-byte-by-byte", UNVERIFIED, head(200, TYPE, length=10**6), drip(b"x", 0.001)),
    bodied("chunks-of-one-byte", UNVERIFIED, CHUNKED, pour(b"1\r\nx\r\n")),
    bodied("chunk-extensions", UNVERIFIED, CHUNKED, pour(b"1;a=b\r\nx\r\n")),
    bodied("a-chunk-extension-without-an-end", UNVERIFIED, CHUNKED, b"1;", pour(b"x")),
    bodied("a-chunk-size-without-an-end", UNVERIFIED, CHUNKED, pour(b"0")),
    bodied("a-huge-chunk", UNVERIFIED, CHUNKED, b"7fffffffffffffff\r\n", pour(b"x")),
    bodied("a-chunk-size-that-overflows", UNVERIFIED, CHUNKED, b"f" * 40 + b"\r\n", pour(b"x")),
    bodied("empty-chunks", EITHER, CHUNKED, pour(b"0\r\n\r\n")),
    bodied("trailers-without-an-end", UNVERIFIED, CHUNKED, b"1\r\nx\r\n0\r\n", pour(NUMBERED)),
    bodied("a-trailer-without-an-end", UNVERIFIED, CHUNKED, b"1\r\nx\r\n0\r\nX: ", pour(b"x")),
    bodied("a-manifest-of-4-mib-of-brackets", EITHER, body(b"[" * MANIFEST_BYTES)),
    bodied("a-byte-over-4-mib", UNVERIFIED, body(b"[" * (MANIFEST_BYTES + 1)), pour(b"[")),
    bodied("an-empty-manifest", UNVERIFIED, body(b"")),
    bodied("a-gzip-bomb", EITHER, body(GZIP_BOMB, TYPE, "Content-Encoding: gzip")),
    bodied("a-deflate-bomb", EITHER, body(_bomb(15), TYPE, "Content-Encoding: deflate")),
    bodied("resets-in-the-body", UNVERIFIED, head(200, TYPE, length=100), b"x", reset),
    bodied("half-closes-in-the-body", UNVERIFIED, head(200, TYPE, length=100), b"x", half_close),
    bodied("a-404-with-an-endless-body", UNVERIFIED | ABSENT, head(404, length=2**32), pour(b"x")),
    row("a-401-with-an-endless-body", UNVERIFIED, head(401, length=2**32), pour(b"x")),
    row("a-500-with-an-endless-body", UNVERIFIED, head(500, length=2**32), pour(b"x")),
    row("a-redirect-with-an-endless-body", UNVERIFIED, head(307, "Location: /v2/", length=2**32), pour(b"x")),
)  # fmt: skip
"""Rows about bodies."""

WORD: Final = "a" * 7000
ODD_VALUES: Final[tuple[Any, ...]] = (
    "a\r\nX: y",
    "\0",
    "\ud800",
    "é",
    " ",
    "",
    1,
    None,
    [],
    {},
    "t" * 65_537,
)
ODD_TOKENS: Final = tuple(json.dumps({"token": each}).encode() for each in ODD_VALUES)
ANSWERS: Final = (
    *(digested(f"a-digest-of-{name}", value) for name, value in {
        "garbage": "x", "7-kb": f"sha256:{WORD}", "upper-case": DIGEST.upper(),
        "another-algorithm": "md5:" + "0" * 32, "bytes": "sha256:" + "\xff" * 64,
    }.items()),
    digested("two-digests", f"{DIGEST}\r\nDocker-Content-Digest: sha256:{'b' * 64}", EITHER),
    challenged("a-challenge-of-7-kb", f'Bearer realm="{WORD}"'),
    challenged("challenges-of-100-kb", "\r\nWWW-Authenticate: ".join(["Basic " + "a=b," * 250] * 100)),
    challenged("a-thousand-challenges", ", ".join(f"S{number}" for number in range(1000))),
    challenged("a-thousand-headers", "\r\nWWW-Authenticate: ".join(["Bearer"] * 1000)),
    challenged("parameters", "Bearer " + ",".join(f"p{number}=v" for number in range(900))),
    challenged("quotes-and-backslashes", "Bearer " + 'a="' + "\\\\" * 3500),
    challenged("quotes", "Bearer " + '"' * 7000),
    challenged("equals-signs", "Bearer " + "a=" * 3500),
    challenged("a-realm-elsewhere", 'Bearer realm="https://other.example/token"'),
    challenged("a-realm-at-link-local", 'Bearer realm="http://169.254.169.254/latest"'),
    challenged("a-realm-with-a-user", 'Bearer realm="http://u:p@127.0.0.1/token"'),
    challenged("a-realm-of-a-file", 'Bearer realm="file:///etc/passwd"'),
    challenged("a-realm-of-idna", f'Bearer realm="https://xn--{"a" * 3000}.example/"'),
    challenged("a-realm-that-is-none", 'Bearer realm="http://[::1/%zz"'),
    challenged("scopes", f'Bearer realm="@ORIGIN/token",scope="{"a " * 3000}"'),
    challenged("a-realm-with-a-long-query", f'Bearer realm="@ORIGIN/token?{"a=b&" * 1500}"'),
    challenged("insufficient-scope", 'Bearer realm="@ORIGIN/token",error="insufficient_scope"'),
    token("tokens-without-an-end", UNVERIFIED, (head(200, length=None), pour(b"["))),
    token("tokens-that-hang", UNVERIFIED, (hang,)),
    token("tokens-of-brackets", UNVERIFIED, b"[" * 100_000, b'{"a":' * 100_000),
    token("tokens-of-4-mib", UNVERIFIED, b'{"token":"' + b"t" * MANIFEST_BYTES + b'"}'),
    token("tokens-of-64-kib", EITHER, json.dumps({"token": "t" * 65536}).encode()),
    token("tokens-that-fit-no-header", UNVERIFIED, *ODD_TOKENS),
    token("tokens-of-costly-json", UNVERIFIED, *(make(TOKEN_BYTES).encode() for make in VALUES.values())),
    token("tokens-that-expire-oddly", EITHER, *(b'{"token":"t","expires_in":%s}' % each for each in (
        b"NaN", b"1e999", b"-1e999", b"-1", b"0", b"1e-300", b"9" * 400, b'"60"', b"[]", b"{}", b"true",
        b"null"))),
    token("tokens-with-two-keys", EITHER, b'{"token":"a","token":1,"token":"b","access_token":[]}'),
    token("tokens-with-a-bomb", UNVERIFIED, (body(GZIP_BOMB, "Content-Encoding: gzip"),)),
    redirected("a-redirect-to-itself", "@ORIGIN/v2/x/manifests/y"),
    redirected("a-redirect-to-a-path", "?"),
    redirected("a-redirect-elsewhere", "https://other.example/"),
    redirected("a-redirect-to-link-local", "http://169.254.169.254/latest/meta-data"),
    redirected("a-redirect-with-a-user", "http://u:p@127.0.0.1/"),
    redirected("a-redirect-to-a-file", "file:///etc/passwd"),
    redirected("a-redirect-to-a-long-path", "/" + "a/" * 3000),
    redirected("a-redirect-to-idna", f"https://xn--{'a' * 3000}.example/"),
    redirected("a-redirect-to-garbage", "http://[::1/%zz\xff"),
    redirected("a-redirect-to-nowhere", ""),
    limited("retry-after-garbage", "Retry-After: " + "x" * 7000),
    limited("retry-after-digits", "Retry-After: " + "9" * 7000),
    limited("retry-after-a-negative-time", "Retry-After: -1"),
    limited("retry-after-an-odd-date", "Retry-After: Fri, 31 Dec 9999999 23:59:59 GMT", "Date: " + "0" * 60),
)  # fmt: skip
"""Rows about well-formed answers with hostile content."""


def tls(name: str, outcomes: frozenset[Outcome], *steps: Step, first: Steps = (), **options: Any) -> Row:
    return row(name, outcomes, *steps, first=first, speaks=("tls",), **options)


def raw(name: str, *steps: Step, outcomes: frozenset[Outcome] = UNVERIFIED, **options: Any) -> Row:
    """Return a row that takes these steps in place of a handshake."""
    return tls(name, outcomes, first=steps, shakes_hands=False, **options)


def flooded(name: str, kind: int, content: bytes, good: bytes = GOOD, *, updates: bool = False) -> Row:
    """Return a row that answers one request, and then sends records without an end."""
    return raw(name, sealed(good, kind, content, updates=updates), outcomes=EITHER)


SERVER_HELLO: Final = bytes.fromhex("160303007a020000760303") + b"\0" * 32
HANDSHAKES: Final = (
    raw("bytes-in-place-of-a-handshake", pour(b"\0")),
    raw("http-in-place-of-a-handshake", pour(GOOD)),
    raw("records-in-place-of-a-handshake", pour(bytes.fromhex("1603034000") + b"\0" * 0x4000)),
    raw("a-handshake-message-without-an-end", bytes.fromhex("160303400002ffffff"), b"\0" * 0x3FFC,
        pour(bytes.fromhex("1603034000") + b"\0" * 0x4000)),
    raw("a-handshake-byte-by-byte", drip(SERVER_HELLO, 0.05)),
    raw("half-a-handshake", SERVER_HELLO, hang),
    raw("no-handshake", hang),
    raw("a-handshake-that-is-reset", SERVER_HELLO, reset),
    raw("a-handshake-that-is-closed", SERVER_HELLO, half_close),
    raw("change-cipher-spec-without-an-end", pour(bytes.fromhex("140303000101"))),
    raw("alerts-without-an-end", pour(bytes.fromhex("1503030002015a"))),
    flooded("tickets", HANDSHAKE, ticket(100)),
    flooded("tickets-before-an-answer", HANDSHAKE, ticket(100), b""),
    flooded("large-tickets-before-an-answer", HANDSHAKE, ticket(16_000), b""),
    flooded("large-tickets", HANDSHAKE, ticket(16_000)),
    flooded("new-keys", HANDSHAKE, message(KEY_UPDATE, b"\0"), updates=True),
    flooded("requests-for-new-keys", HANDSHAKE, message(KEY_UPDATE, b"\1"), updates=True),
    flooded("requests-for-a-certificate", HANDSHAKE, message(CERTIFICATE_REQUEST, b"\0\0\0")),
    flooded("empty-records", DATA, b""),
    flooded("records-of-one-byte", DATA, b"x", b"HTTP/1.1 200 OK\r\nX: "),
    flooded("cancelled-alerts", ALERT, b"\1\x5a"),
    tls("a-long-chain", EITHER, GOOD, chain="long"),
    tls("a-chain-too-long", UNVERIFIED, GOOD, chain="too-long"),
    tls("thousands-of-names", EITHER, GOOD, chain="names"),
    tls("an-unknown-ca", UNVERIFIED, GOOD, chain="unknown"),
)  # fmt: skip
"""Rows about TLS."""

LISTING_BYTES: Final = 512 * 1024
LISTED: Final = {
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
    "size": 16_384,
}
LAYER: Final = {
    "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
    "annotations": {"dev.cosignproject.cosign/signature": "AAAA"},
    "size": 65_536,
}


def listing(name: str, entry: Mapping[str, Any], count: int = 8) -> bytes:
    """Return a document whose field ``name`` lists as many candidates as are read."""
    return json.dumps({name: [{**entry, "digest": f"sha256:{n:064x}"} for n in range(count)]}).encode()


BUNDLES: Final = listing("manifests", LISTED)
PAYLOADS: Final = listing("layers", LAYER)
SIGNATURES: Final = (
    row("bodies-without-an-end", LIMITED, head(200, TYPE, length=None), pour(b"[")),
    row("bodies-byte-by-byte", UNVERIFIED, head(200, TYPE, length=10**5), drip(b"[", 0.01)),
    row("bodies-that-hang", UNVERIFIED, head(200, TYPE, length=LISTING_BYTES), hang),
    row("redirects-to-itself", UNVERIFIED, head(307, "Location: @ORIGIN/v2/app/blobs/x")),
    signed("nested-json", LIMITED, b'{"a":' * (LISTING_BYTES // 5)),
    signed("an-index-of-100000-entries", LIMITED, b'{"manifests":[%s]}' % b",".join([b"{}"] * 100_000)),
    signed("bundles-without-an-end", LIMITED, BUNDLES, head(200, TYPE, length=None), pour(b"[")),
    signed("bundles-byte-by-byte", UNVERIFIED, BUNDLES, head(200, TYPE, length=10**5), drip(b"[", 0.01)),
    signed("bundles-that-redirect", UNVERIFIED, BUNDLES, head(307, "Location: @ORIGIN/v2/app/blobs/x")),
    signed("payloads-without-an-end", LIMITED, PAYLOADS, head(200, TYPE, length=None), pour(b"[")),
    signed("payloads-byte-by-byte", UNVERIFIED, PAYLOADS, head(200, TYPE, length=10**5), drip(b"[", 0.01)),
)  # fmt: skip
"""Rows about look-ups of signatures, at both places where a registry holds them."""

PADDED: Final = body(b"{" + b" " * (510 * 1024) + b"}")
SMALL: Final = {**LISTED, "size": 900}


def shared(name: str, entry: Mapping[str, Any], *steps: Step) -> Row:
    """Return a row whose repository ``app`` lists 32 bundles, each with these steps; the others are good."""
    lists = (body(listing("manifests", entry, 32)),)
    answers: dict[str, Steps] = {
        "GET /v2/app/referrers/": lists,
        "GET /v2/app/manifests/sha256-": (head(404),),
        "GET /v2/app/": steps,
        "": (GOOD,),
    }
    return Row(name, answers, LIMITED, speaks=("plain",), seconds=6.0)


SHARED: Final = (
    shared("padded-bundles", {**LISTED, "size": 510 * 1024 + 2}, PADDED),
    shared("padded-bundles-that-say-they-are-small", SMALL, PADDED),
    shared("small-bundles", SMALL, body(b'{"x":"%s"}' % (b"x" * 892))),
    shared("slow-bundles", SMALL, hang),
)
"""Rows about what somebody pushed to one repository of a registry that is not hostile."""

GOOD_ONE: Final = row("good", FOUND, GOOD, speaks=("plain",))

GROUPS: Final[Mapping[str, Mapping[str, Row]]] = {
    name: {each.name: each for each in rows}
    for name, rows in {
        "stream": STREAMS, "body": BODIES, "answer": ANSWERS, "tls": HANDSHAKES, "signature": SIGNATURES,
        "shared": SHARED,
        "good": (GOOD_ONE,),
    }.items()
}  # fmt: skip
