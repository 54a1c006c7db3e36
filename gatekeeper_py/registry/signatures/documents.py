"""Strict reading of what a registry holds about signatures: JSON, Base64 and digests."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson

MAX_DEPTH: Final = 32
"""Maximum depth of a document. Bundles with all their log entries have a depth of 9."""

MAX_VALUES: Final = 32 * 1024
"""Maximum number of values in a document, counted by their punctuation. An index of 512 KiB has half of
this. Without this limit, parsing 512 KiB takes up to 50 ms, and with it up to 10 ms."""

# Possessive, because the memory for backtracking would be 150 times the length of a text.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')


class Malformed(ValueError):
    """The content cannot be used. The message is a short reason, without any part of the content."""


class NotJson(Malformed):
    """The content is not a JSON object."""


UNKNOWN_TIME: Final = datetime.min.replace(tzinfo=UTC)


class Candidate(NamedTuple):
    """A manifest or a blob that may hold a signature: what its descriptor states.

    ``signature`` is the Base64 text beside the descriptor of a payload of simple signing. ``created`` is when
    a bundle was made, as its manifest states.
    """

    digest: str
    size: int
    signature: str = ""
    created: datetime = UNKNOWN_TIME


def check_content(candidate: Candidate, content: bytes) -> None:
    """Raise ``Malformed`` unless the content has the size and the digest of its descriptor."""
    algorithm, _, value = candidate.digest.partition(":")
    if len(content) != candidate.size or hashlib.new(algorithm, content).hexdigest() != value:
        raise Malformed("the registry sent other content than its descriptor states")


def parse_object(content: bytes) -> dict[str, Any]:
    """Parse a JSON object in UTF-8 without duplicate keys and of limited size. Raises ``Malformed``."""
    if sum(map(content.count, (b",", b"[", b"{"))) > MAX_VALUES:
        if content.lstrip()[:1] != b"{":
            raise NotJson("not a JSON object")
        raise Malformed(f"JSON of more than {MAX_VALUES:,} values")
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise NotJson("not JSON") from None
    if not isinstance(document, dict):
        raise NotJson("not a JSON object")
    keys = 0
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        children: list[Any] = []
        for container in level:
            if isinstance(container, dict):
                keys += len(container)
                children.extend(container.values())
            else:
                children.extend(container)
        level = [child for child in children if isinstance(child, dict | list)]
        if not level:
            break
    else:
        raise Malformed(f"JSON deeper than {MAX_DEPTH} levels")
    # Outside of its strings, valid JSON has one colon for each key. The parser keeps one of two equal keys.
    if _STRING.sub(b"", content).count(b":") != keys:
        raise Malformed("a key of a JSON object is given twice")
    return document


def decode_base64(text: str) -> bytes:
    """Decode the one standard Base64 form of some bytes. Raises ``Malformed`` for any other text."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: the text is not ASCII
        content = b""
    # Python ignores the last bits of a group that is not full.
    if not content or base64.b64encode(content).decode() != text:
        raise Malformed("not standard Base64")
    return content
