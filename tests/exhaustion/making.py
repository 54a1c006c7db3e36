"""The rows of the catalogue of requests, and builders for their requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from exhaustion.target import Attack, Target
from support.builders import container, pod
from support.wire import Answer, request

MAX_BODY: Final = 7 * 2**20
API_BODY: Final = 3_000_000
"""Limit of the API server for an object."""

ROOM: Final = MAX_BODY - 2_000
"""Size of the hostile part of a body; the rest is the review around it."""

VALIDATE: Final = "/validate-image"
MUTATE: Final = "/mutate-image"

SENDERS: Final = 3
"""Connections that send a request repeatedly."""

ATTACK_SECONDS: Final = 1.0

Make = Callable[[], bytes]


@dataclass(frozen=True)
class Row:
    """A request and its answer. ``make`` returns the whole request, which may be megabytes.

    ``allowed`` is the verdict of a 200. ``message`` is part of its message, warnings or error. A 503
    with Retry-After is also a documented answer when several requests are sent at once.
    """

    name: str
    make: Make
    status: int = 200
    allowed: bool | None = None
    message: str = ""

    def check(self, answer: Answer) -> None:
        assert answer.status == self.status, (answer.status, answer.body[:300])
        document = answer.json()
        if self.status != 200:
            assert list(document) == ["error"]
            assert self.message in document["error"]
            return
        response = document["response"]
        assert response["allowed"] == self.allowed, answer.body[:2000]
        texts = [response.get("status", {}).get("message", ""), *response.get("warnings", [])]
        assert any(self.message in each for each in texts), texts

    def attack(self) -> Attack:
        """Send the request on several connections for a second, on each at least once."""

        async def attack(target: Target) -> None:
            answered = 0

            def check(answer: Answer) -> None:
                nonlocal answered
                if answer.status == 503:
                    assert answer.headers["retry-after"] == "1"
                    return
                self.check(answer)
                answered += 1

            await target.flood([self.make()] * SENDERS, check, ATTACK_SECONDS)
            assert answered, "every request was put off"

        return attack


def allowed(name: str, make: Make, message: str = "", **options: Any) -> Row:
    return Row(name, make, allowed=True, message=message, **options)


def denied(name: str, make: Make, message: str, **options: Any) -> Row:
    return Row(name, make, allowed=False, message=message, **options)


def refused(name: str, status: int, make: Make, message: str = "", **options: Any) -> Row:
    return Row(name, make, status=status, message=message, **options)


def body(document: Any, path: str = VALIDATE, **holes: str) -> bytes:
    """Return a request with a document in which each text ``@NAME`` is replaced by the JSON text ``NAME``.

    Inserting megabytes of text is faster than encoding them.
    """
    dumped = json.dumps(document, separators=(",", ":"))
    for name, text in holes.items():
        assert dumped.count(f'"@{name}"') == 1
        dumped = dumped.replace(f'"@{name}"', text)
    return request(dumped.encode(), path=path)


def items(item: str, size: int) -> str:
    """Return a list that repeats one item, of about ``size`` bytes."""
    return "[" + ",".join([item] * (size // (len(item) + 1))) + "]"


def keys(value: str, size: int) -> str:
    """Return an object with different keys, of about ``size`` bytes."""
    count = size // (len(value) + 11)
    return "{" + ",".join(f'"{number:07}":{value}' for number in range(count)) + "}"


def text_of(content: str, size: int) -> str:
    """Return a string of about ``size`` bytes."""
    return '"' + content * (size // len(content.encode())) + '"'


def nested(levels: int, inner: str = "0") -> str:
    return '{"a":' * levels + inner + "}" * levels


def deep(levels: int, width: int) -> str:
    """Return nested lists, each with numbers that must be skipped."""
    return ("[" + "0," * width) * levels + "0" + "]" * levels


def named(image: str, count: int) -> list[dict[str, Any]]:
    """Return containers with different images; ``{n}`` is replaced by the number."""
    return [container(image.format(n=number), f"c{number}") for number in range(count)]


def pod_with(**spec: Any) -> dict[str, Any]:
    """Return a Pod with exactly these fields in its spec."""
    return {**pod(), "spec": spec}


def thing(spec: Any, kind: str = "Thing") -> dict[str, Any]:
    """Return a custom resource."""
    return {"apiVersion": "example.com/v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}
