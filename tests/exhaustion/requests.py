"""The catalogue of hostile reviews: each is the most expensive of its kind."""

from __future__ import annotations

import json
import time
from string import ascii_lowercase
from typing import Any, Final

from exhaustion.making import (
    API_BODY,
    MAX_BODY,
    MUTATE,
    ROOM,
    VALIDATE,
    Row,
    allowed,
    body,
    deep,
    denied,
    items,
    keys,
    named,
    nested,
    pod_with,
    refused,
    text_of,
    thing,
)
from support.builders import pod, pod_spec, review, workload
from support.wire import request

GOOD: Final = "registry.corp.io/team/app:{n}"
BAD: Final = "evil.io/team/app:{n}"
ONE: Final = pod_spec("registry.corp.io/web:1")
SMALL_SPEC: Final = '{"containers":[{"image":"a"}]}'


def _pods(image: str, count: int, path: str = VALIDATE, **options: Any) -> bytes:
    """Return the review of a new Pod with different images."""
    return body(review(pod_with(containers=named(image, count)), **options), path)


def _new_pods(repository: str) -> bytes:
    """Return the review of a Pod with a thousand images that are not in the cache of decisions yet."""
    return _pods(f"registry.corp.io/{repository}{time.time_ns()}-{{n}}:1", 1000)


def _pod(field: str, text: str, path: str = VALIDATE) -> bytes:
    """Return the review of a new Pod that is good except for a field of its spec."""
    return body(review(pod_with(**{**ONE, field: "@x"})), path, x=text)


def _padded(text: str) -> bytes:
    """Return the review of a good Pod with this JSON text in a field that no decision reads."""
    return _pod("tolerations", text)


def _thing(text: str, kind: str = "Thing") -> bytes:
    return body(review(thing("@x", kind)), x=text)


def _request(field: str, text: str) -> bytes:
    """Return the usual review with this JSON text for a field of its request."""
    document = review(pod("registry.corp.io/web:1"))
    document["request"][field] = "@x"
    return body(document, x=text)


def _user(text: str) -> bytes:
    return _request("userInfo", text)


def _annotated(value: str) -> bytes:
    """Return the review of a Pod to be rewritten; ``value`` is an earlier record of originals."""
    metadata = {"name": "web", "annotations": {"gatekeeper-py/original-images": value}}
    return body(review(pod("nginx", metadata=metadata), namespace="mutated"), MUTATE)


def _update(field: str, new: str, old: str) -> bytes:
    """Return an UPDATE of a Pod, with texts for a field of its spec."""
    before, after = (pod_with(**{**ONE, field: f"@{name}"}) for name in ("old", "new"))
    return body(review(after, operation="UPDATE", old=before), old=old, new=new)


def _specs(count: int, images: int) -> str:
    """Return many pod templates, each with images."""
    spec = json.dumps(pod_spec(*(BAD.format(n=number) for number in range(images))))
    return "[" + ",".join([f'{{"template":{{"spec":{spec}}}}}'] * count) + "]"


def _wide(count: int, fields: int) -> str:
    """Many items, each with fields that declared paths lead to and that hold no image."""
    item = "{" + ",".join(f'"f{number}":""' for number in range(fields)) + "}"
    return f'{{"steps":{items(item, count * len(item))}}}'


ALLOWED: Final = (
    allowed("1000-images", lambda: _pods(GOOD, 1000)),
    allowed("1000-images-of-4-kb", lambda: _pods(f"registry.corp.io/{'a/' * 100}" + "{n}", 1000)),
    allowed("3-mb-nobody-reads", lambda: _padded(items('{"k":"vvvvvvvvvvvvvvvv"}', API_BODY))),
    allowed("1000-images-near-330-wildcards", lambda: _new_pods(f"likely-{ascii_lowercase}")),
    allowed("1000-images-on-500-mirrors", lambda: _new_pods("mirror/x")),
    allowed("7-mib-of-one-text", lambda: _padded(text_of("x", ROOM))),
    allowed("7-mib-of-escapes", lambda: _padded(text_of(r"\u00e9", ROOM))),
    allowed("7-mib-of-non-ascii", lambda: _padded(text_of("é", ROOM))),
    allowed("7-mib-of-exponents-in-text", lambda: _padded(text_of("xe000", ROOM))),
    allowed("7-mib-of-digits-in-text", lambda: _padded(text_of("0" * 150 + "x", ROOM))),
    allowed("7-mib-of-long-numbers", lambda: _padded(items("0." + "3" * 150, ROOM))),
    allowed("7-mib-of-small-exponents", lambda: _padded(items("1e-300", ROOM))),
    allowed("7-mib-of-spaces", lambda: _padded(" " * ROOM + "0")),
    allowed("390000-empty-objects", lambda: _padded(items("{}", 390_000 * 3))),
    allowed("900-levels", lambda: _padded(nested(900))),
    allowed(
        "a-million-groups", lambda: _request("userInfo", f'{{"groups":{items(chr(34) * 2, 3_000_000)}}}')
    ),
    allowed("a-7-mib-user", lambda: _user(f'{{"username":{text_of("u", ROOM)}}}')),
    allowed("a-7-mib-namespace", lambda: _request("namespace", text_of("n", ROOM))),
    allowed("a-kind-of-7-mib", lambda: _request("kind", f'{{"kind":{text_of("k", ROOM)}}}')),
    allowed("an-operation-of-7-mib", lambda: _request("operation", text_of("o", ROOM))),
    allowed("a-large-old-object", lambda: _request("oldObject", items('{"k":"v"}', 260_000 * 10))),
    allowed("an-update-of-1000-images", lambda: _update("containers", *[json.dumps(named(BAD, 1000))] * 2)),
    allowed(
        "an-update-of-a-million-old-items",
        lambda: _update("containers", json.dumps(ONE["containers"]), items("1", 2_000_000)),
    ),
    allowed("an-update-of-nothing-else", lambda: _update("tolerations", *[items("[]", 399_000)] * 2)),
    allowed("a-thing-of-zeros", lambda: _thing(items("0", 2_000_000)), "Thing.example.com"),
    allowed("a-thing-of-390000-lists", lambda: _thing(items("[]", 390_000 * 3)), "Thing.example.com"),
    allowed("a-thing-of-300000-objects", lambda: _thing(items('{"a":0}', 300_000 * 8)), "Thing"),
    allowed("a-thing-of-different-keys", lambda: _thing(keys("{}", ROOM // 4)), "Thing"),
    allowed("a-thing-900-deep", lambda: _thing(deep(900, 1000)), "Thing"),
    allowed("a-thing-of-empty-templates", lambda: _thing(items('{"containers":[]}', 190_000 * 18))),
    allowed("a-wide-of-empty-steps", lambda: _thing(f'{{"steps":{items("{}", 3000)}}}', "Wide")),
    allowed("originals-of-garbage", lambda: _annotated("[" * 300_000)),
    allowed("originals-of-brackets", lambda: _annotated("[" + "[]," * 190_000 + "0]")),
    allowed("originals-of-a-million-zeros", lambda: _annotated("[" + "0," * 1_000_000 + "0]")),
    allowed("originals-of-different-keys", lambda: _annotated(keys('""', API_BODY))),
)
"""Rows for the validating endpoint; the last ones are for the mutating endpoint."""

DENIED: Final = (
    denied("1000-images", lambda: _pods(BAD, 1000), "and 995 more"),
    denied("1000-images-with-mirrors", lambda: _pods("user/app:{n}", 1000, namespace="mirrored"), "995 more"),
    denied("1000-long-images", lambda: _pods("evil.io/" + "a/" * 2000 + "{n}", 1000), "99"),
    denied("1000-images-of-non-ascii", lambda: _pods("é" * 1000 + "{n}", 1000), "99"),
    denied("1001-images", lambda: _pods(GOOD, 1001), "too many images (1001;"),
    denied("1001-images-in-four-lists", lambda: body(review(pod_with(
        containers=named(GOOD, 251), initContainers=named(GOOD, 250), ephemeralContainers=named(GOOD, 250),
        volumes=[{"name": f"v{n}", "image": {"reference": GOOD.format(n=n)}} for n in range(250)],
    ))), "too many images (1001;"),
    denied("50000-images", lambda: _pods(BAD, 50_000), "too many images (50000;"),
    denied("300000-small-containers", lambda: _pod("containers", items("{}", 900_000)), "too many images"),
    denied("a-million-zeros-for-containers", lambda: _pod("containers", items("0", 2_000_000)), "too many"),
    denied("a-tool-of-empty-steps", lambda: _thing(f'{{"steps":{items("{}", 390_000 * 3)}}}', "Tool"), "too"),
    denied("a-million-nulls", lambda: _pod("initContainers", items("null", 5_000_000)), "too many"),
    denied("300000-volumes", lambda: _pod("volumes", items("{}", 900_000)), "too many"),
    denied("a-deployment-of-1001", lambda: body(review(workload("Deployment", *[BAD] * 1001))), "1001"),
    denied("a-thing-of-1001-templates", lambda: _thing(_specs(1001, 1)), "too many images (1001;"),
    denied("a-thing-of-100000-templates", lambda: _thing(items(SMALL_SPEC, 100_000 * 30)), "too many images"),
    denied("a-thing-of-1001-images", lambda: _thing(_specs(1, 1001)), "too many images (1001;"),
    denied("a-wide-of-wide-steps", lambda: _thing(_wide(500, 300), "Wide"), "steps to find them"),
    denied("a-tool-of-steps", lambda: _thing('{"steps":[0]}', "Tool"), "steps"),
    denied("an-image-of-7-mib", lambda: _pods("a" * ROOM, 1), "longer than 4096"),
    denied("a-name-of-7-mib", lambda: body(review(pod_with(containers=[{"name": "n" * ROOM}]))), "missing"),
    denied("an-image-of-zeros", lambda: _pod("containers", f'[{{"image":{items("0", 2_000_000)}}}]'), "list"),
    denied("an-update", lambda: _update("containers", json.dumps(named(BAD, 1000)), "[]"), "995"),
)  # fmt: skip

REFUSED: Final = (
    refused("7-mib-of-empty-lists", 413, lambda: request(b"[" + b"[]," * (ROOM // 3) + b"0]")),
    refused("3-million-brackets", 413, lambda: request(b"[" * 3_000_000)),
    refused("399999-brackets", 400, lambda: request(b"[" * 399_999)),
    refused("a-byte-too-many", 413, lambda: request(b" " * (MAX_BODY + 1))),
    refused("7-mib-of-zeros", 413, lambda: _padded(items("0", ROOM)), "too many values"),
    refused(
        "7-mib-of-zeros-for-containers", 413, lambda: _pod("containers", items("0", ROOM)), "too many values"
    ),
    refused("7-mib-of-different-keys", 413, lambda: _padded(keys("0", ROOM)), "too many keys"),
    refused(
        "7-mib-of-one-key", 413, lambda: _padded("{" + '"k":0,' * (ROOM // 6) + '"k":0}'), "too many keys"
    ),
    refused("390000-objects", 413, lambda: _thing(items('{"a":0}', 390_000 * 8)), "too many"),
    refused("an-old-object", 413, lambda: _request("oldObject", items('{"k":"v"}', ROOM // 2)), "too many"),
    refused("originals-of-brackets", 413, lambda: _annotated("[]," * 1_000_000), "arrays and objects"),
    refused("7-mib-of-digits", 400, lambda: request(b"1" * ROOM)),
    refused("7-mib-of-digits-after-a-point", 400, lambda: request(b"0." + b"1" * ROOM)),
    refused("7-mib-of-text", 400, lambda: request(text_of("x", ROOM).encode())),
    refused("7-mib-of-text-without-an-end", 400, lambda: request(b'"' + b"x" * ROOM)),
    refused("invalid-utf-8-at-the-end", 400, lambda: request(b'"' + b"x" * ROOM + b'\xff"')),
    refused("a-uid-of-7-mib", 400, lambda: _request("uid", text_of("u", ROOM))),
    refused("groups-that-are-none", 400, lambda: _user(f'{{"groups":{items("0", 2_000_000)}}}')),
)

ROWS: Final[dict[str, Row]] = {
    f"{group}:{row.name}": row
    for group, rows in (("allowed", ALLOWED), ("denied", DENIED), ("refused", REFUSED))
    for row in rows
}
